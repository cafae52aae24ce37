package e2e_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
)

// hostile is a connection of a back-end that means harm.
type hostile struct {
	*peer
	calls chan uint32 // streams that were opened; beyond what it holds they are forgotten
}

// until does something over and over, until it fails or the connection ends.
func (h *hostile) until(do func() error) {
	for do() == nil && h.out.Flush() == nil {
		select {
		case <-h.ended:
			return
		case <-time.After(breath):
		}
	}
}

// eachCall does something with each call.
func (h *hostile) eachCall(do func(id uint32) error) {
	for {
		select {
		case id := <-h.calls:
			if do(id) != nil || h.out.Flush() != nil {
				return
			}
		case <-h.ended:
			return
		}
	}
}

// onFirstCall does something over and over, once there is a call.
func (h *hostile) onFirstCall(do func(id uint32) error) {
	h.eachCall(func(id uint32) error {
		h.until(func() error { return do(id) })
		return io.EOF
	})
}

// note takes the streams that are opened.
func (h *hostile) note(f http2.Frame) {
	if f, ok := f.(*http2.MetaHeadersFrame); ok {
		select {
		case h.calls <- f.StreamID:
		default:
		}
	}
}

// respond begins an answer.
func (h *hostile) respond(id uint32) error {
	return h.headers(id, false, ":status", "200", "content-type", "application/grpc")
}

// many does something many times at once.
func many(do func() error) func() error { return func() error { return repeat(batch, do) } }

// hostilities are what back-ends do, and what the guard counts for it.
var hostilities = []struct {
	name, breach string
	do           func(h *hostile)
}{
	{"floods PING", "control_frames", func(h *hostile) {
		h.until(many(func() error { return h.WritePing(false, [8]byte{}) }))
	}},
	{"floods SETTINGS", "control_frames", func(h *hostile) { h.until(many(func() error { return h.WriteSettings() })) }},
	{"floods WINDOW_UPDATE", "control_frames", func(h *hostile) {
		h.until(many(func() error { return h.WriteWindowUpdate(0, 1) }))
	}},
	{"floods GOAWAY", "", func(h *hostile) {
		h.until(many(func() error { return h.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) }))
	}},
	{"floods empty DATA", "control_frames", func(h *hostile) {
		h.eachCall(func(id uint32) error {
			_ = h.respond(id)
			h.until(many(func() error { return h.WriteData(id, false, nil) }))
			return io.EOF
		})
	}},
	{"floods interim answers", "", func(h *hostile) {
		h.onFirstCall(func(id uint32) error {
			return repeat(batch, func() error { return h.headers(id, false, ":status", "103", "link", "</x>; rel=preload") })
		})
	}},
	{"sends a header block without end", "continuations", func(h *hostile) { h.onFirstCall(h.endless([]byte{0x88})) }},
	{"sends large header blocks", "large_headers", func(h *hostile) { h.onFirstCall(h.endless(make([]byte, 16<<10))) }},
	{"sends HPACK bombs", "headers", func(h *hostile) {
		h.eachCall(func(id uint32) error {
			return h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: bomb(h.peer), EndHeaders: true})
		})
	}},
	{"sends more than the windows allow", "", func(h *hostile) {
		h.eachCall(func(id uint32) error {
			_ = h.respond(id)
			h.until(func() error { return h.WriteData(id, false, nulls) })
			return io.EOF
		})
	}},
	{"refuses each call", "", func(h *hostile) {
		h.eachCall(func(id uint32) error { return h.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
	}},
	{"resets each call", "", func(h *hostile) {
		h.eachCall(func(id uint32) error { return h.WriteRSTStream(id, http2.ErrCodeInternal) })
	}},
	{"ends after each call", "", func(h *hostile) {
		h.eachCall(func(id uint32) error {
			return errors.Join(h.respond(id), h.headers(id, true, "grpc-status", "0"), io.EOF, h.out.Flush())
		})
	}},
	{"says goodbye after each call", "", func(h *hostile) {
		h.eachCall(func(id uint32) error {
			return errors.Join(h.respond(id), h.headers(id, true, "grpc-status", "0"), h.WriteGoAway(id, http2.ErrCodeNo, nil))
		})
	}},
	{"ends at once", "", func(h *hostile) {}},
	{"never answers", "", func(h *hostile) { <-h.ended }},
	{"allows no streams", "", func(h *hostile) {
		_ = h.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		_ = h.out.Flush()
		<-h.ended
	}},
}

// endless begins a header block, and goes on with it.
func (h *hostile) endless(fragment []byte) func(id uint32) error {
	begun := false
	return func(id uint32) error {
		if !begun {
			begun = true
			if err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}}); err != nil {
				return err
			}
		}
		return repeat(batch, func() error { return h.WriteContinuation(id, false, fragment) })
	}
}

// A hostile back-end spoils its own calls, each of which ends in time, and nobody else's.
func TestAbuseHostileBackends(t *testing.T) {
	for _, tt := range hostilities {
		t.Run(tt.name, func(t *testing.T) {
			besiege(t, attack{breach: tt.breach, hostile: func(s *siege, p *peer) {
				h := &hostile{peer: p, calls: make(chan uint32, 100)}
				p.heard = s.heard
				p.greet()
				go p.listen(h.note) // Ends with the connection.
				tt.do(h)
				_ = p.Close()
				<-p.ended
			}, run: callHostile, then: sparing})
		})
	}
}

// A back-end that reads nothing stops its callers, and holds no more than a bound.
func TestAbuseBackendThatNeverReads(t *testing.T) {
	besiege(t, attack{memory: bufferedMemory, hostile: func(s *siege, p *peer) {
		p.greet()
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: hugeWindow})
		_ = p.WriteWindowUpdate(0, largeWindows)
		_ = p.out.Flush()
		<-s.over
	}, run: callHostile, then: sparing})
}

// hostileCall is how long a caller of a hostile back-end waits, and lateness how much longer it may have to.
const (
	hostileCall = 500 * time.Millisecond
	lateness    = 5 * time.Second
)

// callHostile calls the hostile back-end until ctx ends, with messages that are large enough to need credit.
func callHostile(ctx context.Context, s *siege) {
	conn, err := grpc.NewClient("passthrough:///"+s.data, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return // Without calls the table says so.
	}
	defer func() { _ = conn.Close() }()
	large := &fragilev1.CheckRequest{Sku: strings.Repeat("x", 200<<10)}
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for ctx.Err() == nil {
				call, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostileCall)
				began := time.Now()
				_ = conn.Invoke(call, "/hostile.Stock/Check", large, new(fragilev1.CheckResponse)) // As it likes.
				cancel()
				s.sent.Add(1)
				s.noteCall(time.Since(began))
				time.Sleep(breath)
			}
		})
	}
	callers.Wait()
}

func (s *siege) noteCall(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = max(s.longest, took)
}

// sparing checks that callers were not kept, and that a back-end which does not last is not connected to without pause.
func sparing(t *testing.T, s *siege) {
	t.Logf("%d connections; longest call %v; heard %v", s.connected.Load(), s.longest.Round(time.Millisecond), s.heard)
	if s.longest > hostileCall+lateness {
		t.Errorf("a call of %v took %v", hostileCall, s.longest)
	}
	if n := s.connected.Load(); n > 100 {
		t.Errorf("the guard has connected %d times", n)
	}
}
