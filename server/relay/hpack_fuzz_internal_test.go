package relay

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// FuzzBlocks decodes blocks that may be anything, and compares with a decoder that sees the same blocks cut elsewhere.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte{0x82, 0x84, 0x86, 0x40, 1, 'a', 1, 'b', 0xbe}, []byte{0x20, 0x3f, 0xe1, 0x1f, 0xbe}, byte(1))
	f.Add([]byte{0x3f, 0xe1, 0x1f, 0x20}, []byte{0x3f, 0xe2, 0x1f}, byte(3))
	f.Add([]byte{0x40, 0x81, 0x1f, 0x81, 0x1f}, []byte{0xbe, 0xff, 0x80, 0x80, 0x80, 0x80, 0x10}, byte(2))
	f.Fuzz(func(t *testing.T, first, second []byte, cut byte) {
		c := newConn(new(Line), &Limits{HeaderBytes: 1 << 20, TableBytes: tableBytes}, new(Stats))
		naive := hpack.NewDecoder(tableBytes, nil)
		for _, block := range [][]byte{first, second} {
			c.block.fields, c.block.size = nil, 0
			err := c.decode(slices.Clone(block))
			fields, wrong := decodeNaively(naive, block, int(cut))
			if err == nil && wrong == nil && !slices.Equal(fields, c.block.fields) {
				t.Fatalf("%x is decoded as %q, not %q", block, c.block.fields, fields)
			}
			if (err == nil) != (wrong == nil) {
				t.Fatalf("%x: the relay says %v, the other decoder %v", block, err, wrong)
			}
			if err != nil {
				return
			}
			if c.block.size != sizeOf(fields) {
				t.Fatalf("%x: a size of %d, not %d", block, c.block.size, sizeOf(fields))
			}
		}
	})
}

func sizeOf(fields []Field) (n int) {
	for _, f := range fields {
		n += 32 + len(f.Name) + len(f.Value)
	}
	return n
}

// decodeNaively applies the sizes at the beginning of a block one at a time, each as a block of its own, and feeds the rest in pieces.
func decodeNaively(d *hpack.Decoder, block []byte, cut int) (fields []Field, err error) {
	for len(block) > 0 && block[0]&0xe0 == 0x20 {
		n := 1
		if block[0]&0x1f == 0x1f {
			for n < len(block) && block[n]&0x80 != 0 {
				n++
			}
			n++
		}
		if n > len(block) || n > 5 {
			return nil, fmt.Errorf("no size: %x", block)
		}
		if _, err := d.DecodeFull(block[:n]); err != nil {
			return nil, err
		}
		block = block[n:]
	}
	d.SetEmitFunc(func(f Field) { fields = append(fields, f) })
	for len(block) > 0 {
		n := min(len(block), cut+1)
		if _, err := d.Write(block[:n]); err != nil {
			return nil, err
		}
		block = block[n:]
	}
	return fields, d.Close()
}

// FuzzSplit cuts header blocks into frames of any size and puts them together again.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("a block"), 3, true)
	f.Add([]byte(""), 1, false)
	f.Fuzz(func(t *testing.T, block []byte, most int, end bool) {
		most = max(1, most%64)
		h := frameHeader{kind: http2.FrameHeaders, flags: http2.FlagHeadersEndHeaders, id: 5}
		if end {
			h.flags |= http2.FlagHeadersEndStream
		}
		if len(block) <= most {
			return // It goes as one frame.
		}
		framer := http2.NewFramer(nil, bytes.NewReader(appendSplit(nil, h, block, most)))
		first, err := framer.ReadFrame()
		if err != nil || first.Header().Flags.Has(http2.FlagHeadersEndStream) != end {
			t.Fatal(first, err)
		}
		got := slices.Clone(first.(*http2.HeadersFrame).HeaderBlockFragment())
		for len(got) < len(block) {
			next, err := framer.ReadFrame()
			if err != nil || int(next.Header().Length) > most {
				t.Fatal(next, err)
			}
			c := next.(*http2.ContinuationFrame)
			if got = append(got, c.HeaderBlockFragment()...); c.HeadersEnded() != (len(got) == len(block)) {
				t.Fatalf("the end is said after %d of %d bytes", len(got), len(block))
			}
		}
		if !bytes.Equal(got, block) {
			t.Fatalf("%x becomes %x", block, got)
		}
	})
}

// FuzzEncoder writes list after list on one connection, while its peer changes the size of the header table, and has a decoder that is told
// of each change read them.
func FuzzEncoder(f *testing.F) {
	f.Add([]byte("\x00\x02\x00\x11\x02\x17"), []byte("\x00\x02\x00\x11\x02\x17"), uint32(0), uint32(4096))
	f.Add([]byte("\x09\x27\x0c\x0f\x0d\x10"), []byte("\x0c\x0f\x0d\x10\x09\x27"), uint32(50), uint32(100))
	f.Fuzz(func(t *testing.T, one, other []byte, small, large uint32) {
		c := newConn(new(Line), &Limits{HeaderBytes: 1 << 20, TableBytes: tableBytes}, new(Stats))
		d := hpack.NewDecoder(tableBytes, nil)
		lists := [][]Field{named(list(one)), named(list(other))}
		for i := range 8 {
			if i == 3 || i == 5 {
				c.encoder.resize(small)
				c.encoder.resize(large)
				d.SetAllowedMaxDynamicTableSize(max(small, large))
			}
			passes(t, c, d, lists[i%2], min(small, large), i == 3 || i == 5)
		}
	})
}

// named leaves out fields that no list has that is passed on.
func named(fields []Field) []Field {
	return slices.DeleteFunc(fields, func(f Field) bool { return checkField(f) != "" })
}

// passes writes fields on c and reads them by d. If the table has been resized, that is said first.
func passes(t *testing.T, c *conn, d *hpack.Decoder, fields []Field, smallest uint32, resized bool) {
	if len(fields) == 0 {
		fields = []Field{{Name: ":status", Value: "200"}}
	}
	c.appendHeaders(1, fields, true)
	block := blockOf(c)
	if resized && smallest < tableBytes && block[0]&0xe0 != 0x20 {
		t.Fatalf("%x does not begin with the new size of the table", block)
	}
	got, err := decodeNaively(d, block, len(block))
	if err != nil || !slices.Equal(got, fields) {
		t.Fatalf("%q is written as %x, and read as %q: %v", fields, block, got, err)
	}
}

// blockOf takes the header block that has been written on c.
func blockOf(c *conn) (block []byte) {
	for b := c.out.bytes(); len(b) > 0; {
		h := parseFrameHeader(b)
		block = append(block, b[frameHeaderLen:frameHeaderLen+h.length]...)
		b = b[frameHeaderLen+h.length:]
	}
	c.out.release()
	return block
}
