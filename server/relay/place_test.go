package relay_test

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// streams is a setup whose back-end takes so many streams, on so many connections.
func streams(most uint32, connections int) setup {
	return setup{connections: connections, decide: forwardTwice,
		backend: habits{settings: []http2.Setting{setting(http2.SettingMaxConcurrentStreams, most)}}}
}

// Calls wait for a place in the order in which they came.
func TestCallsWaitForAPlace(t *testing.T) {
	for _, most := range []uint32{1, 3} {
		inRig(t, streams(most, 1), func(r *rig, client, backend *peer) {
			for id := uint32(1); id < 80; id += 2 {
				client.request(id, true)
			}
			for id := uint32(1); id < 80; id += 2 {
				backend.wantHeaders(id)
				trailersOnly(client, id, backend, id)
			}
		})
	}
}

// A place is free when both sides have ended, or when either has reset.
func TestPlacesBecomeFree(t *testing.T) {
	inRig(t, streams(1, 1), func(r *rig, client, backend *peer) {
		client.request(1, false)
		backend.wantHeaders(1)
		client.request(3, true)
		backend.headers(1, true, response("grpc-status: 0")...)
		client.wantTrailers(1)
		backend.wantQuiet() // The request goes on.
		client.data(1, "", true)
		backend.wantEnd(1)
		backend.wantHeaders(3)
		client.request(5, true)
		client.rst(3, http2.ErrCodeCancel)
		backend.wantReset(3, http2.ErrCodeCancel)
		backend.wantHeaders(5)
		client.request(7, true)
		backend.rst(5, http2.ErrCodeInternal)
		client.wantReset(5, http2.ErrCodeInternal)
		backend.wantHeaders(7)
		trailersOnly(client, 7, backend, 7)
	})
}

func TestLimitOfStreamsChanges(t *testing.T) {
	inRig(t, streams(0, 1), func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 10; id += 2 {
			client.request(id, true)
		}
		backend.wantQuiet()
		backend.settings(setting(http2.SettingMaxConcurrentStreams, 3))
		for at := uint32(1); at < 6; at += 2 {
			backend.wantHeaders(at)
		}
		backend.settings(setting(http2.SettingMaxConcurrentStreams, 1))
		trailersOnly(client, 1, backend, 1)
		trailersOnly(client, 3, backend, 3)
		backend.wantQuiet()
		trailersOnly(client, 5, backend, 5)
		backend.wantHeaders(7)
		backend.wantQuiet()
		backend.settings(setting(http2.SettingMaxConcurrentStreams, 2))
		backend.wantHeaders(9)
		trailersOnly(client, 9, backend, 9)
		trailersOnly(client, 7, backend, 7)
	})
}

// Who finds no place in time is told that the call was not sent.
func TestCallsThatFindNoPlace(t *testing.T) {
	inRig(t, streams(1, 1), func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		client.request(3, true)
		client.request(5, true)
		client.rst(5, http2.ErrCodeCancel)
		began := time.Now()
		client.wantTrailers(3, "grpc-status: 14")
		if d := time.Since(began); d < time.Second || d > 3*time.Second {
			t.Errorf("the call waited for %v", d)
		}
		if e := r.call(2).end(t); e.By != relay.ByCaller {
			t.Errorf("the observer of the call that was reset heard %+v", e)
		}
		backend.wantQuiet()
		trailersOnly(client, 1, backend, 1)
		serve(client, 7, backend, 3)
	})
}

// The pool grows when the limit is reached, up to its bound.
func TestPoolGrows(t *testing.T) {
	inRig(t, streams(2, 3), func(r *rig, client, first *peer) {
		pool := []*peer{first}
		for id := uint32(1); id < 16; id += 2 {
			client.request(id, false)
		}
		first.wantHeaders(1)
		first.wantHeaders(3)
		for range 2 {
			p := r.accept(habits{settings: []http2.Setting{setting(http2.SettingMaxConcurrentStreams, 2)}})
			p.wantHeaders(1)
			p.wantHeaders(3)
			pool = append(pool, p)
		}
		for _, p := range pool {
			p.wantQuiet()
			p.headers(1, true, response("grpc-status: 0")...)
			p.headers(3, true, response("grpc-status: 0")...)
		}
		for id := uint32(1); id < 12; id += 2 {
			client.wantTrailers(id)
			client.data(id, "", true)
		}
		client.rst(13, http2.ErrCodeCancel)
		client.rst(15, http2.ErrCodeCancel)
		synctest.Wait()
		for _, p := range pool {
			p.wantEnd(1)
			p.wantEnd(3)
		}
	})
}

// A client beyond the relay's own limit is refused, its header table is kept in step, and others are served.
func TestClientBeyondItsLimit(t *testing.T) {
	s := setup{limits: relay.Limits{Streams: 3}}
	inRig(t, s, func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 10; id += 2 {
			client.request(id, true, "x-table: "+bytesOf(int(id)))
		}
		client.wantReset(7, http2.ErrCodeRefusedStream)
		client.wantReset(9, http2.ErrCodeRefusedStream)
		r.wantBreaches(relay.Streams, 2)
		for id := uint32(1); id < 6; id += 2 {
			backend.wantHeaders(id)
		}
		serve(r.join(habits{}), 1, backend, 7)
		trailersOnly(client, 1, backend, 1)
		client.request(11, true, "x-table: "+bytesOf(9))
		backend.wantHeaders(9, "x-table: "+bytesOf(9))
	})
}

// A caller that goes away at the very moment at which a place becomes free.
func TestPlaceAndCallerGoTogether(t *testing.T) {
	inRig(t, streams(1, 1), func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 400; id += 4 {
			client.request(id, true)
			at := nextCall(backend) - 2
			backend.wantHeaders(at)
			client.request(id+2, false)
			synctest.Wait()
			go backend.headers(at, true, response("grpc-status: 0")...)
			client.rst(id+2, http2.ErrCodeCancel)
			client.wantTrailers(id)
			synctest.Wait()
			if next := nextCall(backend) - 2; next > at {
				backend.wantReset(next, http2.ErrCodeCancel)
			}
		}
	})
}
