package relay

import "sync"

const (
	inputBytes = 64 << 10 // what is read at once
	smallInput = 1 << 10  // of connections that are not sockets, while nothing comes
	keepOutput = 1 << 20  // buffers beyond are left to the garbage collector
)

var inputs = sync.Pool{New: func() any { return new([inputBytes]byte) }}

// input is what was read from a connection and not yet taken. It holds a buffer only while there is something in it.
type input struct {
	buf  *[inputBytes]byte
	r, w int
}

// bytes returns what is there.
func (in *input) bytes() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf[in.r:in.w]
}

// take removes n bytes, which stay valid until the next space.
func (in *input) take(n int) []byte {
	b := in.buf[in.r : in.r+n]
	in.r += n
	return b
}

// tidy moves what is left to the front, or gives the buffer back.
func (in *input) tidy() {
	switch {
	case in.buf == nil:
	case in.r == in.w:
		in.release()
	case in.r > 0:
		in.w = copy(in.buf[:], in.buf[in.r:in.w])
		in.r = 0
	}
}

func (in *input) release() {
	if in.buf != nil {
		inputs.Put(in.buf)
	}
	*in = input{}
}

// space returns where to read into; there is room for at least one whole frame, as no more than a part of one stays after a turn.
func (in *input) space() []byte {
	if in.buf == nil {
		in.buf = inputs.Get().(*[inputBytes]byte)
	}
	return in.buf[in.w:]
}

var outputs = sync.Pool{New: func() any { return new(make([]byte, 0, 4<<10)) }}

// output is a buffer that grows and comes from a pool.
type output struct{ p *[]byte }

// bytes returns what is in the buffer.
func (o *output) bytes() []byte {
	if o.p == nil {
		return nil
	}
	return *o.p
}

func (o *output) len() int { return len(o.bytes()) }

// set replaces the content, which was appended to that of open.
func (o *output) set(b []byte) { *o.p = b }

// open returns the content, to append to.
func (o *output) open() []byte {
	if o.p == nil {
		o.p = outputs.Get().(*[]byte)
	}
	return *o.p
}

// release gives the buffer back.
func (o *output) release() {
	if o.p != nil && cap(*o.p) <= keepOutput {
		*o.p = (*o.p)[:0]
		outputs.Put(o.p)
	}
	o.p = nil
}
