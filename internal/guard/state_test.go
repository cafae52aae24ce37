package guard_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
)

// again returns the guard that comes after r's, as it is restarted.
func (r rig) again(s guard.Settings) rig {
	next := rig{T: r.T, Guard: guard.New(s)}
	next.Restore(r.State())
	return next
}

// limited is a State with the limit of one endpoint.
func limited(l guard.LearnedLimit) guard.State {
	return guard.State{Endpoints: []guard.LearnedLimit{l}}
}

// A restart in the middle of a fivefold overload costs next to nothing, whatever the width of the back-end: its first second serves nine
// tenths of what the last ones served, and sends the back-end no more than it can do.
func TestRestartInAnOverload(t *testing.T) {
	for name, f := range map[string]*fragile{
		"2 workers":  newFragile(2, 5*time.Millisecond),
		"8 workers":  newFragile(8, 20*time.Millisecond),
		"32 workers": newFragile(32, 80*time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			overload(t, f, func(c *crowd) {
				c.offer(5*f.capacity(), 10*time.Second)
				before := c.offer(5*f.capacity(), 4*time.Second)
				was := c.Status().Limit.Limit
				c.clients.Wait()
				c.rig = c.again(guard.Default())
				if now := c.Status().Limit.Limit; now < was/2 || now > 2*was {
					t.Errorf("limit %d before the restart, %d after it", was, now)
				}
				sent := f.count()
				first := c.offer(5*f.capacity(), time.Second)
				if float64(first.good) < 0.9*float64(before.good)/4 {
					t.Errorf("%d calls are answered well in the first second, %d in each before", first.good, before.good/4)
				}
				if sent = f.count() - sent; float64(sent) > 1.25*f.capacity() {
					t.Errorf("%d calls are sent on in the first second; the capacity is %v", sent, f.capacity())
				}
			})
		})
	}
}

// A wide back-end that is well and busy is not refused a call by a guard that comes back: with nothing remembered, a tenth of the second
// was refused.
func TestRestartRefusesNoHealthyTraffic(t *testing.T) {
	f := newFragile(100, 200*time.Millisecond)
	overload(t, f, func(c *crowd) {
		c.offer(0.7*f.capacity(), 20*time.Second)
		c.clients.Wait()
		c.rig = c.again(guard.Default())
		if first := c.offer(0.7*f.capacity(), time.Second); first.refused > 0 {
			t.Errorf("of %d calls of the first second %d are refused: %+v", first.offered, first.refused, c.Status().Limit)
		}
	})
}

func TestAgeOfALimit(t *testing.T) {
	for name, test := range map[string]struct {
		age   time.Duration
		limit int
		want  int // to begin with
	}{
		"just now":                       {age: time.Second, limit: 20, want: 20},
		"within the hour":                {age: time.Hour, limit: 20, want: 20},
		"small":                          {age: time.Minute, limit: 2, want: 2},
		"hours ago, a high one":          {age: time.Hour + 1, limit: 20, want: 8},
		"hours ago, a low one":           {age: 23 * time.Hour, limit: 3, want: 3},
		"yesterday":                      {age: 24*time.Hour + 1, limit: 3, want: 8},
		"by a clock that is a little on": {age: -time.Second, limit: 20, want: 20},
		"by a clock that was put back":   {age: -2 * time.Hour, limit: 20, want: 8},
		"in another life":                {age: -48 * time.Hour, limit: 20, want: 8},
		"beyond the bounds":              {limit: 5_000, want: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, guard.Default(), func(r rig) {
				l := guard.LearnedLimit{Law: limit.Adaptive, Limit: test.limit, Learned: time.Now().Add(-test.age)}
				r.Restore(limited(l))
				if p, d := r.Admit(r.Context(), call); d.Limit != test.want {
					t.Errorf("the first call is told of the limit %d, want %d", d.Limit, test.want)
				} else {
					p.Done(guard.Ignored)
				}
				if got := r.Status().Limit; got.Limit != test.want {
					t.Errorf("begins at %d (%s), want %d", got.Limit, got.Reason, test.want)
				}
			})
		})
	}
}

