package relay

import (
	"cmp"
	"encoding/binary"
	"slices"

	"golang.org/x/net/http2"
)

// This file takes what comes on streams, on either side.

// block is a header block that is being received.
type block struct {
	open    bool
	head    frameHeader // of its HEADERS
	data    []byte      // what has come of it, if it is more than one frame
	frames  int         // CONTINUATION so far
	fields  []Field
	scratch []Field // to decode into, when nobody keeps it
	known   *known  // what was well formed before; nil until there is a block
	memo    memo    // of blocks
	size    int     // of the list, as RFC 9113 counts it
	most    int
}

// add takes a field from the decoder.
func (b *block) add(f Field) {
	if b.size += int(f.Size()); b.size <= b.most {
		b.fields = append(b.fields, f)
	}
}

func (b *block) large() bool { return b.size > b.most }

// past remembers the streams that ended last, and whether the relay ended them.
type past struct {
	ids  []uint32 // id<<1, and 1 if the relay reset it
	next int
}

// pastStreams is more than can be on their way to a peer that does not know of their end yet.
const pastStreams = 512

func (p *past) add(id uint32, byUs bool) {
	if len(p.ids) < pastStreams {
		p.ids = append(p.ids, 0)
	}
	p.ids[p.next] = id << 1
	if byUs {
		p.ids[p.next] |= 1
	}
	p.next = (p.next + 1) % pastStreams
}

// find tells whether id is one of them, and whether the relay reset it.
func (p *past) find(id uint32) (found, byUs bool) {
	switch {
	case slices.Contains(p.ids, id<<1|1):
		return true, true
	case slices.Contains(p.ids, id<<1):
		return true, false
	}
	return false, false
}

// takeHeaders begins a header block.
func (c *conn) takeHeaders(h frameHeader, payload []byte) *connError {
	if h.id == 0 {
		return violation(http2.ErrCodeProtocol, "HEADERS of no stream")
	}
	payload, err := unpadded(h, payload)
	if err != nil {
		return err
	}
	if h.flags&http2.FlagHeadersPriority != 0 {
		if len(payload) < 5 {
			return violation(http2.ErrCodeFrameSize, "HEADERS too short for its priority")
		}
		if binary.BigEndian.Uint32(payload)&maxID == h.id {
			return violation(http2.ErrCodeProtocol, "a stream that depends on itself")
		}
		payload = payload[5:]
	}
	b := &c.block
	b.head, b.frames = h, 0
	if h.flags&http2.FlagHeadersEndHeaders != 0 {
		return c.takeBlock(payload)
	}
	b.open = true
	b.data = append(b.data[:0], payload...)
	return nil
}

func (c *conn) takeContinuation(h frameHeader, payload []byte) *connError {
	b := &c.block
	if b.frames++; b.frames > c.limits.Continuations {
		return &connError{http2.ErrCodeEnhanceYourCalm, Continuations, "too many CONTINUATION frames"}
	}
	if len(b.data)+len(payload) > c.limits.HeaderBytes {
		return &connError{http2.ErrCodeEnhanceYourCalm, LargeHeaders, "a header block that is too large"}
	}
	b.data = append(b.data, payload...)
	if h.flags&http2.FlagContinuationEndHeaders == 0 {
		return nil
	}
	b.open = false
	c.partial.Store(0)
	err := c.takeBlock(b.data)
	b.data = nil // They are rare.
	return err
}

// takeBlock decodes a whole header block and takes it to where it belongs. Every block is decoded, so that the header table stays in step.
func (c *conn) takeBlock(data []byte) *connError {
	b, id := &c.block, c.block.head.id
	var call *Call
	if c.relay != nil && id > c.lastID {
		call = c.newCall()
		b.fields = call.store[:0]
	} else {
		b.fields = b.scratch[:0]
	}
	b.size = 0
	if b.known == nil {
		b.known = new(known)
	}
	if err := c.decode(data); err != nil {
		return err
	}
	if call != nil {
		return c.takeRequest(call)
	}
	b.scratch = b.fields
	if c.relay != nil {
		return c.takeRequestTrailers()
	}
	return c.takeAnswer()
}

// decode decodes a header block into c.block.fields.
func (c *conn) decode(data []byte) *connError {
	b := &c.block
	if m := b.memo.find(data); m != nil {
		b.fields, b.size = append(b.fields, m.fields...), m.size
		return nil
	}
	defer b.memo.keep(data, b)
	data, ok := c.takeTableSizes(data)
	if ok {
		_, err := c.decoder.Write(data)
		ok = err == nil && c.decoder.Close() == nil
	}
	if !ok {
		return violation(http2.ErrCodeCompression, "a header block that cannot be decoded")
	}
	return nil
}

// takeTableSizes takes the changes of the table's size that a block begins with. There may be two of them, to the smallest and to the
// last size since the block before (RFC 7541, section 4.2); the decoder knows only one.
func (c *conn) takeTableSizes(data []byte) (rest []byte, ok bool) {
	for len(data) > 0 && data[0]&0xe0 == 0x20 {
		size, n := readInteger(data, 5)
		if n == 0 || size > c.limits.TableBytes {
			return nil, false
		}
		c.decoder.SetMaxDynamicTableSize(uint32(size))
		data = data[n:]
	}
	return data, true
}

