package relay_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// pen writes frames of one side to a twin.
type pen struct {
	*http2.Framer
	to      func([]byte)
	encoder *hpack.Encoder
	block   bytes.Buffer
}

func newPen(to func([]byte)) *pen {
	p := &pen{to: to}
	p.Framer = http2.NewFramer(p, nil)
	p.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.block)
	return p
}

func (p *pen) Write(b []byte) (int, error) {
	p.to(b)
	return len(b), nil
}

// encode returns the header block of lines.
func (p *pen) encode(lines ...string) []byte {
	p.block.Reset()
	for _, l := range lines {
		_ = p.encoder.WriteField(field(l)) // Into memory.
	}
	return p.block.Bytes()
}

func (p *pen) head(id uint32, end bool, lines ...string) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: p.encode(lines...)})
}

func (p *pen) text(id uint32, text string, end bool) { _ = p.WriteData(id, end, []byte(text)) }

func (p *pen) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) {
	_ = p.WriteRawFrame(kind, flags, id, []byte(payload))
}

// scene is a twin with a pen for either side, both of which have begun as they must.
type scene struct {
	twin      *twin
	us, relay *pen
}

func newScene(relayIsClient bool) *scene {
	w := newTwin(relayIsClient)
	s := &scene{w, newPen(w.sends), newPen(func(b []byte) { w.receives(b) })}
	client := s.us
	if relayIsClient {
		client = s.relay
	}
	client.to([]byte(http2.ClientPreface))
	_ = s.us.WriteSettings()
	_ = s.relay.WriteSettings()
	_ = s.us.WriteSettingsAck()
	_ = s.relay.WriteSettingsAck()
	return s
}

// call lets the client begin a call on a stream, and the relay answer it if it is the server.
func (s *scene) call(id uint32) {
	if s.twin.client {
		s.relay.head(id, false, request()...)
		return
	}
	s.us.head(id, false, request()...)
	s.relay.head(id, false, response()...)
}

// change lets us send settings, and the relay acknowledge them.
func (s *scene) change(id http2.SettingID, value uint32) {
	_ = s.us.WriteSettings(http2.Setting{ID: id, Val: value})
	_ = s.relay.WriteSettingsAck()
}

// read makes it certain that the relay has read all that we sent.
func (s *scene) read() {
	_ = s.us.WritePing(false, [8]byte{1})
	_ = s.relay.WritePing(true, [8]byte{1})
}

// judged runs a case in a bubble and compares what the twin found.
func judged(t *testing.T, name string, relayIsClient bool, act func(*scene), breach string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(relayIsClient)
			act(s)
			found := slices.Concat(s.twin.broken, s.twin.unanswered())
			switch {
			case breach == "" && len(found) > 0:
				t.Errorf("the twin reports %q, want nothing", found)
			case breach != "" && len(found) == 0:
				t.Errorf("the twin reports nothing, want %q", breach)
			case breach != "" && !strings.Contains(found[0], breach):
				t.Errorf("the twin reports %q first, want %q", found[0], breach)
			}
		})
	})
}

// accusation is something that the relay must not do as a server, or as a client if both are told so.
type accusation struct {
	name   string
	breach string // empty: it may do it
	act    func(*scene)
}

