package relay_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// deaths are moments at which a back-end dies; in each its call 1 is lost for good.
var deaths = map[string]func(client, backend *peer){
	"with the request": func(c, b *peer) {},
	"in mid answer":    func(c, b *peer) { b.response(1); b.data(1, "abc", false); c.wantHeaders(1); c.wantData(1, "abc") },
	"in mid frame": func(c, b *peer) {
		b.response(1)
		b.raw([]byte("\x00\x00\x09\x00\x00\x00\x00\x00\x01abc"))
		c.wantHeaders(1)
	},
	"in mid header block": func(c, b *peer) { b.frame(http2.FrameHeaders, 0, 1, "\x88") },
	"in mid greeting":     func(c, b *peer) { b.raw([]byte("\x00\x00")) },
}

func TestBackendDies(t *testing.T) {
	for name, act := range deaths {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{decide: forwardTwice}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				backend.wantHeaders(1)
				act(client, backend)
				synctest.Wait()
				backend.close()
				client.wantReset(1, http2.ErrCodeInternal)
				if e := r.call(0).end(t); !e.Lost || !e.Broken || e.By != relay.ByBackend {
					t.Errorf("the observer heard %+v", e)
				}
				serve(client, 3, r.accept(habits{}), 1)
			})
		})
	}
}

// An answer that is whole arrives, even if the connection ends with it.
func TestBackendAnswersAndDies(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		backend.wantHeaders(1)
		backend.response(1)
		backend.data(1, bytesOf(50_000), false)
		backend.trailers(1)
		synctest.Wait()
		backend.close()
		client.wantHeaders(1)
		client.wantData(1, bytesOf(50_000))
		client.wantTrailers(1)
		client.wantReset(1, http2.ErrCodeNo) // The rest of the request has nowhere to go.
		if e := r.call(0).end(t); e.Broken || e.GRPCStatus != "0" {
			t.Errorf("the observer heard %+v", e)
		}
	})
}

// The observer may answer for a back-end that broke off: as a whole, as trailers, or not within a message.
func TestObserverAnswersForADeadBackend(t *testing.T) {
	answer := func(r *rig, w *witness) {
		w.onEnded = func(relay.End) { w.refuse("14") }
		w.Forward(r.endpoint)
	}
	inRig(t, setup{decide: answer}, func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 6; id += 2 {
			client.request(id, true)
			backend.wantHeaders(id)
		}
		backend.response(3)
		backend.data(3, grpcMessage("whole"), false)
		backend.response(5)
		backend.data(5, grpcMessage("in part")[:8], false)
		synctest.Wait()
		backend.close()
		client.wantTrailers(1, ":status: 200", "grpc-status: 14")
		client.wantHeaders(3, ":status: 200")
		client.wantData(3, grpcMessage("whole"))
		client.wantTrailers(3, "grpc-status: 14", "-:status", "-content-type")
		client.wantReset(5, http2.ErrCodeCancel)
	})
}

// A call that its back-end refused is sent again, whole and once.
func TestRefusedStreamIsSentAgain(t *testing.T) {
	inRig(t, setup{decide: forwardTwice}, func(r *rig, client, backend *peer) {
		client.request(1, false, "!x-secret: 1", "x: 2")
		client.data(1, "abc", false)
		client.data(1, "def", false)
		client.headers(1, true, "x-end: 3")
		for at := uint32(1); at < 4; at += 2 {
			backend.wantHeaders(at, request("!x-secret: 1", "x: 2")...)
			backend.wantData(at, "abcdef")
			backend.wantTrailers(at, "x-end: 3")
			backend.rst(at, http2.ErrCodeRefusedStream)
		}
		client.wantTrailers(1, "grpc-status: 14") // The witness has no third place to go.
		if n := len(r.call(0).unsent); n != 2 {
			t.Errorf("the observer heard %d times that the call was not sent, want 2", n)
		}
		if n := client.credit(1); n < 0 {
			t.Errorf("the stream's window is %d", n)
		}
	})
}

