package relay

import "encoding/binary"

// scanner finds the boundaries of gRPC messages in a body: each is a byte of flags, four of length, and as many more.
type scanner struct {
	prefix [5]byte
	have   int   // bytes of prefix
	left   int64 // bytes of the message that are still to come
}

// scan goes over the next part of the body and returns how many messages begin in it, and the length of the largest of those.
func (s *scanner) scan(b []byte) (begun, largest int64) {
	for len(b) > 0 {
		if s.left > 0 {
			n := min(s.left, int64(len(b)))
			s.left -= n
			b = b[n:]
			continue
		}
		n := copy(s.prefix[s.have:], b)
		b = b[n:]
		if s.have += n; s.have == len(s.prefix) {
			s.have, s.left = 0, int64(binary.BigEndian.Uint32(s.prefix[1:]))
			begun, largest = begun+1, max(largest, s.left)
		}
	}
	return begun, largest
}

// inside tells whether a message has begun and not ended.
func (s *scanner) inside() bool { return s.have > 0 || s.left > 0 }