var asServer = []accusation{
	{"a plain call", "", func(s *scene) {
		s.call(1)
		s.us.text(1, "ping", true)
		s.relay.text(1, "pong", false)
		s.relay.head(1, true, "grpc-status: 0")
	}},
	{"informational answers", "", func(s *scene) {
		s.us.head(1, true, request()...)
		s.relay.head(1, false, ":status: 100")
		s.relay.head(1, false, ":status: 103", "link: x")
		s.relay.head(1, true, response()...)
	}},
	{"refusal, then RST_STREAM", "", func(s *scene) {
		s.us.head(1, false, request()...)
		s.relay.head(1, true, response("grpc-status: 14")...)
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeNo)
	}},
	{"frames that cross our RST_STREAM", "", func(s *scene) {
		s.call(1)
		_ = s.us.WriteRSTStream(1, http2.ErrCodeCancel)
		s.relay.text(1, "late", false)
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeCancel)
	}},
	{"a second RST_STREAM for a second provocation", "", func(s *scene) {
		s.call(1)
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeCancel)
		s.us.text(1, "late", false)
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeStreamClosed)
	}},
	{"the answer to HEAD", "", func(s *scene) {
		s.us.head(1, true, ":method: HEAD", ":scheme: http", ":path: /")
		s.relay.head(1, true, ":status: 200", "content-length: 5")
	}},
	{"graceful end", "", func(s *scene) {
		s.call(1)
		_ = s.relay.WriteGoAway(maxWindow, http2.ErrCodeNo, nil)
		s.call(3)
		_ = s.relay.WriteGoAway(3, http2.ErrCodeNo, nil)
		s.relay.head(3, true, "grpc-status: 0")
	}},
	{"padding", "", func(s *scene) {
		s.call(1)
		_ = s.relay.WriteDataPadded(1, false, []byte("x"), make([]byte, 255))
		_ = s.relay.WriteDataPadded(1, true, nil, nil)
	}},
	{"push", "PUSH_PROMISE of stream 1, 4 bytes is of a kind", func(s *scene) {
		s.call(1)
		s.relay.frame(http2.FramePushPromise, flagEndHeaders, 1, "\x00\x00\x00\x02")
	}},
	{"push allowed", "setting [ENABLE_PUSH = 1] is out of bounds", func(s *scene) {
		_ = s.relay.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1})
	}},
	{"an answer without a request", "on an idle stream", func(s *scene) { s.relay.head(1, false, response()...) }},
	{"RST_STREAM of an idle stream", "on an idle stream", func(s *scene) { _ = s.relay.WriteRSTStream(1, http2.ErrCodeCancel) }},
	{"an answer on a stream passed over", "passed over", func(s *scene) {
		s.call(3)
		s.relay.head(1, false, response()...)
	}},
	{"content before the header block", "before the header block", func(s *scene) {
		s.us.head(1, false, request()...)
		s.relay.text(1, "x", false)
	}},
	{"no status", "no :status", func(s *scene) {
		s.us.head(1, false, request()...)
		s.relay.head(1, false, "content-type: application/grpc")
	}},
	{"status twice", ":status 2 times", func(s *scene) {
		s.us.head(1, false, request()...)
		s.relay.head(1, false, ":status: 200", ":status: 200")
	}},
	{"status that is none", "not three digits", func(s *scene) {
		s.us.head(1, false, request()...)
		s.relay.head(1, false, ":status: 2000")
	}},
	{"a request's field in an answer", ":path is out of place", func(s *scene) {
		s.us.head(1, false, request()...)
		s.relay.head(1, false, ":status: 200", ":path: /")
	}},
	{"switching protocols", "does not switch", func(s *scene) {
		s.us.head(1, false, request()...)
		s.relay.head(1, false, ":status: 101")
	}},
	{"an informational end", "before the final status", func(s *scene) {
		s.us.head(1, false, request()...)
		s.relay.head(1, true, ":status: 100")
	}},
	{"an informational answer after the final one", "trailers without END_STREAM", func(s *scene) {
		s.call(1)
		s.relay.head(1, false, ":status: 103")
	}},
	{"content for HEAD", "has no content", func(s *scene) {
		s.us.head(1, true, ":method: HEAD", ":scheme: http", ":path: /")
		s.relay.head(1, false, ":status: 200")
		s.relay.text(1, "x", true)
	}},
	{"content with 204", "has no content", func(s *scene) {
		s.us.head(1, true, request()...)
		s.relay.head(1, false, ":status: 204")
		s.relay.text(1, "x", true)
	}},
	{"GOAWAY that grows", "its last stream was 1 before", func(s *scene) {
		_ = s.relay.WriteGoAway(1, http2.ErrCodeNo, nil)
		_ = s.relay.WriteGoAway(3, http2.ErrCodeNo, nil)
	}},
	{"GOAWAY below an answered stream", "stream 3 has been answered", func(s *scene) {
		s.call(3)
		_ = s.relay.WriteGoAway(1, http2.ErrCodeNo, nil)
	}},
	{"an answer beyond GOAWAY", "beyond the last stream", func(s *scene) {
		s.us.head(3, false, request()...)
		_ = s.relay.WriteGoAway(1, http2.ErrCodeNo, nil)
		s.relay.head(3, false, response()...)
	}},
	{"frames after a GOAWAY with an error", "after a GOAWAY with an error code", func(s *scene) {
		s.call(1)
		_ = s.relay.WriteGoAway(1, http2.ErrCodeProtocol, nil)
		s.relay.text(1, "x", false)
	}},
	{"RST_STREAM in answer to RST_STREAM", "has read our RST_STREAM", func(s *scene) {
		s.call(1)
		_ = s.us.WriteRSTStream(1, http2.ErrCodeCancel)
		s.read()
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeCancel)
	}},
	{"DATA on a stream that the relay knows to be reset", "has read our RST_STREAM", func(s *scene) {
		s.call(1)
		_ = s.us.WriteRSTStream(1, http2.ErrCodeCancel)
		s.change(http2.SettingMaxFrameSize, 20000)
		s.relay.text(1, "x", false)
	}},
	{"WINDOW_UPDATE on a closed stream", "on a closed stream", func(s *scene) {
		s.us.head(1, true, request()...)
		s.relay.head(1, true, response()...)
		s.read()
		_ = s.relay.WriteWindowUpdate(1, 1)
	}},
	{"WINDOW_UPDATE while the end of the request is under way", "", func(s *scene) {
		s.us.head(1, true, request()...)
		s.relay.head(1, true, response()...)
		_ = s.relay.WriteWindowUpdate(1, 1)
	}},
}

func TestTwinOfAServer(t *testing.T) {
	for _, a := range asServer {
		judged(t, a.name, false, a.act, a.breach)
	}
}

// A PING is answered in time, or the twin says so: late while it is missing, and late when it comes.
func TestTwinWantsPunctualPings(t *testing.T) {
	late := func(s *scene) {
		_ = s.us.WritePing(false, [8]byte{7})
		time.Sleep(lateness + 1)
		_ = s.relay.WritePing(true, [8]byte{7})
	}
	judged(t, "late", false, late, "answered after 10.000001ms")
	judged(t, "late for a patient peer", false, func(s *scene) { s.twin.patient = true; late(s) }, "")
	judged(t, "in time", false, func(s *scene) {
		_ = s.us.WritePing(false, [8]byte{7})
		time.Sleep(lateness)
		_ = s.relay.WritePing(true, [8]byte{7})
	}, "")
}
