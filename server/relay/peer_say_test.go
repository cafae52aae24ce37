package relay_test

import (
	"cmp"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// say makes frames and sends them.
func (p *peer) say(frames func(*http2.Framer) error) {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := frames(p.frames); err != nil {
		p.Fatal("make frame:", err)
	}
	p.flush()
}

// raw sends bytes as they are.
func (p *peer) raw(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made.Write(b)
	p.flush()
}

// frame sends one frame of any kind, as long as its length can be written.
func (p *peer) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) {
	p.say(func(f *http2.Framer) error { return f.WriteRawFrame(kind, flags, id, []byte(payload)) })
}

// headers sends a header block of "name: value" lines, cut and padded as the peer's style has it.
func (p *peer) headers(id uint32, end bool, lines ...string) {
	p.Helper()
	p.fields(id, end, fieldsOf(lines)...)
}

// fields is headers for names and values that no line can hold.
func (p *peer) fields(id uint32, end bool, fields ...hpack.HeaderField) {
	p.Helper()
	p.say(func(f *http2.Framer) error {
		p.block.Reset()
		for _, v := range fields {
			if err := p.encoder.WriteField(v); err != nil {
				return err
			}
		}
		return p.writeBlock(f, id, end, p.block.Bytes())
	})
}

// encoded sends a header block that the test has encoded itself.
func (p *peer) encoded(id uint32, end bool, block string) {
	p.Helper()
	p.say(func(f *http2.Framer) error { return p.writeBlock(f, id, end, []byte(block)) })
}

func (p *peer) writeBlock(f *http2.Framer, id uint32, end bool, block []byte) error {
	size := cmp.Or(p.style.fragment, 16384-6-p.style.pad)
	first, rest := block[:min(size, len(block))], block[min(size, len(block)):]
	param := http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0,
		PadLength: uint8(p.style.pad)}
	if p.style.priority {
		param.Priority = http2.PriorityParam{Weight: 15}
	}
	if err := f.WriteHeaders(param); err != nil {
		return err
	}
	for len(rest) > 0 {
		n := min(size, len(rest))
		if err := f.WriteContinuation(id, n == len(rest), rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// request sends the header block of a gRPC request, with more fields.
func (p *peer) request(id uint32, end bool, more ...string) {
	p.Helper()
	p.headers(id, end, request(more...)...)
}

// response sends the header block that begins a gRPC response, with more fields.
func (p *peer) response(id uint32, more ...string) {
	p.Helper()
	p.headers(id, false, response(more...)...)
}

// trailers ends a gRPC call.
func (p *peer) trailers(id uint32, more ...string) {
	p.Helper()
	p.headers(id, true, append([]string{"grpc-status: 0"}, more...)...)
}

// data sends DATA whether the relay's windows allow it or not.
func (p *peer) data(id uint32, text string, end bool) {
	p.Helper()
	p.say(func(f *http2.Framer) error {
		size := cmp.Or(p.style.fragment, 16384-1-p.style.pad)
		for len(text) > size {
			if err := p.writeData(f, id, text[:size], false); err != nil {
				return err
			}
			text = text[size:]
		}
		return p.writeData(f, id, text, end)
	})
}

func (p *peer) writeData(f *http2.Framer, id uint32, text string, end bool) error {
	if p.style.pad == 0 {
		return f.WriteData(id, end, []byte(text))
	}
	return f.WriteDataPadded(id, end, []byte(text), make([]byte, p.style.pad))
}

// pour sends DATA as fast as the relay's windows allow, without padding.
func (p *peer) pour(id uint32, text string, end bool) {
	p.Helper()
	for more := true; more; more = text != "" {
		p.await("window on stream", id, func() bool { return text == "" || p.twin.credit(id) > 0 })
		n := max(0, min(len(text), p.credit(id), 16384))
		p.say(func(f *http2.Framer) error { return f.WriteData(id, end && n == len(text), []byte(text[:n])) })
		text = text[n:]
	}
}

// credit returns how much the relay's windows allow on a stream, or on the connection for 0.
func (p *peer) credit(id uint32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.twin.credit(id)
}

func (p *peer) rst(id uint32, code http2.ErrCode) {
	p.say(func(f *http2.Framer) error { return f.WriteRSTStream(id, code) })
}

func (p *peer) goaway(last uint32, code http2.ErrCode) {
	p.say(func(f *http2.Framer) error { return f.WriteGoAway(last, code, nil) })
}

func (p *peer) settings(values ...http2.Setting) {
	p.say(func(f *http2.Framer) error { return f.WriteSettings(values...) })
}

func (p *peer) ackSettings() {
	p.say(func(f *http2.Framer) error { return f.WriteSettingsAck() })
}

func (p *peer) ping(payload string) {
	p.say(func(f *http2.Framer) error { return f.WritePing(false, [8]byte([]byte(payload + "........")[:8])) })
}

// windowUpdate grants n bytes on a stream, or on the connection for 0.
func (p *peer) windowUpdate(id, n uint32) {
	p.say(func(f *http2.Framer) error { return f.WriteWindowUpdate(id, n) })
}

func (p *peer) priority(id, on uint32) {
	p.say(func(f *http2.Framer) error {
		return f.WritePriority(id, http2.PriorityParam{StreamDep: on, Weight: 15})
	})
}
