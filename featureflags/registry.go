package featureflags

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// Registry is the authority on flags. Safe for concurrent use.
type Registry struct {
	store   Store
	current atomic.Pointer[Snapshot]
	failing atomic.Pointer[failure] // nil while the store takes changes

	mu sync.Mutex // one change at a time, held through the store's commit; readers never take it
}

// failure is what a store fails with, and since when.
type failure struct {
	since time.Time
	err   error
}

// Open loads the registry from its store. It changes nothing: what ended while nobody ran it is written down by Run.
func Open(ctx context.Context, s Store) (*Registry, error) {
	flags, revision, err := s.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load flags: %w", err)
	}
	r := &Registry{store: s}
	snapshot := NewSnapshot(revision, flags...)
	snapshot.superseded = make(chan struct{})
	r.current.Store(snapshot)
	return r, nil
}

// Snapshot returns the flags now. One atomic load.
func (r *Registry) Snapshot() *Snapshot { return r.current.Load() }

// Watch yields the current snapshot at once and then the latest one after each change, until ctx ends. A slow watcher misses intermediate
// snapshots, never the last, and delays nobody. While the store is failing, a snapshot of the same revision follows when a time-limited
// setting ends, so that the watcher looks again at what is in force.
func (r *Registry) Watch(ctx context.Context) iter.Seq[*Snapshot] {
	return func(yield func(*Snapshot) bool) {
		for ctx.Err() == nil {
			s := r.current.Load()
			if !yield(s) {
				return
			}
			select {
			case <-s.superseded:
			case <-ctx.Done():
			}
		}
	}
}

// StoreError returns why the store last refused a change, and since when it does, or nil if it took the last one. What was in force stays
// in force meanwhile.
func (r *Registry) StoreError() (since time.Time, err error) {
	if f := r.failing.Load(); f != nil {
		return f.since, f.err
	}
	return time.Time{}, nil
}

// Revisions returns the history of one flag, newest first, below revision before (0: from the newest), at most n. It is empty for a name
// that never was a flag, and stays after Delete. The store keeps the last 1,000 revisions of a flag, among the last 100,000 of all.
func (r *Registry) Revisions(ctx context.Context, name string, before int64, n int) ([]Revision, error) {
	name, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	revs, err := r.store.Revisions(ctx, name, before, n)
	if err != nil {
		return nil, storeDown(name, err)
	}
	return revs, nil
}

// Apply carries out one command. When it returns without an error the change is stored, and is in Snapshot and on its way to the
// watchers. known names a feature that exists without a flag: a command on it creates the flag; nil knows none. Every error is an *Error.
// Apply does not give up when ctx ends: a command that was begun is carried out.
func (r *Registry) Apply(ctx context.Context, c Command, known func(name string) bool) (Result, error) {
	c, err := c.checked()
	if err != nil {
		return Result{}, err
	}
	c.AllowMissing = c.AllowMissing || known != nil && known(c.Name)
	ctx = context.WithoutCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if result, done, err := r.repeatedLocked(ctx, c); done || err != nil {
		return result, err
	}
	now := time.Now().UTC()
	_ = r.expireLocked(ctx, c.Name, now) // a store that fails here fails the command too; see StoreError
	return r.applyLocked(ctx, c, now)
}

// repeatedLocked returns the answer that the command's request id got before, if it did.
func (r *Registry) repeatedLocked(ctx context.Context, c Command) (Result, bool, error) {
	if c.RequestID == "" {
		return Result{}, false, nil
	}
	req, found, err := r.store.Request(ctx, c.RequestID)
	if err != nil {
		return Result{}, false, storeDown(c.Name, err)
	}
	if !found {
		return Result{}, false, nil
	}
	if fingerprint, err := c.fingerprint(); err != nil || fingerprint != req.Command {
		return Result{}, false, invalid(c.Name, "request_id", "%s was another command's within the last 24 hours; choose a new one", c.RequestID)
	}
	req.Result.Changed = false
	return req.Result, true, nil
}

func (r *Registry) applyLocked(ctx context.Context, c Command, now time.Time) (Result, error) {
	old, exists := r.Snapshot().Flag(c.Name)
	old = old.live(now)
	if err := r.refusal(c, old, exists); err != nil {
		return Result{}, err
	}
	next, err := r.next(ctx, c, old, now)
	if err != nil {
		return Result{}, err
	}
	result := Result{Flag: next, Previous: old, Revision: r.Snapshot().Revision}
	unchanged := exists == (next.Name != "") && next.same(old)
	if unchanged {
		result.Flag = old
	}
	if c.ValidateOnly {
		return result, nil
	}
	var rev *Revision
	if !unchanged {
		rev = c.revision(&result, now)
	}
	req, err := c.request(result, now)
	if err != nil {
		return Result{}, invalid(c.Name, "request_id", "remember command: %v", err)
	}
	if err := r.commitLocked(ctx, rev, req); err != nil {
		return Result{}, storeDown(c.Name, err)
	}
	return result, nil
}

