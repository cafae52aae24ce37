package queue_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// naive is the queue as its documentation tells it: a slice in order of arrival that is searched from end to end.
type naive struct {
	s    queue.Settings
	line []waiter
}

// waiter is one in line; its name is its number of arrival.
type waiter struct {
	name, rank  int
	since, give time.Time
}

func (n *naive) expire(now time.Time) {
	n.line = slices.DeleteFunc(n.line, func(w waiter) bool { return !now.Before(w.give) })
}

// order returns the line in the order of service.
func (n *naive) order(now time.Time) []waiter {
	stands := map[int]bool{}
	for _, w := range slices.Backward(n.line) { // the last word has the oldest of each rank
		stands[w.rank] = now.Sub(w.since) >= n.s.MaxWait/2
	}
	line := slices.Clone(n.line)
	slices.SortStableFunc(line, func(a, b waiter) int {
		if a.rank != b.rank {
			return cmp.Compare(a.rank, b.rank)
		}
		if stands[a.rank] {
			return cmp.Compare(b.name, a.name)
		}
		return cmp.Compare(a.name, b.name)
	})
	return line
}

func (n *naive) remove(name int) bool {
	before := len(n.line)
	n.line = slices.DeleteFunc(n.line, func(w waiter) bool { return w.name == name })
	return len(n.line) < before
}

// push returns who leaves, or -1, and whether w found a place.
func (n *naive) push(w waiter, now time.Time) (evicted int, ok bool) {
	if !w.give.After(now) {
		return -1, false
	}
	n.expire(now)
	n.line = append(n.line, w)
	if len(n.line) <= n.s.MaxLength {
		return -1, true
	}
	order := n.order(now)
	evicted = order[len(order)-1].name // one only, also if the length was lowered
	n.remove(evicted)
	return evicted, evicted != w.name
}

// pair is the queue and its twin, with the books on what became of everybody.
type pair struct {
	queue *queue.Queue[int]
	naive naive
	items []*queue.Item[int] // of everybody who found a place, by number
	told  map[int]string     // what became of whom
	now   time.Time
	next  int
}

func newPair(s queue.Settings) *pair {
	return &pair{queue: queue.New[int](s), naive: naive{s: s}, told: map[int]string{}, now: start}
}

// tell notes what became of name; it must be the first that becomes of it.
func (p *pair) tell(t *testing.T, name int, what string) {
	t.Helper()
	if before, twice := p.told[name]; twice {
		t.Fatalf("%d was %s and then %s", name, before, what)
	}
	p.told[name] = what
}

func (p *pair) push(t *testing.T, rank int, wait time.Duration) {
	t.Helper()
	w := waiter{name: p.next, rank: rank, since: p.now, give: p.now.Add(min(wait, p.naive.s.MaxWait))}
	p.next++
	item, evicted, ok := p.queue.Push(w.name, rank, p.now.Add(wait), p.now)
	wantEvicted, wantOK := p.naive.push(w, p.now)
	if ok != wantOK || (item != nil) != ok || (evicted != nil) != (wantEvicted >= 0) {
		t.Fatalf("Push(%+v) = %v, %v, %v; want %d, %v", w, item, evicted, ok, wantEvicted, wantOK)
	}
	p.items = append(p.items, item)
	if evicted != nil {
		if evicted.Value != wantEvicted {
			t.Fatalf("Push(%+v) evicted %d, want %d", w, evicted.Value, wantEvicted)
		}
		p.tell(t, evicted.Value, "evicted")
	} else if !ok {
		p.tell(t, w.name, "refused")
	}
}

func (p *pair) pop(t *testing.T) {
	t.Helper()
	p.naive.expire(p.now)
	got, ok := p.queue.Pop(p.now)
	want := p.naive.order(p.now)
	if ok != (len(want) > 0) {
		t.Fatalf("Pop = %v, %v; want one of %v", got, ok, want)
	}
	if !ok {
		return
	}
	if got.Value != want[0].name || got.Rank != want[0].rank || !got.Give.Equal(want[0].give) {
		t.Fatalf("Pop = %+v, want %+v", got, want[0])
	}
	p.naive.remove(got.Value)
	p.tell(t, got.Value, "popped")
}

