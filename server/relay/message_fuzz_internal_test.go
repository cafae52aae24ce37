package relay

import (
	"encoding/binary"
	"testing"
)

// bodies counts messages in a body that it has as a whole.
func bodies(b []byte) (begun, largest int64, inside bool) {
	for len(b) >= 5 {
		n := int64(binary.BigEndian.Uint32(b[1:]))
		begun, largest = begun+1, max(largest, n)
		if int64(len(b)-5) < n {
			return begun, largest, true
		}
		b = b[5+n:]
	}
	return begun, largest, len(b) > 0
}

// FuzzScanner finds the messages of a body that comes in pieces, as somebody does who has all of it at once.
func FuzzScanner(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02hi\x01\x00\x00\x00\x00\x00\x00\x00\x00\x09"), []byte{1, 2, 3})
	f.Add([]byte("\x00\xff\xff\xff\xff"), []byte{4})
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), []byte{})
	f.Fuzz(func(t *testing.T, body, cuts []byte) {
		var s scanner
		var begun, largest int64
		for at := 0; at < len(body); {
			n := len(body) - at
			if len(cuts) > 0 {
				n, cuts = min(n, int(cuts[0])), cuts[1:]
			}
			more, large := s.scan(body[at : at+n])
			begun, largest, at = begun+more, max(largest, large), at+n
			wantBegun, wantLargest, wantInside := bodies(body[:at])
			if begun != wantBegun || largest != wantLargest || s.inside() != wantInside {
				t.Fatalf("%x: %d messages, the largest of %d bytes, inside one: %t; not %d, %d, %t", body[:at], begun, largest, s.inside(),
					wantBegun, wantLargest, wantInside)
			}
		}
	})
}
