package relay_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

func TestCallPasses(t *testing.T) {
	for name, s := range map[string]style{
		"plainly": {}, "byte by byte": {fragment: 60}, "padded": {pad: 255}, "with priority": {priority: true, pad: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.style, backend.style = s, s
				client.request(1, false, "x: 1", "x: 2", "x: 1", "empty: ", "a-bin: AAEC", "cookie: a=b", "cookie: c=d")
				client.data(1, grpcMessage("ask"), true)
				got := backend.wantHeaders(1)
				want := request("x: 1", "x: 2", "x: 1", "empty: ", "a-bin: AAEC", "cookie: a=b", "cookie: c=d")
				if lines := linesOf(got); !slices.Equal(lines, want) {
					t.Errorf("the back-end got\n%q, want\n%q", lines, want)
				}
				backend.wantData(1, grpcMessage("ask"))
				backend.wantEnd(1)
				reply(client, 1, backend, 1, grpcMessage("answer"))
				client.wantSettled()
				backend.wantSettled()
			})
		})
	}
}

// linesOf returns a header block as tests write it.
func linesOf(e event) (lines []string) {
	for _, f := range e.fields {
		lines = append(lines, line(f))
	}
	return lines
}

func TestAnswerOfTrailersOnlyPassesAlone(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		if e := backend.wantHeaders(1); !e.ends() {
			t.Errorf("the back-end got %v, want END_STREAM with it", e)
		}
		backend.headers(1, true, response("grpc-status: 5", "grpc-message: no%20such")...)
		e := client.wantTrailers(1)
		if lines := linesOf(e); !slices.Equal(lines, response("grpc-status: 5", "grpc-message: no%20such")) {
			t.Errorf("the client got %q", lines)
		}
		client.wantQuiet()
		backend.wantQuiet()
	})
}

// Each message arrives before the next is sent, in either direction.
func TestMessagesPassOneByOne(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		backend.wantHeaders(1)
		backend.response(1)
		client.wantHeaders(1)
		for range 10 {
			client.data(1, grpcMessage("ping"), false)
			backend.wantData(1, grpcMessage("ping"))
			backend.data(1, grpcMessage("pong"), false)
			client.wantData(1, grpcMessage("pong"))
		}
		client.data(1, "", true)
		backend.wantEnd(1)
		backend.data(1, grpcMessage("last"), false)
		backend.trailers(1)
		client.wantData(1, grpcMessage("last"))
		client.wantTrailers(1)
	})
}

func TestHalfCloseByBackend(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		client.data(1, grpcMessage("first"), false)
		backend.wantHeaders(1)
		backend.headers(1, true, response("grpc-status: 0")...)
		client.wantTrailers(1)
		backend.wantData(1, grpcMessage("first"))
		client.data(1, grpcMessage("second"), true)
		backend.wantData(1, grpcMessage("second"))
		backend.wantEnd(1)
		client.wantQuiet()
		serve(client, 3, backend, 3)
	})
}

// A back-end that has answered may say that it does not want the rest of the request; the client hears it, behind the answer.
func TestBackendWantsNoMoreAfterItsAnswer(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		backend.wantHeaders(1)
		backend.headers(1, true, response("grpc-status: 0")...)
		backend.rst(1, http2.ErrCodeNo)
		client.wantTrailers(1)
		client.wantReset(1, http2.ErrCodeNo)
		client.data(1, grpcMessage("too late"), true)
		client.wantQuiet()
		backend.wantQuiet()
		serve(client, 3, backend, 3)
	})
}

func TestRequestTrailersPass(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		client.data(1, grpcMessage("ask"), false)
		client.headers(1, true, "x-end: 1", "!x-secret: 2")
		backend.wantHeaders(1)
		backend.wantData(1, grpcMessage("ask"))
		backend.wantTrailers(1, "x-end: 1", "!x-secret: 2")
		reply(client, 1, backend, 1, grpcMessage("answer"))
	})
}

func TestStreamNumbersAreTheConnectionsOwn(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		for i, id := range []uint32{1, 5, 9, 10001} {
			serve(client, id, backend, uint32(2*i+1))
		}
		serve(r.join(habits{}), 3, backend, 9)
	})
}

