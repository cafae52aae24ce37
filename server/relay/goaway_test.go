package relay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// A back-end leaves: what it has begun is finished there, the rest goes elsewhere, whole.
func TestBackendLeaves(t *testing.T) {
	inRig(t, setup{decide: forwardTwice}, func(r *rig, client, backend *peer) {
		client.request(1, false, "!x-secret: 1")
		client.data(1, "abc", false)
		client.request(3, false, "!x-secret: 3")
		client.data(3, "def", true)
		client.request(5, true)
		backend.wantHeaders(1)
		backend.wantHeaders(3)
		backend.wantHeaders(5)
		backend.goaway(1, http2.ErrCodeNo)
		next := r.accept(habits{})
		ids := map[string]uint32{}
		for id := uint32(1); id < 4; id += 2 { // In no order.
			e := next.wantHeaders(id, request()...)
			ids[e.value("x-secret")] = id
			if e.ends() {
				trailersOnly(client, 5, next, id)
			}
		}
		next.wantData(ids["3"], "def")
		next.wantEnd(ids["3"])
		reply(client, 3, next, ids["3"], "x")
		client.data(1, "ghi", true)
		backend.wantData(1, "abcghi")
		reply(client, 1, backend, 1, "x")
		backend.wantClosed()
		serve(client, 7, next, 5)
	})
}

// forwardTwice is a decision that forwards a call once more if it was not begun.
func forwardTwice(r *rig, w *witness) {
	w.onUnsent = func(error) {
		w.onUnsent = nil
		w.Forward(r.endpoint)
	}
	w.Forward(r.endpoint)
}

func TestBackendLeavesInTwoSteps(t *testing.T) {
	inRig(t, setup{decide: forwardTwice}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		backend.goaway(maxWindow, http2.ErrCodeNo)
		next := r.accept(habits{})
		serve(client, 3, next, 1)
		backend.goaway(1, http2.ErrCodeNo)
		trailersOnly(client, 1, backend, 1)
		backend.wantClosed()
		serve(client, 5, next, 3)
	})
}

func TestBackendLeavesWithoutCalls(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		backend.say(func(f *http2.Framer) error { return f.WriteGoAway(0, http2.ErrCodeInternal, []byte("debug data")) })
		backend.wantClosed()
		serve(client, 1, r.accept(habits{}), 1)
	})
}

// Whoever has been answered in part cannot be taken elsewhere, whatever the last stream is said to be.
func TestBackendLeavesInMidAnswer(t *testing.T) {
	inRig(t, setup{decide: forwardTwice}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		backend.response(1)
		client.wantHeaders(1)
		backend.goaway(0, http2.ErrCodeNo)
		client.wantReset(1, http2.ErrCodeRefusedStream)
		if e := r.call(0).end(t); !e.Broken {
			t.Errorf("the observer heard %+v", e)
		}
		backend.wantClosed()
		serve(client, 3, r.accept(habits{}), 1)
	})
}

// A back-end that leaves as soon as it has come is not dialled without a pause.
func TestBackendThatAlwaysLeaves(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		began, n := time.Now(), 0
		for ; time.Since(began) < 10*time.Second; n++ {
			backend.goaway(0, http2.ErrCodeNo)
			backend.wantClosed()
			backend = r.accept(habits{})
			synctest.Wait()
		}
		if n > 200 {
			t.Errorf("%d connections in ten seconds", n)
		}
		serve(client, 1, backend, 1)
	})
}

// A client that says GOAWAY may go on: it only speaks of streams of the relay's, which there are none.
func TestClientLeaves(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		client.goaway(0, http2.ErrCodeNo)
		trailersOnly(client, 1, backend, 1)
		serve(client, 3, backend, 3)
	})
}

func TestClientIsGone(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 20; id += 2 {
			client.request(id, false)
			backend.wantHeaders(id)
		}
		backend.response(1)
		client.wantHeaders(1)
		client.close()
		for id := uint32(1); id < 20; id += 2 {
			backend.wantReset(id, http2.ErrCodeCancel)
			if e := r.call(int(id / 2)).end(t); e.By != relay.ByCaller {
				t.Errorf("the observer heard %+v", e)
			}
		}
		serve(r.join(habits{}), 1, backend, 21)
	})
}

// drain begins to drain the relay and returns a function that waits for the end.
func (r *rig) drain(most time.Duration) (ended func() error) {
	ctx, cancel := context.WithTimeout(r.Context(), most)
	done := make(chan error, 1)
	go func() { // Ends with ctx.
		defer cancel()
		done <- r.relay.Drain(ctx)
	}()
	synctest.Wait()
	return func() error { return <-done }
}

// The first GOAWAY takes what is still on its way, the second names the last; calls above it get no answer.
func TestDrain(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		idle, mute := r.join(habits{}), r.join(habits{mute: true})
		client.request(1, false)
		backend.wantHeaders(1)
		client.hush()
		ended := r.drain(time.Minute)
		if last := client.wantGoAway(http2.ErrCodeNo); last != maxWindow {
			t.Errorf("the first GOAWAY names %d", last)
		}
		idle.wantGoAway(http2.ErrCodeNo)
		idle.wantGoAway(http2.ErrCodeNo)
		idle.wantClosed()
		client.request(3, true) // It was on its way.
		backend.wantHeaders(3)
		time.Sleep(time.Second)
		if last := client.wantGoAway(http2.ErrCodeNo); last != 3 {
			t.Errorf("the second GOAWAY names %d, want 3", last)
		}
		mute.wantClosed()
		client.request(5, true, "x-table: 1")
		client.data(1, "x", true)
		backend.wantData(1, "x")
		trailersOnly(client, 3, backend, 3)
		backend.wantQuiet()
		reply(client, 1, backend, 1, "answer")
		client.wantClosed()
		if err := ended(); err != nil {
			t.Error("drain:", err)
		}
	})
}

func TestDrainCutsWhatIsLeft(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		ended := r.drain(10 * time.Second)
		again := r.drain(time.Minute)
		if err := ended(); err == nil {
			t.Error("drain says nothing of the connection that it cut")
		}
		if err := again(); err != nil {
			t.Error("drain again:", err)
		}
		backend.wantReset(1, http2.ErrCodeCancel)
		client.wantClosed()
		if _, err := r.door.Dial(); err == nil {
			t.Error("the listener is still open")
		}
	})
}

// A breach after the second GOAWAY does not name a later stream.
func TestBreachAfterDrain(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		ended := r.drain(time.Minute)
		client.wantGoAway(http2.ErrCodeNo)
		client.wantGoAway(http2.ErrCodeNo)
		client.request(3, true)
		client.windowUpdate(0, 0)
		if last := client.wantGoAway(http2.ErrCodeProtocol); last != 1 {
			t.Errorf("the last GOAWAY names %d, want 1", last)
		}
		backend.wantReset(1, http2.ErrCodeCancel)
		if err := ended(); err != nil {
			t.Error("drain:", err)
		}
	})
}

// A connection without calls is told to come again.
func TestIdleConnections(t *testing.T) {
	inRig(t, setup{limits: relay.Limits{IdleTime: time.Minute}}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		time.Sleep(5 * time.Minute)
		trailersOnly(client, 1, backend, 1)
		time.Sleep(59 * time.Second)
		serve(client, 3, backend, 3)
		time.Sleep(2 * time.Minute)
		client.wantGoAway(http2.ErrCodeNo)
		client.wantGoAway(http2.ErrCodeNo)
		client.wantClosed()
		r.wantBreaches(relay.Idle, 1)
	})
}
