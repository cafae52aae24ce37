package relay_test

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

func bytesOf(n int) string { return strings.Repeat("x", n) }

// fill lets the relay send n bytes on a stream, and end it if so told.
func (s *scene) fill(id uint32, n int) {
	for ; n > 16384; n -= 16384 {
		s.relay.text(id, bytesOf(16384), false)
	}
	s.relay.text(id, bytesOf(n), false)
}

// onTheWire are rules that hold for the relay in both roles: windows, sizes, header tables.
var onTheWire = []accusation{
	{"a window filled to the brim", "", func(s *scene) {
		s.call(1)
		s.fill(1, 65535)
		s.relay.text(1, "", true)
	}},
	{"a window overrun", "65536 bytes on the connection, its window allows 65535", func(s *scene) { s.call(1); s.fill(1, 65536) }},
	{"a stream's window overrun", "65536 bytes on the stream, its window allows 65535", func(s *scene) {
		s.call(1)
		_ = s.us.WriteWindowUpdate(0, 1000)
		s.fill(1, 65536)
	}},
	{"the connection's window overrun", "65536 bytes on the connection", func(s *scene) {
		s.call(1)
		_ = s.us.WriteWindowUpdate(1, 1000)
		s.fill(1, 65536)
	}},
	{"windows granted", "", func(s *scene) {
		s.call(1)
		_ = s.us.WriteWindowUpdate(1, 1000)
		_ = s.us.WriteWindowUpdate(0, 1000)
		s.fill(1, 66535)
	}},
	{"padding overruns a window", "on the connection", func(s *scene) {
		s.call(1)
		s.fill(1, 65530)
		_ = s.relay.WriteDataPadded(1, false, []byte("x"), make([]byte, 5))
	}},
	{"a smaller window that is not acknowledged", "not acknowledged", func(s *scene) {
		s.call(1)
		_ = s.us.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		s.fill(1, 65535)
	}},
	{"a smaller window acknowledged", "11 bytes on the stream, its window allows 10", func(s *scene) {
		s.call(1)
		s.change(http2.SettingInitialWindowSize, 10)
		s.fill(1, 11)
	}},
	{"a window below zero", "21 bytes on the stream, its window allows 11", func(s *scene) {
		s.call(1)
		s.fill(1, 20)
		s.change(http2.SettingInitialWindowSize, 10)
		s.relay.text(1, "", false)
		_ = s.us.WriteWindowUpdate(1, 1)
		s.fill(1, 1)
	}},
	{"a larger window used before it is acknowledged", "not acknowledged", func(s *scene) {
		s.call(1)
		_ = s.us.WriteWindowUpdate(0, 1000)
		_ = s.us.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 66000})
		s.fill(1, 66000)
	}},
	{"a window of nothing granted", "grants nothing", func(s *scene) { _ = s.relay.WriteWindowUpdate(0, 0) }},
	{"the connection's window too large", "window of the connection is 2147483648", func(s *scene) {
		_ = s.relay.WriteWindowUpdate(0, maxWindow-65535+1)
	}},
	{"the connection's window largest", "", func(s *scene) { _ = s.relay.WriteWindowUpdate(0, maxWindow-65535) }},
	{"a stream's window too large", "window of the stream is 2147483648", func(s *scene) {
		s.call(1)
		s.us.text(1, "x", false)
		_ = s.relay.WriteWindowUpdate(1, maxWindow-65535+2)
	}},
	{"a stream's window too large by a setting", "window of stream 1 is 2147483648", func(s *scene) {
		s.call(1)
		_ = s.relay.WriteWindowUpdate(1, maxWindow-65535)
		_ = s.relay.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65536})
	}},
	{"WINDOW_UPDATE of an idle stream", "on an idle stream", func(s *scene) { _ = s.relay.WriteWindowUpdate(1, 1) }},
	{"a setting out of bounds", "[INITIAL_WINDOW_SIZE = 2147483648] is out of bounds", func(s *scene) {
		_ = s.relay.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
	}},
	{"a frame size out of bounds", "[MAX_FRAME_SIZE = 16383] is out of bounds", func(s *scene) {
		_ = s.relay.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16383})
	}},
	{"too large a frame", "is larger than 16384", func(s *scene) { s.call(1); s.relay.text(1, bytesOf(16385), false) }},
	{"a large frame", "", func(s *scene) {
		s.change(http2.SettingMaxFrameSize, 16385)
		s.call(1)
		s.relay.text(1, bytesOf(16385), false)
	}},
	{"a frame too large for a smaller size", "is larger than 20000", func(s *scene) {
		s.change(http2.SettingMaxFrameSize, 30000)
		s.change(http2.SettingMaxFrameSize, 20000)
		s.call(1)
		s.relay.text(1, bytesOf(20001), false)
	}},
	{"the reserved bit", "reserved bit", func(s *scene) { s.relay.to([]byte("\x00\x00\x04\x08\x00\x80\x00\x00\x00\x00\x00\x00\x01")) }},
	{"a flag that is none", "undefined flags", func(s *scene) { s.relay.frame(http2.FramePing, 2, 0, "12345678") }},
	{"an extension", "only extensions know", func(s *scene) { s.relay.frame(0x42, 0, 0, "") }},
	{"a short PING", "wrong size", func(s *scene) { s.relay.frame(http2.FramePing, 0, 0, "1234567") }},
	{"an odd SETTINGS", "wrong size", func(s *scene) { s.relay.frame(http2.FrameSettings, 0, 0, "12345") }},
	{"an acknowledgement with settings", "wrong size", func(s *scene) { s.relay.frame(http2.FrameSettings, flagAck, 0, "123456") }},
	{"a short GOAWAY", "wrong size", func(s *scene) { s.relay.frame(http2.FrameGoAway, 0, 0, "1234567") }},
	{"PING on a stream", "wrong stream", func(s *scene) { s.relay.frame(http2.FramePing, 0, 1, "12345678") }},
	{"DATA on no stream", "wrong stream", func(s *scene) { s.relay.text(0, "x", false) }},
	{"too much padding", "more padding than payload", func(s *scene) { s.call(1); s.relay.frame(http2.FrameData, flagPadded, 1, "\x05abcd") }},
	{"no padding length", "no room for the length", func(s *scene) { s.call(1); s.relay.frame(http2.FrameData, flagPadded, 1, "") }},
	{"padding that says something", "other than zeros", func(s *scene) { s.call(1); s.relay.frame(http2.FrameData, flagPadded, 1, "\x01ab") }},
	{"no room for a priority", "no room for its priority", func(s *scene) {
		s.call(1)
		s.relay.frame(http2.FrameHeaders, flagPriority|flagEndHeaders|flagEndStream, 1, "1234")
	}},
	{"a stream that depends on itself", "depends on itself", func(s *scene) {
		s.relay.frame(http2.FramePriority, 0, 1, "\x00\x00\x00\x01\x00")
	}},
	{"HEADERS that depend on themselves", "depends on itself", func(s *scene) {
		s.call(1)
		s.relay.frame(http2.FrameHeaders, flagPriority|flagEndHeaders|flagEndStream, 1, "\x00\x00\x00\x01\x00")
	}},
	{"a header block in pieces", "", func(s *scene) {
		s.call(1)
		s.relay.pieces(1, 1, "x: y", "long: "+bytesOf(20))
	}},
	{"PING within a header block", "within the header block of stream 1", func(s *scene) {
		s.call(1)
		s.relay.frame(http2.FrameHeaders, flagEndStream, 1, "")
		_ = s.relay.WritePing(false, [8]byte{1})
	}},
	{"another stream's CONTINUATION", "within the header block of stream 1", func(s *scene) {
		s.call(1)
		s.call(3)
		s.relay.frame(http2.FrameHeaders, flagEndStream, 1, "")
		_ = s.relay.WriteContinuation(3, true, nil)
	}},
	{"CONTINUATION of nothing", "without a header block", func(s *scene) { s.call(1); _ = s.relay.WriteContinuation(1, true, nil) }},
	{"a header block without an end", "not finished", func(s *scene) { s.call(1); s.relay.frame(http2.FrameHeaders, flagEndStream, 1, "") }},
	{"an index beyond the table", "cannot be decoded", func(s *scene) {
		s.call(1)
		s.relay.frame(http2.FrameHeaders, flagEndHeaders|flagEndStream, 1, "\xff\x7f")
	}},
	{"a table kept larger than acknowledged", "does not begin by shrinking the table from 4096 to 100", func(s *scene) {
		s.call(1)
		s.change(http2.SettingHeaderTableSize, 100)
		s.relay.head(1, true, "x: y")
	}},
	{"a table shrunk", "", func(s *scene) {
		s.call(1)
		s.change(http2.SettingHeaderTableSize, 100)
		s.relay.encoder.SetMaxDynamicTableSizeLimit(100)
		s.relay.head(1, true, "x: y")
	}},
	{"a table shrunk and grown between two blocks", "", func(s *scene) {
		s.call(1)
		s.change(http2.SettingHeaderTableSize, 1000)
		s.change(http2.SettingHeaderTableSize, 4096)
		s.relay.encoder.SetMaxDynamicTableSize(1000)
		s.relay.encoder.SetMaxDynamicTableSize(4096)
		s.relay.head(1, true, "x: y")
	}},
	{"a table grown without saying that it shrank", "does not begin by shrinking the table from 4096 to 0", func(s *scene) {
		s.call(1)
		s.change(http2.SettingHeaderTableSize, 0)
		s.change(http2.SettingHeaderTableSize, 4096)
		s.relay.head(1, true, "x: y")
	}},
	{"a table larger than allowed", "sets the table to 5000, 4096 is allowed", func(s *scene) {
		s.relay.encoder.SetMaxDynamicTableSizeLimit(5000)
		s.relay.encoder.SetMaxDynamicTableSize(5000)
		s.call(1)
	}},
	{"a larger table", "", func(s *scene) {
		s.change(http2.SettingHeaderTableSize, 5000)
		s.relay.encoder.SetMaxDynamicTableSizeLimit(5000)
		s.relay.encoder.SetMaxDynamicTableSize(5000)
		s.call(1)
	}},
}

// pieces writes the header block that ends a stream, size bytes a frame.
func (p *pen) pieces(id uint32, size int, lines ...string) {
	block := p.encode(lines...)
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, BlockFragment: block[:size]})
	for block = block[size:]; len(block) > 0; block = block[min(size, len(block)):] {
		_ = p.WriteContinuation(id, len(block) <= size, block[:min(size, len(block))])
	}
}

func TestTwinOfTheWire(t *testing.T) {
	for _, a := range onTheWire {
		judged(t, a.name+", as a client", true, a.act, a.breach)
		judged(t, a.name+", as a server", false, a.act, a.breach)
	}
}
