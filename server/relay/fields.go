package relay

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// Field is one field of a header list. Sensitive ones are never put into a header table, on either side.
type Field = hpack.HeaderField

// malformed says what is wrong with a header list; "" is nothing.
type malformed string

// request is what a request's header list says to the relay.
type request struct {
	path   string
	head   bool // its answer has no content
	grpc   bool
	length int64 // content-length; -1: not said
}

// checkRequest checks a request by section 8 of RFC 9113. It takes out of fields what belongs to one connection alone or says twice who is
// asked, so that nothing is left that two readers could read in two ways.
func checkRequest(fields []Field, k *known) (_ []Field, r request, m malformed) {
	r.length = -1
	var seen pseudo
	var authority, host string
	regular, kept := false, fields[:0]
	for _, f := range fields {
		if m := k.well(&f); m != "" {
			return nil, r, m
		}
		if f.Name[0] == ':' {
			if regular {
				return nil, r, "a pseudo-header field after others"
			}
			if m := seen.request(f); m != "" {
				return nil, r, m
			}
			switch f.Name {
			case ":path":
				r.path = f.Value
			case ":method":
				r.head = f.Value == "HEAD"
			case ":authority":
				authority = f.Value
			}
			kept = append(kept, f)
			continue
		}
		regular = true
		switch f.Name {
		case "host":
			if host != "" && host != f.Value {
				return nil, r, "two different host fields"
			}
			if !isAuthority(f.Value) {
				return nil, r, "a host that is more than a host and a port"
			}
			host = f.Value
			continue
		case "content-length":
			if m := r.contentLength(f.Value); m != "" {
				return nil, r, m
			}
		case "content-type":
			r.grpc = strings.HasPrefix(f.Value, "application/grpc")
		}
		kept = append(kept, f)
	}
	if m := seen.complete(); m != "" {
		return nil, r, m
	}
	return withAuthority(kept, authority, host, r)
}

// withAuthority says once who is asked.
func withAuthority(fields []Field, authority, host string, r request) ([]Field, request, malformed) {
	switch {
	case host == "" || strings.EqualFold(host, authority):
	case authority != "":
		return nil, r, "host and :authority differ"
	case slices.ContainsFunc(fields, func(f Field) bool { return f.Name == ":authority" }):
		return nil, r, "a host beside an empty :authority"
	default:
		fields = append(fields, Field{})
		copy(fields[1:], fields)
		fields[0] = Field{Name: ":authority", Value: host}
	}
	return fields, r, ""
}

// contentLength takes a content-length.
func (r *request) contentLength(value string) malformed {
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil || r.length >= 0 {
		return "a content-length that is no number, or not the only one"
	}
	r.length = int64(n)
	return ""
}

// pseudo notes which pseudo-header fields of a request were seen.
type pseudo struct{ method, scheme, path, authority bool }

func (p *pseudo) request(f Field) malformed {
	seen := (*bool)(nil)
	switch f.Name {
	case ":method":
		if !isToken(f.Value) || f.Value == "CONNECT" {
			return "a method that is not supported"
		}
		seen = &p.method
	case ":scheme":
		if f.Value != "http" && f.Value != "https" {
			return "a scheme other than http and https"
		}
		seen = &p.scheme
	case ":path":
		if f.Value == "" || f.Value[0] != '/' && f.Value != "*" || strings.ContainsAny(f.Value, " \t#") {
			return "a path that does not begin with a slash"
		}
		seen = &p.path
	case ":authority":
		if !isAuthority(f.Value) {
			return "an authority that is more than a host and a port"
		}
		seen = &p.authority
	default:
		return "an unknown pseudo-header field"
	}
	if *seen {
		return "a pseudo-header field twice"
	}
	*seen = true
	return ""
}

func isAuthority(s string) bool { return !strings.ContainsAny(s, " \t@/") }

func (p *pseudo) complete() malformed {
	if !p.method || !p.scheme || !p.path {
		return "no :method, :scheme or :path"
	}
	return ""
}

// answer is what the header list of an answer says to the relay.
type answer struct {
	status string
	length int64 // content-length; -1: not said
}

// final tells an answer from the interim ones before it.
func (a answer) final() bool { return a.status[0] != '1' }

