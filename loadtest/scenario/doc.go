// Package scenario says what a guard has to bear, and judges how it bore it.
//
// A Scenario is data: back-ends, classes of calls, what happens when, and what is wanted. Whoever plays it, in virtual time (package
// virtual) or against real servers, hands back a Record: every request, every attempt, the work of the back-ends. All measures are taken
// from the Record in the same way, whoever made it and whichever gate stood in front.
//
// # The measure
//
// A request is good if it succeeded within the objective, counted from the moment for which it was scheduled; one of several attempts from
// the moment of that attempt, unless the scenario gives all of them a time together. Goodput is the share of the good among what was
// possible, the oracle: in every second the lesser of what was offered and what the back-end can serve at best, slowness, pauses, deaths
// and cold caches taken off, and the share of calls that no free worker would serve in time. It is the ratio over the whole of a window;
// the worst second is its least value in one block of a second. In a second in which all that is offered can be served a request counts
// when it was scheduled, in others when it succeeded.
//
// # Wants
//
// A Want bounds one measure. The median over the seeds must keep it; the worst seed may miss it by 0.03 (a ratio) or by half (times, and
// small shares), because one seed in five is allowed to be unlucky and not to collapse.
//
// # The whole product
//
// All are the scenarios of admission, which any gate can be judged by. Whole are those of everything else: an operator who flips a flag,
// the death of the guard, what it costs. They have clients with the library, and are played by package live alone: in real time, or in
// virtual time over a network in memory. A flip has its effect when the old value is acted on for the last time before the next command: a
// command that is forgotten later is late. Requests that are refused because their feature is off are nobody's loss: no share counts them.
//
// # Variants
//
// The same scenario with 2, 8 or 32 workers of the same capacity, or without congestion collapse. The guard gets no other configuration for
// any of them. On the other variants the wants of a latency, of single seconds and of waiting times do not apply, for they are written in
// terms of the service time; goodput must be 0.92, or what the scenario wants if that is less.
//
// What this package does not do: it plays nothing, measures no latency of its own, and knows no gate.
package scenario
