// Package live plays scenarios in real time: clients, guard and fragile back-ends with real gRPC over loopback, all in this process. Those
// of the whole product its tests play in virtual time, too: the same over a network in memory.
//
// It makes the same Record of the same scenarios as package virtual, so that the two can be compared line by line. What is different is
// what reality adds: connections, frames, scheduling, timers. The guard is the whole of package server with its default configuration, or
// is left out. The back-ends are fragile.Models behind gRPC servers that take any method; the metadata of a call tell them what it costs,
// and which attempt it is, so that the Record knows what reached them, and when.
//
// # The whole product
//
// The clients of such a scenario are connections of the client library, with the flags from the admin port and a lease for the time without
// a guard: its share of the workers for each. The operator gives commands at the admin port. When the guard is killed all its connections
// break at once; it starts again with the flags on the disk, and has learned nothing. When the admin port is gone its connections break,
// too, and newcomers are turned away. What the guard and the library add is measured beside calls past both of them.
//
// # When a run is void
//
// On a machine that is too slow or too busy a run says more about the machine than about the guard. It is void if calls began too late, if
// the processors were busy, or if calls that need no work took too long before anything else happened (see the constants in conduct.go). If
// the machine shows so before the first run, all rates are halved and the service time is doubled, and the report says so. A run that turns
// out void afterwards is marked, and is not among those that are judged.
//
// # Differences from virtual time
//
// Work counts as wasted if its caller had gone when it ended, not from when it was late on; queued is what has not reached a back-end.
//
// What this package does not do: it measures no capacity, keeps no processor for itself, and does not run on other machines.
package live