// empty tells whether an answer with this status has no content, whatever its content-length says.
func (a answer) empty() bool { return a.status == "204" || a.status == "304" }

// checkAnswer is checkRequest for answers. Space around a value, which is no part of it, is taken off, as back-ends that know only lenient
// clients send it; in a grpc-message it is written as what it stands for.
func checkAnswer(fields []Field, k *known) (a answer, m malformed) {
	r := request{length: -1}
	for i := range fields {
		f := &fields[i]
		trimField(f)
		if m := k.well(f); m != "" {
			return a, m
		}
		switch {
		case f.Name == ":status":
			if i != 0 || !isStatus(f.Value) {
				return a, "a :status that is not the first field, or no status"
			}
			a.status = f.Value
		case f.Name[0] == ':':
			return a, "an unknown pseudo-header field"
		case f.Name == "content-length":
			if m := r.contentLength(f.Value); m != "" {
				return a, m
			}
		}
	}
	if a.status == "" || a.status == "101" {
		return a, "no :status that HTTP/2 knows"
	}
	a.length = r.length
	return a, ""
}

func isStatus(s string) bool {
	return len(s) == 3 && s[0] >= '1' && s[0] <= '9' && isDigit(s[1]) && isDigit(s[2])
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func trimField(f *Field) {
	v := f.Value
	if v == "" || !isSpace(v[0]) && !isSpace(v[len(v)-1]) {
		return
	}
	f.Value = strings.Trim(v, " \t")
	if f.Name != "grpc-message" {
		return
	}
	escape := strings.NewReplacer(" ", "%20", "\t", "%09")
	before := len(v) - len(strings.TrimLeft(v, " \t"))
	f.Value = escape.Replace(v[:before]) + f.Value + escape.Replace(v[min(before+len(f.Value), len(v)):])
}

// checkTrailers checks the fields after a body.
func checkTrailers(fields []Field, ofAnswer bool, k *known) malformed {
	for i := range fields {
		if ofAnswer {
			trimField(&fields[i])
		}
		if m := k.well(&fields[i]); m != "" {
			return m
		}
		if fields[i].Name[0] == ':' {
			return "a pseudo-header field in trailers"
		}
	}
	return ""
}

// checkField checks one field by itself.
func checkField(f Field) malformed {
	name := f.Name
	if name == "" || name == ":" {
		return "a field without a name"
	}
	if name[0] == ':' {
		name = name[1:]
	}
	for i := range len(name) {
		if !nameByte[name[i]] {
			return "a character that no field name may have"
		}
	}
	v := f.Value
	for i := range len(v) {
		if c := v[i]; c == '\r' || c == '\n' || c == 0 {
			return "a line break or NUL in a field value"
		}
	}
	if v != "" && (isSpace(v[0]) || isSpace(v[len(v)-1])) {
		return "a field value that begins or ends with space"
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings":
		return "a field that belongs to one connection alone"
	case "te":
		if v != "trailers" {
			return "a te field other than trailers"
		}
	}
	return ""
}

// nameByte holds the characters of field names: those of a token, in lower case.
var nameByte = tokenBytes(false)

var methodByte = tokenBytes(true)

func tokenBytes(upper bool) (set [256]bool) {
	for c := range 256 {
		b := byte(c)
		set[c] = isDigit(b) || b >= 'a' && b <= 'z' || upper && b >= 'A' && b <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
	}
	return set
}

func isToken(s string) bool {
	for i := range len(s) {
		if !methodByte[s[i]] {
			return false
		}
	}
	return s != ""
}

// appendLiteral appends f without a look at the header table and without leaving a trace in it, so that the same bytes would serve any
// connection.
func appendLiteral(b []byte, f Field) []byte {
	kind := byte(0)
	if f.Sensitive {
		kind = 0x10
	}
	b = append(b, kind)
	b = appendString(b, f.Name)
	return appendString(b, f.Value)
}

func appendString(b []byte, s string) []byte {
	const most = 1<<7 - 1
	if n := len(s); n < most {
		b = append(b, byte(n))
	} else {
		b = append(b, most)
		for n -= most; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		b = append(b, byte(n))
	}
	return append(b, s...)
}
