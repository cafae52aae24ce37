package relay

import (
	"bytes"
	"slices"

	"golang.org/x/net/http2/hpack"
)

// slots is how many fields a connection remembers in each direction: more than the calls of a few methods have.
const slots = 64

// Bounds of the fields that are remembered, name and value, in bytes: of those that are written, and so put into a header table, and of
// those that were read, which every client can choose. A refusal by a flag, which says the same to many, is among the former.
const (
	longWritten = 1024
	longKnown   = 128
)

// slotOf returns where f is remembered: there or, if another one came later, in the slot beside it.
func slotOf(f *Field) int {
	h := len(f.Name) + 7*len(f.Value)
	if n := len(f.Value); n > 0 {
		h += int(f.Value[0]) + 3*int(f.Value[n/2]) + 5*int(f.Value[n-1])
	}
	return h % slots
}

// encoder writes header lists. It puts a field into the header table when it meets it for the second time: what is another one in each
// call (a time-out, a trace, an id) would only push out what comes again. And it remembers what a field was written as, until the table
// changes: the calls of a client are mostly alike.
type encoder struct {
	hpack   *hpack.Encoder
	out     []byte // what hpack appends to
	changes uint32 // of the table
	most    uint32 // bytes of the table
	resized bool   // the next list has to begin with the new size of the table
	known   *[slots]written
}

// written is a field that was met lately.
type written struct {
	name, value string
	changes     uint32 // of the table, when it was written as code
	n           uint8  // bytes of code; 0 is none
	code        [6]byte
}

// ready makes the parts that a connection without calls does without.
func (e *encoder) ready() {
	if e.hpack == nil {
		e.most = max(e.most, tableBytes)
		e.hpack = hpack.NewEncoder((*sink)(e))
		e.hpack.SetMaxDynamicTableSizeLimit(e.most)
		e.known = new([slots]written)
	}
}

// resize takes the size of the table that the peer allows.
func (e *encoder) resize(size uint32) {
	e.ready()
	e.hpack.SetMaxDynamicTableSize(min(size, e.most))
	e.changes++
	e.resized = true
}

// append appends f, which is the first of its list or not.
func (e *encoder) append(b []byte, f *Field, first bool) []byte {
	switch {
	case f.Sensitive || first && e.resized:
		e.resized = false
		b, _ = e.encode(b, f)
		return b
	case len(f.Name)+len(f.Value) > longWritten:
		return appendLiteral(b, *f)
	}
	k, met := e.recall(f)
	switch {
	case met && k.n > 0 && k.changes == e.changes:
		return append(b, k.code[:k.n]...)
	case !met:
		if !first && f.Name[0] != ':' {
			return appendLiteral(b, *f)
		}
	}
	return e.learn(b, f, k)
}

// recall returns where f is remembered, from now on if it was not met before.
func (e *encoder) recall(f *Field) (k *written, met bool) {
	i := slotOf(f)
	k = &e.known[i]
	if k.is(f) {
		return k, true
	}
	beside := &e.known[i^1]
	if beside.is(f) {
		return beside, true
	}
	*beside, *k = *k, written{name: f.Name, value: f.Value}
	return k, false
}

func (k *written) is(f *Field) bool { return k.value == f.Value && k.name == f.Name }

// learn appends f by way of the table, and remembers how if that changed nothing there.
func (e *encoder) learn(b []byte, f *Field, k *written) []byte {
	start := len(b)
	b, indexed := e.encode(b, f)
	if k.n = 0; indexed && len(b)-start <= len(k.code) {
		k.n, k.changes = uint8(copy(k.code[:], b[start:])), e.changes
	}
	return b
}

// encode appends f by way of the table. indexed tells that it was in there.
func (e *encoder) encode(b []byte, f *Field) (_ []byte, indexed bool) {
	e.out = b
	_ = e.hpack.WriteField(*f) // It appends, which never fails.
	start := len(b)
	b, e.out = e.out, nil
	indexed = b[start]&0x80 != 0
	if !indexed {
		e.changes++ // At worst it did not.
	}
	return b, indexed
}

// sink lets hpack append to an encoder's output.
type sink encoder

// Write appends b.
func (s *sink) Write(b []byte) (int, error) {
	s.out = append(s.out, b...)
	return len(b), nil
}

// memo remembers the last blocks that were nothing but references to a header table which has not changed since: calls without a deadline,
// and answers of all kinds, mostly look like the last one of their kind.
type memo struct {
	last [2]decoded
	next int
}

// decoded is a block, and the list that it is.
type decoded struct {
	data   []byte
	fields []Field
	size   int
}

// longBlock bounds what is remembered, in bytes: one for each field.
const longBlock = 32

func (m *memo) find(data []byte) *decoded {
	for i := range m.last {
		if d := &m.last[i]; len(d.data) > 0 && bytes.Equal(d.data, data) {
			return d
		}
	}
	return nil
}

// keep remembers a block that was decoded into b. One that may have changed the table makes all be forgotten.
func (m *memo) keep(data []byte, b *block) {
	if slices.ContainsFunc(data, func(c byte) bool { return c <= 0x80 || c == 0xff }) { // Not a reference of a single byte.
		m.last[0].data, m.last[1].data = m.last[0].data[:0], m.last[1].data[:0]
		return
	}
	if len(data) > longBlock || b.large() {
		return
	}
	d := &m.last[m.next]
	m.next = 1 - m.next
	d.data, d.fields, d.size = append(d.data[:0], data...), append(d.fields[:0], b.fields...), b.size
}

// known remembers fields that were found well formed: those that come out of a header table are mostly the same again. Nil knows none.
type known [slots]Field

// well tells whether f is well formed, and what is wrong if not.
func (k *known) well(f *Field) malformed {
	if k == nil || len(f.Name)+len(f.Value) > longKnown {
		return checkField(*f)
	}
	i := slotOf(f)
	for _, at := range [2]*Field{&k[i], &k[i^1]} {
		if at.Value == f.Value && at.Name == f.Name && f.Name != "" {
			return ""
		}
	}
	m := checkField(*f)
	if m == "" {
		k[i^1], k[i] = k[i], *f
	}
	return m
}
