package tuning_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/tuning"
)

// rig is a registry, two guards and a tuner between them.
type rig struct {
	*testing.T
	store    *store
	registry *featureflags.Registry
	guards   [2]*guard.Guard
	tuner    *tuning.Tuner
}

func inBubble(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, store: &store{Memory: featureflags.NewMemory()}}
		var err error
		if r.registry, err = featureflags.Open(t.Context(), r.store); err != nil {
			t.Fatal(err)
		}
		r.guards = [2]*guard.Guard{guard.New(guard.Default()), guard.New(guard.Default())}
		r.tuner = tuning.New(r.registry, r.guards[:]...)
		test(r)
	})
}

// start runs the tuner until the test ends.
func (r *rig) start() {
	ctx, cancel := context.WithCancel(r.Context())
	var running sync.WaitGroup
	running.Go(func() { r.tuner.Run(ctx) })
	r.Cleanup(func() { cancel(); running.Wait() })
	synctest.Wait()
}

func (r *rig) apply(c featureflags.Command) int64 {
	r.Helper()
	c.AllowMissing = true
	result, err := r.registry.Apply(r.Context(), c, nil)
	if err != nil {
		r.Fatal(err)
	}
	return result.Revision
}

// passes tells whether both guards admit a call of the feature.
func (r *rig) passes(feature string) bool {
	r.Helper()
	var admitted [2]bool
	for i, g := range r.guards {
		p, d := g.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: feature})
		p.Answered()
		p.Done(guard.Success)
		admitted[i] = d.Admitted
	}
	if admitted[0] != admitted[1] {
		r.Errorf("the guards differ on %s: %v", feature, admitted)
	}
	return admitted[0]
}

func (r *rig) want(what string, got, want bool) {
	r.Helper()
	if got != want {
		r.Errorf("%s: %v, want %v", what, got, want)
	}
}

// store can fail.
type store struct {
	*featureflags.Memory
	full atomic.Bool
}

func (s *store) Commit(ctx context.Context, rev *featureflags.Revision, req *featureflags.Request) error {
	if s.full.Load() {
		return errors.New("no space left on device")
	}
	return s.Memory.Commit(ctx, rev, req)
}

func off(name string, ttl time.Duration) featureflags.Command {
	return featureflags.Command{Action: featureflags.Disable, Name: name, TTL: ttl}
}

func TestFlagsOfTheStart(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.apply(off("recs", 0))
		r.tuner = tuning.New(r.registry, r.guards[:]...)
		r.want("off when New returns", r.passes("recs"), false)
	})
}

func TestRunFollowsTheFlags(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.start()
		r.apply(off("recs", 0))
		synctest.Wait()
		r.want("off", r.passes("recs"), false)
		r.want("another feature", r.passes("search"), true)
		r.apply(featureflags.Command{Action: featureflags.Enable, Name: "recs"})
		synctest.Wait()
		r.want("on", r.passes("recs"), true)
		r.apply(off("recs", 0))
		r.apply(featureflags.Command{Action: featureflags.Delete, Name: "recs"})
		synctest.Wait()
		r.want("without a flag", r.passes("recs"), true)
	})
}

// A decision names who switched off, why, until when, and the command's trace.
func TestGuardsAreToldEverything(t *testing.T) {
	inBubble(t, func(r *rig) {
		revision := r.apply(featureflags.Command{
			Action: featureflags.Disable, Name: "recs", TTL: time.Hour, Reason: new("incident 7"), Actor: "anna", TraceID: "abc", SpanID: "def",
		})
		if _, err := r.tuner.Wait(r.Context(), revision); err != nil {
			t.Fatal(err)
		}
		_, d := r.guards[0].Admit(r.Context(), guard.Call{Feature: "recs"})
		want := guard.Feature{
			Name: "recs", Why: "incident 7", Who: "anna", Until: time.Now().Add(time.Hour).UTC(), Revision: revision, TraceID: "abc", SpanID: "def",
		}
		if d.Feature != want || d.Reason != guard.FeatureOff {
			t.Errorf("decision is %v on %+v, want %+v", d.Reason, d.Feature, want)
		}
	})
}

