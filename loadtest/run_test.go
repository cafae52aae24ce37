package loadtest_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest"
)

// service stands for a connection: it answers unary calls by itself.
type service func(ctx context.Context, method string) error

func (f service) Invoke(ctx context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	return f(ctx, method)
}

func (service) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams here")
}

// takes is a service that answers after d, if its caller waits so long.
func takes(d time.Duration) service {
	return func(ctx context.Context, _ string) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func class(rate loadtest.Schedule) loadtest.Class {
	return loadtest.Class{Name: "base", Method: "/shop.v1.Shop/Buy", Request: &emptypb.Empty{}, Rate: rate}
}

func run(t *testing.T, cc grpc.ClientConnInterface, p loadtest.Plan) loadtest.Report {
	t.Helper()
	r, err := loadtest.Run(t.Context(), cc, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Classes {
		if c := &r.Classes[i]; c.Offered != c.Ended() {
			t.Errorf("%s: %d offered, %d ended", c.Name, c.Offered, c.Ended())
		}
	}
	return r
}

func TestRates(t *testing.T) {
	const sec = time.Second
	for _, tc := range []struct {
		name    string
		rate    loadtest.Schedule
		uniform bool
		want    float64 // calls in 100 s
	}{
		{"steady, evenly spaced", loadtest.Steady(50), true, 5000},
		{"steady, Poisson", loadtest.Steady(50), false, 5000},
		{"step", loadtest.Steady(10).Step(40*sec, 100), false, 400 + 6000},
		{"ramp up and down", loadtest.Steady(0).Ramp(50*sec, 100).Ramp(100*sec, 0), false, 5000},
		{"ramp, evenly spaced", loadtest.Steady(0).Ramp(50*sec, 100).Ramp(100*sec, 0), true, 5000},
		{"off in between", loadtest.Steady(50).Step(20*sec, 0).Step(80*sec, 50), false, 2000},
		{"off in the end", loadtest.Steady(50).Step(20*sec, 0), true, 1000},
		{"late first point", loadtest.Schedule{{At: 50 * sec, PerSecond: 20}, {At: 50 * sec, PerSecond: 60}}, true, 1000 + 3000},
		{"never", nil, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := class(tc.rate)
				c.Uniform = tc.uniform
				begin := time.Now()
				r := run(t, takes(0), loadtest.Plan{Classes: []loadtest.Class{c}, Duration: 100 * sec})
				tolerance := 1.0 // evenly spaced calls are exact
				if !tc.uniform {
					tolerance = 4 * math.Sqrt(tc.want)
				}
				if got := float64(r.Classes[0].Good); math.Abs(got-tc.want) > tolerance {
					t.Errorf("%v calls, want %v within %.0f", got, tc.want, tolerance)
				}
				if took := time.Since(begin); took != 100*sec {
					t.Errorf("the run took %v", took)
				}
			})
		})
	}
}

// TestPoissonArrivals checks what tells a Poisson process from others: counts in intervals vary as much as their mean, and the gaps are
// exponential, so 1/e of them are longer than the mean.
func TestPoissonArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		var mu sync.Mutex
		cc := service(func(context.Context, string) error {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(begin))
			return nil
		})
		run(t, cc, loadtest.Plan{Classes: []loadtest.Class{class(loadtest.Steady(20))}, Duration: 500 * time.Second})
		counts, long := make([]float64, 500), 0.0
		for i, d := range at {
			counts[int(d/time.Second)]++
			if i > 0 && d-at[i-1] > 50*time.Millisecond {
				long++
			}
		}
		variance := 0.0
		for _, c := range counts {
			variance += (c - 20) * (c - 20) / 500
		}
		if share := long / float64(len(at)); math.Abs(share-1/math.E) > 0.02 {
			t.Errorf("%.3f of the gaps are longer than their mean, want 0.368", share)
		}
		if variance < 15 || variance > 25 {
			t.Errorf("counts of a second vary by %.1f, want 20", variance)
		}
	})
}

