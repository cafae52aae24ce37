// Package fragile is a back-end that breaks when it is asked too much: the thing to protect, in tests, in load scenarios and in the demo.
//
// It is a real gRPC server whose work is slept, not burnt, so that two cores are enough for any of its sizes, and so that it runs in a
// testing/synctest bubble. What it simulates is a small pool of workers behind a queue that is far too long:
//
//	W workers take jobs from a first-in-first-out queue; beyond MaxQueue a job is refused after 1 ms with RESOURCE_EXHAUSTED
//	duration = s * weight * f(n) * slow(t) * w(u), plus the pauses that fall into it, fixed when the job starts
//	s        lognormal around ServiceTime; so the capacity is C = W / ServiceTime jobs a second
//	f(n)     congestion collapse: n jobs running and queued, beyond Knee each costs more: 1 + Collapse * (n - Knee) / Knee, at most MaxSlowdown
//	w(u)     a cold cache: 1 + Extra * exp(-u / Calls) after u jobs served since the start
//	crash    n above Above for After without a break: every call in flight is UNAVAILABLE, connections are refused for Restart,
//	         and then it starts again, cold
//
// By default it ignores cancellation, as many servers do: a call that its caller has given up is worked on all the same, and this zombie
// work is what keeps an overloaded back-end overloaded.
//
// Invariants: at most Workers jobs run; a job that was taken in ends exactly once, served or crashed or, with HonorCancel, given up; with
// the same Seed and the same order of arrivals it does the same.
//
// Core is all of this without a clock, for whoever keeps the time; Model is a Core in real time, or in that of a bubble; Backend serves a Model
// as capguard.fragile.v1.StockService with reflection and health. Settings.Supply tells what such a back-end can do at best, which is what a
// guard is measured by.
//
// What this package does not do: it burns no CPU and moves no data, so it says nothing about what bytes cost; and it knows no guard.
package fragile