// The registry ends an override in the store; when that cannot be, it ends in force all the same. Nobody runs the registry here.
func TestOverrideEndsOnTimeWithoutTheRegistry(t *testing.T) {
	for name, broken := range map[string]bool{"registry does not run": false, "disk full": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(r *rig) {
				r.start()
				r.apply(off("recs", time.Hour))
				r.apply(off("search", 2*time.Hour))
				r.store.full.Store(broken)
				time.Sleep(time.Hour - time.Nanosecond)
				synctest.Wait()
				r.want("just before the first end", r.passes("recs"), false)
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				r.want("at the first end", r.passes("recs"), true)
				r.want("before the second end", r.passes("search"), false)
				time.Sleep(time.Hour)
				synctest.Wait()
				r.want("at the second end", r.passes("search"), true)
			})
		})
	}
}

// A nearer end replaces the timer for a farther one.
func TestNearerEnd(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.start()
		r.apply(off("recs", 10*time.Hour))
		r.apply(off("recs", time.Minute))
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want("after the nearer end", r.passes("recs"), true)
	})
}

// Wait does not need Run: the flags are in force when it returns, also when nobody follows them.
func TestWaitAppliesAtOnce(t *testing.T) {
	inBubble(t, func(r *rig) {
		revision := r.apply(off("recs", 0))
		r.want("before Wait", r.passes("recs"), true)
		unknown, err := r.tuner.Wait(r.Context(), revision)
		if unknown != 0 || err != nil {
			t.Errorf("Wait: %d, %v", unknown, err)
		}
		r.want("after Wait", r.passes("recs"), false)
		if got := r.tuner.Revision(); got != revision {
			t.Errorf("revision %d, want %d", got, revision)
		}
	})
}

func TestWaitForCallsOnTheirWay(t *testing.T) {
	inBubble(t, func(r *rig) {
		var permits [2]guard.Permit
		for i, g := range r.guards {
			permits[i], _ = g.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: "recs"})
			time.AfterFunc(time.Duration(i+1)*100*time.Millisecond, permits[i].Answered)
		}
		start := time.Now()
		unknown, err := r.tuner.Wait(r.Context(), r.apply(off("recs", 0)))
		if took := time.Since(start); took != 200*time.Millisecond || unknown != 0 || err != nil {
			t.Errorf("Wait: %d, %v after %v, want 0 after the last sign of life at 200ms", unknown, err, took)
		}
		for _, p := range permits {
			p.Done(guard.Success)
		}
	})
}

func TestWaitTellsHowManyAreUnknown(t *testing.T) {
	inBubble(t, func(r *rig) {
		var permits []guard.Permit
		for _, g := range r.guards {
			for range 3 {
				p, _ := g.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: "recs"})
				permits = append(permits, p)
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		unknown, err := r.tuner.Wait(ctx, r.apply(off("recs", 0)))
		if unknown != 6 || err != nil {
			t.Errorf("Wait: %d, %v, want 6 unknown", unknown, err)
		}
		r.want("a new call", r.passes("recs"), false)
		for _, p := range permits {
			p.Done(guard.Ignored)
		}
	})
}

func TestWaitForTheFuture(t *testing.T) {
	inBubble(t, func(r *rig) {
		if _, err := r.tuner.Wait(r.Context(), 5); err == nil {
			t.Error("no error for a revision that the registry does not have")
		}
	})
}

// Off means off: from the moment Wait has returned no call passes, with many goroutines at once, while Run and other commands go on.
func TestZeroSharesStillAdmit(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.start()
		var callers sync.WaitGroup
		var stop atomic.Bool
		var phase, late, all atomic.Int64 // an odd phase is off, from the return of Wait to the next command
		for range 64 {
			callers.Go(func() {
				for !stop.Load() {
					before := phase.Load()
					p, d := r.guards[0].Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: "recs"})
					if d.Admitted && before%2 == 1 && phase.Load() == before {
						late.Add(1)
					}
					p.Done(guard.Success)
					all.Add(1)
					time.Sleep(time.Microsecond)
				}
			})
		}
		for range 20 {
			if _, err := r.tuner.Wait(r.Context(), r.apply(off("recs", 0))); err != nil {
				t.Error(err)
			}
			phase.Add(1)
			r.apply(off("search", time.Second))
			time.Sleep(20 * time.Microsecond)
			phase.Add(1)
			r.apply(featureflags.Command{Action: featureflags.Enable, Name: "recs"})
			time.Sleep(20 * time.Microsecond)
		}
		stop.Store(true)
		callers.Wait()
		if late.Load() != 0 || all.Load() < 1000 {
			t.Errorf("%d calls admitted after the answer, of %d", late.Load(), all.Load())
		}
	})
}
