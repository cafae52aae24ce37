package queue_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// pair is the queue and its twin, with the books on what became of everybody.
type pair struct {
	queue *queue.Queue[int]
	naive *naive
	items []*queue.Item[int] // of everybody who found a place, by number
	told  map[int]string     // what became of whom
	now   time.Time
	next  int
}

func newPair(s queue.Settings) *pair {
	return &pair{queue: queue.New[int](s), naive: newNaive(s), told: map[int]string{}, now: start}
}

// tell notes what became of name; it must be the first that becomes of it.
func (p *pair) tell(t *testing.T, name int, what string) {
	t.Helper()
	if before, twice := p.told[name]; twice {
		t.Fatalf("%d was %s and then %s", name, before, what)
	}
	p.told[name] = what
}

// push lets somebody join, who he is; what weighs and costs is exact in binary, or the sums of the twin were others.
func (p *pair) push(t *testing.T, rank int, left time.Duration, who int) {
	t.Helper()
	c := queue.Claim{
		Rank:     rank,
		Tenant:   []string{"", "a", "b", "c", "d"}[who%5],
		Weight:   []float64{0, 1, 4, 0.5}[who/5%4],
		Cost:     []float64{0, 2, 5}[who/20%3],
		Patience: []time.Duration{0, 0, 0, 10 * time.Millisecond, time.Second}[who/60],
		Deadline: p.now.Add(left),
	}
	w := waiter{name: p.next, rank: rank, tenant: c.Tenant, left: left, charge: cmp.Or(c.Cost, 1) / cmp.Or(c.Weight, 1)}
	w.patience = cmp.Or(c.Patience, p.naive.s.MaxWait)
	if c.Weight != 0 {
		w.known, w.tenant = true, w.tenant+" known"
	}
	p.next++
	item, evicted, ok := p.queue.Push(w.name, c, p.now)
	give, wantEvicted, wantOK := p.naive.push(w, p.now)
	if ok != wantOK || (item != nil) != ok || (evicted != nil) != (wantEvicted >= 0) {
		t.Fatalf("Push(%+v) = %v, %v, %v; want %d, %v", w, item, evicted, ok, wantEvicted, wantOK)
	}
	if ok && (item.Value != w.name || item.Rank != rank || !item.Give.Equal(give)) {
		t.Fatalf("Push(%+v) = %+v, want to give up at %v", w, item, give)
	}
	p.items = append(p.items, item)
	if evicted != nil {
		if evicted.Value != wantEvicted {
			t.Fatalf("Push(%+v) evicted %d, want %d of %+v", w, evicted.Value, wantEvicted, p.naive.line)
		}
		p.tell(t, evicted.Value, "evicted")
	} else if !ok {
		p.tell(t, w.name, "refused")
	}
}

func (p *pair) pop(t *testing.T) {
	t.Helper()
	next, some := p.queue.Next(p.now)
	got, ok := p.queue.Pop(p.now)
	want, wantOK := p.naive.pop(p.now)
	if ok != wantOK || ok != some || got != next {
		t.Fatalf("Pop = %v, %v, after Next = %v, %v; want %+v, %v", got, ok, next, some, want, wantOK)
	}
	if !ok {
		return
	}
	if got.Value != want.name {
		t.Fatalf("Pop = %d, want %d; left are %+v", got.Value, want.name, p.naive.line)
	}
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
	var got []int
	for _, item := range p.queue.RemoveFunc(match) {
		got = append(got, item.Value)
		p.tell(t, item.Value, "removed")
	}
	var want []int
	for _, rank := range p.naive.inLine() {
		for _, w := range p.naive.of(rank) {
			if match(w.name) {
				want = append(want, w.name)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("RemoveFunc(every %d) = %v, want %v of %+v", nth, got, want, p.naive.line)
	}
	p.naive.drop(func(w waiter) bool { return match(w.name) })
}

// step does what op, arg and who say.
func (p *pair) step(t *testing.T, op, arg, who byte) {
	t.Helper()
	switch op % 8 {
	case 0, 1, 2:
		p.push(t, int(arg%4)-1, time.Duration(arg/4)*time.Millisecond, int(who))
	case 3:
		p.pop(t)
	case 4:
		p.remove(t, max(0, p.next-1-int(arg)))
	case 5, 6:
		p.now = p.now.Add(time.Duration(arg%16) * time.Millisecond)
	case 7:
		p.rare(t, arg, who)
	}
	if got, want := p.queue.Len(), len(p.naive.line); got != want {
		t.Fatalf("Len = %d, want %d: %+v", got, want, p.naive.line)
	}
}

// rare does what happens seldom.
func (p *pair) rare(t *testing.T, arg, who byte) {
	t.Helper()
	switch arg % 4 {
	case 0:
		p.removeEvery(t, 1+int(arg/4%7))
	case 1:
		p.naive.s = queue.Settings{
			MaxWait:      time.Duration(arg/4) * time.Millisecond,
			StandingWait: time.Duration(who/8) * time.Millisecond,
			MaxLength:    int(who % 8),
		}
		p.queue.Configure(p.naive.s)
	case 2:
		p.now = p.now.Add(time.Duration(arg) * 8 * time.Millisecond)
	case 3: // many are served, so that others starve
		for i := range int(arg / 2) {
			p.push(t, int(arg/4%3)-1, time.Second, int(who))
			p.pop(t)
			if i%8 == 0 {
				p.now = p.now.Add(time.Duration(who%64) * time.Millisecond)
			}
		}
	}
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
	f.Add([]byte{10, 4, 9, 0, 200, 0, 0, 200, 1, 5, 6, 0, 0, 200, 6, 3, 0, 0, 3, 0, 0, 5, 15, 0, 4, 0, 0})
	f.Add([]byte{31, 5, 1, 0, 255, 1, 1, 254, 62, 2, 253, 3, 3, 0, 0, 7, 9, 44, 0, 200, 5, 7, 8, 0, 3, 0, 0})
	f.Add([]byte{60, 20, 30, 0, 255, 240, 7, 255, 0, 0, 255, 240, 7, 62, 0, 7, 255, 8, 3, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) < 3 || len(ops) > 600 {
			return
		}
		p := newPair(queue.Settings{
			MaxWait:      time.Duration(ops[0]%64) * time.Millisecond,
			StandingWait: time.Duration(ops[1]%64) * time.Millisecond,
			MaxLength:    int(ops[2] % 32),
		})
		for i := 3; i+2 < len(ops); i += 3 {
			p.step(t, ops[i], ops[i+1], ops[i+2])
		}
		p.settle(t)
	})
}

// The same over long random runs.
func TestConservation(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := newPair(queue.Settings{MaxWait: 30 * time.Millisecond, StandingWait: 9 * time.Millisecond, MaxLength: 20})
		for range 2_000 {
			op := byte(r.IntN(7))
			if r.IntN(200) == 0 {
				op = 7
			}
			p.step(t, op, byte(r.IntN(256)), byte(r.IntN(256)))
		}
		p.settle(t)
	}
}