// What was not asked of the guard meanwhile stays as old as it is, however often the guard is restarted.
func TestRestartsMakeNothingYounger(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		s := limited(guard.LearnedLimit{Law: limit.Adaptive, Limit: 20, Learned: time.Now().UTC()})
		s.Calls = guard.LearnedCost{Mean: 7_923_827_883, Samples: 100, Learned: time.Now().UTC()} // which no float64 of seconds is exactly
		s.Methods = []guard.LearnedMethod{
			{Name: "/a/Slow", Cost: guard.LearnedCost{Mean: 2 * time.Second, Samples: 40, Learned: time.Now().UTC()}},
			{Name: "/a/Watch", Streams: true, Cost: guard.LearnedCost{Learned: time.Now().UTC()}},
		}
		r.Restore(s)
		for range 10 {
			sleep(5 * time.Minute)
			if got := r.State(); !reflect.DeepEqual(got, s) {
				t.Fatalf("%v after the restart:\n%+v, want\n%+v", time.Since(s.Calls.Learned), got, s)
			}
			r = r.again(guard.Default())
		}
		for range 30 {
			sleep(time.Hour)
			r = r.again(guard.Default())
		}
		if got := r.State(); len(got.Methods) > 0 || len(got.Endpoints) > 0 || got.Calls.Samples > 0 {
			t.Errorf("more than a day later it is still there: %+v", got)
		}
	})
}

// Initial is a first guess for a back-end that nothing is known of: with no call having come to the limit, it can be changed.
func TestNothingLearnedIsNothingKept(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		r.run(100, call, time.Millisecond, guard.Success)
		if got := r.State().Endpoints; len(got) > 0 {
			t.Errorf("learned of a limit that never bound: %+v", got)
		}
		s := guard.Default()
		s.Limit.Initial = 50
		if got := r.again(s).Status().Limit.Limit; got != 50 {
			t.Errorf("begins at %d, want the new first limit", got)
		}
	})
}

// A limit that has come down to the first one by itself has been learned: it is not that of before the restart any more.
func TestLimitThatCameBackToTheFirstOne(t *testing.T) {
	s := guard.Default()
	s.Limit.Law, s.Limit.Max = limit.AIMD, 9
	inBubble(t, s, func(r rig) {
		r.Restore(limited(guard.LearnedLimit{Law: limit.AIMD, Limit: 9, Learned: time.Now().Add(-time.Second)}))
		sleep(time.Second)
		r.run(1, call, time.Second, guard.Success)
		r.run(1, call, time.Second, guard.Overload)
		if got := r.State().Endpoints; len(got) != 1 || got[0].Limit != 8 || time.Since(got[0].Learned) != time.Second {
			t.Errorf("kept is %+v, want a limit of 8 that is a second old", got)
		}
	})
}

func TestEndpointsFindTheirLimits(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		known := func(name string, n int) guard.LearnedLimit {
			return guard.LearnedLimit{Endpoint: name, Law: limit.Adaptive, Limit: n, Learned: time.Now().UTC()}
		}
		before := r.AddEndpoint("early:1")
		s := guard.State{Endpoints: []guard.LearnedLimit{known("away:1", 5), known("early:1", 20), known("late:1", 30)}}
		r.Restore(s)
		after, other := r.AddEndpoint("late:1"), r.AddEndpoint("new:1")
		for _, e := range []*guard.Endpoint{before, after, other} {
			e.SetState(guard.Ready)
		}
		for e, want := range map[*guard.Endpoint]int{before: 20, after: 30, other: 8} {
			if got := e.Status().Limit; got.Limit != want {
				t.Errorf("%s begins at %d (%s), want %d", e.Name(), got.Limit, got.Reason, want)
			}
		}
		if got := r.Status().Limit.Limit; got != 58 {
			t.Errorf("the back-end bears %d, want the sum", got)
		}
		if got := r.State(); !reflect.DeepEqual(got.Endpoints, s.Endpoints) {
			t.Errorf("what is kept is %+v, want that of the endpoint that did not come back, too", got.Endpoints)
		}
		var reasons []string
		events, _ := r.Events()
		for _, e := range events {
			reasons = append(reasons, e.Endpoint+" "+e.Reason)
		}
		if text := strings.Join(reasons, "\n"); !strings.Contains(text, "late:1 resume") || !strings.Contains(text, "early:1 resume") {
			t.Errorf("no event tells why the limits are what they are:\n%s", text)
		}
	})
}

