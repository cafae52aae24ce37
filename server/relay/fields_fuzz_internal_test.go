package relay

import (
	"bytes"
	"cmp"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What section 8 of RFC 9113 says of fields, and RFC 9110 of what is in them, written once more.
var (
	fieldName  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9a-z-]+$")
	fieldValue = regexp.MustCompile(`(?s)^$|^[^\x00\r\n \t]$|^[^\x00\r\n \t][^\x00\r\n]*[^\x00\r\n \t]$`)
	token      = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	target     = regexp.MustCompile(`(?s)^(\*|/[^ \t#]*)$`)
	authority  = regexp.MustCompile(`(?s)^[^ \t@/]*$`)
	statusLine = regexp.MustCompile(`^[1-9][0-9][0-9]$`)
	digits     = regexp.MustCompile(`^[0-9]+$`)
	hopByHop   = regexp.MustCompile(`^(connection|proxy-connection|keep-alive|transfer-encoding|upgrade|http2-settings)$`)
)

// oracle says what is wrong with a header list; "" is nothing.
type oracle struct{ fields []Field }

func (o oracle) all(name string) (values []string) {
	for _, f := range o.fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// wellFormed checks what holds for every list: names, values, and the pseudo-header fields that there may be, once each and first.
func (o oracle) wellFormed(pseudo ...string) string {
	regular := false
	for _, f := range o.fields {
		name, isPseudo := strings.CutPrefix(f.Name, ":")
		switch {
		case !fieldName.MatchString(name), !fieldValue.MatchString(f.Value), hopByHop.MatchString(f.Name), f.Name == "te" && f.Value != "trailers":
			return fmt.Sprintf("field %q: %q", f.Name, f.Value)
		case isPseudo && (regular || !slices.Contains(pseudo, f.Name) || len(o.all(f.Name)) > 1):
			return "pseudo-header field " + f.Name
		}
		regular = regular || !isPseudo
	}
	return ""
}

// length checks that there is one content-length at most, and that it is a number.
func (o oracle) length() string {
	all := o.all("content-length")
	if len(all) == 0 {
		return ""
	}
	n, ok := new(big.Int).SetString(all[0], 10)
	if !ok || !digits.MatchString(all[0]) || n.BitLen() > 63 || len(all) > 1 {
		return "content-length"
	}
	return ""
}

func (o oracle) request() string {
	if wrong := o.wellFormed(":method", ":scheme", ":path", ":authority"); wrong != "" {
		return wrong
	}
	method, scheme, path := o.all(":method"), o.all(":scheme"), o.all(":path")
	switch {
	case len(method) == 0 || !token.MatchString(method[0]) || method[0] == "CONNECT":
		return "method"
	case len(scheme) == 0 || scheme[0] != "http" && scheme[0] != "https":
		return "scheme"
	case len(path) == 0 || !target.MatchString(path[0]):
		return "path"
	case slices.ContainsFunc(o.all(":authority"), func(v string) bool { return !authority.MatchString(v) }):
		return "authority"
	}
	return cmp.Or(o.length(), o.sameHost())
}

// sameHost checks that all who say who is asked say the same.
func (o oracle) sameHost() string {
	hosts := slices.DeleteFunc(o.all("host"), func(v string) bool { return v == "" })
	for _, h := range hosts {
		if h != hosts[0] || !authority.MatchString(h) {
			return "host"
		}
		for _, a := range o.all(":authority") {
			if a != "" && !strings.EqualFold(a, h) {
				return "host and :authority"
			}
		}
	}
	return ""
}

func (o oracle) answer() string {
	if wrong := o.wellFormed(":status"); wrong != "" {
		return wrong
	}
	status := o.all(":status")
	if len(status) == 0 || !statusLine.MatchString(status[0]) || status[0] == "101" {
		return "status"
	}
	return o.length()
}

// words are what most lists are made of, so that a fuzzer gets past the first checks.
var words = []string{":method", ":scheme", ":path", ":authority", ":status", ":unknown", "host", "te", "content-length", "content-type",
	"connection", "grpc-message", "x-a", "X-A", "x a", "", ":", "POST", "HEAD", "CONNECT", "http", "https", "/", "/a.B/C", "*", "a b", "x:80",
	"X:80", "trailers", "0", "5", "+5", "99999999999999999999", "200", "101", "204", " padded\t", "a\r\nb: c", "a\x00", "application/grpc",
	"u@x", "http2-settings", "upgrade", "transfer-encoding", "keep-alive", "proxy-connection", "200 ", "#", "0200", "grpc-status"}

// list makes a header list of bytes.
func list(b []byte) (fields []Field) {
	word := func() string {
		if len(b) == 0 {
			return ""
		}
		n := int(b[0])
		b = b[1:]
		if n < 224 {
			return words[n%len(words)]
		}
		s := string(b[:min(len(b), n-224)])
		b = b[len(s):]
		return s
	}
	for len(b) > 0 {
		fields = append(fields, Field{Name: word(), Value: word(), Sensitive: len(b)%3 == 1})
	}
	return fields
}

// trimmed is what is left of an answer's fields when the space around values is taken off.
func trimmed(fields []Field) (all []Field) {
	for _, f := range fields {
		v := strings.Trim(f.Value, " \t")
		if f.Name == "grpc-message" {
			front := f.Value[:len(f.Value)-len(strings.TrimLeft(f.Value, " \t"))]
			back := f.Value[len(front)+len(v):]
			escape := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, " ", "%20"), "\t", "%09") }
			v = escape(front) + v + escape(back)
		}
		f.Value = v
		all = append(all, f)
	}
	return all
}

