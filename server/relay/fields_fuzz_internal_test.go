package relay

import (
	"cmp"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"

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
		case !fieldName.MatchString(name), !fieldValue.MatchString(f.Value), hopByHop.MatchString(f.Name),
			f.Name == "te" && f.Value != "trailers":
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
	hosts := o.all("host")
	for len(hosts) > 0 && hosts[0] == "" { // Who says nothing contradicts nobody.
		hosts = hosts[1:]
	}
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
func exchange(t *testing.T, fields []Field) []Field {
	c := newConn(new(Line), &Limits{HeaderBytes: 1 << 20, TableBytes: tableBytes}, new(Stats))
	c.appendHeaders(1, fields, true)
	again, err := hpack.NewDecoder(tableBytes, nil).DecodeFull(blockOf(c))
	if err != nil {
		t.Fatalf("%q is encoded as what cannot be decoded: %v", fields, err)
	}
	return again
}

// FuzzHeaders compares the checks of header lists with an oracle that is written from the RFC, and sees that what passes arrives as it is.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte{0, 17, 1, 20, 2, 23, 3, 26, 7, 28, 9, 39})
	f.Add([]byte{0, 17, 1, 20, 2, 22, 6, 26, 3, 27, 8, 30, 8, 30})
	f.Add([]byte{0, 17, 1, 20, 2, 22, 6, 26})
	f.Add([]byte{4, 33, 9, 39, 11, 36, 8, 30})
	f.Add([]byte{49, 29, 11, 36})
	f.Add([]byte{15, 15}) // A field without name and value was taken for one that is known, which ended the process.
	f.Fuzz(func(t *testing.T, b []byte) {
		fields := list(b)
		k := new(known)
		for range 2 { // What is remembered changes nothing.
			checkRequestTwice(t, fields, k)
			checkAnswerTwice(t, fields, k)
			checkTrailersTwice(t, fields, k)
		}
	})
}

func checkRequestTwice(t *testing.T, fields []Field, k *known) {
	want := oracle{fields}.request()
	got, r, bad := checkRequest(slices.Clone(fields), k)
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
	if again := exchange(t, got); !slices.Equal(again, got) {
		t.Fatalf("request %q arrives as %q", got, again)
	}
}

func checkAnswerTwice(t *testing.T, fields []Field, k *known) {
	clean := trimmed(fields)
	want := oracle{clean}.answer()
	got := slices.Clone(fields)
	a, bad := checkAnswer(got, k)
	if (bad == "") != (want == "") {
		t.Fatalf("answer %q: the relay says %q, the oracle %q", fields, bad, want)
	}
	if bad != "" {
		return
	}
	if !slices.Equal(got, clean) || a.status != (oracle{got}).all(":status")[0] {
		t.Fatalf("answer %q becomes %q with status %q, not %q", fields, got, a.status, clean)
	}
	if again := exchange(t, got); !slices.Equal(again, got) {
		t.Fatalf("answer %q arrives as %q", got, again)
	}
}

func checkTrailersTwice(t *testing.T, fields []Field, k *known) {
	bad, want := checkTrailers(slices.Clone(fields), false, k), oracle{fields}.wellFormed()
	if (bad == "") != (want == "") {
		t.Fatalf("trailers %q: the relay says %q, the oracle %q", fields, bad, want)
	}
	bad, want = checkTrailers(slices.Clone(fields), true, k), oracle{trimmed(fields)}.wellFormed()
	if (bad == "") != (want == "") {
		t.Fatalf("trailers of an answer %q: the relay says %q, the oracle %q", fields, bad, want)
	}
}