// An endpoint that is dead when the guard comes back has died meanwhile: what answers there later has just been started.
func TestRememberedEndpointThatIsDown(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		r.Restore(limited(guard.LearnedLimit{Endpoint: "a:1", Law: limit.Adaptive, Limit: 20,
			Learned: time.Now().Add(-time.Second)}))
		e := r.AddEndpoint("a:1")
		e.SetState(guard.Connecting)
		e.SetState(guard.Failed)
		if got := r.State().Endpoints; len(got) != 1 || !got[0].Ramp || got[0].Limit != 20 {
			t.Errorf("of a back-end that is down is kept: %+v", got)
		}
		e.SetState(guard.Ready)
		if got := e.Status().Limit; got.Limit != 1 {
			t.Errorf("it begins at %d (%s), want a ramp from 1", got.Limit, got.Reason)
		}
		if got := r.State().Endpoints; len(got) != 1 || !got[0].Ramp || got[0].Limit != 20 {
			t.Errorf("of a back-end that is coming back is kept: %+v", got)
		}
	})
}

// A guard that is restarted while its back-end is given up does not come back with full load.
func TestRestartWithTheBreakerOpen(t *testing.T) {
	f := newFragile(8, 20*time.Millisecond)
	overload(t, f, func(c *crowd) {
		c.offer(5*f.capacity(), 5*time.Second)
		c.clients.Wait()
		sleep(time.Minute)
		c.trip()
		was := c.State().Endpoints[0]
		c.rig = c.again(guard.Default())
		if got := c.Status().Limit; got.Limit != 1 {
			t.Errorf("it begins at %d (%s), want a ramp from 1", got.Limit, got.Reason)
		}
		c.offer(5*f.capacity(), time.Second)
		if got := c.Status().Limit; got.Limit < was.Limit/2 {
			t.Errorf("a second later the limit is %d (%s); it was %d", got.Limit, got.Reason, was.Limit)
		}
	})
}

// Methods are compared with each other as before the restart; soon after it, if that was a while ago, as they are now.
func TestCostsOfMethodsSurvive(t *testing.T) {
	const light, heavy = "/shop.Stock/Light", "/shop.Stock/Heavy"
	inBubble(t, guard.Default(), func(r rig) {
		sleep(30 * time.Hour)
		for range 100 {
			r.run(9, guard.Call{Method: light}, 5*time.Millisecond, guard.Success)
			r.run(1, guard.Call{Method: heavy}, 155*time.Millisecond, guard.Success)
		}
		r.run(spentLeast-1, guard.Call{Method: "/shop.Stock/Rare"}, time.Millisecond, guard.Success)
		r.open(guard.Call{Method: "/shop.Stock/Watch"}).MethodStreams()
		s := r.State()
		var names []string
		for _, m := range s.Methods {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); got != heavy+" "+light+" /shop.Stock/Watch" {
			t.Fatalf("methods kept: %s", got)
		}
		if c := s.Methods[0].Cost; c.Mean != 155*time.Millisecond || c.Samples != 100 || time.Since(c.Learned) > time.Second {
			t.Errorf("cost of the heavy method: %+v", c)
		}
		if c := s.Calls; c.Samples != 1000 || c.Mean < 15*time.Millisecond || c.Mean > 25*time.Millisecond {
			t.Errorf("mean of all calls: %+v", c)
		}
		if got := r.again(guard.Default()).State(); !reflect.DeepEqual(got, s) {
			t.Errorf("after a restart %+v, want %+v", got, s)
		}
		sleep(2 * time.Hour)
		old := r.again(guard.Default())
		if got := old.State().Methods[0].Cost; got.Samples != spentLeast || got.Mean != 155*time.Millisecond {
			t.Errorf("two hours later: %+v, want a mean that a few answers outweigh", got)
		}
		if p := old.pass(guard.Call{Method: "/shop.Stock/Watch"}); old.Status().OpenStreams != 1 {
			t.Errorf("a call of a streaming method is not taken for a stream: %+v", p)
		}
	})
}

// spentLeast is how many answers tell what calls of a method take.
const spentLeast = 30

func TestNonsenseIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		good := guard.LearnedCost{Mean: time.Second, Samples: 100, Learned: now}
		sound := guard.State{
			Calls:     good,
			Methods:   []guard.LearnedMethod{{Name: "/a/Good", Cost: good}},
			Endpoints: []guard.LearnedLimit{{Endpoint: "a:1", Law: limit.Adaptive, Limit: 20, Learned: now}},
		}
		for name, spoil := range map[string]func(s *guard.State){
			"negative mean":      func(s *guard.State) { withCost(s, -1, 100, now) },
			"no mean":            func(s *guard.State) { withCost(s, 0, 100, now) },
			"mean of years":      func(s *guard.State) { withCost(s, 1<<62, 100, now) },
			"no samples":         func(s *guard.State) { withCost(s, time.Second, 0, now) },
			"negative samples":   func(s *guard.State) { withCost(s, time.Second, -1<<40, now) },
			"cost of no time":    func(s *guard.State) { withCost(s, time.Second, 100, time.Time{}) },
			"method of no name":  func(s *guard.State) { withMethod(s, "\xff") },
			"method of a long":   func(s *guard.State) { withMethod(s, strings.Repeat("x", 300)) },
			"negative limit":     func(s *guard.State) { withLimit(s, "b:1", -5) },
			"no limit":           func(s *guard.State) { withLimit(s, "b:1", 0) },
			"endpoint of no":     func(s *guard.State) { withLimit(s, "\xff", 5) },
			"endpoint of a long": func(s *guard.State) { withLimit(s, strings.Repeat("x", 300), 5) },
		} {
			s := sound
			spoil(&s)
			g := guard.New(guard.Default())
			g.Restore(s)
			if got := g.State(); !reflect.DeepEqual(got, sound) {
				t.Errorf("%s: left is %+v, want what is sound", name, got)
			}
		}
	})
}

// withCost adds a method of such a cost; the slices of a sound State are its own.
func withCost(s *guard.State, mean time.Duration, samples int, learned time.Time) {
	m := guard.LearnedMethod{Name: "/a/Bad", Cost: guard.LearnedCost{Mean: mean, Samples: samples, Learned: learned}}
	s.Methods = append(slices.Clone(s.Methods), m)
}

func withMethod(s *guard.State, name string) {
	s.Methods = append(slices.Clone(s.Methods), guard.LearnedMethod{Name: name, Cost: s.Calls})
}

func withLimit(s *guard.State, endpoint string, n int) {
	l := s.Endpoints[0]
	l.Endpoint, l.Limit = endpoint, n
	s.Endpoints = append(slices.Clone(s.Endpoints), l)
}

// Costs of methods are compared with the mean of all calls: without it they tell nothing. More samples than a mean remembers are as many.
func TestCostsNeedAMeanOfAll(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		cost := guard.LearnedCost{Mean: time.Second, Samples: 1 << 40, Learned: time.Now().UTC()}
		s := guard.State{Methods: []guard.LearnedMethod{{Name: check, Cost: cost}}}
		r.Restore(s)
		if got := r.State().Methods; len(got) > 0 {
			t.Errorf("taken without a mean of all: %+v", got)
		}
		s.Calls = cost
		r.Restore(s)
		if got := r.State(); len(got.Methods) != 1 || got.Methods[0].Cost.Samples != 1000 || got.Calls.Samples != 1000 {
			t.Errorf("taken with it: %+v", got)
		}
	})
}

// Restore belongs before the first call; when it comes too late, the limit under which calls are in flight stays.
func TestRestoreUnderTraffic(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		p := r.pass(call)
		r.Restore(limited(guard.LearnedLimit{Law: limit.Adaptive, Limit: 20, Learned: time.Now()}))
		if got := r.Status().Limit; got.Limit != 8 {
			t.Errorf("the limit becomes %d (%s)", got.Limit, got.Reason)
		}
		p.Done(guard.Success)
		r.inFlight(0, 0)
	})
}

