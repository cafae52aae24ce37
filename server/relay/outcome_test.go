package relay_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// outcomes are how a call to 1, whose request is whole, may end, and what the observer hears then.
var outcomes = map[string]struct {
	act  func(client, backend *peer)
	want relay.End
}{
	"trailers": {func(c, b *peer) { b.response(1); b.headers(1, true, "grpc-status: 3", "grpc-message: no") },
		relay.End{Status: "200", GRPCStatus: "3", GRPCMessage: "no"}},
	"trailers only": {func(c, b *peer) { b.headers(1, true, response("grpc-status: 5")...) }, relay.End{Status: "200", GRPCStatus: "5"}},
	"no trailers":   {func(c, b *peer) { b.response(1); b.data(1, "x", true) }, relay.End{Status: "200"}},
	"another status": {func(c, b *peer) { b.headers(1, true, ":status: 503") },
		relay.End{Status: "503"}},
	"a reset": {func(c, b *peer) { b.rst(1, http2.ErrCodeEnhanceYourCalm) },
		relay.End{Broken: true, Code: http2.ErrCodeEnhanceYourCalm}},
	"a reset by the caller": {func(c, b *peer) { c.rst(1, http2.ErrCodeCancel) },
		relay.End{By: relay.ByCaller, Broken: true, Code: http2.ErrCodeCancel}},
	"the caller's death":   {func(c, b *peer) { c.close() }, relay.End{By: relay.ByCaller, Broken: true, Code: http2.ErrCodeCancel}},
	"the back-end's death": {func(c, b *peer) { b.close() }, relay.End{Broken: true, Lost: true, Code: http2.ErrCodeInternal}},
	"nonsense":             {func(c, b *peer) { b.data(1, "x", false) }, relay.End{Broken: true, Code: http2.ErrCodeInternal}},
	"a reset within the answer": {func(c, b *peer) { b.response(1); b.rst(1, http2.ErrCodeNo) },
		relay.End{Broken: true, Code: http2.ErrCodeNo}},
}

func TestOutcomes(t *testing.T) {
	for name, o := range outcomes {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				backend.wantHeaders(1)
				o.act(client, backend)
				got := r.call(0).end(t)
				if got.Broken && got.Reason == "" {
					t.Error("nobody says why the answer broke off")
				}
				got.Reason, got.Traffic = "", relay.Traffic{}
				if got != o.want {
					t.Errorf("the observer heard\n%+v, want\n%+v", got, o.want)
				}
			})
		})
	}
}

// Bytes and messages are counted rightly wherever the frames are cut.
func TestTraffic(t *testing.T) {
	text := grpcMessage("one") + grpcMessage("") + grpcMessage("three!")
	for cut := 1; cut < len(text); cut++ {
		inRig(t, setup{}, func(r *rig, client, backend *peer) {
			client.style.fragment, backend.style.fragment = 10_000, 10_000
			client.request(1, false)
			client.data(1, text[:cut], false)
			client.data(1, text[cut:], true)
			backend.wantHeaders(1)
			backend.wantData(1, text)
			backend.wantEnd(1)
			backend.response(1)
			backend.data(1, text[:cut]+text, false)
			backend.data(1, text[cut:], false)
			backend.trailers(1)
			want := relay.Traffic{RequestBytes: int64(len(text)), AnswerBytes: int64(2 * len(text)), RequestMessages: 3}
			got := r.call(0).end(t).Traffic
			want.AnswerMessages = got.AnswerMessages // That of text within text depends on the cut.
			if got != want {
				t.Errorf("cut at %d: %+v, want %+v", cut, got, want)
			}
			if n := r.stats.MessagesIn.Load(); n != 3 || r.stats.MessagesOut.Load() != got.AnswerMessages {
				t.Errorf("cut at %d: %d messages in, %d out", cut, n, r.stats.MessagesOut.Load())
			}
		})
	}
}

