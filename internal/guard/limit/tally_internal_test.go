package limit

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// look is a tally of so many calls, alike but for their times, which are spread evenly around the mean.
func look(n int, level, cost int, took, usual float64, result Result) (t tally) {
	for i := range n {
		t.add(answer{result: result, took: took * (0.5 + (float64(i)+0.5)/float64(n)), usual: usual, cost: cost, level: level})
	}
	return t
}

// The figures of two looks, by hand.
func TestCompare(t *testing.T) {
	both := look(10, 20, 1, 2, 1, Success)
	both.merge(look(10, 20, 1, 2, 1, Overload))
	low := look(100, 10, 1, 1, 1, Success)
	tests := []struct {
		name             string
		low, high        tally
		useful, elastic  float64
		slower, errBelow float64
		chokes, pays     bool
	}{
		{"twice as slow with twice as many", low, look(100, 20, 1, 2, 1, Success), 10, 0, math.Ln2, 0.06, true, false},
		{"none the slower", low, look(100, 20, 1, 1, 1, Success), 20, 1, 0, 0.06, false, true},
		{"half of it pays", low, look(100, 20, 1, math.Sqrt2, 1, Success), 20 / math.Sqrt2, 0.5, math.Ln2 / 2, 0.06, true, false},
		{"slower by what is usual for its calls", low, look(100, 20, 1, 3, 3, Success), 20, 1, 0, 0.06, false, true},
		{"half of the calls come to nothing", low, both, 5, -1, 2 * math.Ln2, 0.2, true, false},
		{"twice as slow, but few", look(6, 10, 1, 1, 1, Success), look(6, 20, 1, 2, 1, Success), 10, 0, math.Ln2, 0.4, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := compare(test.low, test.high)
			for _, f := range []struct {
				what      string
				got, want float64
			}{{"useful", v.useful, test.useful}, {"elasticity", v.elasticity, test.elastic}, {"slower", v.slower, test.slower}} {
				if math.Abs(f.got-f.want) > 1e-9 {
					t.Errorf("%s is %v, want %v", f.what, f.got, f.want)
				}
			}
			if v.err <= 0 || v.err > test.errBelow {
				t.Errorf("error is %v, want at most %v", v.err, test.errBelow)
			}
			if v.chokes() != test.chokes || v.pays() != test.pays {
				t.Errorf("chokes %v, pays %v", v.chokes(), v.pays())
			}
		})
	}
}

// Calls that are not back count as long as they have been away and half a latency more.
func TestCohortTotal(t *testing.T) {
	l := &Limiter{limit: 8}
	c := l.cohort(4)
	for i := range 4 {
		c.send(float64(i))
	}
	for i := range 2 { // the first two come back after 10 s
		c.back(c.id)
		c.left -= float64(i)
		c.main.add(answer{result: Success, took: 10, usual: 1, cost: 1, level: 8})
	}
	got := c.total(11)
	if got.n != 4 || got.good != 4 || got.mean() != 8 || got.took != 10+10+(11-2+5)+(11-3+5) {
		t.Errorf("total is %+v", got)
	}
}

// Whatever happens, a cohort holds as many calls as were sent in it and are not back, and no more than it wants.
func TestCohortsHold(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	l := New(Default(), time.Unix(0, 0))
	var slots []Slot
	for i := range 30_000 {
		now := time.Unix(0, int64(i)*int64(time.Millisecond))
		if s, ok := l.Acquire(1+r.IntN(20)/19, now); ok {
			slots = append(slots, s)
		} else {
			l.Held()
		}
		for len(slots) > 0 && r.IntN(l.Limit()+2) < len(slots) {
			j := r.IntN(min(len(slots), 3))
			s := slots[j]
			slots = append(slots[:j], slots[j+1:]...)
			l.Release(s, Result(1+r.IntN(20)/17), time.Duration(r.IntN(100))*time.Millisecond, 0, now)
		}
		checkCohorts(t, l.law.(*adaptive), slots)
	}
}

func checkCohorts(t *testing.T, a *adaptive, slots []Slot) {
	t.Helper()
	for _, c := range []*cohort{&a.calm.halves[0], &a.calm.halves[1], &a.ask.during, &a.ask.after} {
		out := 0
		for _, s := range slots {
			if c.id != 0 && s.mark == c.id {
				out++
			}
		}
		if c.out != out || c.sent > c.want || c.main.n+c.low.n > float64(c.sent-c.out) {
			t.Fatalf("cohort %+v with %d calls out", *c, out)
		}
	}
	if a.ask.kind != nothing && a.calm.filling().id != 0 {
		t.Fatalf("a window is open during a question")
	}
}
