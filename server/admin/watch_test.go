package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

type flagStream = grpc.ServerStreamingClient[capguardv1.WatchFlagsResponse]

func (r *rig) watch() flagStream {
	r.Helper()
	stream, err := r.flags.WatchFlags(r.Context(), &capguardv1.WatchFlagsRequest{Client: "test"})
	if err != nil {
		r.Fatal(err)
	}
	return stream
}

// wantNext checks the next message: its kind, revision, flags with their states, deleted names.
func (r *rig) wantNext(stream flagStream, text string) {
	r.Helper()
	m, err := stream.Recv()
	if err != nil {
		r.Fatal("receive:", err)
	}
	got := []string{strings.TrimPrefix(m.GetKind().String(), "KIND_"), fmt.Sprint(m.GetRevision())}
	for _, f := range m.GetFlags() {
		got = append(got, f.GetName()+"="+strings.TrimPrefix(f.GetState().String(), "STATE_"))
		if f.GetCost() != nil {
			r.Error("a flag in the stream has a cost")
		}
	}
	for _, name := range m.GetDeleted() {
		got = append(got, "-"+name)
	}
	want(r, "message", strings.Join(got, " "), text)
}

func TestWatchFlags(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("ads", 0)
		stream := r.watch()
		r.wantNext(stream, "SNAPSHOT 1 flags/ads=OFF")
		r.disable("recs", 0)
		r.wantNext(stream, "DELTA 2 flags/recs=OFF")
		if _, err := r.flags.DimFlag(r.Context(), &capguardv1.DimFlagRequest{Name: "recs", Percent: new(5.0)}); err != nil {
			r.Fatal(err)
		}
		r.wantNext(stream, "DELTA 3 flags/recs=DIMMED")
		if _, err := r.flags.DeleteFlag(r.Context(), &capguardv1.DeleteFlagRequest{Name: "ads"}); err != nil {
			r.Fatal(err)
		}
		r.wantNext(stream, "DELTA 4 -flags/ads")
		start := time.Now()
		r.wantNext(stream, "HEARTBEAT 4")
		if quiet := time.Since(start); quiet > 5*time.Second {
			r.Errorf("no sign of life for %v", quiet)
		}
	})
}

func TestWatchNothing(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		stream := r.watch()
		r.wantNext(stream, "SNAPSHOT 0")
		r.wantNext(stream, "HEARTBEAT 0")
	})
}

func TestWatchShowsTheEndOfATTL(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("recs", 2*time.Second)
		stream := r.watch()
		r.wantNext(stream, "SNAPSHOT 1 flags/recs=OFF")
		r.wantNext(stream, "DELTA 2 flags/recs=ON")
	})
}

// A setting ends on time also when the store cannot take down that it did.
func TestWatchShowsTheEndOfATTLWhenTheStoreFails(t *testing.T) {
	store := &fillable{Memory: featureflags.NewMemory()}
	inBubble(t, parts{store: store}, func(r *rig) {
		r.disable("recs", 8*time.Second)
		store.full.Store(true)
		stream := r.watch()
		r.wantNext(stream, "SNAPSHOT 1 flags/recs=OFF")
		r.wantNext(stream, "HEARTBEAT 1")
		r.wantNext(stream, "DELTA 1 flags/recs=ON")
		r.wantNext(stream, "HEARTBEAT 1")
		want(r, "call", r.call("recs"), true)
	})
}

// fillable is a store whose disk can become full.
type fillable struct {
	*featureflags.Memory
	full atomic.Bool
}

func (s *fillable) Commit(ctx context.Context, rev *featureflags.Revision, req *featureflags.Request) error {
	if s.full.Load() {
		return errors.New("no space left on device")
	}
	return s.Memory.Commit(ctx, rev, req)
}

// A reader that does not read gets the latest state when it does, once, and holds up neither commands nor other watchers.
func TestSlowWatcher(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		slow, dead := r.watch(), r.watch() // the dead one never reads, and must not keep anything alive when it goes
		r.wantNext(slow, "SNAPSHOT 0")
		r.wantNext(dead, "SNAPSHOT 0")
		quick := r.watch()
		r.wantNext(quick, "SNAPSHOT 0")
		// More than fits into any window of flow control, so that the server's send to the slow one blocks.
		const rounds = 2000
		for i := range rounds {
			r.dim("recs", float64(i%100)+0.5, strings.Repeat("x", 900))
			r.wantNext(quick, fmt.Sprintf("DELTA %d flags/recs=DIMMED", i+1))
		}
		messages := 0
		for {
			m, err := slow.Recv()
			if err != nil {
				r.Fatal(err)
			}
			messages++
			if m.GetRevision() == rounds {
				break
			}
		}
		if messages > rounds/2 {
			r.Errorf("%d messages were kept for a slow reader", messages)
		}
	})
}

func (r *rig) dim(name string, percent float64, reason string) {
	r.Helper()
	_, err := r.flags.DimFlag(r.as("bob"), &capguardv1.DimFlagRequest{Name: name, Percent: &percent, Reason: reason, AllowMissing: true})
	if err != nil {
		r.Fatal("dim:", err)
	}
}

func TestWatchFlagsOfABadClient(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		stream, err := r.flags.WatchFlags(r.Context(), &capguardv1.WatchFlagsRequest{Client: strings.Repeat("x", 201)})
		if err == nil {
			_, err = stream.Recv()
		}
		wantViolation(r, err, "client")
	})
}

// Endless streams end at once when the server stops, and say why.
func TestShutdownEndsStreams(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		flags := r.watch()
		r.wantNext(flags, "SNAPSHOT 0")
		backends, err := r.guards.WatchBackends(r.Context(), &capguardv1.WatchBackendsRequest{})
		if err != nil {
			r.Fatal(err)
		}
		if _, err := backends.Recv(); err != nil {
			r.Fatal(err)
		}
		start := time.Now()
		if err := r.server.Shutdown(r.Context()); err != nil {
			r.Error("shutdown:", err)
		}
		if took := time.Since(start); took > time.Second {
			r.Errorf("shutdown took %v", took)
		}
		_, err = flags.Recv()
		want(r, "code of the flag stream", status.Code(err), codes.Unavailable)
		_, err = backends.Recv()
		want(r, "code of the back-end stream", status.Code(err), codes.Unavailable)
		synctest.Wait()
	})
}

// A command in progress is answered when the server stops.
func TestShutdownLetsCommandsFinish(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		p := r.admit("recs")
		time.AfterFunc(500*time.Millisecond, p.Answered)
		time.AfterFunc(100*time.Millisecond, func() { go r.server.Shutdown(r.Context()) })
		want(r, "state", r.disable("recs", 0).GetState(), capguardv1.Flag_STATE_OFF)
		p.Done(0)
	})
}
