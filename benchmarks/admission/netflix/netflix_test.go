package netflix_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/capguard/capguard/benchmarks/admission/netflix"
)

const ms = time.Millisecond

var t0 = time.Unix(1_000_000, 0)

// sample is one step of a table: so many samples of one kind, and the limit after them, worked out by hand from the Java sources.
type sample struct {
	n        int
	rtt      time.Duration
	inFlight int
	dropped  bool
	want     int
}

func follow(t *testing.T, law netflix.Law, steps []sample) {
	t.Helper()
	for i, s := range steps {
		for range s.n {
			law.Sample(t0, s.rtt, s.inFlight, s.dropped)
		}
		if got := law.Limit(); got != s.want {
			t.Errorf("step %d: limit is %d, want %d", i+1, got, s.want)
		}
	}
}

func TestGradient2(t *testing.T) {
	follow(t, netflix.NewGradient2(), []sample{
		{0, 0, 0, false, 20},
		{1, 20 * ms, 20, false, 20},   // 20.8: a fifth of the way to 24
		{4, 20 * ms, 20, false, 24},   // and so on
		{100, 20 * ms, 11, false, 24}, // grows no more: less than half of it is used
		{1000, 20 * ms, 200, false, 200},
		{1, 40 * ms, 200, false, 180},   // 0.8 × 200 + 0.2 × (200 × 0.5017 + 4)
		{100, 200 * ms, 200, false, 20}, // never below its least, whatever the times
	})
	g := netflix.NewGradient2()
	g.Min, g.Initial, g.QueueSize = 1, 100, netflix.SquareRoot
	follow(t, g, []sample{{1, 20 * ms, 100, false, 102}}) // a fifth of ten
}

func TestGradient2ForgetsAnOverload(t *testing.T) {
	g := netflix.NewGradient2()
	g.Min = 1
	for range 20 {
		g.Sample(t0, time.Second, 1, false)
	}
	for range 40 { // A plain average of 601 samples would still be at 0.85 s, and call 100 ms a good time.
		g.Sample(t0, 20*ms, 1, false)
	}
	g.Sample(t0, 100*ms, 20, false)
	if got := g.Limit(); got != 18 {
		t.Errorf("limit is %d, want 18: 0.8 × 20 + 0.2 × (20 / 2 + 4)", got)
	}
}

func TestVegas(t *testing.T) {
	v := netflix.NewVegas(rand.New(rand.NewPCG(1, 1)))
	follow(t, v, []sample{
		{1, 20 * ms, 20, false, 20},  // the least time
		{1, 20 * ms, 20, false, 26},  // no queue: by beta
		{1, 22 * ms, 26, false, 26},  // a queue of 3 = alpha: stays
		{1, 21 * ms, 26, false, 27},  // a queue of 2: by one
		{1, 40 * ms, 27, false, 26},  // a queue of 14
		{1, 20 * ms, 20, true, 25},   // dropped
		{50, 20 * ms, 12, false, 25}, // less than half is used
		{1, 10 * ms, 25, false, 25},  // a new least time
		{1, 20 * ms, 25, false, 24},
	})
	follow(t, v, []sample{{30 * 25, 200 * ms, 25, true, 1}}) // never below one, probes among them
}

func TestAIMD(t *testing.T) {
	a := netflix.NewAIMD()
	follow(t, a, []sample{
		{1, 20 * ms, 9, false, 20},
		{1, 20 * ms, 10, false, 21},
		{1000, 20 * ms, 200, false, 200},
		{1, 20 * ms, 200, true, 180},
		{1, 5*time.Second + 1, 200, false, 162},
		{100, 20 * ms, 200, true, 20},
	})
}

// counted is a law that only remembers its samples.
type counted []sample

func (c *counted) Limit() int { return 3 }
func (c *counted) Sample(_ time.Time, rtt time.Duration, inFlight int, dropped bool) {
	*c = append(*c, sample{1, rtt, inFlight, dropped, 0})
}

func TestWindow(t *testing.T) {
	var seen counted
	w := netflix.Windowed(&seen)
	w.Sample(t0, ms, 1, false) // ends the window before the first, which has too few
	for i := range 20 {
		w.Sample(t0.Add(time.Duration(i)*50*ms), time.Duration(i+1)*ms, 20-i, i == 3)
		w.Sample(t0, 99*time.Microsecond, 1000, true) // too short to count
	}
	if len(seen) != 0 {
		t.Fatalf("samples within the first second: %v", seen)
	}
	w.Sample(t0.Add(1001*ms), 21*ms, 1, false)
	if want := (sample{1, 11 * ms, 20, true, 0}); len(seen) != 1 || seen[0] != want {
		t.Errorf("samples are %v, want %v", seen, want)
	}
	w.Sample(t0.Add(2002*ms), ms, 1, false)
	if len(seen) != 1 {
		t.Error("one sample made a window")
	}
}

func TestLimiter(t *testing.T) {
	var seen counted
	l := netflix.New(&seen)
	var out []netflix.Permit
	for range 3 {
		p, ok := l.Acquire(t0)
		if !ok {
			t.Fatal("refused below the limit")
		}
		out = append(out, p)
	}
	if _, ok := l.Acquire(t0); ok {
		t.Error("admitted above the limit")
	}
	for i, o := range []netflix.Outcome{netflix.Success, netflix.Dropped, netflix.Ignored} {
		out[i].Release(t0.Add(time.Duration(i+1)*ms), o)
	}
	want := counted{{1, ms, 1, false, 0}, {1, 2 * ms, 2, true, 0}}
	if len(seen) != 2 || seen[0] != want[0] || seen[1] != want[1] {
		t.Errorf("samples are %v, want %v", seen, want)
	}
	if _, ok := l.Acquire(t0); !ok {
		t.Error("refused although all came back")
	}
}
