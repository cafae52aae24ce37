package relay_test

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// message is the request or the response that the relay sends on a stream.
type message struct {
	begun  bool // the header block that is not a 1xx has come
	status int
	length int // what content-length says; -1 if it says nothing
	body   int // bytes of DATA so far
}

// checkHeaders takes a HEADERS or CONTINUATION frame, and tells whether the block is complete now. The event is then the whole block's.
func (w *twin) checkHeaders(e *event) bool {
	if e.kind == http2.FrameContinuation {
		if w.block == nil {
			return false
		}
		w.block.bytes = append(w.block.bytes, e.payload...)
	} else {
		w.begin(e.frame)
	}
	if !e.has(flagEndHeaders) {
		return false
	}
	b := w.block
	w.block, e.frame = nil, b.frame
	e.fields = w.decode(b)
	s := w.streams[b.id]
	if s != nil && !w.illegible {
		w.checkMessage(s, e)
	}
	if s != nil {
		s.ended = s.ended || e.ends()
	}
	return true
}

// begin takes the first frame of a header block.
func (w *twin) begin(f frame) {
	p, wrong := f.content()
	if wrong != "" {
		w.breach("%v %s", f, wrong)
	}
	if f.has(flagPriority) && f.selfish() {
		w.breach("%v depends on itself", f)
	}
	if s := w.streams[f.id]; w.client && (s == nil || !s.opened) {
		w.open(f)
	}
	w.usable(f)
	w.block = &block{f, slices.Clone(p)}
}

// selfish tells whether HEADERS with a priority name their own stream as what they depend on.
func (f frame) selfish() bool {
	at := 0
	if f.has(flagPadded) {
		at = 1
	}
	return f.number(at) == f.id
}

// decode returns the fields of a block, having checked that it keeps to the size of the table.
func (w *twin) decode(b *block) []hpack.HeaderField {
	sizes, rest := leadingSizes(b.bytes)
	if w.shrunk < w.table && (len(sizes) == 0 || sizes[0] > w.shrunk) {
		w.breach("%v does not begin by shrinking the table from %d to %d", b.frame, w.table, w.shrunk)
	}
	w.shrunk = math.MaxInt
	for _, n := range sizes {
		if most := w.most(http2.SettingHeaderTableSize); n > most {
			w.breach("%v sets the table to %d, %d is allowed", b.frame, n, most)
		}
		w.table = n
		w.decoder.SetMaxDynamicTableSize(uint32(n))
	}
	fields, err := w.decoder.DecodeFull(rest)
	if err != nil && !w.illegible {
		w.illegible = true
		w.breach("%v cannot be decoded: %v", b.frame, err)
	}
	return fields
}

// leadingSizes returns the sizes of the table with which a block begins, and the rest of it.
func leadingSizes(p []byte) (sizes []int, rest []byte) {
	for len(p) > 0 && p[0]&0xe0 == 0x20 {
		n, used := int(p[0]&0x1f), 1
		if n == 0x1f {
			for shift := 0; used < len(p) && shift < 35; shift += 7 {
				n += int(p[used]&0x7f) << shift
				used++
				if p[used-1] < 0x80 {
					break
				}
			}
		}
		sizes, p = append(sizes, n), p[used:]
	}
	return sizes, p
}

// checkMessage checks a complete header block by its place in the message.
func (w *twin) checkMessage(s *stream, e *event) {
	w.checkFields(e)
	switch {
	case s.msg.begun:
		w.checkTrailers(e)
	case w.client:
		w.checkRequest(s, e)
	default:
		w.checkResponse(s, e)
	}
	if e.ends() && s.msg.begun {
		w.checkLength(s, e)
	}
}

func (w *twin) checkTrailers(e *event) {
	if !e.ends() {
		w.breach("%v: trailers without END_STREAM", e)
	}
	for _, f := range e.fields {
		if f.IsPseudo() {
			w.breach("%v: trailers with %s", e, f.Name)
		}
	}
}

func (w *twin) checkRequest(s *stream, e *event) {
	s.msg.begun, s.ask = true, e.value(":method")
	w.checkDeclared(s, e)
	must, may := []string{":method", ":scheme", ":path"}, []string{":authority"}
	if s.ask == "CONNECT" {
		must, may = []string{":method", ":authority"}, nil
	}
	w.checkPseudo(e, must, may)
	if slices.Contains(must, ":path") && e.value(":path") == "" {
		w.breach("%v: no :path", e)
	}
}

