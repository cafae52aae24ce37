package relay_test

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

var asClient = []accusation{
	{"a plain call", "", func(s *scene) {
		s.call(1)
		s.us.head(1, false, response()...)
		s.relay.text(1, "ping", true)
		s.us.head(1, true, "grpc-status: 0")
		s.call(5)
	}},
	{"CONNECT", "", func(s *scene) { s.relay.head(1, false, ":method: CONNECT", ":authority: x:80") }},
	{"no path", "no :path", func(s *scene) { s.relay.head(1, false, ":method: GET", ":scheme: http") }},
	{"an empty path", "no :path", func(s *scene) { s.relay.head(1, false, ":method: GET", ":scheme: http", ":path: ") }},
	{"an answer's field in a request", ":status is out of place", func(s *scene) {
		s.relay.head(1, false, ":method: GET", ":scheme: http", ":path: /", ":status: 200")
	}},
	{"CONNECT with a path", ":path is out of place", func(s *scene) {
		s.relay.head(1, false, ":method: CONNECT", ":authority: x:80", ":path: /")
	}},
	{"an even stream", "a client's streams are odd", func(s *scene) { s.call(2) }},
	{"a stream out of order", "stream 5 was opened before", func(s *scene) { s.call(5); s.call(3) }},
	{"DATA first", "on an idle stream", func(s *scene) { s.relay.text(1, "x", false) }},
	{"a new stream that crosses GOAWAY", "", func(s *scene) {
		_ = s.us.WriteGoAway(0, http2.ErrCodeNo, nil)
		s.call(1)
	}},
	{"a new stream after GOAWAY", "has read our GOAWAY", func(s *scene) {
		_ = s.us.WriteGoAway(0, http2.ErrCodeNo, nil)
		s.read()
		s.call(1)
	}},
	{"too many streams", "is one of 3 streams, 2 are allowed", func(s *scene) {
		s.change(http2.SettingMaxConcurrentStreams, 2)
		s.call(1)
		s.call(3)
		s.call(5)
	}},
	{"many streams before the limit is acknowledged", "SETTINGS [[MAX_CONCURRENT_STREAMS = 1]] not acknowledged", func(s *scene) {
		_ = s.us.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		s.call(1)
		s.call(3)
	}},
	{"a stream in the place of one that ended", "", func(s *scene) {
		s.change(http2.SettingMaxConcurrentStreams, 1)
		s.call(1)
		_ = s.us.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		s.call(3)
		_ = s.relay.WriteRSTStream(3, http2.ErrCodeCancel)
		s.relay.head(5, true, request()...)
		s.us.head(5, true, response()...)
		s.call(7)
	}},
	{"a stream in the place of one half ended", "is one of 2 streams", func(s *scene) {
		s.change(http2.SettingMaxConcurrentStreams, 1)
		s.relay.head(1, true, request()...)
		s.call(3)
	}},
}

func TestTwinOfAClient(t *testing.T) {
	for _, a := range asClient {
		judged(t, a.name, true, a.act, a.breach)
	}
}

