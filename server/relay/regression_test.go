package relay_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
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

// At the end of a drain the relay closed a connection as soon as it had written all, and what its client sent after that, such as a
// WINDOW_UPDATE, made the kernel drop what was still on its way.
func TestLastAnswerBeforeTheDrainArrives(t *testing.T) {
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := newSite(t, 1<<20)
	e := relay.NewEndpoint(relay.EndpointOptions{Dial: at.dial})
	defer e.Close()
	r := relay.New(relay.Options{Decide: func(c *relay.Call) { c.Forward(e) }})
	go func() { _ = r.Serve(front) }() // Until Close.
	defer r.Close()
	backend := at.accept(habits{patient: true})
	conn, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, conn, habits{patient: true, settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 1<<30)}})
	client.windowUpdate(0, 1<<30)
	client.request(1, true)
	backend.wantHeaders(1)
	client.pause()
	const size = 1 << 20
	backend.response(1)
	backend.pour(1, strings.Repeat("x", size), false)
	backend.trailers(1)
	drained := make(chan error)
	go func() { drained <- r.Drain(t.Context()) }()
	time.Sleep(1500 * time.Millisecond) // For the client to be given up.
	client.resume()
	client.wantHeaders(1)
	client.wantData(1, strings.Repeat("x", size))
	client.wantTrailers(1)
	client.wantClosed()
	client.close()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