// readInteger reads an integer of HPACK with a prefix of so many bits, and returns of how many bytes it is; 0 if it is none, or absurd.
func readInteger(b []byte, bits int) (value, n int) {
	most := 1<<bits - 1
	if value = int(b[0]) & most; value < most {
		return value, 1
	}
	for i := 1; i < min(len(b), 5); i++ {
		value += int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return value, i + 1
		}
	}
	return 0, 0
}

// findLocked returns the open stream id; nil with an error if there is none and there was never one, and nil without for one that has ended.
func (c *conn) findLocked(id uint32) (*port, *connError) {
	if p := c.streams[id]; p != nil {
		return p, nil
	}
	if c.idleLocked(id) {
		return nil, violation(http2.ErrCodeProtocol, "a frame on a stream that was never opened")
	}
	return nil, nil
}

// takeReset takes the end that the peer gave to a stream.
func (c *conn) takeReset(h frameHeader, payload []byte) *connError {
	switch {
	case h.id == 0:
		return violation(http2.ErrCodeProtocol, "RST_STREAM of no stream")
	case len(payload) != 4:
		return violation(http2.ErrCodeFrameSize, "RST_STREAM that is not of 4 bytes")
	}
	code := http2.ErrCode(binary.BigEndian.Uint32(payload))
	c.mu.Lock()
	p, err := c.findLocked(h.id)
	if p != nil {
		c.closeLocked(p, false)
	}
	c.mu.Unlock()
	switch {
	case p == nil:
		return cmp.Or(err, c.countControl())
	case c.relay != nil:
		return c.callerReset(p, code)
	}
	c.backendReset(p, code)
	return nil
}

// streamError resets a stream that the peer has broken.
func (c *conn) streamError(id uint32, code http2.ErrCode) *connError {
	c.mu.Lock()
	p, err := c.findLocked(id)
	switch {
	case p != nil:
		c.resetLocked(p, code)
	case err == nil:
		c.resetPastLocked(id, code)
	}
	c.mu.Unlock()
	switch {
	case err != nil:
		return violation(code, "a stream error on a stream that was never opened")
	case p == nil:
	case c.relay != nil:
		c.callerBroke(p, code)
	default:
		p.lost(End{Broken: true, Code: http2.ErrCodeInternal, Reason: "the back-end broke the protocol"}, false, c)
	}
	return c.countReset()
}

// resetPastLocked resets a stream that has ended; once, as more of what is wrong there may be on its way.
func (c *conn) resetPastLocked(id uint32, code http2.ErrCode) {
	if _, byUs := c.gone.find(id); byUs {
		return
	}
	c.gone.add(id, true)
	c.out.set(appendFrame(c.out.open(), http2.FrameRSTStream, id, uint32(code)))
}

// takeData takes DATA of a request or of an answer.
func (c *conn) takeData(h frameHeader, payload []byte) *connError {
	if h.id == 0 {
		return violation(http2.ErrCodeProtocol, "DATA of no stream")
	}
	data, err := unpadded(h, payload)
	if err != nil {
		return err
	}
	end := h.flags&http2.FlagDataEndStream != 0
	p, code, err := c.account(h, len(payload), len(data), end)
	switch {
	case err != nil:
		return err
	case code != http2.ErrCodeNo:
		return c.streamError(h.id, code)
	case p == nil:
		return nil
	case len(data) == 0 && !end && h.length > 0:
		return c.countControl() // Nothing but padding.
	case len(data) == 0 && !end:
		return nil
	}
	c.useful.Store(true)
	if c.relay != nil {
		return c.takeRequestData(p, data, end)
	}
	return c.takeAnswerData(p, data, end)
}

// account takes DATA off the windows, and gives the connection's credit for it. A nil port without an error says that nobody wants it.
func (c *conn) account(h frameHeader, size, content int, end bool) (*port, http2.ErrCode, *connError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.receive -= int64(size); c.receive < 0 {
		return nil, 0, violation(http2.ErrCodeFlowControl, "more DATA than the window of the connection allows")
	}
	c.owed += int64(size)
	defer c.grantLocked()
	p, err := c.findLocked(h.id)
	if p == nil {
		if found, byUs := c.gone.find(h.id); err == nil && found && !byUs {
			return nil, http2.ErrCodeStreamClosed, nil
		}
		return nil, 0, err
	}
	switch code := p.takeLocked(int64(size), int64(content), end); {
	case code != http2.ErrCodeNo:
		return p, code, nil
	case c.relay == nil && !p.headed:
		return p, http2.ErrCodeProtocol, nil // DATA before the headers of the answer
	}
	if pad := size - content; pad > 0 {
		p.owed += int64(pad)
		c.creditLocked(p, 0, false)
	}
	if end {
		c.gotEndLocked(p)
	}
	return p, 0, nil
}

// takeLocked takes DATA off the window and the content-length of p.
func (p *port) takeLocked(size, content int64, end bool) http2.ErrCode {
	if p.gotEnd {
		return http2.ErrCodeStreamClosed
	}
	if p.receive -= size; p.receive < 0 {
		return http2.ErrCodeFlowControl
	}
	if p.remaining >= 0 {
		if p.remaining -= content; p.remaining < 0 || end && p.remaining > 0 {
			return http2.ErrCodeProtocol
		}
	}
	return http2.ErrCodeNo
}

// gotEndLocked notes that nothing more comes on p.
func (c *conn) gotEndLocked(p *port) {
	p.gotEnd = true
	if p.sentEnd {
		c.closeLocked(p, false)
	}
}