// wrongOrders are what a client must not do on a stream, and what it is told.
var wrongOrders = []struct {
	name string
	act  func(c *peer)
	code http2.ErrCode
}{
	{"an even stream", func(c *peer) { c.request(2, true) }, http2.ErrCodeProtocol},
	{"an older stream", func(c *peer) { c.request(5, true); c.request(3, true) }, http2.ErrCodeProtocol},
	{"stream 0", func(c *peer) { c.request(0, true) }, http2.ErrCodeProtocol},
	{"DATA on an idle stream", func(c *peer) { c.data(1, "x", false) }, http2.ErrCodeProtocol},
	{"DATA on stream 0", func(c *peer) { c.data(0, "x", false) }, http2.ErrCodeProtocol},
	{"WINDOW_UPDATE on an idle stream", func(c *peer) { c.windowUpdate(1, 1) }, http2.ErrCodeProtocol},
	{"RST_STREAM on an idle stream", func(c *peer) { c.rst(1, http2.ErrCodeCancel) }, http2.ErrCodeProtocol},
	{"RST_STREAM on stream 0", func(c *peer) { c.rst(0, http2.ErrCodeCancel) }, http2.ErrCodeProtocol},
	{"RST_STREAM of 3 bytes", func(c *peer) { c.request(1, true); c.frame(http2.FrameRSTStream, 0, 1, "123") }, http2.ErrCodeFrameSize},
	{"PRIORITY on stream 0", func(c *peer) { c.priority(0, 1) }, http2.ErrCodeProtocol},
	{"PUSH_PROMISE", func(c *peer) { c.request(1, true); c.frame(http2.FramePushPromise, 4, 1, "\x00\x00\x00\x02") }, http2.ErrCodeProtocol},
	{"a frame that is too large", func(c *peer) { c.frame(http2.FramePing, 0, 0, bytesOf(16385)) }, http2.ErrCodeFrameSize},
}

func TestClientBreaksTheOrderOfStreams(t *testing.T) {
	for _, w := range wrongOrders {
		t.Run(w.name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				bystander := r.join(habits{})
				w.act(client)
				client.wantGoAway(w.code)
				client.wantClosed()
				r.wantBreaches(relay.BadProtocol, 1)
				serve(bystander, 1, backend, nextCall(backend))
			})
		})
	}
}

// nextCall waits until the relay is quiet and returns the stream that it will open next at a back-end.
func nextCall(backend *peer) (id uint32) {
	synctest.Wait()
	backend.mu.Lock()
	defer backend.mu.Unlock()
	return (backend.twin.highest + 1) | 1
}

// trailersOnly carries an answer of trailers alone.
func trailersOnly(client *peer, id uint32, backend *peer, at uint32) {
	client.Helper()
	backend.headers(at, true, response("grpc-status: 0")...)
	client.wantTrailers(id, "grpc-status: 0")
}

func TestHeadersOnAStreamThatEnded(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		serve(client, 1, backend, 1)
		client.request(1, true)
		client.wantGoAway(http2.ErrCodeStreamClosed)
		client.wantClosed()
	})
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		client.headers(1, true, "x: y") // Still open towards the client: an error of the stream alone.
		client.wantReset(1, http2.ErrCodeStreamClosed)
		backend.wantHeaders(1)
		backend.wantReset(1, http2.ErrCodeCancel)
		serve(client, 3, backend, 3)
	})
}

// wrongAnswers are what a back-end must not do; its connection ends, and the client's lives.
var wrongAnswers = map[string]func(b *peer){
	"HEADERS on an idle stream":  func(b *peer) { b.response(3) },
	"HEADERS on an even stream":  func(b *peer) { b.response(2) },
	"HEADERS on stream 0":        func(b *peer) { b.response(0) },
	"DATA on an idle stream":     func(b *peer) { b.data(5, "x", false) },
	"a promise":                  func(b *peer) { b.frame(http2.FramePushPromise, 4, 1, "\x00\x00\x00\x02\x88") },
	"CONTINUATION of nothing":    func(b *peer) { b.frame(http2.FrameContinuation, 4, 1, "") },
	"a block that is no HPACK":   func(b *peer) { b.encoded(1, false, "\xff\xff\xff\xff\xff\xff") },
	"a frame that is too large":  func(b *peer) { b.frame(http2.FrameData, 0, 1, bytesOf(16385)) },
	"a WINDOW_UPDATE of nothing": func(b *peer) { b.windowUpdate(0, 0) },
	"a window that overflows":    func(b *peer) { b.windowUpdate(0, maxWindow) },
}

func TestBackendBreaksItsConnection(t *testing.T) {
	for name, act := range wrongAnswers {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				backend.wantHeaders(1)
				act(backend)
				backend.wantClosed()
				client.wantReset(1, http2.ErrCodeInternal)
				if e := r.call(0).end(t); !e.Broken || !e.Lost || e.By != relay.ByBackend {
					t.Errorf("the observer heard %+v, want a lost connection", e)
				}
				client.request(3, true)
				next := r.accept(habits{})
				next.wantHeaders(1)
				trailersOnly(client, 3, next, 1)
			})
		})
	}
}

// The bytes of two calls are interleaved one by one, and none changes sides.
func TestInterleavedCallsKeepTheirBytes(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		for _, id := range []uint32{1, 3} {
			client.request(id, false)
			backend.wantHeaders(id)
			backend.response(id)
			client.wantHeaders(id)
		}
		for range 500 {
			client.data(1, "a", false)
			client.data(3, "b", false)
			backend.data(3, "d", false)
			backend.data(1, "c", false)
		}
		backend.wantData(1, strings.Repeat("a", 500))
		backend.wantData(3, strings.Repeat("b", 500))
		client.wantData(1, strings.Repeat("c", 500))
		client.wantData(3, strings.Repeat("d", 500))
	})
}
