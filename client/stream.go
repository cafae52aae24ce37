package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// The guard sends a heartbeat at least every five seconds; after three that are missing the stream counts as lost, whatever its connection
// says. Lost streams are tried again after half to one and a half of a delay that doubles from the least to the most.
const (
	maxSilence = 3 * 5 * time.Second
	minDelay   = 100 * time.Millisecond
	maxDelay   = 2 * time.Second
)

var (
	errConnecting = errors.New("the stream has not spoken yet")
	errSilent     = errors.New("the stream has been silent for 15s")
	errEnded      = errors.New("the guard ended the stream")
	errNoSnapshot = errors.New("the stream did not begin with all flags")
)

// watcher keeps flags up to date from the guard's stream, for as long as run runs.
type watcher struct {
	conn    *grpc.ClientConn
	service capguardv1.FlagServiceClient
	flags   *flags
	log     *slog.Logger
}

// run follows one stream after the other until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for delay := minDelay; ctx.Err() == nil; delay = min(2*delay, maxDelay) {
		begun := time.Now()
		err := w.follow(ctx)
		if w.flags.lost(err) && ctx.Err() == nil {
			w.log.Warn("flag stream lost, flags keep their last values", "error", err)
		}
		if time.Since(begun) > maxDelay { // It was a good stream, not one that breaks at once each time.
			delay = minDelay
		}
		w.rest(ctx, delay/2+rand.N(delay))
	}
}

// rest waits for d, or less if ctx ends or the connection comes up: once a guard is back its clients are to hear of flags within a second.
func (w *watcher) rest(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for state := w.conn.GetState(); w.conn.WaitForStateChange(ctx, state); {
		if state = w.conn.GetState(); state == connectivity.Ready {
			return
		}
	}
}

// follow opens a stream and applies what it says until it breaks, says what does not fit, or falls silent.
func (w *watcher) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(maxSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	stream, err := w.service.WatchFlags(ctx, &capguardv1.WatchFlagsRequest{Client: self()})
	for known := false; err == nil; known = true {
		var m *capguardv1.WatchFlagsResponse
		if m, err = stream.Recv(); err == nil {
			silence.Reset(maxSilence)
			err = w.apply(m, known)
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF):
		return errEnded
	}
	return err
}

// apply takes over one message; known tells that it is not the first of its stream.
func (w *watcher) apply(m *capguardv1.WatchFlagsResponse, known bool) error {
	switch kind := m.GetKind(); {
	case kind == capguardv1.WatchFlagsResponse_KIND_SNAPSHOT:
		if err := w.flags.replace(m); err != nil {
			return err
		}
		w.log.Info("flag stream live", "revision", m.GetRevision(), "flags", len(m.GetFlags()))
		return nil
	case !known:
		return errNoSnapshot
	case kind == capguardv1.WatchFlagsResponse_KIND_DELTA:
		return w.flags.change(m)
	case kind == capguardv1.WatchFlagsResponse_KIND_HEARTBEAT:
		return w.flags.beat(m)
	}
	return nil // A kind of a later version: a sign of life.
}

// self says who watches, for the guard's log.
func self() string {
	host, _ := os.Hostname()
	name := filepath.Base(os.Args[0]) + "@" + host
	return name[:min(len(name), 200)]
}

// pause waits for d, or less if ctx ends. It returns whether it waited for d.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
