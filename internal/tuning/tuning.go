// Package tuning is the one place that knows both flags and guards: it watches the flags and sets the guards' switches.
//
// A flag says what people decided: a standing setting, perhaps an override with an end, who, why. A guard wants only the position of each
// switch at the moment. The tuner turns the one into the other: it takes the registry's snapshot, asks each flag for the setting in force
// now, and hands the resulting map to every guard.
//
// When. Three things make the tuner look at the flags again: a new snapshot from Registry.Watch; the earliest end of any override, by a
// timer of its own, so that a time-limited setting ends on time even when the store cannot record its end; and Wait, which the admin
// service calls before it answers an operator, and which does not rely on the other two.
//
// Invariants. Reading the snapshot and setting the guards is one step under one mutex, so the guards never go back to an older snapshot
// than they had. All guards have the same map. When Wait returns 0, every guard has at least that revision and each call that was admitted
// under an earlier one has been answered or has ended: from then on nothing of a switched-off feature can arrive at a back-end.
//
// What this package does not do: it decides nothing about calls (package guard does), stores nothing and ends no override in the store
// (package featureflags does), and logs nothing.
package tuning

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/internal/guard"
)

// Tuner keeps the switches of some guards as the flags say. Safe for concurrent use.
type Tuner struct {
	registry *featureflags.Registry
	guards   []*guard.Guard

	mu       sync.Mutex
	revision int64                    // of the snapshot that the guards have
	features map[string]guard.Feature // what the guards have; nil before the first time, never changed once handed out
	next     time.Time                // the earliest end of an override in features; zero is never
}

// New returns a tuner; the guards have the flags of the moment when it returns.
func New(r *featureflags.Registry, guards ...*guard.Guard) *Tuner {
	t := &Tuner{registry: r, guards: guards}
	t.apply()
	return t
}

// Run follows the flags until ctx ends.
func (t *Tuner) Run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { t.watch(ctx, changed) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		}
		if next := t.apply(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(next), 0))
		}
	}
}

// watch puts one token into changed for any number of new snapshots.
func (t *Tuner) watch(ctx context.Context, changed chan<- struct{}) {
	for range t.registry.Watch(ctx) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// Wait returns when every guard has the flags of at least revision and no call admitted under earlier ones is still on its way to a
// back-end, or with how many such calls are not known to have arrived when ctx ended. The flags are in force when it returns, also then:
// only calls that were admitted before may be unknown. It fails only when the registry has not reached revision, which it has for every
// command that it answered.
func (t *Tuner) Wait(ctx context.Context, revision int64) (unknown int, err error) {
	if reached := t.reach(revision); reached < revision {
		return 0, fmt.Errorf("set the guards to flag revision %d: the registry is at %d", revision, reached)
	}
	for _, g := range t.guards {
		unknown += g.Quiesce(ctx)
	}
	return unknown, nil
}

// Revision returns the revision of the flags that the guards have.
func (t *Tuner) Revision() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revision
}

// reach makes sure that the guards have at least revision, if the registry has it, and returns the one that they have.
func (t *Tuner) reach(revision int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.revision < revision {
		t.applyLocked()
	}
	return t.revision
}

// apply sets the guards as the flags are now and returns when to do it again; zero is when something changes.
func (t *Tuner) apply() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.applyLocked()
	return t.next
}

func (t *Tuner) applyLocked() {
	snapshot := t.registry.Snapshot()
	features, next := positions(snapshot, time.Now())
	t.revision, t.next = snapshot.Revision, next
	if t.features != nil && maps.Equal(t.features, features) {
		return
	}
	t.features = features
	for _, g := range t.guards {
		g.SetFeatures(features)
	}
}

// positions returns the position of every switch at now, and the earliest moment at which one changes by itself.
func positions(s *featureflags.Snapshot, now time.Time) (fs map[string]guard.Feature, next time.Time) {
	fs = make(map[string]guard.Feature, s.Len())
	for f := range s.All() {
		setting, until := f.Effective(now)
		fs[f.Name] = guard.Feature{
			Name:     f.Name,
			Percent:  setting.Percent,
			Why:      setting.Reason,
			Who:      setting.Actor,
			Until:    until,
			Revision: f.Revision,
			TraceID:  setting.TraceID,
			SpanID:   setting.SpanID,
		}
		if !until.IsZero() && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	return fs, next
}