// revision gives result the next number and returns the entry of the history.
func (c Command) revision(result *Result, now time.Time) *Revision {
	result.Revision++
	result.Changed = true
	rev := &Revision{
		Number: result.Revision, Action: c.Action, Flag: result.Flag, Actor: c.Actor, Time: now, TraceID: c.TraceID, SpanID: c.SpanID,
	}
	if c.Action == Delete {
		rev.Flag = result.Previous
		rev.Flag.Revision = rev.Number
		return rev
	}
	rev.Flag.Revision, rev.Flag.Updated = rev.Number, now
	result.Flag = rev.Flag
	return rev
}

// refusal says why a command cannot be carried out on the flag as it is.
func (r *Registry) refusal(c Command, old Flag, exists bool) error {
	if !exists {
		old.Name = c.Name
	}
	switch etag := old.Etag(); {
	case exists && c.Action == Create:
		return alreadyExists(old)
	case !exists && !c.AllowMissing && c.Action != Create && c.Action != Rollback:
		return notFound(c.Name, Nearest(c.Name, r.Snapshot().names()))
	case c.Etag != "" && c.Etag != etag:
		return etagMismatch(c.Name, clip(c.Etag, 80), etag)
	case !exists && c.Action != Delete && r.Snapshot().Len() >= MaxFlags:
		return invalid(c.Name, "name", "there are %d flags, as many as there may be; delete one first", MaxFlags)
	}
	return nil
}

// next returns the flag as the command leaves it; zero for none.
func (r *Registry) next(ctx context.Context, c Command, old Flag, now time.Time) (Flag, error) {
	fresh := old.Name == ""
	switch {
	case c.Action == Delete:
		return Flag{}, nil
	case c.Action == Rollback:
		return r.rolledBack(ctx, c, old, now)
	case fresh:
		return c.changed(blank(c.Name, now), true, now), nil
	}
	return c.changed(old, false, now), nil
}

func (r *Registry) rolledBack(ctx context.Context, c Command, old Flag, now time.Time) (Flag, error) {
	revs, err := r.store.Revisions(ctx, c.Name, c.RollbackTo+1, 1)
	switch {
	case err != nil:
		return Flag{}, storeDown(c.Name, err)
	case old.Name == "" && len(revs) == 0:
		return Flag{}, notFound(c.Name, Nearest(c.Name, r.Snapshot().names()))
	case len(revs) == 0 || revs[0].Number != c.RollbackTo:
		return Flag{}, &Error{Kind: NotFound, Name: c.Name, Field: "revision",
			Message: fmt.Sprintf("flag %q has no revision %d, or no longer; list its revisions", c.Name, c.RollbackTo)}
	case revs[0].Action == Delete:
		return Flag{}, invalid(c.Name, "revision", "%d deleted the flag; roll back to one before it, or delete the flag", c.RollbackTo)
	}
	if old.Name == "" {
		old = Flag{Name: c.Name, Created: revs[0].Flag.Created}
	}
	return c.restored(old, revs[0].Flag.live(now), now), nil
}

// request returns what to remember of the command; nil if it has no id.
func (c Command) request(result Result, now time.Time) (*Request, error) {
	if c.RequestID == "" {
		return nil, nil
	}
	fingerprint, err := c.fingerprint()
	return &Request{ID: c.RequestID, Command: fingerprint, Time: now, Result: result}, err
}

// commitLocked stores, then publishes. Either may be nil.
func (r *Registry) commitLocked(ctx context.Context, rev *Revision, req *Request) error {
	if rev == nil && req == nil {
		return nil
	}
	if err := r.store.Commit(ctx, rev, req); err != nil {
		since := time.Now()
		if f := r.failing.Load(); f != nil {
			since = f.since
		}
		r.failing.Store(&failure{since, err})
		return err
	}
	r.failing.Store(nil)
	if rev != nil {
		r.publishLocked(r.Snapshot().with(*rev))
	}
	return nil
}

func (r *Registry) publishLocked(next *Snapshot) {
	old := r.current.Swap(next)
	close(old.superseded)
}
