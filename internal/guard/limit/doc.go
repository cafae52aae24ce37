// Package limit finds how many calls a back-end can bear at once.
//
// # The question
//
// By Little's law calls in flight are throughput times latency. While a back-end has workers to spare, one more call in flight is one more
// call in work: throughput grows in step, latency does not move. Beyond that it can only wait there: latency grows in step, throughput
// does not move, or falls where the back-end chokes on what it holds. So there is one thing to ask of a limit: does more concurrency buy
// more throughput? The relative change of the one over that of the other, the elasticity, is 1 below the knee and 0 or less above it.
// It is asked at two limits, one shortly after the other, and so needs no memory of a good time: a back-end that became slower for
// reasons of its own has an elasticity of 1 still, and is left alone. That is what limits by latency get wrong.
//
// # The adaptive law
//
// The law stands by a limit, base, and knows how the back-end does there, ref. While demand is held back it tries more, now and then:
//
//	          demand is held back              surely worth it
//	stand by ───────────────────► try more, ──────────────────► stand by the new limit, go on at once, in larger steps
//	base  ▲                       or less
//	      │                          │ surely not worth it, or it cannot be told
//	      └──── rest ◄───────────────┘ (or a smaller step, if the larger one paid in part)
//
// More is tried first, twice as much while nothing is known, a quarter later; less only while far more is asked for than let through.
// More that is worth it, and less that is no loss, become base. In doubt it stays as it is, and at the end of a trial of more that leaned
// to the better it goes up: a limit too high costs some latency, one too low refuses calls without need. Rests get longer from failure to
// failure, so that steady overload pays for its trials with less than one per cent, and are cut short when latency at the same limit
// shows that the back-end has become another one.
//
// Whatever is measured is measured under one limit: after each change nothing counts until in-flight has come under the limit and a whole
// round of calls has come back. A trial is judged when its figures can carry it, by the error that the spread of latencies leaves over so
// many answers, and never on fewer than ten answers or two rounds of calls.
//
// # What growth needs
//
// Slots taken (four fifths of them, on average) and calls refused; never more than twice what was in flight of late. Where a trial of
// more leaves demand served, the limit grows to what was used and no further. What nobody asks for is neither tried nor learned: idle
// hours change nothing.
//
// # Hard evidence
//
// At low traffic no ratio means anything, but overloads in a row do: as many as calls were in flight at once, at least three, halve the
// limit (to no more than twice what was in flight), and again with the next round. Time-outs and push-back are overloads; a call that
// timed out counts with the time it took at least. From such a fall, and from Restart, the limit is not searched for but doubled with
// every round of successes, back to where it was. Where more than three in ten answers are overloads, a third less is tried at once, and
// judged like any trial: if successes fall in step, the cause is elsewhere and the limit returns.
//
// A failure is neither: it gives its slot back and leaves no trace in throughput or latency, so that a back-end that fails fast looks
// neither fast nor healthy. Ignored calls leave none either.
//
// # Invariants
//
//   - The limit is within its bounds at every moment. Max 0 is below any Min.
//   - In-flight is successful Acquires less Releases. A limit lowered below it cuts nothing; nothing is admitted until enough came back.
//   - Every move of the limit has a reason with its figures.
//   - Given the same calls at the same instants it moves the same way: it reads no clock and draws no numbers.
//
// # What the tests assert
//
// Against a simulated back-end of 2, 8 or 32 workers, with the default settings and a line of 100 ms before the limit:
//
//   - At 70 % load nothing is refused by 2 workers, and after two seconds at most 0.05 % by more; at 90 % load at most 0.5 %.
//   - At 10 times the capacity it does at least 0.9 of it from the first second on; at 3 times, for half an hour, too, with admitted calls
//     taking less than twice their service time and the mean limit of every minute from 0.85 to 1.5 times the workers.
//   - A back-end with workers to spare that becomes four times slower for other reasons has at most 2 % of its calls refused meanwhile.
//
// # What this package does not do
//
// It knows no queue, criticality, method or cost: a call is a call. Very mixed methods make it slow to judge, not wrong. It does not
// charge the back-end for work that goes on after a time-out. Streams do not belong in it: their lifetime is no latency. It logs and
// calls nobody; its owner takes Changes.
package limit
