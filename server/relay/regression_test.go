package relay_test

import (
	"testing"

	"golang.org/x/net/http2"
)

// A host beside an empty :authority gave the back-end two :authority fields.
func TestHostBesideAnEmptyAuthority(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.headers(1, true, without(":authority", "host: stock")...)
		backend.wantHeaders(1, ":authority: stock")
		trailersOnly(client, 1, backend, 1)
		client.headers(3, true, ":method: POST", ":scheme: http", ":path: /a.B/C", ":authority: ", "host: stock")
		client.wantReset(3, http2.ErrCodeProtocol)
		backend.wantQuiet()
	})
}

// A connection whose numbers of streams had come to their end stayed, took no call, and had no successor.
func TestStreamNumbersComeToTheirEnd(t *testing.T) {
	inRig(t, setup{connections: 1}, func(r *rig, client, backend *peer) {
		serve(client, 1, backend, 1)
		r.endpoint.Skip(1<<31 - 8)
		const at = 1<<31 - 5
		serve(client, 3, backend, at)
		client.request(5, true)
		backend.wantHeaders(at + 2)
		next := r.accept(habits{})
		serve(client, 7, next, 1)
		trailersOnly(client, 5, backend, at+2)
		backend.wantClosed()
	})
}
