package relay_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// undecided is a setup in which every call waits for the test to decide.
func undecided() setup {
	return setup{decide: func(_ *rig, w *witness) { w.Detach() }}
}

func TestWaitingCallIsForwarded(t *testing.T) {
	inRig(t, undecided(), func(r *rig, client, backend *peer) {
		client.request(1, false, "x: 1")
		client.data(1, "abc", false)
		backend.wantQuiet()
		w := r.call(0)
		time.Sleep(time.Minute)
		w.Set("x", "2")
		w.Set("y", "3")
		w.Forward(r.endpoint)
		backend.wantHeaders(1, request("x: 2", "y: 3")...)
		backend.wantData(1, "abc")
		client.data(1, "def", true)
		backend.wantData(1, "def")
		backend.wantEnd(1)
		reply(client, 1, backend, 1, "answer")
	})
}

func TestWaitingCallIsAnswered(t *testing.T) {
	inRig(t, undecided(), func(r *rig, client, backend *peer) {
		client.request(1, true)
		if !r.call(0).refuse("8", "grpc-message: full") {
			t.Error("the client was told nothing")
		}
		client.wantTrailers(1, "grpc-status: 8", "grpc-message: full")
		client.request(3, false)
		client.data(3, "abc", false)
		r.call(1).refuse("8")
		client.wantTrailers(3, "grpc-status: 8")
		client.wantReset(3, http2.ErrCodeNo)
		client.data(3, "def", true)
		backend.wantQuiet()
		client.wantQuiet()
		client.wantAlive()
	})
}

// Nothing of a call reaches the back-end once its caller is gone, whatever is decided then.
func TestWaitingCallIsAbandoned(t *testing.T) {
	for name, leave := range map[string]func(r *rig, c *peer){
		"by a reset":                func(_ *rig, c *peer) { c.rst(1, http2.ErrCodeCancel) },
		"by the connection's end":   func(_ *rig, c *peer) { c.close() },
		"by a breach":               func(_ *rig, c *peer) { c.windowUpdate(0, 0) },
		"by the end of the relay":   func(r *rig, _ *peer) { r.relay.Close() },
		"by an error of the stream": func(_ *rig, c *peer) { c.windowUpdate(1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, undecided(), func(r *rig, client, backend *peer) {
				client.request(1, false)
				client.data(1, "abc", false)
				w := r.call(0)
				leave(r, client)
				if e := w.end(t); e.By != relay.ByCaller || !e.Broken || e.Traffic.RequestBytes != 3 {
					t.Errorf("the observer heard %+v", e)
				}
				w.Forward(r.endpoint)
				if w.Answer(fieldsOf(response("grpc-status: 8"))) {
					t.Error("a client that is gone was told something")
				}
				backend.wantQuiet()
			})
		})
	}
}

// DATA of a waiting call is bounded by its window, and credited when it has gone on.
func TestWaitingCallHoldsItsData(t *testing.T) {
	inRig(t, undecided(), func(r *rig, client, backend *peer) {
		client.request(1, false)
		if sent := client.flood(1); sent != 65_535 {
			t.Errorf("the relay took %d bytes, want 65,535", sent)
		}
		r.call(0).Forward(r.endpoint)
		backend.wantHeaders(1)
		backend.wantData(1, bytesOf(65_535))
		synctest.Wait()
		if n := client.credit(1); n < 65_535 {
			t.Errorf("the window is %d, want it whole", n)
		}
	})
}

// A decision and its caller's reset come at the same instant.
func TestDecisionsAndResetsCross(t *testing.T) {
	inRig(t, undecided(), func(r *rig, client, backend *peer) {
		var deciding sync.WaitGroup
		for i := range 200 {
			id := uint32(2*i + 1)
			client.request(id, false)
			client.data(id, "abc", false)
			w := r.call(i)
			deciding.Go(func() {
				if i%2 == 0 {
					w.Forward(r.endpoint)
				} else if w.Answer(fieldsOf(response("grpc-status: 8"))) {
					w.mu.Lock()
					w.answered = true
					w.mu.Unlock()
				}
			})
			client.rst(id, http2.ErrCodeCancel)
			synctest.Wait()
			if i%2 == 1 && len(w.ends) == 0 {
				w.answered = true // Too late, but before anybody heard of an end.
			}
		}
		deciding.Wait()
		client.wantSettled()
		backend.wantSettled()
		for at := uint32(1); at < nextCall(backend); at += 2 {
			backend.wantReset(at, http2.ErrCodeCancel)
		}
	})
}

// The observer is woken when it asked for it, once for each time asked.
func TestCallIsWoken(t *testing.T) {
	inRig(t, undecided(), func(r *rig, client, backend *peer) {
		client.request(1, true)
		w := r.call(0)
		w.Wake(w.Arrived().Add(3 * time.Second))
		w.Wake(w.Arrived().Add(2 * time.Second))
		time.Sleep(5 * time.Second)
		w.Wake(w.Arrived().Add(6 * time.Second))
		w.Wake(time.Time{})
		time.Sleep(5 * time.Second)
		w.Wake(w.Arrived()) // Long past.
		time.Sleep(time.Second)
		w.Forward(r.endpoint)
		w.Wake(w.Arrived().Add(20 * time.Second))
		time.Sleep(20 * time.Second)
		trailersOnly(client, 1, backend, 1)
		w.Wake(w.Arrived().Add(40 * time.Second)) // It is over.
		time.Sleep(time.Minute)
		want := []time.Duration{2 * time.Second, 10 * time.Second, 20 * time.Second}
		if len(w.woken) != len(want) {
			t.Fatalf("woken after %v, want %v", w.woken, want)
		}
		for i, d := range w.woken {
			if late := d - want[i]; late < -time.Millisecond || late > 50*time.Millisecond {
				t.Errorf("woken after %v, want %v", w.woken, want)
			}
		}
	})
}

// A relay that drains waits for the decision.
func TestDrainWithWaitingCalls(t *testing.T) {
	inRig(t, undecided(), func(r *rig, client, backend *peer) {
		client.request(1, true)
		client.request(3, true)
		w, v := r.call(0), r.call(1)
		ended := r.drain(time.Minute)
		client.wantGoAway(http2.ErrCodeNo)
		client.wantGoAway(http2.ErrCodeNo)
		w.Forward(r.endpoint)
		backend.wantHeaders(1)
		trailersOnly(client, 1, backend, 1)
		v.refuse("14")
		client.wantTrailers(3, "grpc-status: 14")
		client.wantClosed()
		if err := ended(); err != nil {
			t.Error("drain:", err)
		}
	})
}

// A call that waits for a place is told when its endpoint is given up.
func TestEndpointIsClosed(t *testing.T) {
	inRig(t, streams(1, 1), func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		client.request(3, true)
		synctest.Wait()
		r.endpoint.Close()
		client.wantReset(1, http2.ErrCodeInternal)
		client.wantTrailers(3, "grpc-status: 14")
		client.request(5, true)
		client.wantTrailers(5, "grpc-status: 14")
		backend.wantClosed()
		if s := r.endpoint.State(); s != relay.Closed {
			t.Errorf("the state is %v", s)
		}
	})
}
