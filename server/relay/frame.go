package relay

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2"
)

const (
	frameHeaderLen = 9
	// maxFrame is the largest frame that is taken: the default, which is also the least a peer may ask for.
	maxFrame   = 16 << 10
	maxWindow  = 1<<31 - 1
	maxID      = 1<<31 - 1
	preface    = http2.ClientPreface
	tableBytes = 4096 // of header tables, as long as nothing else is said
)

// frameHeader is the header of a frame.
type frameHeader struct {
	length int
	kind   http2.FrameType
	flags  http2.Flags
	id     uint32
}

func parseFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   http2.FrameType(b[3]),
		flags:  http2.Flags(b[4]),
		id:     binary.BigEndian.Uint32(b[5:]) & maxID,
	}
}

func appendFrameHeader(b []byte, h frameHeader) []byte {
	return append(b, byte(h.length>>16), byte(h.length>>8), byte(h.length), byte(h.kind), byte(h.flags),
		byte(h.id>>24), byte(h.id>>16), byte(h.id>>8), byte(h.id))
}

// appendFrame appends a frame whose payload is one number.
func appendFrame(b []byte, kind http2.FrameType, id, value uint32) []byte {
	b = appendFrameHeader(b, frameHeader{length: 4, kind: kind, id: id})
	return binary.BigEndian.AppendUint32(b, value)
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode, text string) []byte {
	b = appendFrameHeader(b, frameHeader{length: 8 + len(text), kind: http2.FrameGoAway})
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, text...)
}

func appendPing(b []byte, flags http2.Flags, payload []byte) []byte {
	return append(appendFrameHeader(b, frameHeader{length: 8, kind: http2.FramePing, flags: flags}), payload...)
}

func appendSettings(b []byte, settings ...http2.Setting) []byte {
	b = appendFrameHeader(b, frameHeader{length: 6 * len(settings), kind: http2.FrameSettings})
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

// connError ends a connection.
type connError struct {
	code   http2.ErrCode
	breach Breach
	text   string
}

func (e *connError) Error() string { return fmt.Sprintf("%v: %s", e.code, e.text) }

func violation(code http2.ErrCode, text string) *connError {
	return &connError{code: code, breach: BadProtocol, text: text}
}

// unpadded takes the padding off the payload of a DATA or HEADERS frame.
func unpadded(h frameHeader, payload []byte) ([]byte, *connError) {
	if h.flags&http2.FlagDataPadded == 0 {
		return payload, nil
	}
	if len(payload) == 0 {
		return nil, violation(http2.ErrCodeFrameSize, "a padded frame without a pad length")
	}
	pad := int(payload[0])
	if pad >= len(payload) {
		return nil, violation(http2.ErrCodeProtocol, "padding that is longer than the frame")
	}
	return payload[1 : len(payload)-pad], nil
}
