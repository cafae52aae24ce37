// Package queue is the short line before a back-end: the place where calls wait because we can choose who goes next and the back-end
// cannot.
//
// # The problem
//
// A line changes nothing as long as everybody is served. It matters once more comes than goes: then some are not served whatever the
// order, and the order decides who, and how much of its time each has spent. Served in order of arrival, all would be served just before
// they give up; and whoever sends most would be served most. The answer is built up in four steps, each of them deciding what the one
// before leaves open.
//
// # Rank
//
// Criticality is strict: nobody of a higher rank is served while somebody of a lower one waits. But for one exception: strictness that
// lasts for hours would cut a rank off, and nobody would notice that it still works. A rank that had nobody served for StarveAfter while
// it had waiters (or new ones, at least one in that time) gets the next grant, if the last such grant is a hundred grants ago: so it costs
// others less than one per cent, however slow the back-end.
//
// # Tenants
//
// Within a rank every tenant with waiters gets the same share of the grants, times its weight: start-time fair queueing (Goyal, Vin,
// Cheng, 1996), here in two levels. A fluid server would serve all of them at once; its progress is the virtual time of the rank, and a
// tenant that is served gets ahead of it by
//
//	charge = Cost / Weight
//
// Served is always the tenant that is the least ahead, so with n tenants and equal charges no one is ever ahead of another by more than
// one call. Virtual time is then what the tenant's clock was before: it never runs backwards, for all others were at least as far. A
// tenant that comes back with its clock behind starts at the virtual time, without credit for having been away; one that comes back with
// its clock ahead has had its share already, and waits. When the rank has no waiters any more, everybody has had all it asked for: virtual
// time moves on to the last clock, and all are equal.
//
// A tenant with a weight is known. All others are strangers, who may use as many names as they like; and as each name starts at the virtual
// time, a new one with each call would hold that time still, and keep whoever has had something from being served again. So strangers
// together are one tenant among the known, of weight 1 for each of them that waits, 10 at most, and have a virtual time of their own, by
// which they share what that one gets. Names without end take from other strangers only, and a tenant of weight w gets w / (w + 10) at
// least beside them. Where nobody is known the two levels are one.
//
// Only who waited is charged. A call that found a free slot took it from nobody.
//
// # Bursts, and lines that stand
//
// Within a tenant the order depends on what its line is for at that moment. In a burst everybody will be served in time, however long the
// line is. In a line that stands some will not, whatever the order: of its last hundred comers one in twenty was lost, for want of time or
// room. It stands until no more than one in fifty is. Who left by its own deadline, or was removed, says nothing about the line.
//
//   - In a burst, first come, first served: the fairest order.
//   - In a line that stands, newest first. Those who are served are served at once, and those who are not give up all the same.
//   - Who joins a line that stands waits for StandingWait at most. It is either served soon, or by no means, and learns it sooner.
//
// The two last are the halves of Facebook's "Fail at Scale" (Maurer, 2015), adaptive LIFO and controlled delay. There a line stands that
// was not empty for some time; but so it is before a back-end at nine tenths of its capacity, which serves everybody.
//
// It is the tenant's line that counts, not that of the rank: beside a hog the line of the rank always stands, and those who are served in
// turn would lose the time that their small bursts need (with 20 ms in place of 100 ms, 12 % of their calls at three quarters of their
// share). But where each call is of another tenant, with no line of its own, the line of the rank is all there is. So between tenants who
// have had the same the one with the oldest waiter goes first, and while the line of the rank stands the one with the newest.
//
// A call that brings a Patience of its own waits by it in place of MaxWait, shortened in the same proportion where the line stands.
//
// # Bounds
//
// The line is bounded by time first. When to give up, Give, is fixed when a waiter joins, at the earlier of its wait and its deadline.
// From then on the waiter is out of line: it is never served, counted or evicted. Who had joined before its line stood keeps what it was
// promised; served last, it is in nobody's way.
//
// The line is also bounded by length, for memory's sake. When a full line gets one more, the worst to keep leaves, be it the newcomer: of
// the lowest rank, of the tenant that asks for most (the charges of its waiters, which is the line that is too long by its weight; among
// equals the one to be served last), the one to be served last. Here, too, strangers are one among the known: who is known, and has no more
// in line than its share of the places, loses none to them. The only waiter of a rank that starves is spared, or it would never be
// there when its turn comes.
//
// Names of tenants come from callers and are without end. At most 1,000 have an account; one that would come back as a stranger does is
// forgotten to make room. When there is none to forget, strangers share 64 accounts in each rank, by hash: a thousand made-up names can
// crowd out strangers, but neither who is known by a weight, nor who was there before and still has something in line.
//
// # Whose move it is
//
// The queue has no timer. A waiter watches its own Give, at which it tells the time with Pass and says goodbye with Remove; the queue keeps
// out of line whoever is late with it.
// Remove is true exactly once for everyone who was neither served, nor evicted, nor removed before, also for one who had given up
// meanwhile: so whoever sees true may tell the caller, and whoever sees false knows that somebody else does.
//
// # Invariants
//
//   - Everyone pushed leaves exactly once: popped, evicted, removed, or given up (and then removed or forgotten).
//   - The line never grows beyond MaxLength. A MaxLength lowered under the length evicts nobody; each newcomer then costs one.
//   - Among those in line everyone's Give lies in the future, as of the last call that told the time.
//   - No tenant with waiters is behind the virtual time of its rank, no stranger behind that of strangers.
//
// # Cost
//
// Push, Pop and Remove are O(log n) in the waiters, plus a walk over the distinct ranks that were ever used: a handful. When the line of a
// rank begins to stand, its tenants are sorted anew. One allocation a waiter, and two for a tenant that is not known.
//
// # What this package does not do
//
// It does not wake anybody, knows no clock, goroutine or lock, does not tell which tenants there are or what they may claim, and does not
// know how long service takes: the deadline that it is given has that taken off.
package queue
