// Package queue is the short line before a back-end: the place where calls wait because we can choose who goes next and the back-end
// cannot.
//
// # Order
//
// Criticality is strict: nobody of a higher rank is served while somebody of a lower one waits. Within a rank the order depends on
// what the line is for at that moment:
//
//   - In a burst, first come, first served. The line empties soon, everybody is served in time, and this order is the fairest.
//   - Once the line stands, newest first. A line stands when its oldest waiter has waited half of MaxWait: more comes than goes, some
//     will not be served whatever the order. Served in order of arrival, every one of them would be served just before it gives up,
//     with most of its time spent; newest first, those who are served are served at once, and those who are not give up all the same.
//     This is the adaptive LIFO of Facebook's "Fail at Scale" (Maurer, 2015), with the waiting time in place of the length as the sign.
//
// Each rank has a line of its own and stands, or does not, for itself.
//
// # Bounds
//
// The line is bounded by time first: nobody waits longer than MaxWait, nor past the moment at which being served helps no more. That
// moment, Give, is fixed when a waiter joins. From it on the waiter is out of line: it is never served, counted or evicted. It is also
// bounded by length, for memory's sake. When a full line gets one more, the one who would be served last of all leaves, be it the
// newcomer: of the highest rank in line the newest in a burst, the oldest when that rank stands.
//
// # Whose move it is
//
// The queue has no timer. A waiter watches its own Give and says goodbye with Remove; the queue keeps out of line whoever is late with
// it. Remove is true exactly once for everyone who was neither served, nor evicted, nor removed before, also for one who had given up
// meanwhile: so whoever sees true may tell the caller, and whoever sees false knows that somebody else does.
//
// # Invariants
//
//   - Everyone pushed leaves exactly once: popped, evicted, removed, or given up (and then removed or forgotten).
//   - The line never grows beyond MaxLength. A MaxLength lowered under the length evicts nobody; each newcomer then costs one.
//   - Among those in line everyone's Give lies in the future, as of the last call that told the time.
//
// # Cost
//
// Push, Pop and Remove are O(log n) in the waiters for the order of Give, plus a walk over the distinct ranks that were ever used: a
// handful. One allocation a waiter.
//
// # What this package does not do
//
// It does not wake anybody, knows no clock, goroutine or lock, does not tell tenants apart, and does not know how long service takes:
// the deadline that it is given has that taken off.
package queue
