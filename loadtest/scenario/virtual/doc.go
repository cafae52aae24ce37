// Package virtual plays scenarios in virtual time: minutes of overload in a second, and the same every time.
//
// Clients and back-ends are events of one loop, in one goroutine; the back-ends are fragile.Core, the physics without a clock. A Gate
// stands between them: the real guard, a static limit, nothing, or a rival. A gate that lives by the clock, as the guard does, is played
// inside a testing/synctest bubble: the loop sleeps until its next event, which moves the clock of the bubble, and timers of the gate run
// out when they should. Their goroutines may speak at any moment; what they say is put into a box, and the loop empties it at the same
// instant.
//
// A gate sees of a call what it would see in reality: method, tenant, criticality, attempt and deadline; neither what the call costs nor
// what the back-end is like. Time on the wire and in the gate is 0.
//
// The way of an attempt:
//
//	made ► Gate.Arrive ► Admit ► back-end ► served, failed ─────► Gate.Ended ► its caller is content, or tries again
//	            │                   └ (timed out; work goes on) ┘
//	            ├──► Refuse ──────────────────────────────────────────────────►
//	            └──► Gate.Gone, timed out while it waited ────────────────────►
//
// The same scenario, seed and gate give the same record, as long as the gate draws no lots of its own.
//
// What this package does not do: it judges nothing (package scenario does), and says nothing about what a gate costs.
package virtual