// remove says goodbye for name, if it ever had a place.
func (p *pair) remove(t *testing.T, name int) {
	t.Helper()
	if name >= len(p.items) || p.items[name] == nil {
		return
	}
	_, told := p.told[name]
	p.naive.remove(name)
	if got := p.queue.Remove(p.items[name]); got != !told {
		t.Fatalf("Remove(%d) = %v, who was told %q before", name, got, p.told[name])
	} else if got {
		p.tell(t, name, "removed")
	}
}

func (p *pair) removeEvery(t *testing.T, nth int) {
	t.Helper()
	match := func(name int) bool { return name%nth == 0 }
	for _, item := range p.queue.RemoveFunc(match) {
		p.naive.remove(item.Value)
		p.tell(t, item.Value, "removed")
	}
	if slices.ContainsFunc(p.naive.line, func(w waiter) bool { return match(w.name) }) {
		t.Fatalf("RemoveFunc(every %d) left some of %v", nth, p.naive.line)
	}
}

// step does what op and arg say.
func (p *pair) step(t *testing.T, op, arg byte) {
	t.Helper()
	switch op % 8 {
	case 0, 1, 2:
		p.push(t, int(arg%4)-1, time.Duration(arg/4)*time.Millisecond)
	case 3:
		p.pop(t)
	case 4:
		p.remove(t, max(0, p.next-1-int(arg)))
	case 5, 6:
		p.now = p.now.Add(time.Duration(arg%16) * time.Millisecond)
	case 7:
		p.rare(t, arg)
	}
	if got, want := p.queue.Len(), len(p.naive.line); got != want {
		t.Fatalf("Len = %d, want %d: %v", got, want, p.naive.line)
	}
}

// rare does what happens seldom.
func (p *pair) rare(t *testing.T, arg byte) {
	t.Helper()
	if arg%2 == 0 {
		p.removeEvery(t, 1+int(arg%7))
		return
	}
	p.naive.s = queue.Settings{MaxWait: time.Duration(arg/8) * time.Millisecond, MaxLength: int(arg % 8)}
	p.queue.Configure(p.naive.s)
}

// settle says goodbye for everybody and checks that each was told once.
func (p *pair) settle(t *testing.T) {
	t.Helper()
	for name := range p.next {
		p.remove(t, name)
	}
	if p.queue.Len() != 0 || len(p.told) != p.next {
		t.Fatalf("%d in line at the end, %d of %d told", p.queue.Len(), len(p.told), p.next)
	}
}

// FuzzQueue compares the queue with its twin after every step, and checks at the end that everybody pushed was popped, evicted, refused or
// removed, once.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{10, 4, 0, 200, 0, 200, 5, 6, 0, 200, 3, 0, 3, 0, 5, 15, 4, 0})
	f.Add([]byte{31, 1, 0, 255, 1, 254, 2, 253, 3, 0, 7, 9, 0, 200, 7, 8, 3, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) < 2 {
			return
		}
		p := newPair(queue.Settings{MaxWait: time.Duration(ops[0]%64) * time.Millisecond, MaxLength: int(ops[1] % 32)})
		for i := 2; i+1 < len(ops); i += 2 {
			p.step(t, ops[i], ops[i+1])
		}
		p.settle(t)
	})
}

// The same over long random runs.
func TestConservation(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := newPair(queue.Settings{MaxWait: 30 * time.Millisecond, MaxLength: 20})
		for range 2_000 {
			op := byte(r.IntN(7))
			if r.IntN(200) == 0 {
				op = 7
			}
			p.step(t, op, byte(r.IntN(256)))
		}
		p.settle(t)
	}
}