// asEither are calls to 1 on a connection of either kind.
var asEither = []accusation{
	{"a message as long as it says", "", func(s *scene) {
		s.us.head(1, false, request()...)
		s.begin(1, "content-length: 4")
		s.relay.text(1, "pi", false)
		s.relay.text(1, "ng", true)
	}},
	{"too long a message", "5 bytes, content-length is 4", func(s *scene) {
		s.us.head(1, false, request()...)
		s.begin(1, "content-length: 4")
		s.relay.text(1, "hello", false)
	}},
	{"too short a message", "3 bytes at the end, content-length is 4", func(s *scene) {
		s.us.head(1, false, request()...)
		s.begin(1, "content-length: 4")
		s.relay.text(1, "hel", true)
	}},
	{"too short a message with trailers", "3 bytes at the end, content-length is 4", func(s *scene) {
		s.us.head(1, false, request()...)
		s.begin(1, "content-length: 4")
		s.relay.text(1, "hel", false)
		s.relay.head(1, true, "x: y")
	}},
	{"two lengths", "content-length twice", func(s *scene) {
		s.us.head(1, false, request()...)
		s.begin(1, "content-length: 4", "content-length: 4")
	}},
	{"a length that is none", `content-length is "+4"`, func(s *scene) {
		s.us.head(1, false, request()...)
		s.begin(1, "content-length: +4")
	}},
	{"a connection's field", `connection-specific "connection: close"`, func(s *scene) {
		s.us.head(1, false, request()...)
		s.begin(1, "connection: close")
	}},
	{"te", `connection-specific "te: gzip"`, func(s *scene) { s.call(1); s.relay.head(1, true, "te: gzip") }},
	{"a capital", `field name "X-Id"`, func(s *scene) { s.call(1); s.relay.head(1, true, "X-Id: 1") }},
	{"a name with a space", `field name "x id"`, func(s *scene) { s.call(1); s.relay.head(1, true, "x id: 1") }},
	{"no name", `field name ""`, func(s *scene) { s.call(1); s.relay.head(1, true, "") }},
	{"a line break", `value "a\r\nb" of x`, func(s *scene) { s.call(1); s.relay.head(1, true, "x: a\r\nb") }},
	{"a blank at the end", `value "a " of x`, func(s *scene) { s.call(1); s.relay.head(1, true, "x: a ") }},
	{"a pseudo-header field late", "after a regular field", func(s *scene) {
		s.us.head(1, false, request()...)
		s.begin(1, ":authority: x")
	}},
	{"trailers with a pseudo-header field", "trailers with :status", func(s *scene) { s.call(1); s.relay.head(1, true, ":status: 200") }},
	{"trailers that do not end", "trailers without END_STREAM", func(s *scene) { s.call(1); s.relay.head(1, false, "x: y") }},
	{"DATA after END_STREAM", "after the relay's own END_STREAM", func(s *scene) {
		s.call(1)
		s.relay.text(1, "", true)
		s.relay.text(1, "", false)
	}},
	{"HEADERS after END_STREAM", "after the relay's own END_STREAM", func(s *scene) {
		s.call(1)
		s.relay.head(1, true, "x: y")
		s.relay.head(1, true, "x: y")
	}},
	{"DATA after RST_STREAM", "after the relay's own RST_STREAM", func(s *scene) {
		s.call(1)
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeCancel)
		s.relay.text(1, "x", false)
	}},
	{"WINDOW_UPDATE after RST_STREAM", "after the relay's own RST_STREAM", func(s *scene) {
		s.call(1)
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = s.relay.WriteWindowUpdate(1, 1)
	}},
	{"RST_STREAM twice", "after the relay's own RST_STREAM", func(s *scene) {
		s.call(1)
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = s.relay.WriteRSTStream(1, http2.ErrCodeCancel)
	}},
	{"SETTINGS acknowledged out of nothing", "never sent", func(s *scene) { _ = s.relay.WriteSettingsAck() }},
	{"SETTINGS not acknowledged", "not acknowledged", func(s *scene) { _ = s.us.WriteSettings() }},
	{"PING answered out of nothing", "never sent", func(s *scene) { _ = s.relay.WritePing(true, [8]byte{2}) }},
	{"PING answered twice", "never sent", func(s *scene) { s.read(); _ = s.relay.WritePing(true, [8]byte{1}) }},
	{"PING answered wrongly", "never sent", func(s *scene) {
		_ = s.us.WritePing(false, [8]byte{1})
		_ = s.relay.WritePing(true, [8]byte{2})
	}},
	{"PING not answered", "not answered", func(s *scene) { _ = s.us.WritePing(false, [8]byte{1}) }},
	{"equal PINGs", "", func(s *scene) {
		_ = s.us.WritePing(false, [8]byte{1})
		s.read()
		_ = s.relay.WritePing(true, [8]byte{1})
	}},
	{"closed within a frame", "closed in the middle", func(s *scene) { s.relay.to([]byte{0, 0}); s.twin.severed() }},
}

// begin lets the relay begin its message with more fields than usual.
func (s *scene) begin(id uint32, more ...string) {
	if s.twin.client {
		s.relay.head(id, false, request(more...)...)
	} else {
		s.relay.head(id, false, response(more...)...)
	}
}

func TestTwinOfMessages(t *testing.T) {
	for _, a := range asEither {
		judged(t, a.name+", as a client", true, a.act, a.breach)
		judged(t, a.name+", as a server", false, a.act, a.breach)
	}
}

func TestTwinSeesPrefaceAndFirstSettings(t *testing.T) {
	for _, c := range []struct {
		name, wire, breach string
		client             bool
	}{
		{"preface", "PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n", "preface is", true},
		{"PING first", "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", "before the first SETTINGS", false},
		{"acknowledgement first", "\x00\x00\x00\x04\x01\x00\x00\x00\x00", "before the first SETTINGS", false},
	} {
		w := newTwin(c.client)
		w.receives([]byte(c.wire))
		if len(w.broken) == 0 || !strings.Contains(w.broken[0], c.breach) {
			t.Errorf("%s: the twin reports %q, want %q", c.name, w.broken, c.breach)
		}
	}
}
