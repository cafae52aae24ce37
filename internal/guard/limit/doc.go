// Package limit finds how many calls a back-end can bear at once.
//
// # What there is to find
//
// By Little's law calls in flight are throughput times latency: n = x R. While a back-end has workers to spare, one more call in flight is
// one more call in work: throughput grows in step, latency does not move. Beyond that it can only wait there: latency grows in step,
// throughput does not move, or falls where the back-end chokes on what it holds. So a limit has to be asked one thing: does more
// concurrency buy more throughput? Two levels answer it, low and high, each with the latency that calls sent at it had. Of the higher level
//
//	W = n_high R_low / R_high
//
// calls are of use: as many as would give its throughput at the latency of the lower one, where calls wait less or not at all. The limit
// stands by W and a quarter, the headroom. The elasticity of throughput, 1 - ln(R_high/R_low) / ln(n_high/n_low), says the same as a share:
// 1 if all of the difference between the levels is of use, 0 if nothing is.
//
// Both levels are seen within moments of each other. So there is no memory of a good time to compare with, that an overload which lasts
// would spoil, and a back-end that became slower for reasons of its own is left alone: it is slower at both. That is what limits by latency
// get wrong.
//
// # How it is seen
//
// Calls are judged in cohorts: so many that were sent one after the other, when all of them are back. Who judges by the first that come
// back takes the quick ones for all (they survive the race), finds every higher limit better than the last, and grows without end. While
// nothing is known yet four fifths must do; the others count with the time that they have been away and half a latency more.
//
// A latency is that of a mixture of calls. How long calls of a method usually take beside others comes with each answer, and the sum of the
// times is divided by the sum of what is usual (a control variate): a mixture that changes is not a back-end that does. Calls that came to
// nothing, overloads, are paid for by those that succeeded. The error of a latency follows from the spread of times over so many answers;
// an estimate counts the less the larger its error. Fewer answers than can carry a conclusion draw none.
//
// # How it is asked
//
// In a calm window, level varies by itself. Two halves that each saw both levels, and agree, are as good as a question, and cost nothing.
// But many are in flight just when calls take long, so a window makes the limit look too low by itself, and it gets room for that doubt. It
// raises the limit only if demand was held back meanwhile.
//
// A question puts another limit in force for a while:
//
//   - Less: seven tenths of the limit, and then the limit again. What is seen there is compared with before and after; if those differ, the
//     back-end changed meanwhile, and nothing follows. It costs an eighth of the throughput while it lasts, so rests in proportion follow.
//   - More, where less is nothing (a limit of one, or calls of so many units that less is the same), and while the limit is sought.
//
// Sought means that nothing says yet where concurrency stops to pay: at the beginning, and again when questions have found that more pays.
// Then the limit rises by 60 % at a time, each step in about two round trips, until one of them does not pay. Latency has a veto here: when
// the answers that are back already show that calls choke, a step ends at once.
//
// Nothing is asked, and nothing grows, that demand does not ask for: a limit that holds nobody back stays, whatever is seen. Growth never
// goes beyond twice what was in flight of late.
//
// # Hard evidence
//
// At low traffic no ratio means anything, but overloads in a row do: as many as units were in flight at once, at least three, halve the
// limit (to no more than twice what was in flight), and again with the next round. Time-outs and push-back are overloads. From such a fall,
// and from Restart, the limit is not searched for but doubled with every round of successes, back to where it was. The way back ends where
// calls begin to wait for each other, and where two in a row have ended in overloads: then the back-end is another one than it was, and the
// limit is sought from there.
//
// A call that timed out has left its caller, not the back-end, which goes on working on it. Its slot is charged for two typical times more;
// that of one which was abandoned before, for what was left of a typical time.
//
// A failure gives its slot back and leaves no trace in throughput or latency, so that a back-end that fails fast looks neither fast nor
// healthy. Ignored calls leave none either. A question whose calls failed is void.
//
// # Cost
//
// The limit counts units of cost, 1 for most calls, more for those that are configured to occupy several workers at once. How long a call
// occupies its units is not charged as well: it holds them so long. (docs/design/cost.md)
//
// # The other laws
//
// The law is a setting. AIMD looks at overloads alone, Gradient at latency alone, Fixed at nothing. They are there for those who know their
// back-end, and to be compared with. (docs/design/limit.md has that comparison, and what each constant of this law is worth.)
//
// # Invariants
//
//   - The limit is within its bounds at every moment. Max 0 is below any Min.
//   - In-flight is the units of successful Acquires and Forces less those of Releases. A limit lowered below it cuts nothing; nothing is
//     admitted until enough came back. Charges end by time alone.
//   - Every move of the limit has a reason with its figures.
//   - Given the same calls at the same instants it moves the same way: it reads no clock and draws no numbers. A clock that goes backwards
//     stands still.
//   - Neither an admitted call nor its answer allocates memory; only moves of the limit do, and charges.
//
// # What the tests assert
//
// Against a simulated back-end of 2, 8 or 32 workers, with the default settings and a line of 100 ms before the limit:
//
//   - Through an hour of three times the capacity the mean limit stays from 1 to 2 times the workers, admitted calls take less than twice
//     their service time, and at least 0.96 of the capacity is done.
//   - Service times that vary widely, 200 workers, calls of many units, and a mixture of quick and slow calls end in such a band, too.
//   - When every call times out the limit falls to 1; when every call fails it does not rise; after either it comes back by itself.
//
// What the guard makes of it in the face of bursts, retries and crashes is asserted in loadtest/scenario.
//
// # What this package does not do
//
// It knows no queue, criticality or method: a call is its units, its time, and what is usual beside it. Streams do not belong in it, as
// their lifetime is no latency; their messages take slots, by Force, and teach nothing. It cannot tell calls that wait for each other from
// calls that wait for something else behind the back-end that only so many can have: both make more concurrency useless, and the limit is
// right in both. It logs and calls nobody; its owner takes Changes.
package limit