// progressOf are requests and answers, and what the observer hears of them, in order.
var progressOf = map[string]struct {
	act  func(client, backend *peer)
	want []relay.Progress
}{
	"nothing but headers": {func(c, b *peer) { c.request(1, true); b.wantHeaders(1); b.response(1); synctest.Wait(); b.trailers(1) },
		[]relay.Progress{relay.Answered}},
	"trailers only": {func(c, b *peer) {
		c.request(1, true)
		b.wantHeaders(1)
		b.headers(1, true, response("grpc-status: 0")...)
	}, nil},
	"one message": {func(c, b *peer) {
		c.request(1, false)
		c.data(1, grpcMessage("x"), true)
		b.wantHeaders(1)
		b.wantData(1, grpcMessage("x"))
		b.response(1)
		synctest.Wait() // An answer that begins and ends in one turn is only told to have ended.
		b.trailers(1)
	}, []relay.Progress{relay.RequestComplete, relay.Answered}},
	"a message and its end": {func(c, b *peer) {
		c.request(1, false)
		c.data(1, grpcMessage("x"), false)
		c.data(1, "", true)
		b.wantHeaders(1)
		b.wantData(1, grpcMessage("x"))
		b.wantEnd(1)
		b.response(1)
		synctest.Wait() // An answer that begins and ends in one turn is only told to have ended.
		b.trailers(1)
	}, []relay.Progress{relay.RequestBegun, relay.RequestComplete, relay.Answered}},
	"streams": {func(c, b *peer) {
		c.request(1, false)
		for range 3 {
			c.data(1, grpcMessage("x"), false)
		}
		c.headers(1, true, "x: y")
		b.wantHeaders(1)
		b.wantData(1, strings.Repeat(grpcMessage("x"), 3))
		b.wantTrailers(1)
		b.response(1)
		for range 3 {
			b.data(1, grpcMessage("x"), false)
		}
		b.trailers(1)
	}, []relay.Progress{relay.RequestBegun, relay.ManyRequests, relay.RequestComplete, relay.Answered, relay.ManyAnswers}},
}

func TestProgress(t *testing.T) {
	for name, p := range progressOf {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				p.act(client, backend)
				r.call(0).end(t)
				if got := r.call(0).steps(); !slices.Equal(got, p.want) {
					t.Errorf("the observer heard %v, want %v", got, p.want)
				}
			})
		})
	}
}

// Who follows a call hears of every message, and can tell how many there were.
func TestFollow(t *testing.T) {
	s := setup{decide: func(r *rig, w *witness) { w.Follow(); w.Forward(r.endpoint) }}
	inRig(t, s, func(r *rig, client, backend *peer) {
		count := func(requests, answers int64) {
			t.Helper()
			synctest.Wait()
			if q, a := r.call(0).Messages(); q != requests || a != answers {
				t.Errorf("%d and %d messages, want %d and %d", q, a, requests, answers)
			}
		}
		client.request(1, false)
		backend.wantHeaders(1)
		count(0, 0)
		client.data(1, strings.Repeat(grpcMessage("x"), 3), false)
		backend.wantData(1, strings.Repeat(grpcMessage("x"), 3))
		count(3, 0)
		backend.response(1)
		backend.data(1, grpcMessage("y")[:3], false)
		backend.data(1, grpcMessage("y")[3:], false)
		count(3, 1)
		client.data(1, grpcMessage("x"), true)
		backend.wantData(1, grpcMessage("x"))
		backend.trailers(1)
		r.call(0).end(t)
		count(4, 1)
		want := []relay.Progress{
			relay.ManyRequests, relay.RequestBegun, relay.MoreMessages, relay.MoreMessages, relay.Answered,
			relay.RequestComplete, relay.MoreMessages,
		}
		if got := r.call(0).steps(); !slices.Equal(got, want) {
			t.Errorf("the observer heard %v, want %v", got, want)
		}
	})
}

// A message beyond its bound ends the call, however the prefix is cut; one of just that size passes.
func TestLargeMessages(t *testing.T) {
	s := setup{limits: relay.Limits{MessageBytes: 1000}}
	for cut := 1; cut < 6; cut++ {
		inRig(t, s, func(r *rig, client, backend *peer) {
			serve(client, 1, backend, 1)
			client.request(3, false)
			client.data(3, grpcMessage(bytesOf(1000)), false)
			backend.wantHeaders(3)
			backend.wantData(3, grpcMessage(bytesOf(1000)))
			large := grpcMessage(bytesOf(1001))
			client.data(3, large[:cut], false)
			client.data(3, large[cut:], false)
			client.wantReset(3, http2.ErrCodeEnhanceYourCalm)
			backend.wantReset(3, http2.ErrCodeCancel)
			r.wantBreaches(relay.LargeMessage, 1)
			if e := r.call(1).end(t); e.By != relay.ByRelay || e.Breach != relay.LargeMessage {
				t.Errorf("the observer heard %+v", e)
			}
			serve(client, 5, backend, 5)
		})
	}
}
