package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// Bounds of what is kept. A stream that goes beyond them is refused whole, and the last flags stay.
const (
	maxFlags      = 10_000
	maxFlagsBytes = 16 << 20
)

// flags is what is known of the flags. Handles read current; all else is behind mu. It starts no goroutine but that of its timer.
type flags struct {
	current atomic.Pointer[snapshot]
	synced  chan struct{} // closed by the first whole set of a stream
	changed chan struct{} // one slot: there is something to write to disk

	mu     sync.Mutex
	all    map[string]*capguardv1.Flag // by bare name, each immutable
	health Health
	heard  time.Time   // when the stream last spoke
	expiry *time.Timer // publishes again when the next setting ends
	closed bool
}

// Source is where the flags in force came from.
type Source string

// The sources, from the best to the last.
const (
	FromStream   Source = "stream"   // the guard, though the stream may be lost by now: see Health.Live
	FromFile     Source = "file"     // the flag file; the guard has not spoken yet
	FromDefaults Source = "defaults" // nothing was ever known
)

// Health is how much the flags can be trusted.
type Health struct {
	// Live tells that the stream speaks: the flags are those of the guard.
	Live bool
	// StaleSince is since when the flags may be out of date: the stream's last word, the writing of the file, or Dial. Zero if Live.
	StaleSince time.Time
	Source     Source
	Revision   int64 // of the flags in force; 0 if nothing was ever known
	Flags      int   // how many there are
	// StreamError is why there is no stream; nil if Live.
	StreamError error
	// DiskError is why the flag file could not be read or written; nil once it could be written.
	DiskError error
}

// Health returns how much the flags can be trusted now.
func (c *Conn) Health() Health {
	c.flags.mu.Lock()
	defer c.flags.mu.Unlock()
	return c.flags.health
}

// Why there can be no stream.
var (
	errNoAdmin = errors.New("no admin port to stream the flags from; name one with WithAdmin")
	errClosed  = errors.New("the connection is closed")
)

// WaitForFlags waits until the guard's flags have arrived once; from then on it returns nil at once, since flags are kept when the stream
// is lost, see Health. It returns an error if ctx or the Conn ends before, and at once without WithAdmin.
func (c *Conn) WaitForFlags(ctx context.Context) error {
	if c.admin == nil {
		return fmt.Errorf("wait for flags: %w", errNoAdmin)
	}
	select {
	case <-c.flags.synced:
		return nil
	case <-c.stopped:
		return fmt.Errorf("wait for flags: %w", errClosed)
	case <-ctx.Done():
		return fmt.Errorf("wait for flags from the guard at %s: %w (stream: %v)", c.admin.Target(), ctx.Err(), c.Health().StreamError)
	}
}

func newFlags(streamed bool) *flags {
	f := &flags{
		synced: make(chan struct{}), changed: make(chan struct{}, 1),
		health: Health{Source: FromDefaults, StaleSince: time.Now(), StreamError: errNoAdmin},
	}
	if streamed {
		f.health.StreamError = errConnecting
	}
	f.current.Store(newSnapshot(0, nil, time.Now()))
	return f
}

// errMisfit is why a change can not be applied: something was missed, and only the whole set helps.
var errMisfit = errors.New("the message does not fit what is known; a new stream is needed")

// restore puts the flags of the file in force. Only what starts up calls it, before any stream.
func (f *flags) restore(all map[string]*capguardv1.Flag, revision int64, written time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all, f.health.Source, f.health.StaleSince = all, FromFile, written
	f.health.Revision, f.health.Flags = revision, len(all)
	f.publishLocked()
}

// replace puts a whole set from the stream in force, be its revision higher or lower: the guard is the authority.
func (f *flags) replace(m *capguardv1.WatchFlagsResponse) error {
	all, err := index(m.GetFlags())
	if err != nil {
		return err
	}
	f.mu.Lock()
	if f.health.Source != FromStream {
		f.health.Source = FromStream
		close(f.synced)
	}
	f.health.Live, f.health.StaleSince, f.health.StreamError = true, time.Time{}, nil
	f.adoptLocked(all, m.GetRevision())
	f.mu.Unlock()
	f.save()
	return nil
}