// TestStallShowsInEveryCallDueDuringIt is the test for coordinated omission: the service stands still for a second, and of the calls due
// in it each must have waited for the rest of that second.
func TestStallShowsInEveryCallDueDuringIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		cc := service(func(context.Context, string) error {
			if at := time.Since(begin); at >= 2*time.Second && at < 3*time.Second {
				time.Sleep(3*time.Second - at)
			}
			return nil
		})
		c := class(loadtest.Steady(100))
		c.Uniform = true
		r := run(t, cc, loadtest.Plan{Classes: []loadtest.Class{c}, Duration: 10 * time.Second})
		tally := &r.Classes[0]
		if tally.Offered != 999 || tally.Late != 75 { // due until 250 ms before the end of the stall
			t.Errorf("offered %d late %d, want 999 and 75", tally.Offered, tally.Late)
		}
		for q, want := range map[float64]time.Duration{0.89: 0, 0.95: 510 * time.Millisecond, 0.99: 910 * time.Millisecond, 1: time.Second} {
			if got := tally.Latency.Quantile(q); got < want || got > want+want/50+time.Microsecond {
				t.Errorf("quantile %v is %v, want %v", q, got, want)
			}
		}
	})
}

// TestOverloadIsNotSlowedDown: calls begin at their rate although none is ever answered, and each is counted at its time-out.
func TestOverloadIsNotSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		cc := service(func(ctx context.Context, m string) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			return takes(time.Hour)(ctx, m)
		})
		c := class(loadtest.Steady(100))
		c.Timeout = 5 * time.Second
		c.Uniform = true
		r := run(t, cc, loadtest.Plan{Classes: []loadtest.Class{c}, Duration: 20 * time.Second})
		if tally := &r.Classes[0]; most.Load() < 499 || tally.Failed[codes.DeadlineExceeded] != 1999 || tally.Latency.Max() != 5*time.Second {
			t.Errorf("%d at once, failed %v, the longest %v", most.Load(), tally.Failed, tally.Latency.Max())
		}
	})
}

func TestOutstandingCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := class(loadtest.Steady(100))
		c.Uniform = true
		r := run(t, takes(time.Hour), loadtest.Plan{Classes: []loadtest.Class{c}, Duration: 10 * time.Second, Outstanding: 30})
		// 30 at a time, each for a second of time-out, ten times.
		if tally := &r.Classes[0]; tally.Failures() != 300 || tally.Dropped != 999-300 {
			t.Errorf("failed %d dropped %d, want 300 and 699", tally.Failures(), tally.Dropped)
		}
	})
}

func TestEveryEndIsCountedApart(t *testing.T) {
	refusal, _ := grpcguard.Refusal(guard.Decision{Reason: guard.LimitReached, RetryAfter: time.Second}, guard.Call{}, "stock")
	for _, tc := range []struct {
		name   string
		answer service
		count  func(*loadtest.Tally) uint64
	}{
		{"good", takes(250 * time.Millisecond), func(t *loadtest.Tally) uint64 { return t.Good }},
		{"late", takes(251 * time.Millisecond), func(t *loadtest.Tally) uint64 { return t.Late }},
		{"out of time", takes(time.Minute), func(t *loadtest.Tally) uint64 { return t.Failed[codes.DeadlineExceeded] }},
		{"failed", func(context.Context, string) error { return status.Error(codes.Internal, "bug") },
			func(t *loadtest.Tally) uint64 { return t.Failed[codes.Internal] }},
		{"not a status", func(context.Context, string) error { return errors.New("bug") },
			func(t *loadtest.Tally) uint64 { return t.Failed[codes.Unknown] }},
		{"the service's own push-back", func(context.Context, string) error { return status.Error(codes.ResourceExhausted, "full") },
			func(t *loadtest.Tally) uint64 { return t.Failed[codes.ResourceExhausted] }},
		{"refused", func(context.Context, string) error { return refusal.Err() },
			func(t *loadtest.Tally) uint64 { return t.Refused["LIMIT_REACHED"] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, tc.answer, loadtest.Plan{Classes: []loadtest.Class{class(loadtest.Steady(50))}, Duration: 10 * time.Second})
				if c := &r.Classes[0]; c.Offered < 300 || tc.count(&c.Tally) != c.Offered {
					t.Errorf("%d of %d counted as that:\n%v", tc.count(&c.Tally), c.Offered, r)
				}
			})
		})
	}
}

func TestStopCutsCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c := class(loadtest.Steady(10))
		c.Uniform, c.Timeout = true, time.Minute
		begin := time.Now()
		r, err := loadtest.Run(ctx, takes(3050*time.Millisecond), loadtest.Plan{Classes: []loadtest.Class{c}}, nil)
		if took := time.Since(begin); err != nil || took != 10*time.Second {
			t.Fatalf("stopped with %v after %v", err, took)
		}
		if tally := &r.Classes[0]; tally.Late != 69 || tally.Cut != 30 && tally.Cut != 31 || tally.Offered != tally.Ended() {
			t.Errorf("late %d cut %d of %d, want 69 and 30", tally.Late, tally.Cut, tally.Offered)
		}
	})
}

func TestMetadataOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cc := service(func(ctx context.Context, method string) error {
			md, _ := metadata.FromOutgoingContext(ctx)
			got := strings.Join(append(md.Get(grpcguard.FeatureKey), md.Get(grpcguard.CriticalityKey)...), " ")
			if want := map[string]string{"/shop.v1.Shop/Buy": "", "/shop.v1.Shop/Dream": "recs SHEDDABLE"}[method]; got != want {
				t.Errorf("%s is sent with %q, want %q", method, got, want)
			}
			return nil
		})
		dream := class(loadtest.Steady(10))
		dream.Method, dream.Feature, dream.Criticality = "/shop.v1.Shop/Dream", "recs", guard.Sheddable
		r := run(t, cc, loadtest.Plan{Classes: []loadtest.Class{class(loadtest.Steady(10)), dream}, Duration: 5 * time.Second})
		if r.Classes[0].Good == 0 || r.Classes[1].Good == 0 {
			t.Errorf("not both were called:\n%v", r)
		}
	})
}

func TestSecondsAddUpToTheReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seconds []loadtest.Second
		p := loadtest.Plan{Classes: []loadtest.Class{class(loadtest.Steady(40))}, Duration: 10 * time.Second}
		r, err := loadtest.Run(t.Context(), takes(600*time.Millisecond), p, func(s loadtest.Second) { seconds = append(seconds, s) })
		if err != nil {
			t.Fatal(err)
		}
		var all loadtest.Tally
		end := time.Duration(0)
		for _, s := range seconds {
			if s.From != end || s.To-s.From > time.Second {
				t.Errorf("a second from %v to %v after %v", s.From, s.To, end)
			}
			end = s.To
			all.Merge(&s.Classes[0].Tally)
			if balance := int(all.Offered - all.Ended()); balance != s.Outstanding {
				t.Errorf("at %v %d are outstanding, told %d", s.To, balance, s.Outstanding)
			}
		}
		if c := &r.Classes[0]; len(seconds) != 11 || all.Offered != c.Offered || all.Late != c.Late || all.Latency.Count() != c.Latency.Count() {
			t.Errorf("%d seconds: %+v, want %+v", len(seconds), all, c)
		}
	})
}

func TestSameSeedSameArrivals(t *testing.T) {
	arrivals := func(seed uint64) (at []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			cc := service(func(context.Context, string) error { at = append(at, time.Since(begin)); return nil })
			run(t, cc, loadtest.Plan{Classes: []loadtest.Class{class(loadtest.Steady(5))}, Duration: 10 * time.Second, Seed: seed})
		})
		return at
	}
	a, b, c := arrivals(1), arrivals(1), arrivals(2)
	if len(a) == 0 || len(a) != len(b) || a[0] != b[0] || a[len(a)-1] != b[len(b)-1] {
		t.Errorf("the same seed: %v and %v", a, b)
	}
	if a[0] == c[0] {
		t.Errorf("another seed begins the same way: %v", c)
	}
}

func TestPlansWithFaults(t *testing.T) {
	good := class(loadtest.Steady(1))
	for _, tc := range []struct {
		name string
		edit func(*loadtest.Plan)
		want string
	}{
		{"no classes", func(p *loadtest.Plan) { p.Classes = nil }, "at least one class"},
		{"negative duration", func(p *loadtest.Plan) { p.Duration = -1 }, "duration"},
		{"bare method", func(p *loadtest.Plan) { p.Classes[0].Method = "Buy" }, "method"},
		{"no request", func(p *loadtest.Plan) { p.Classes[0].Request = nil }, "request"},
		{"negative timeout", func(p *loadtest.Plan) { p.Classes[0].Timeout = -1 }, "timeout"},
		{"negative rate", func(p *loadtest.Plan) { p.Classes[0].Rate = loadtest.Steady(-1) }, "rate"},
		{"rate not a number", func(p *loadtest.Plan) { p.Classes[0].Rate = loadtest.Steady(math.NaN()) }, "rate"},
		{"unsorted", func(p *loadtest.Plan) { p.Classes[0].Rate = loadtest.Schedule{{At: 2}, {At: 1}} }, "sort"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := loadtest.Plan{Classes: []loadtest.Class{good}}
			tc.edit(&p)
			if _, err := loadtest.Run(t.Context(), takes(0), p, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("told as %v", err)
			}
		})
	}
}