func (w *twin) checkResponse(s *stream, e *event) {
	w.checkPseudo(e, []string{":status"}, nil)
	status, err := strconv.Atoi(e.value(":status"))
	if err != nil || len(e.value(":status")) != 3 || status < 100 {
		w.breach("%v: status is not three digits", e)
	}
	switch {
	case status == 101:
		w.breach("%v: HTTP/2 does not switch protocols", e)
	case status >= 100 && status < 200 && e.ends():
		w.breach("%v: END_STREAM before the final status", e)
	case status >= 200:
		s.msg.begun, s.msg.status = true, status
		w.checkDeclared(s, e)
	}
}

// checkDeclared reads content-length.
func (w *twin) checkDeclared(s *stream, e *event) {
	for _, f := range e.fields {
		if f.Name != "content-length" {
			continue
		}
		n, err := strconv.Atoi(f.Value)
		if err != nil || strings.Trim(f.Value, "0123456789") != "" {
			w.breach("%v: content-length is %q", e, f.Value)
		}
		if s.msg.length >= 0 {
			w.breach("%v: content-length twice", e)
		}
		s.msg.length = n
	}
}

// checkPseudo checks that the pseudo-header fields are there once each, and no others.
func (w *twin) checkPseudo(e *event, must, may []string) {
	count := make(map[string]int)
	for _, f := range e.fields {
		if f.IsPseudo() {
			count[f.Name]++
		}
	}
	for _, name := range must {
		if count[name] == 0 {
			w.breach("%v: no %s", e, name)
		}
	}
	for name, n := range count {
		if n > 1 {
			w.breach("%v: %s %d times", e, name, n)
		}
		if !slices.Contains(must, name) && !slices.Contains(may, name) {
			w.breach("%v: %s is out of place", e, name)
		}
	}
}

// connectionFields speak of one HTTP/1 connection, and have no place in HTTP/2.
var connectionFields = []string{"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"}

// checkFields checks what holds for the fields of every block.
func (w *twin) checkFields(e *event) {
	regular := false
	for _, f := range e.fields {
		switch {
		case !f.IsPseudo():
			regular = true
		case regular:
			w.breach("%v: %s after a regular field", e, f.Name)
		}
		if slices.Contains(connectionFields, f.Name) || f.Name == "te" && f.Value != "trailers" {
			w.breach("%v: connection-specific %q", e, line(f))
		}
		if name := strings.TrimPrefix(f.Name, ":"); name == "" || strings.ContainsFunc(name, badInName) {
			w.breach("%v: field name %q", e, f.Name)
		}
		if strings.ContainsAny(f.Value, "\x00\r\n") || strings.Trim(f.Value, " \t") != f.Value {
			w.breach("%v: value %q of %s", e, f.Value, f.Name)
		}
	}
}

func badInName(r rune) bool { return r <= ' ' || r >= 'A' && r <= 'Z' || r >= 0x7f || r == ':' }

// checkBody checks DATA by its place in the message.
func (w *twin) checkBody(s *stream, e *event) {
	s.msg.body += len(e.data)
	if !s.msg.begun {
		w.breach("%v before the header block", e)
	}
	if len(e.data) > 0 && !w.client && (s.ask == "HEAD" || s.msg.status == 204 || s.msg.status == 304) {
		w.breach("%v: an answer to %s with status %d has no content", e, s.ask, s.msg.status)
	}
	if s.msg.length >= 0 && s.msg.body > s.msg.length && !w.bodiless(s) {
		w.breach("%v: %d bytes, content-length is %d", e, s.msg.body, s.msg.length)
	} else if e.ends() {
		w.checkLength(s, e)
	}
}

// checkLength checks at the end of a message that it is as long as it said.
func (w *twin) checkLength(s *stream, e *event) {
	if s.msg.length >= 0 && s.msg.body != s.msg.length && !w.bodiless(s) {
		w.breach("%v: %d bytes at the end, content-length is %d", e, s.msg.body, s.msg.length)
	}
}

// bodiless tells whether content-length speaks of what would have been sent.
func (w *twin) bodiless(s *stream) bool {
	return !w.client && (s.ask == "HEAD" || s.msg.status == 204 || s.msg.status == 304)
}
