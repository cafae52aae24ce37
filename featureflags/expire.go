package featureflags

import (
	"context"
	"slices"
	"time"
)

// What Run waits for, at most.
const (
	expireRetry = time.Second // after a failed commit
	clockCheck  = time.Minute // so that a wall clock that was set forward is noticed
)

// Run lets time-limited settings end, each as a change of its own by the actor Schedule, until ctx ends; first those that ended before. One
// Run a registry is enough. Without Run, and while the store fails, Flag.Effective still treats them as ended.
func (r *Registry) Run(ctx context.Context) {
	for ctx.Err() == nil {
		s := r.Snapshot()
		wait, err := r.expireDue(ctx, s)
		changed := s.superseded
		if err != nil {
			changed = nil // superseded only by the notice that a setting has ended
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// expireDue ends what is to end in s, the longest overdue first, and returns how long to wait for more.
func (r *Registry) expireDue(ctx context.Context, s *Snapshot) (time.Duration, error) {
	now := time.Now().UTC()
	wait := clockCheck
	var due []Flag
	for _, f := range s.flags {
		switch {
		case f.ended(now):
			due = append(due, *f)
		case f.Override != nil:
			wait = min(wait, f.Until.Sub(now))
		}
	}
	slices.SortFunc(due, func(a, b Flag) int { return a.Until.Compare(b.Until) })
	for _, f := range due {
		if err := r.expire(ctx, f.Name, now); err != nil {
			return expireRetry, err
		}
	}
	return wait, nil
}

// expire ends one setting. The lock is free between two, so that commands are not held up when many end at once.
func (r *Registry) expire(ctx context.Context, name string, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.expireLocked(ctx, name, now)
	if err != nil {
		r.publishLocked(r.Snapshot().again())
	}
	return err
}

// expireLocked writes down that the override of a flag has ended, if there is one that has.
func (r *Registry) expireLocked(ctx context.Context, name string, now time.Time) error {
	f, _ := r.Snapshot().Flag(name)
	if !f.ended(now) {
		return nil
	}
	f = f.live(now)
	f.Revision, f.Updated = r.Snapshot().Revision+1, now
	return r.commitLocked(ctx, &Revision{Number: f.Revision, Action: Expire, Flag: f, Actor: Schedule, Time: now}, nil)
}
