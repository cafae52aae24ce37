// Package loadtest puts an open-loop load on a gRPC service and tells what became of it.
//
// Open loop: calls begin at moments that were drawn beforehand, whether or not earlier ones have been answered, as the customers of a
// shop do. A closed loop of callers, each waiting for its answer, slows down together with the service and so hides that it is overloaded.
// Two rules follow, and they are the invariants of this package:
//
//   - Latency is counted from the moment for which a call was scheduled. A stall of the service, of the generator or of the machine shows
//     in the latency of every call that should have been sent during it (else this would be coordinated omission).
//   - Every scheduled call is counted, and each exactly once: answered in time (good), answered late, failed by status code, refused by
//     reason, dropped because too many were outstanding, or cut off because the run was stopped.
//
// Arrivals of a Class follow a piecewise linear Schedule. They are drawn by inversion: the next arrival is where the integral of the rate
// has grown by an exponentially distributed amount (a Poisson process with that rate) or by exactly 1 (evenly spaced).
//
// Latencies go into a Histogram of logarithmic buckets that are divided linearly, after Gil Tene's HdrHistogram: constant memory,
// constant relative error, and mergeable, because percentiles must never be averaged.
//
// Nothing here sleeps or listens but through the standard library's timers and the connection it is given, so a run fits into a
// testing/synctest bubble.
//
// What this package does not do: it does not retry (give it a connection that does), it does not search a capacity, and it judges nothing.
package loadtest
