package client_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/client"
)

// The default of a handle counts only as long as nothing was ever known.
func TestOffUntilKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		s.close()
		c := s.connect(t)
		open, shut := c.Feature("recs"), c.Feature("recs").OffUntilKnown()
		settle(time.Minute)
		wantOn(t, open, true)
		wantOn(t, shut, false)
		if h := c.Health(); h.Live || h.Source != client.FromDefaults || h.Revision != 0 {
			t.Errorf("Health() = %+v", h)
		}
		s.revive()
		settle(10 * time.Second)
		wantOn(t, shut, true) // Known: there is no flag.
		s.close()
		settle(time.Minute)
		wantOn(t, shut, true)
	})
}

// Without an admin port nothing is ever known, and everything says so.
func TestWithoutAdmin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		t.Cleanup(s.close)
		c, err := client.Dial("127.0.0.1:7070", client.WithDialer(s.dial))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		wantOn(t, c.Feature("recs"), true)
		wantOn(t, c.Feature("recs").OffUntilKnown(), false)
		if err := c.WaitForFlags(t.Context()); err == nil || c.Health().StreamError == nil {
			t.Errorf("WaitForFlags = %v, Health = %+v", err, c.Health())
		}
	})
}

func TestDimmedShare(t *testing.T) {
	const n = 50_000
	for _, percent := range []float64{0, 0.001, 1, 20, 50, 99, 99.999, 100, 101, -1, math.NaN(), math.Inf(1)} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := dialed(t)
				s.set(dimmed("recs", percent))
				settle(0)
				recs, passed := c.Feature("recs"), 0
				for range n {
					if recs.On() {
						passed++
					}
				}
				p := 0.0
				if percent > 0 { // not so for NaN
					p = min(percent, 100) / 100
				}
				want, tolerance := p*n, 6*math.Sqrt(p*(1-p)*n) // One false alarm in 10^8 runs.
				if math.Abs(float64(passed)-want) > tolerance {
					t.Errorf("%d of %d evaluations were on, want %.0f +- %.0f", passed, n, want, tolerance)
				}
			})
		})
	}
}

// Once one goroutine has seen a feature off it never sees it on again, however many evaluate and update at once.
func TestOnUnderConcurrentUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		settle(0)
		recs := c.Feature("recs")
		var off atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20_000 {
					settled := off.Load()
					if recs.On() && settled {
						t.Error("on after it was seen off")
						return
					}
				}
			})
		}
		wg.Go(func() {
			for i := range 200 {
				s.set(dimmed(fmt.Sprint("other", i), 50))
			}
			s.disable("recs", "INC-1")
			for c.Feature("recs").On() {
				time.Sleep(time.Microsecond)
			}
			off.Store(true)
		})
		wg.Wait()
		wantOn(t, recs, false)
	})
}

// A name that is none must neither break calls nor switch anything.
func TestFeatureOfImpossibleName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		for _, name := range []string{"", "Recs", "recs!", "flags/recs", "-recs", string(make([]byte, 64)), "récs", "a\nb"} {
			f := c.Feature(name)
			if _, err := (Shop{c}).Recommend(f.Tag(t.Context()), wrapperspb.String("ann")); err != nil || !f.On() || f.Name() != "" {
				t.Errorf("feature %q: %v, on %v, name %q", name, err, f.On(), f.Name())
			}
		}
		for _, md := range s.received() {
			if got := md.Get("capguard-feature"); got != nil {
				t.Errorf("a call was tagged %q", got)
			}
		}
	})
}

// instead notes why it was called.
type instead struct{ causes []error }

func (i *instead) answer(_ context.Context, _ *Customer, cause error) (*Books, error) {
	i.causes = append(i.causes, cause)
	return wrapperspb.String("instead"), nil
}

func TestFallbackOffHereSparesTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		f := until(off("recs"), time.Hour)
		f.Reason = "INC-4821"
		s.set(f)
		settle(0)
		var i instead
		books, err := client.Fallback(c.Feature("recs"), Shop{c}.Recommend, i.answer)(t.Context(), wrapperspb.String("ann"))
		if books.GetValue() != "instead" || err != nil || len(s.received()) != 0 {
			t.Fatalf("answer %v, %v after %d calls", books, err, len(s.received()))
		}
		r, ok := client.Rejected(i.causes[0])
		if !ok || r.Reason != client.FeatureOff || r.RetryAfter >= 0 || r.Code != codes.FailedPrecondition {
			t.Fatalf("cause = %+v", i.causes[0])
		}
		for key, want := range map[string]string{
			"flag": "recs", "why": "INC-4821", "who": "ann", "percent": "0", "revision": "2",
			"until": f.GetExpireTime().AsTime().Format(time.RFC3339),
		} {
			if got := r.Metadata[key]; got != want {
				t.Errorf("metadata %s = %q, want %q", key, got, want)
			}
		}
	})
}

// The guard alone dims calls: were lots drawn here too, 1 % would become 0.01 %.
func TestFallbackLeavesDimmingToTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.set(dimmed("recs", 1))
		settle(0)
		var i instead
		recommend := client.Fallback(c.Feature("recs"), Shop{c}.Recommend, i.answer)
		for range 50 {
			if _, err := recommend(t.Context(), wrapperspb.String("ann")); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(s.received()); got != 50 || len(i.causes) != 0 {
			t.Errorf("%d of 50 calls reached the guard, %d fell back", got, len(i.causes))
		}
	})
}

func TestFallbackByCause(t *testing.T) {
	for name, test := range map[string]struct {
		err      error
		falls    bool
		wantCode codes.Code
	}{
		"the back-end's own failure is returned": {status.Error(codes.Internal, "bug"), false, codes.Internal},
		"the back-end's precondition, too":       {status.Error(codes.FailedPrecondition, "no"), false, codes.FailedPrecondition},
		"not found, too":                         {status.Error(codes.NotFound, "who?"), false, codes.NotFound},
		"a refusal falls back":                   {refused(t, client.LimitReached), true, codes.OK},
		"a dimmed feature falls back":            {refused(t, client.FeatureDimmed), true, codes.OK},
		"a guard that is gone falls back":        {&client.UnreachableError{Err: errDown}, true, codes.OK},
		"success is success":                     {nil, false, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, c := dialed(t)
				call := func(context.Context, *Customer, ...grpc.CallOption) (*Books, error) { return new(Books), test.err }
				var i instead
				_, err := client.Fallback(c.Feature("recs"), call, i.answer)(t.Context(), new(Customer))
				if fell := len(i.causes) == 1; fell != test.falls || status.Code(err) != test.wantCode {
					t.Errorf("fell back: %v, error %v", fell, err)
				}
			})
		})
	}
}

// What the fallback returns is final, also its error; and the call carried the tag and the caller's own options.
func TestFallbackPassesThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(func(stream grpc.ServerStream, md metadata.MD, _ string) error {
			if got := md.Get("capguard-feature"); len(got) != 1 || got[0] != "recs" {
				t.Errorf("tagged %q", got)
			}
			stream.SetTrailer(metadata.Pairs("mark", "x"))
			return status.Error(codes.NotFound, "who?")
		})
		var trailer metadata.MD
		none := errors.New("nothing to show")
		recommend := client.Fallback(c.Feature("recs"), Shop{c}.Recommend,
			func(context.Context, *Customer, error) (*Books, error) { return nil, none })
		_, err := recommend(t.Context(), new(Customer), grpc.Trailer(&trailer))
		if status.Code(err) != codes.NotFound || len(trailer.Get("mark")) != 1 {
			t.Errorf("error %v, trailer %v", err, trailer)
		}
		s.disable("recs", "INC-1")
		settle(0)
		if _, err := recommend(t.Context(), new(Customer)); err != none {
			t.Errorf("error %v, want the fallback's own", err)
		}
	})
}