// exchange sends fields through two connections: decoded from what a peer's encoder makes, and encoded for a peer's decoder.
func exchange(t *testing.T, fields []Field, literal bool) []Field {
	c := newConn(new(Line), &Limits{HeaderBytes: 1 << 20}, new(Stats))
	c.appendHeaders(1, fields, true, literal)
	b := c.out.bytes()
	var block []byte
	for len(b) > 0 {
		h := parseFrameHeader(b)
		block = append(block, b[frameHeaderLen:frameHeaderLen+h.length]...)
		b = b[frameHeaderLen+h.length:]
	}
	c.out.release()
	again, err := hpack.NewDecoder(tableBytes, nil).DecodeFull(block)
	if err != nil {
		t.Fatalf("%q is encoded as what cannot be decoded: %v", fields, err)
	}
	return again
}

// FuzzHeaders compares the checks of header lists with an oracle that is written from the RFC, and sees that what passes arrives as it is.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte{0, 17, 1, 20, 2, 23, 3, 26, 7, 28, 9, 39}, true)
	f.Add([]byte{0, 17, 1, 20, 2, 22, 6, 26, 3, 27, 8, 30, 8, 30}, false)
	f.Add([]byte{0, 17, 1, 20, 2, 22, 6, 26}, false)
	f.Add([]byte{4, 33, 9, 39, 11, 36, 8, 30}, false)
	f.Add([]byte{49, 29, 11, 36}, true)
	f.Fuzz(func(t *testing.T, b []byte, literal bool) {
		fields := list(b)
		checkRequestTwice(t, fields, literal)
		checkAnswerTwice(t, fields, literal)
		checkTrailersTwice(t, fields)
	})
}

func checkRequestTwice(t *testing.T, fields []Field, literal bool) {
	want := oracle{fields}.request()
	got, r, bad := checkRequest(slices.Clone(fields))
	if (bad == "") != (want == "") {
		t.Fatalf("request %q: the relay says %q, the oracle %q", fields, bad, want)
	}
	if bad != "" {
		return
	}
	o := oracle{got}
	if wrong := o.request(); wrong != "" || len(o.all("host")) > 0 || r.path != o.all(":path")[0] {
		t.Fatalf("request %q becomes %q: %s", fields, got, wrong)
	}
	if host := slices.DeleteFunc(oracle{fields}.all("host"), func(v string) bool { return v == "" }); len(host) > 0 {
		if as := o.all(":authority"); len(as) != 1 || !strings.EqualFold(as[0], host[0]) {
			t.Fatalf("request %q becomes %q, which asks somebody else", fields, got)
		}
	}
	without := func(fs []Field) []Field {
		return slices.DeleteFunc(slices.Clone(fs), func(f Field) bool { return f.Name == "host" || f.Name == ":authority" })
	}
	if !slices.Equal(without(fields), without(got)) {
		t.Fatalf("request %q becomes %q", fields, got)
	}
	if again := exchange(t, got, literal); !slices.Equal(again, got) {
		t.Fatalf("request %q arrives as %q", got, again)
	}
}

func checkAnswerTwice(t *testing.T, fields []Field, literal bool) {
	clean := trimmed(fields)
	want := oracle{clean}.answer()
	got := slices.Clone(fields)
	a, bad := checkAnswer(got)
	if (bad == "") != (want == "") {
		t.Fatalf("answer %q: the relay says %q, the oracle %q", fields, bad, want)
	}
	if bad != "" {
		return
	}
	if !slices.Equal(got, clean) || a.status != (oracle{got}).all(":status")[0] {
		t.Fatalf("answer %q becomes %q with status %q, not %q", fields, got, a.status, clean)
	}
	if again := exchange(t, got, literal); !slices.Equal(again, got) {
		t.Fatalf("answer %q arrives as %q", got, again)
	}
}

func checkTrailersTwice(t *testing.T, fields []Field) {
	if bad, want := checkTrailers(slices.Clone(fields), false), (oracle{fields}).wellFormed(); (bad == "") != (want == "") {
		t.Fatalf("trailers %q: the relay says %q, the oracle %q", fields, bad, want)
	}
	if bad, want := checkTrailers(slices.Clone(fields), true), (oracle{trimmed(fields)}).wellFormed(); (bad == "") != (want == "") {
		t.Fatalf("trailers of an answer %q: the relay says %q, the oracle %q", fields, bad, want)
	}
}

// FuzzBlocks decodes blocks that may be anything, and compares with a decoder that sees the same blocks cut elsewhere.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte{0x82, 0x84, 0x86, 0x40, 1, 'a', 1, 'b', 0xbe}, []byte{0x20, 0x3f, 0xe1, 0x1f, 0xbe}, byte(1))
	f.Add([]byte{0x3f, 0xe1, 0x1f, 0x20}, []byte{0x3f, 0xe2, 0x1f}, byte(3))
	f.Add([]byte{0x40, 0x81, 0x1f, 0x81, 0x1f}, []byte{0xbe, 0xff, 0x80, 0x80, 0x80, 0x80, 0x10}, byte(2))
	f.Fuzz(func(t *testing.T, first, second []byte, cut byte) {
		c := newConn(new(Line), &Limits{HeaderBytes: 1 << 20}, new(Stats))
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
