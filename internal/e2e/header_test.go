package e2e_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// endlessBlock begins a header block, and goes on with it.
func endlessBlock(fragment []byte) act {
	return func(p *peer) (int, error) {
		if p.next == 1 {
			p.next += 2
			block := p.encode(":method", "POST")
			if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block}); err != nil {
				return 0, err
			}
		}
		return batch, repeat(batch, func() error { return p.WriteContinuation(1, false, fragment) })
	}
}

// A header block without end is given up early.
func TestAbuseContinuation(t *testing.T) {
	for _, tt := range []struct {
		name, breach string
		fragment     []byte
	}{
		{"empty", "continuations", nil},
		{"small", "continuations", []byte{0x82}},
		{"large", "large_headers", make([]byte, 16<<10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			besiege(t, attack{breach: tt.breach, then: wantGoAway(http2.ErrCodeEnhanceYourCalm, 2), run: func(ctx context.Context, s *siege) {
				s.flood(ctx, 2, endlessBlock(tt.fragment))
			}})
		})
	}
}

// bomb is a header block of 16 KiB that stands for 60 MiB: a large field goes into the table, and is then named by one byte each time.
func bomb(p *peer) []byte {
	block := p.encode(":method", "POST", ":scheme", "http", ":path", waitMethod, ":authority", "x", "content-type", "application/grpc",
		"te", "trailers", "x-bomb", strings.Repeat("x", 3900))
	newest := byte(0x80 | 62)
	return append(bytes.Clone(block), bytes.Repeat([]byte{newest}, 16<<10-len(block))...)
}

// Bombs are refused, one by one, and whoever goes on with them is thrown out.
func TestAbuseHPACKBomb(t *testing.T) {
	then := both(wantStatus("8"), wantGoAway(http2.ErrCodeEnhanceYourCalm, 2))
	besiege(t, attack{breach: "resets", then: then, run: func(ctx context.Context, s *siege) {
		s.flood(ctx, 2, func(p *peer) (int, error) {
			block := bomb(p)
			return 4, repeat(4, func() error {
				id := p.next
				p.next += 2
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true})
			})
		})
	}})
}

// Header lists beyond the bound are refused, one by one.
func TestAbuseLargeHeaders(t *testing.T) {
	value := strings.Repeat("x", 64<<10)
	besiege(t, attack{breach: "large_headers", then: wantStatus("8"), run: func(ctx context.Context, s *siege) {
		s.flood(ctx, 2, func(p *peer) (int, error) {
			_, err := p.request(waitMethod, true, "x-large", value)
			return 1, err
		})
	}})
}

// Header lists that are just within the bound are kept as long as their calls last, and those can be many.
func TestAbuseLargeHeadersOfIdleStreams(t *testing.T) {
	value := strings.Repeat("x", 60<<10)
	besiege(t, attack{memory: 400, run: func(ctx context.Context, s *siege) {
		s.flood(ctx, 8, func(p *peer) (int, error) {
			time.Sleep(10 * breath) // Else it would be a flood of bytes, which takes its time on the way to the back-end.
			if p.next > 2*200 {
				return 0, nil
			}
			_, err := p.request(waitMethod, true, "x-large", value)
			return 1, err
		})
	}})
}

// wantStatus is for attacks whose calls are answered.
func wantStatus(code string) func(*testing.T, *siege) {
	return func(t *testing.T, s *siege) {
		t.Logf("heard %v", s.heard)
		if !s.heard.answered(code) {
			t.Errorf("no attacker heard the status %s", code)
		}
	}
}

// both checks two things.
func both(a, b func(*testing.T, *siege)) func(*testing.T, *siege) {
	return func(t *testing.T, s *siege) {
		a(t, s)
		b(t, s)
	}
}