// What is too long to be kept is not sent again, and neither is what has been answered.
func TestCallsThatAreNotSentAgain(t *testing.T) {
	inRig(t, setup{decide: forwardTwice}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		client.data(1, bytesOf(20_000), true)
		backend.wantHeaders(1)
		backend.wantData(1, bytesOf(20_000))
		backend.rst(1, http2.ErrCodeRefusedStream)
		client.wantReset(1, http2.ErrCodeRefusedStream)
		client.request(3, true)
		backend.wantHeaders(3)
		backend.response(3)
		client.wantHeaders(3)
		backend.rst(3, http2.ErrCodeRefusedStream)
		client.wantReset(3, http2.ErrCodeRefusedStream)
		for i := range 2 {
			if e := r.call(i).end(t); !e.Broken || e.Code != http2.ErrCodeRefusedStream || len(r.call(i).unsent) > 0 {
				t.Errorf("the observer heard %+v and %v", e, r.call(i).unsent)
			}
		}
	})
}

// Unsent may lead elsewhere: here to the other endpoint.
func TestUnsentCallGoesElsewhere(t *testing.T) {
	var other *relay.Endpoint
	elsewhere := func(r *rig, w *witness) {
		w.onUnsent = func(error) { w.Forward(other) }
		w.Forward(r.endpoint)
	}
	inRig(t, setup{decide: elsewhere}, func(r *rig, client, backend *peer) {
		s := newSite(r.TB, 1<<20)
		other = relay.NewEndpoint(relay.EndpointOptions{Dial: s.dial})
		defer other.Close()
		second := s.accept(habits{})
		synctest.Wait()
		backend.settings(setting(http2.SettingMaxConcurrentStreams, 0))
		synctest.Wait()
		client.request(1, false)
		client.data(1, "abc", true)
		time.Sleep(2 * time.Second) // In vain for a place at the first.
		second.wantHeaders(1)
		second.wantData(1, "abc")
		second.wantEnd(1)
		reply(client, 1, second, 1, "answer")
		if e := r.call(0).end(t); e.Broken || len(r.call(0).unsent) != 1 {
			t.Errorf("the observer heard %+v, %v", e, r.call(0).unsent)
		}
		client.wantSettled()
	})
}

// Attempts to connect are spread out, each tells why it failed, and the first that succeeds serves those who wait.
func TestEndpointThatCannotConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1<<20)
		var states []relay.State
		var dials atomic.Int64
		var up atomic.Bool
		e := relay.NewEndpoint(relay.EndpointOptions{
			Dial: func(ctx context.Context) (net.Conn, error) {
				if dials.Add(1); !up.Load() {
					return nil, errors.New("connection refused")
				}
				return s.dial(ctx)
			},
			Changed: func(s relay.State, _ error) { states = append(states, s) },
		})
		defer e.Close()
		time.Sleep(time.Minute)
		if n := dials.Load(); n < 25 || n > 45 {
			t.Errorf("%d attempts in a minute", n)
		}
		up.Store(true)
		p := s.accept(habits{})
		synctest.Wait()
		if e.State() != relay.Ready || states[0] != relay.Failed || states[len(states)-1] != relay.Ready {
			t.Errorf("states are %v", states)
		}
		p.wantSettled()
	})
}

// A back-end that takes connections and says nothing, or nonsense, is as bad as none.
func TestBackendThatDoesNotGreet(t *testing.T) {
	for name, act := range map[string]func(p *peer){
		"silence":  func(p *peer) { p.wantGoAway(http2.ErrCodeSettingsTimeout) },
		"HTTP/1.1": func(p *peer) { p.raw([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); p.wantGoAway(http2.ErrCodeFrameSize) },
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{backend: habits{silent: true, mute: true}}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				act(backend)
				backend.wantClosed()
				client.wantTrailers(1, "grpc-status: 14")
				serve(client, 3, r.accept(habits{}), 1)
			})
		})
	}
}
