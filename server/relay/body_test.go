package relay_test

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

func TestInterimAnswersPass(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		backend.headers(1, false, ":status: 100")
		backend.headers(1, false, ":status: 103", "link: a")
		client.wantHeaders(1, ":status: 100")
		client.wantHeaders(1, ":status: 103", "link: a")
		backend.response(1)
		client.wantHeaders(1, response()...)
		backend.trailers(1)
		client.wantTrailers(1, "grpc-status: 0")
		if got := r.call(0).steps(); len(got) != 1 || got[0] != relay.Answered {
			t.Errorf("the observer heard %v, want one Answered", got)
		}
	})
}

func TestInterimAnswersThatAreMalformed(t *testing.T) {
	for name, act := range map[string]func(b *peer){
		"one that ends":    func(b *peer) { b.headers(1, true, ":status: 100") },
		"after the answer": func(b *peer) { b.response(1); b.headers(1, false, ":status: 103") },
		"DATA before more": func(b *peer) { b.headers(1, false, ":status: 100"); b.data(1, "x", false) },
		"DATA alone":       func(b *peer) { b.data(1, "x", true) },
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				backend.wantHeaders(1)
				act(backend)
				backend.wantReset(1, http2.ErrCodeProtocol)
				client.wantReset(1, http2.ErrCodeInternal)
				serve(client, 3, backend, 3)
			})
		})
	}
}

// An answer without content may still say how long the content would have been.
func TestAnswersWithoutContent(t *testing.T) {
	get := []string{":scheme: http", ":path: /", ":authority: stock"}
	for name, c := range map[string]struct{ method, status string }{"HEAD": {"HEAD", "200"}, "304": {"GET", "304"}} {
		ask := append([]string{":method: " + c.method}, get...)
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.headers(1, true, ask...)
				backend.wantHeaders(1)
				backend.headers(1, true, ":status: "+c.status, "content-length: 100")
				client.wantTrailers(1, ":status: "+c.status, "content-length: 100")
				client.headers(3, true, ask...)
				backend.wantHeaders(3)
				backend.headers(3, false, ":status: "+c.status, "content-length: 100")
				backend.data(3, "", true)
				client.wantHeaders(3, "content-length: 100")
				client.wantEnd(3)
				client.headers(5, true, ask...)
				backend.wantHeaders(5)
				backend.headers(5, false, ":status: "+c.status, "content-length: 4")
				backend.data(5, "oops", true)
				backend.wantReset(5, http2.ErrCodeProtocol)
				client.wantReset(5, http2.ErrCodeInternal)
			})
		})
	}
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.headers(1, true, append([]string{":method: GET"}, get...)...)
		backend.wantHeaders(1)
		backend.headers(1, false, ":status: 204")
		backend.data(1, "oops", true)
		backend.wantReset(1, http2.ErrCodeProtocol)
		client.wantReset(1, http2.ErrCodeInternal)
	})
}

// wrongLengths are bodies that are not as long as "content-length: 4" says. They hold for requests and for answers.
var wrongLengths = map[string]func(p *peer, begin func(end bool)){
	"nothing, with the headers": func(p *peer, begin func(bool)) { begin(true) },
	"nothing, with DATA":        func(p *peer, begin func(bool)) { begin(false); p.data(1, "", true) },
	"too short":                 func(p *peer, begin func(bool)) { begin(false); p.data(1, "abc", true) },
	"too short, with trailers":  func(p *peer, begin func(bool)) { begin(false); p.data(1, "abc", false); p.headers(1, true, "x: y") },
	"too long":                  func(p *peer, begin func(bool)) { begin(false); p.data(1, "abcde", true) },
	"too long, later":           func(p *peer, begin func(bool)) { begin(false); p.data(1, "abcd", false); p.data(1, "e", false) },
}

func TestContentLengthOfRequests(t *testing.T) {
	for name, act := range wrongLengths {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				act(client, func(end bool) { client.request(1, end, "content-length: 4") })
				client.wantReset(1, http2.ErrCodeProtocol)
				if len(r.calls) > 0 {
					backend.wantReset(1, http2.ErrCodeCancel)
				}
				serve(client, 3, backend, nextCall(backend))
			})
		})
	}
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false, "content-length: 4")
		client.data(1, "ab", false)
		client.data(1, "cd", true)
		backend.wantHeaders(1, "content-length: 4")
		backend.wantData(1, "abcd")
		backend.wantEnd(1)
		trailersOnly(client, 1, backend, 1)
	})
}

func TestContentLengthOfAnswers(t *testing.T) {
	for name, act := range wrongLengths {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				backend.wantHeaders(1)
				act(backend, func(end bool) { backend.headers(1, end, response("content-length: 4")...) })
				backend.wantReset(1, http2.ErrCodeProtocol)
				client.wantReset(1, http2.ErrCodeInternal)
				serve(client, 3, backend, 3)
			})
		})
	}
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		backend.response(1, "content-length: 4")
		backend.data(1, "abcd", false)
		backend.trailers(1)
		client.wantHeaders(1, "content-length: 4")
		client.wantData(1, "abcd")
		client.wantTrailers(1)
	})
}
