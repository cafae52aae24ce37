package virtual_test

import (
	"math"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/scenario"
	"github.com/capguard/capguard/loadtest/scenario/virtual"
)

func named(t *testing.T, name string) *scenario.Scenario {
	t.Helper()
	list, err := scenario.Select(name)
	if err != nil {
		t.Fatal(err)
	}
	return &list[0]
}

// play plays a scenario in a bubble.
func play(t *testing.T, s *scenario.Scenario, seed uint64, m virtual.Maker) (r *scenario.Record) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { r = virtual.Play(s, scenario.Base, seed, m, synctest.Wait) })
	return r
}

func ours() virtual.Maker { return virtual.Guard("ours", guard.Default()) }

// short makes a scenario end earlier.
func short(s *scenario.Scenario, d time.Duration) *scenario.Scenario {
	s.Duration, s.Measured.To = d, d
	return s
}

// TestSeedRepeats: the same seed gives the same record, to the nanosecond, timers and goroutines of the guard notwithstanding.
func TestSeedRepeats(t *testing.T) {
	for _, name := range []string{"S2/5", "S10", "S17"} {
		s := short(named(t, name), 25*time.Second)
		a, b, c := play(t, s, 1, ours()), play(t, s, 1, ours()), play(t, s, 2, ours())
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: two runs with the same seed differ", name)
		}
		if reflect.DeepEqual(a.Requests, c.Requests) {
			t.Errorf("%s: two runs with different seeds are alike", name)
		}
	}
}

// TestNothingIsLost: every request ends, every attempt has one fate that fits its moments, and none is made without need or too often.
func TestNothingIsLost(t *testing.T) {
	for _, name := range []string{"S2/2", "S3b", "S10", "S11b", "S14", "S19"} {
		s := short(named(t, name), 66*time.Second)
		for _, m := range []virtual.Maker{ours(), virtual.Open(), virtual.Static(8, true)} {
			r := play(t, s, 3, m)
			refused := 0
			for i, a := range r.Attempts {
				stream := s.Classes[a.Class].Stream != nil
				switch {
				case stream && a.Ended == 0: // still open
				case a.Ended < a.Made || a.Sent >= 0 && (a.Sent < a.Made || a.Ended < a.Sent):
					t.Fatalf("%s, %s: attempt %d runs backwards: %+v", name, m.Name, i, a)
				case a.Fate == scenario.Served && a.Sent < 0, a.Fate == scenario.Shed && a.Sent >= 0:
					t.Fatalf("%s, %s: attempt %d: %+v", name, m.Name, i, a)
				case a.Ended > a.Made+s.Timeout && !stream:
					t.Fatalf("%s, %s: attempt %d lasted beyond the patience of its caller: %+v", name, m.Name, i, a)
				}
				if a.Fate == scenario.Shed {
					refused++
				}
			}
			for i, q := range r.Requests {
				if q.Done < q.Due || q.Good && s.Retry.Most == 0 && q.Done > q.Due+s.Good() {
					t.Fatalf("%s, %s: request %d: %+v", name, m.Name, i, q)
				}
			}
			if most := len(r.Requests) * (1 + s.Retry.Most); len(r.Attempts) < len(r.Requests) || len(r.Attempts) > most {
				t.Errorf("%s, %s: %d attempts for %d requests", name, m.Name, len(r.Attempts), len(r.Requests))
			}
			if m.Name == "none" && refused > 0 {
				t.Errorf("%s: %d attempts were refused by nobody", name, refused)
			}
		}
	}
}

// TestLimitIsKept: a static limit is never exceeded at the back-end while nobody times out, and is used up in an overload.
func TestLimitIsKept(t *testing.T) {
	for _, queue := range []bool{false, true} {
		r := play(t, short(named(t, "S2/5"), 30*time.Second), 1, virtual.Static(12, queue))
		most := slices.MaxFunc(r.Samples, func(a, b scenario.Sample) int { return a.Work - b.Work })
		if most.Work != 12 || most.InFlight > 12 {
			t.Errorf("queue %v: at most %+v, want 12", queue, most)
		}
	}
}

// TestOverloadWithoutGuard: what the scenarios are about. Nobody is served in time any more, and the work is for nobody.
func TestOverloadWithoutGuard(t *testing.T) {
	rep := scenario.Judge([]*scenario.Record{play(t, named(t, "S2/2"), 1, virtual.Open())})
	if g := rep.Figures[0]; g.Metric != scenario.Goodput || g.Median > 0.1 {
		t.Errorf("without a guard: %v", rep)
	}
}

// TestBestStaticIsNearTheOracle: the oracle is an upper bound, and not far above what somebody reaches who knows the future.
func TestBestStaticIsNearTheOracle(t *testing.T) {
	for _, name := range []string{"S1a", "S2/2"} {
		rep := scenario.Judge([]*scenario.Record{virtual.Best(short(named(t, name), 40*time.Second), scenario.Base, 1)})
		if g := rep.Figures[0].Median; g < 0.98 || g > 1.01 {
			t.Errorf("%s: hindsight reaches %.3f of the oracle", name, g)
		}
	}
}

// TestWorkIsConserved: what the back-end did is what it was sent, times what a call costs.
func TestWorkIsConserved(t *testing.T) {
	s := named(t, "S1a")
	r := play(t, s, 1, virtual.Open())
	busy := 0.0
	for _, b := range r.Busy {
		busy += b
	}
	if mean := busy / float64(len(r.Requests)) * 1000; math.Abs(mean-20) > 0.5 {
		t.Errorf("a call took %.2f ms of work, want 20", mean)
	}
}