// Of too many entries the first are taken; those of methods that nobody calls any more make room for others.
func TestRestoreIsBounded(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		var s guard.State
		s.Calls = guard.LearnedCost{Mean: time.Second, Samples: 100, Learned: time.Now().Add(-2 * time.Minute)}
		for i := range 3000 {
			name := strings.Repeat("x", i%250) + string(rune('a'+i/250))
			s.Methods = append(s.Methods, guard.LearnedMethod{Name: name, Cost: s.Calls})
			s.Endpoints = append(s.Endpoints, guard.LearnedLimit{Endpoint: name, Law: limit.Adaptive, Limit: 5, Learned: time.Now()})
		}
		r.Restore(s)
		if got := r.State(); len(got.Methods) != 999 || len(got.Endpoints) != 1000 {
			t.Errorf("%d methods and %d endpoints", len(got.Methods), len(got.Endpoints))
		}
		if got := r.AddEndpoint(s.Endpoints[1000].Endpoint).Status().Limit.Limit; got != 8 {
			t.Errorf("the limit of one endpoint too many is remembered: %d", got)
		}
		r.run(spentLeast, call, time.Millisecond, guard.Success)
		if got := r.State().Methods; len(got) != 999 || got[0].Name != check {
			t.Errorf("a new method finds no room among %d that nobody calls", len(got))
		}
	})
}

// What is remembered ages while its endpoint is away, too.
func TestEndpointThatComesLate(t *testing.T) {
	for after, want := range map[time.Duration]int{time.Minute: 20, 2 * time.Hour: 8, 25 * time.Hour: 8} {
		inBubble(t, guard.Default(), func(r rig) {
			r.Restore(guard.State{Endpoints: []guard.LearnedLimit{
				{Endpoint: "high:1", Law: limit.Adaptive, Limit: 20, Learned: time.Now()},
				{Endpoint: "low:1", Law: limit.Adaptive, Limit: 3, Learned: time.Now()},
			}})
			sleep(after)
			low := 3
			if after > 24*time.Hour {
				low = 8
			}
			if a, b := r.AddEndpoint("high:1"), r.AddEndpoint("low:1"); a.Status().Limit.Limit != want || b.Status().Limit.Limit != low {
				t.Errorf("after %v they begin at %+v and %+v, want %d and %d", after, a.Status().Limit, b.Status().Limit, want, low)
			}
		})
	}
}

// What one law has found tells nothing to another.
func TestLimitOfAnotherLaw(t *testing.T) {
	s := guard.Default()
	s.Limit.Law = limit.AIMD
	inBubble(t, s, func(r rig) {
		r.Restore(limited(guard.LearnedLimit{Law: limit.Adaptive, Limit: 900, Learned: time.Now()}))
		if got := r.Status().Limit; got.Limit != 8 {
			t.Errorf("begins at %d (%s)", got.Limit, got.Reason)
		}
	})
	inBubble(t, fixed(3), func(r rig) {
		r.Restore(limited(guard.LearnedLimit{Law: limit.Fixed, Limit: 900, Learned: time.Now()}))
		if got := r.Status().Limit; got.Limit != 3 {
			t.Errorf("a fixed limit of 3 begins at %d (%s)", got.Limit, got.Reason)
		}
	})
}

// FuzzRestore has a guard restored from any state: it does not panic, its limit is within the bounds, and what it has taken is taken by the
// next guard as it is.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"calls":{"mean_ns":1000,"samples":100},"methods":[{"name":"a","streams":true,"cost":{"mean_ns":-1,"samples":99}}]}`))
	f.Add([]byte(`{"endpoints":[{"endpoint":"","law":"adaptive","limit":7},{"endpoint":"b","law":"aimd","limit":-1,"ramp":true}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s guard.State
		if json.Unmarshal(text, &s) != nil {
			return
		}
		now := time.Now().UTC()
		for i := range s.Endpoints {
			if s.Endpoints[i].Learned.IsZero() {
				s.Endpoints[i].Learned = now
			}
		}
		for i := range s.Methods {
			if s.Methods[i].Cost.Learned.IsZero() {
				s.Methods[i].Cost.Learned, s.Calls.Learned = now, now
			}
		}
		one, two := guard.New(guard.Default()), guard.New(guard.Default())
		one.Restore(s)
		if l := one.Status().Limit; l.Limit < l.Min || l.Limit > l.Max {
			t.Fatalf("limit %+v", l)
		}
		two.Restore(one.State())
		a, b := one.State(), two.State()
		if len(a.Endpoints) != len(b.Endpoints) || len(a.Methods) != len(b.Methods) || a.Calls.Mean != b.Calls.Mean {
			t.Fatalf("taken from\n%+v\nby the next guard\n%+v", a, b)
		}
	})
}
