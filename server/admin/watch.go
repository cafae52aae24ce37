package admin

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

const (
	heartbeat = 5 * time.Second
	maxClient = 200 // bytes of the name that a watcher gives itself
)

// WatchFlags sends the flags to one watcher. It reads the registry through a channel of one snapshot that is overwritten: however slow the
// watcher reads, the next thing it gets is the difference between what it has and what is.
func (s *flagService) WatchFlags(req *capguardv1.WatchFlagsRequest, stream grpc.ServerStreamingServer[capguardv1.WatchFlagsResponse]) error {
	if len(req.GetClient()) > maxClient {
		return invalid("client", "has %d bytes, at most %d are accepted", len(req.GetClient()), maxClient)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	latest := make(chan *featureflags.Snapshot, 1)
	following.Go(func() { follow(ctx, s.registry, latest) })

	s.desk.log.DebugContext(ctx, "flags watched", "client", req.GetClient(), "actor", actor(ctx))
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var w watched
	for {
		var m *capguardv1.WatchFlagsResponse
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case snapshot := <-latest:
			m = w.next(snapshot, time.Now())
		case <-beat.C:
			m = w.beat(time.Now())
		}
		if m == nil {
			continue
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// follow keeps the newest snapshot in latest, until ctx ends.
func follow(ctx context.Context, r *featureflags.Registry, latest chan *featureflags.Snapshot) {
	for s := range r.Watch(ctx) {
		select {
		case <-latest:
		default:
		}
		latest <- s // never blocks: nobody else sends
	}
}

// watched is what one watcher has been told.
type watched struct {
	snapshot *featureflags.Snapshot // nil: nothing
	at       time.Time              // when: settings that ended since are news too
}

// next returns the message that brings the watcher to s, or nil if it is there.
func (w *watched) next(s *featureflags.Snapshot, now time.Time) *capguardv1.WatchFlagsResponse {
	before := *w
	w.snapshot, w.at = s, now
	m := &capguardv1.WatchFlagsResponse{Kind: capguardv1.WatchFlagsResponse_KIND_DELTA, Revision: s.Revision}
	if before.snapshot == nil {
		m.Kind = capguardv1.WatchFlagsResponse_KIND_SNAPSHOT
	}
	for f := range s.All() {
		if before.outdated(f, now) {
			m.Flags = append(m.Flags, renderFlag(f, now))
		}
	}
	m.Deleted = before.gone(s)
	if before.snapshot != nil && before.snapshot.Revision == s.Revision && len(m.GetFlags()) == 0 {
		return nil
	}
	return m
}

// beat returns the sign of life, or what changed by time alone.
func (w *watched) beat(now time.Time) *capguardv1.WatchFlagsResponse {
	if w.snapshot == nil {
		return nil
	}
	if m := w.next(w.snapshot, now); m != nil {
		return m
	}
	return &capguardv1.WatchFlagsResponse{Kind: capguardv1.WatchFlagsResponse_KIND_HEARTBEAT, Revision: w.snapshot.Revision}
}

// outdated tells whether the watcher has an older version of f, or one from before its time-limited setting ended.
func (w watched) outdated(f featureflags.Flag, now time.Time) bool {
	if w.snapshot == nil || f.Revision > w.snapshot.Revision {
		return true
	}
	return f.Override != nil && f.Until.After(w.at) && !f.Until.After(now)
}

// gone returns the names of flags that the watcher has and s has not.
func (w watched) gone(s *featureflags.Snapshot) []string {
	if w.snapshot == nil {
		return nil
	}
	var names []string
	for f := range w.snapshot.All() {
		if _, ok := s.Flag(f.Name); !ok {
			names = append(names, flagPrefix+f.Name)
		}
	}
	return names
}