// liar answers twice.
type liar struct{}

func (liar) Arrive(c *virtual.Call) {
	c.Admit(0)
	c.Admit(0)
}
func (liar) Gone(*virtual.Call)                                {}
func (liar) Ended(*virtual.Call, guard.Outcome, time.Duration) {}
func (liar) Limit() float64                                    { return 0 }

func TestTwoAnswersAreABug(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a gate that admits a call twice goes unnoticed")
		}
	}()
	m := virtual.Maker{Name: "liar", Make: func(*virtual.World) virtual.Gate { return liar{} }}
	virtual.Play(named(t, "S1a"), scenario.Base, 1, m, nil)
}

// late admits calls that wait when they have given up, from a goroutine of its own.
type late struct{ ended []guard.Outcome }

func (l *late) Arrive(*virtual.Call) {}
func (l *late) Gone(c *virtual.Call) { time.AfterFunc(0, func() { c.Admit(0) }) }
func (l *late) Ended(_ *virtual.Call, o guard.Outcome, _ time.Duration) {
	l.ended = append(l.ended, o)
}
func (l *late) Limit() float64 { return 0 }

// TestLatePermitIsGivenBack: who is admitted when his caller has gone costs the back-end nothing, and the gate hears of it.
func TestLatePermitIsGivenBack(t *testing.T) {
	g := &late{}
	s := short(named(t, "S1c"), 20*time.Second)
	r := play(t, s, 1, virtual.Maker{Name: "late", Clocked: true, Make: func(*virtual.World) virtual.Gate { return g }})
	if len(g.ended) != len(r.Attempts) || slices.ContainsFunc(g.ended, func(o guard.Outcome) bool { return o != guard.Ignored }) {
		t.Errorf("%d permits for %d calls came back as %v", len(g.ended), len(r.Attempts), g.ended)
	}
	for _, a := range r.Attempts {
		if a.Sent >= 0 || a.Fate != scenario.TimedOut {
			t.Fatalf("a call whose caller had gone: %+v", a)
		}
	}
}

// TestGuardGetsItsPermitsBack: at the end of a run nothing is in flight or in line, and no permit came back twice.
func TestGuardGetsItsPermitsBack(t *testing.T) {
	for _, name := range []string{"S2/2", "S10", "S11b", "S14"} {
		synctest.Test(t, func(t *testing.T) {
			m := virtual.Guard("ours", guard.Default())
			var g virtual.Gate
			made := m.Make
			m.Make = func(w *virtual.World) virtual.Gate {
				g = made(w)
				return g
			}
			virtual.Play(short(named(t, name), 70*time.Second), scenario.Base, 1, m, synctest.Wait)
			st := g.(interface{ Status() guard.Status }).Status()
			if st.InFlight != 0 || st.Queued != 0 || st.DoubleReturns != 0 {
				t.Errorf("%s: at the end %+v", name, st)
			}
		})
	}
}

// witness lets every call pass, and notes how it ended.
type witness struct {
	virtual.Gate
	ended map[guard.Outcome]int
	links []bool
}

func (w *witness) Arrive(c *virtual.Call) { c.Admit(0) }
func (w *witness) Ended(_ *virtual.Call, o guard.Outcome, _ time.Duration) {
	w.ended[o]++
}
func (w *witness) Limit() float64            { return 0 }
func (w *witness) Connection(_ int, up bool) { w.links = append(w.links, up) }

// TestOutcomes: a call that a crash ended is an overload, one that found nobody to connect to a failure, as the data path says it.
func TestOutcomes(t *testing.T) {
	s := short(named(t, "S11b"), 20*time.Second)
	s.Retry = scenario.Retry{}
	s.Kills[0].At = 5 * time.Second
	s.Classes[0].Rate = loadtest.Steady(200).Step(5*time.Second, 60) // it can bear less when it is cold
	w := &witness{ended: map[guard.Outcome]int{}}
	r := virtual.Play(s, scenario.Base, 1, virtual.Maker{Name: "witness", Make: func(*virtual.World) virtual.Gate { return w }}, nil)
	down := 0 // attempts while nobody was there
	for _, a := range r.Attempts {
		if a.Made > 5*time.Second && a.Made < 10*time.Second {
			down++
		}
	}
	if w.ended[guard.Failure] != down || w.ended[guard.Overload] == 0 || w.ended[guard.Overload] > 30 || w.ended[guard.Ignored] != 0 {
		t.Errorf("%d calls came while it was down; they ended as %v", down, w.ended)
	}
	if !slices.Equal(w.links, []bool{false, true}) || len(r.Crashes) != 1 {
		t.Errorf("the connection was told to be %v", w.links)
	}
}

// TestRestart: calls that are in the gate when it dies fail, and later ones go to another gate.
func TestRestart(t *testing.T) {
	s := short(named(t, "S3b"), 32*time.Second)
	made := 0
	m := virtual.Static(8, true)
	first := m.Make
	m.Make = func(w *virtual.World) virtual.Gate {
		made++
		return first(w)
	}
	failed := 0
	for _, a := range virtual.Play(s, scenario.Base, 1, m, nil).Attempts {
		switch {
		case a.Fate != scenario.Failed:
		case a.Ended != 30*time.Second:
			t.Fatalf("a call failed when nothing happened: %+v", a)
		default:
			failed++
		}
	}
	if made != 2 || failed < 8 {
		t.Errorf("%d gates were made, %d calls failed", made, failed)
	}
}
