package proxy_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

// A call that its back-end turned away went to every address in turn. Once more is what helps; the rest is a storm of retries.
func TestACallThatIsTurnedAwayGoesAgainOnce(t *testing.T) {
	for name, targets := range map[string][]string{
		"one address":     {"10.0.0.1:80"},
		"three addresses": {"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			p := only(upper, func(p *plan) {
				p.cfg.Targets = targets
				p.backend.Dialer = func(context.Context, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					go refuseStreams(theirs, &calls) // Until ours is closed.
					return ours, nil
				}
			})
			bubble(t, p, func(t *testing.T, w *world) {
				synctest.Wait()
				_, err := w.call(t.Context(), "x")
				code(t, err, codes.Unavailable)
				if got := calls.Load(); got != 2 {
					t.Errorf("the call was sent %d times, want twice", got)
				}
			})
		})
	}
}

// refuseStreams is a back-end that has begun no call, and counts them.
func refuseStreams(conn net.Conn, calls *atomic.Int64) {
	f := http2.NewFramer(conn, conn)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := conn.Read(preface); err != nil || f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		if h, ok := frame.(*http2.HeadersFrame); ok {
			calls.Add(1)
			if f.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream) != nil {
				return
			}
		}
	}
}

// grpc-go's server resets a call with CANCEL at its deadline. A caller whose own clock was late saw CANCELLED; it is to see its deadline.
func TestADeadlineThatTheBackendStrikesFirst(t *testing.T) {
	bubble(t, only(hangs), func(t *testing.T, w *world) {
		synctest.Wait()
		conn, err := w.through(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if got := lateCaller(t, conn, "100m"); got != "4" {
			t.Errorf("the caller saw grpc-status %q, want 4", got)
		}
		if got, want := w.counts(), (counts{overloaded: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// lateCaller makes a call whose time-out it does not keep itself, and returns the status that it gets, or "" for a reset.
func lateCaller(t *testing.T, conn net.Conn, timeout string) string {
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "stock"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", timeout}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // Into memory.
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteData(1, true, []byte{0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range frame.Fields {
				if h.Name == "grpc-status" {
					return h.Value
				}
			}
		case *http2.RSTStreamFrame:
			return ""
		}
	}
}
