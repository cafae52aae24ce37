package relay_test

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frame is one frame as it stands on the wire. Nothing in it has been checked.
type frame struct {
	kind     http2.FrameType
	flags    http2.Flags
	id       uint32
	reserved bool // the bit before the stream's number is set
	payload  []byte
}

// The flags that HTTP/2 knows. Several frames share a bit.
const (
	flagAck        = http2.FlagSettingsAck
	flagEndStream  = http2.FlagDataEndStream
	flagEndHeaders = http2.FlagHeadersEndHeaders
	flagPadded     = http2.FlagDataPadded
	flagPriority   = http2.FlagHeadersPriority
)

func (f frame) has(flag http2.Flags) bool { return f.flags.Has(flag) }

// acks tells whether f acknowledges SETTINGS or a PING.
func (f frame) acks() bool {
	return (f.kind == http2.FrameSettings || f.kind == http2.FramePing) && f.has(flagAck)
}

// ends tells whether f is the last of its stream; for HEADERS, once its block is complete.
func (f frame) ends() bool {
	return (f.kind == http2.FrameData || f.kind == http2.FrameHeaders) && f.has(flagEndStream)
}

// number returns the 31-bit number at an offset of the payload: a window or a stream.
func (f frame) number(at int) uint32 { return f.word(at) &^ (1 << 31) }

// code returns the error code at an offset of the payload.
func (f frame) code(at int) http2.ErrCode { return http2.ErrCode(f.word(at)) }

func (f frame) word(at int) uint32 {
	if len(f.payload) < at+4 {
		return 0
	}
	return binary.BigEndian.Uint32(f.payload[at:])
}

// values returns what a SETTINGS frame sets.
func (f frame) values() (all []http2.Setting) {
	for p := f.payload; len(p) >= 6; p = p[6:] {
		all = append(all, http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(p)), Val: binary.BigEndian.Uint32(p[2:])})
	}
	return all
}

// content returns the payload of DATA or HEADERS without padding and priority, and what is wrong with it.
func (f frame) content() ([]byte, string) {
	p, pad := f.payload, 0
	if f.has(flagPadded) {
		if len(p) == 0 {
			return nil, "has no room for the length of its padding"
		}
		p, pad = p[1:], int(p[0])
	}
	if f.kind == http2.FrameHeaders && f.has(flagPriority) {
		if len(p) < 5 {
			return nil, "has no room for its priority"
		}
		p = p[5:]
	}
	if pad > len(p) {
		return nil, "has more padding than payload"
	}
	if strings.Trim(string(p[len(p)-pad:]), "\x00") != "" {
		return nil, "has padding other than zeros"
	}
	return p[:len(p)-pad], ""
}

func (f frame) String() string {
	s := fmt.Sprintf("%v of stream %d, %d bytes", f.kind, f.id, len(f.payload))
	switch f.kind {
	case http2.FrameSettings:
		s += fmt.Sprint(" ", f.values())
	case http2.FrameRSTStream:
		s += fmt.Sprint(" ", f.code(0))
	case http2.FrameGoAway:
		s += fmt.Sprintf(" last %d %v", f.number(0), f.code(4))
	case http2.FrameWindowUpdate:
		s += fmt.Sprint(" +", f.number(0))
	}
	switch {
	case f.acks():
		s += " ACK"
	case f.ends():
		s += " END_STREAM"
	}
	return s
}

// wire cuts the bytes of one direction into frames.
type wire struct {
	preface bool // the bytes begin with a client's preface
	buf     []byte
}

// feed takes bytes as they come and returns the frames that they complete.
func (w *wire) feed(b []byte) (frames []frame, err error) {
	w.buf = append(w.buf, b...)
	if w.preface {
		n := min(len(w.buf), len(http2.ClientPreface))
		if string(w.buf[:n]) != http2.ClientPreface[:n] {
			return nil, fmt.Errorf("preface is %q", w.buf[:n])
		}
		if n < len(http2.ClientPreface) {
			return nil, nil
		}
		w.buf, w.preface = w.buf[n:], false
	}
	for len(w.buf) >= 9 {
		size := int(w.buf[0])<<16 | int(w.buf[1])<<8 | int(w.buf[2])
		if len(w.buf) < 9+size {
			break
		}
		id := binary.BigEndian.Uint32(w.buf[5:])
		frames = append(frames, frame{kind: http2.FrameType(w.buf[3]), flags: http2.Flags(w.buf[4]), id: id &^ (1 << 31),
			reserved: id>>31 == 1, payload: w.buf[9 : 9+size : 9+size]})
		w.buf = w.buf[9+size:]
	}
	return frames, nil
}

// event is what a frame says, a header block being one event whatever the number of its frames.
type event struct {
	frame
	fields []hpack.HeaderField // of a header block
	data   []byte              // of DATA, without padding
}

func (e event) String() string {
	lines := []string{e.frame.String()}
	for _, f := range e.fields {
		lines = append(lines, "      "+line(f))
	}
	if e.kind == http2.FrameData {
		lines[0] += fmt.Sprintf(" %.40q", e.data)
	}
	return strings.Join(lines, "\n")
}

// value returns what the first field of that name says.
func (e event) value(name string) string {
	for _, f := range e.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// field reads a header field as tests write it: "name: value", with an exclamation mark before it if it must never be indexed.
func field(s string) hpack.HeaderField {
	s, never := strings.CutPrefix(s, "!")
	if s == "" {
		return hpack.HeaderField{Sensitive: never}
	}
	name, value, _ := strings.Cut(s[1:], ": ") // A pseudo-header field begins with a colon.
	return hpack.HeaderField{Name: s[:1] + name, Value: value, Sensitive: never}
}

// line is the inverse of field.
func line(f hpack.HeaderField) string {
	if f.Sensitive {
		return "!" + f.Name + ": " + f.Value
	}
	return f.Name + ": " + f.Value
}
