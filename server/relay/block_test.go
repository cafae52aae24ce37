package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// A header list is bounded by its size as RFC 9113 counts it: names, values, and 32 for each field.
func TestHeaderListsAtTheirBound(t *testing.T) {
	size := 0
	for _, f := range fieldsOf(request("long: ")) {
		size += int(f.Size())
	}
	fits := 64<<10 - size
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true, "long: "+bytesOf(fits))
		backend.wantHeaders(1, "long: "+bytesOf(fits))
		trailersOnly(client, 1, backend, 1)
		client.request(3, true, "long: "+bytesOf(fits+1))
		client.wantTrailers(3, ":status: 200", "grpc-status: 8")
		r.wantBreaches(relay.LargeHeaders, 1)
		client.headers(5, true, ":method: GET", ":scheme: http", ":path: /", "long: "+bytesOf(fits+500))
		client.wantTrailers(5, ":status: 431")
		backend.wantQuiet()
		serve(client, 7, backend, 3)
	})
}

func TestManyFields(t *testing.T) {
	var many, few []string
	for i := range 1500 {
		many = append(many, fmt.Sprintf("f%d: %d", i, i))
	}
	few = many[:1000]
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true, few...)
		backend.wantHeaders(1, few...)
		backend.headers(1, false, response(few...)...)
		backend.headers(1, true, few...)
		client.wantHeaders(1, few...)
		client.wantTrailers(1, few...)
		client.request(3, true, append(many, "x: "+bytesOf(8000))...)
		client.wantTrailers(3, "grpc-status: 8")
		client.request(5, true)
		backend.wantHeaders(3)
		backend.headers(3, false, response(append(many, "x: "+bytesOf(8000))...)...)
		backend.wantReset(3, http2.ErrCodeProtocol)
		client.wantReset(5, http2.ErrCodeInternal)
		serve(client, 7, backend, 5)
	})
}

// A block that is longer than a frame may be is cut, and stays in one piece while other calls go on.
func TestLongBlocksAreCut(t *testing.T) {
	long := "long: " + strings.Repeat("~", 20_000) // Which Huffman does not shorten.
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		client.request(3, true, long)
		client.data(1, "x", false)
		backend.wantHeaders(1)
		backend.wantHeaders(3, long)
		backend.wantData(1, "x")
		backend.response(1)
		backend.headers(3, false, response(long)...)
		backend.data(1, "y", false)
		backend.headers(3, true, "grpc-status: 0", long)
		client.wantHeaders(1)
		client.wantHeaders(3, long)
		client.wantData(1, "y")
		client.wantTrailers(3, long)
	})
}

func TestBlocksInSmallPieces(t *testing.T) {
	inRig(t, setup{limits: relay.Limits{Continuations: 100}, backLimits: relay.Limits{Continuations: 100}},
		func(r *rig, client, backend *peer) {
			client.style, backend.style = style{fragment: 1}, style{fragment: 1}
			client.request(1, true, "x: a") // Cut in the middle of strings and of integers.
			backend.wantHeaders(1, "x: a")
			trailersOnly(client, 1, backend, 1)
		})
}

// interruptions are frames that may not stand within a header block.
var interruptions = map[string]func(p *peer){
	"PING":            func(p *peer) { p.ping("x") },
	"DATA":            func(p *peer) { p.data(1, "x", false) },
	"HEADERS":         func(p *peer) { p.frame(http2.FrameHeaders, flagEndHeaders, 1, "") },
	"an unknown one":  func(p *peer) { p.frame(0x42, 0, 0, "") },
	"another's":       func(p *peer) { p.frame(http2.FrameContinuation, flagEndHeaders, 3, "") },
	"a WINDOW_UPDATE": func(p *peer) { p.windowUpdate(0, 1) },
}

func TestBlocksAreNotInterrupted(t *testing.T) {
	for name, act := range interruptions {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.frame(http2.FrameHeaders, 0, 1, "\x83")
				act(client)
				client.wantGoAway(http2.ErrCodeProtocol)
				client.wantClosed()
			})
		})
	}
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.frame(http2.FrameContinuation, flagEndHeaders, 1, "")
		client.wantGoAway(http2.ErrCodeProtocol)
		client.wantClosed()
	})
}

func TestPaddingCounts(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.style.pad, backend.style.pad = 255, 255
		client.request(1, false)
		backend.wantHeaders(1)
		backend.response(1)
		client.wantHeaders(1)
		for range 2000 { // Eight windows of padding.
			client.data(1, "a", false)
			backend.data(1, "b", false)
			client.wantData(1, "b")
			backend.wantData(1, "a")
		}
	})
}

// DATA that is nothing but padding is credited too.
func TestPaddingAloneIsCredited(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.style.pad = 255
		for id := uint32(1); id < 40; id += 2 {
			client.request(id, false)
			backend.wantHeaders(id)
		}
		for range 50 {
			for id := uint32(1); id < 40; id += 2 {
				for range 10 {
					client.data(id, "", false)
				}
				client.data(id, "x", false) // Something useful, so that the rest is forgiven.
				backend.wantData(id, "x")
			}
		}
		if n := client.credit(0); n < 1<<19 {
			t.Errorf("the connection's window is down to %d", n)
		}
		if n := client.credit(1); n < 1<<14 {
			t.Errorf("the stream's window is down to %d", n)
		}
	})
}

func TestPaddingThatIsWrong(t *testing.T) {
	for name, act := range map[string]func(p *peer){
		"DATA with too much":    func(p *peer) { p.request(1, false); p.frame(http2.FrameData, flagPadded, 1, "\x05abcd") },
		"DATA, all of it":       func(p *peer) { p.request(1, false); p.frame(http2.FrameData, flagPadded, 1, "\x05abcde"[:5]) },
		"HEADERS with too much": func(p *peer) { p.frame(http2.FrameHeaders, flagPadded|flagEndHeaders, 1, "\x05abcd") },
		"HEADERS and a priority": func(p *peer) {
			p.frame(http2.FrameHeaders, flagPadded|flagPriority|flagEndHeaders, 1, "\x01\x00\x00\x00\x00\x00")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				act(client)
				client.await("GOAWAY on", 0, func() bool { return client.find(0) >= 0 })
				client.wantClosed()
			})
		})
	}
}

func TestPriorityIsIgnored(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.priority(1, 0)
		client.priority(7, 1)
		serve(client, 1, backend, 1)
		client.priority(1, 7)
		client.frame(0x10, 0, 0, "\x00\x00\x00\x01u=1")          // PRIORITY_UPDATE
		client.frame(0xfe, 0xff, 3, "something of an extension") // An unknown one.
		client.style.priority = true
		serve(client, 3, backend, 3)
		client.wantSettled()
		if len(backend.control) > 0 && backend.control[len(backend.control)-1].kind == http2.FramePriority {
			t.Error("PRIORITY was forwarded")
		}
	})
}

func TestPriorityThatIsWrong(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		client.frame(http2.FramePriority, 0, 1, "1234")
		client.wantReset(1, http2.ErrCodeFrameSize)
		client.request(3, false)
		client.priority(3, 3)
		client.wantReset(3, http2.ErrCodeProtocol)
		backend.wantReset(1, http2.ErrCodeCancel)
		backend.wantReset(3, http2.ErrCodeCancel)
		client.frame(http2.FrameHeaders, flagPriority|flagEndHeaders, 5, "\x00\x00\x00\x05\x00\x83")
		client.wantGoAway(http2.ErrCodeProtocol)
	})
}