// change applies a delta that follows what is known. One of the same revision tells what changed by time alone.
func (f *flags) change(m *capguardv1.WatchFlagsResponse) error {
	changed, err := index(m.GetFlags())
	if err != nil {
		return err
	}
	f.mu.Lock()
	if m.GetRevision() < f.health.Revision {
		defer f.mu.Unlock()
		return fmt.Errorf("change to revision %d after revision %d: %w", m.GetRevision(), f.health.Revision, errMisfit)
	}
	all := maps.Clone(f.all)
	maps.Copy(all, changed)
	for _, name := range m.GetDeleted() {
		delete(all, bare(name))
	}
	if len(all) > maxFlags {
		defer f.mu.Unlock()
		return tooMany(len(all))
	}
	f.adoptLocked(all, m.GetRevision())
	f.mu.Unlock()
	f.save()
	return nil
}

// beat checks that a heartbeat tells the revision that is known.
func (f *flags) beat(m *capguardv1.WatchFlagsResponse) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.GetRevision() != f.health.Revision {
		return fmt.Errorf("heartbeat of revision %d, but revision %d is known: %w", m.GetRevision(), f.health.Revision, errMisfit)
	}
	f.heard = time.Now()
	return nil
}

// lost notes why there is no stream any more. It returns whether there was one until now.
func (f *flags) lost(err error) (was bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was = f.health.Live
	if was {
		f.health.Live, f.health.StaleSince = false, f.heard
	}
	f.health.StreamError = err
	return was
}

// stored notes how reading or writing the file went. It returns whether that is news.
func (f *flags) stored(err error) (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news = (err == nil) != (f.health.DiskError == nil)
	f.health.DiskError = err
	return news
}

// save wakes whoever writes the file, if anybody does.
func (f *flags) save() {
	select {
	case f.changed <- struct{}{}:
	default: // it will write the latest anyway
	}
}

// message returns the whole set as the stream would tell it.
func (f *flags) message() *capguardv1.WatchFlagsResponse {
	f.mu.Lock()
	all, revision := f.all, f.health.Revision
	f.mu.Unlock()
	m := &capguardv1.WatchFlagsResponse{Kind: capguardv1.WatchFlagsResponse_KIND_SNAPSHOT, Revision: revision}
	for _, flag := range all { // a map that is in force is never written to
		m.Flags = append(m.Flags, flag)
	}
	return m
}

// close stops the timer: flags keep their last values.
func (f *flags) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.expiry != nil {
		f.expiry.Stop()
	}
}

func (f *flags) adoptLocked(all map[string]*capguardv1.Flag, revision int64) {
	f.all, f.heard = all, time.Now()
	f.health.Revision, f.health.Flags = revision, len(all)
	f.publishLocked()
}

// publishLocked makes the snapshot of this moment, and another one when the next setting ends.
func (f *flags) publishLocked() {
	now := time.Now()
	s := newSnapshot(f.current.Load().generation+1, f.all, now)
	f.current.Store(s)
	if f.expiry != nil {
		f.expiry.Stop()
	}
	if !s.ends.IsZero() && !f.closed {
		f.expiry = time.AfterFunc(s.ends.Sub(now), f.expire)
	}
}

func (f *flags) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.publishLocked()
	}
}

// index returns flags by their bare names, without what nobody here needs.
func index(list []*capguardv1.Flag) (map[string]*capguardv1.Flag, error) {
	if len(list) > maxFlags {
		return nil, tooMany(len(list))
	}
	all := make(map[string]*capguardv1.Flag, len(list))
	for _, flag := range list {
		name := bare(flag.GetName())
		all[name] = &capguardv1.Flag{
			Name: name, State: flag.GetState(), Percent: flag.Percent, Reason: flag.GetReason(), Actor: flag.GetActor(),
			ExpireTime: flag.GetExpireTime(), Standing: flag.GetStanding(), Revision: flag.GetRevision(),
		}
	}
	return all, nil
}

func bare(name string) string { return strings.TrimPrefix(name, "flags/") }

func tooMany(n int) error {
	return fmt.Errorf("%d flags are more than the %d that are kept", n, maxFlags)
}
