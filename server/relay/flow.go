package relay

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// This file sends. Whatever is appended under the lock goes out with the next settle or flush.

// appendHeaders appends a header list: as HEADERS, and as many CONTINUATION as the peer's frame size wants. The connection is locked.
func (c *conn) appendHeaders(id uint32, fields []Field, end bool) {
	b := c.out.open()
	start := len(b)
	b = append(b, make([]byte, frameHeaderLen)...)
	c.encoder.ready()
	for i := range fields {
		b = c.encoder.append(b, &fields[i], i == 0)
	}
	h := frameHeader{kind: http2.FrameHeaders, flags: http2.FlagHeadersEndHeaders, id: id}
	if end {
		h.flags |= http2.FlagHeadersEndStream
	}
	h.length = len(b) - start - frameHeaderLen
	if h.length <= c.frame {
		appendFrameHeader(b[:start], h)
		c.out.set(b)
		return
	}
	c.out.set(appendSplit(b[:start], h, append([]byte(nil), b[start+frameHeaderLen:]...), c.frame))
}

// appendSplit appends a header block that is longer than a frame may be.
func appendSplit(b []byte, h frameHeader, block []byte, most int) []byte {
	h.flags &^= http2.FlagHeadersEndHeaders
	for len(block) > 0 {
		h.length = min(len(block), most)
		if h.length == len(block) {
			h.flags |= http2.FlagHeadersEndHeaders
		}
		b = append(appendFrameHeader(b, h), block[:h.length]...)
		block = block[h.length:]
		h.kind, h.flags = http2.FrameContinuation, 0
	}
	return b
}

// push sends DATA on p, as far as windows and room allow; the rest waits. end tells that it is the last. It returns how much of it is to be
// credited to its sender at once, and false if no more may wait. The connection is locked.
func (c *conn) push(p *port, data []byte, end bool) (credit int, ok bool) {
	if p.closed || p.sentEnd || p.ending {
		return p.due(len(data)), true
	}
	gone := 0
	if !p.hasWaiting() {
		var ended bool
		if gone, ended = c.frameData(p, data, end); ended {
			c.endedLocked(p)
		}
		data = data[gone:]
	}
	if len(data) > 0 && !c.waitLocked(p, data) {
		return p.due(gone + len(data)), false // What is dropped waits for nobody any more.
	}
	if end {
		c.end(p, nil)
	}
	return p.due(gone), true
}

// due returns how much of n bytes that have gone on is to be credited.
func (p *port) due(n int) int {
	free := min(n, p.gift)
	p.gift -= free
	return n - free
}

// waitLocked lets DATA wait on p.
func (c *conn) waitLocked(p *port, data []byte) bool {
	if c.relay != nil && c.waits+len(data) > c.limits.BufferedBytes/8 {
		return false // One client must not have it all.
	}
	if c.stats.WaitingBytes.Add(int64(len(data))) > int64(c.limits.BufferedBytes) {
		c.stats.WaitingBytes.Add(-int64(len(data)))
		return false
	}
	c.waits += len(data)
	if !p.hasWaiting() {
		p.call.stalls.Add(1)
		c.stats.Stalls.Add(1)
	}
	p.wait.set(append(p.wait.open(), data...))
	c.queueLocked(p)
	return true
}

// frameData appends DATA frames as far as windows and room allow. It returns how much of data has gone, and whether the end of the stream
// has gone with it.
func (c *conn) frameData(p *port, data []byte, end bool) (gone int, ended bool) {
	for len(data) > 0 && c.out.len() < softOutput {
		n := int(min(int64(len(data)), int64(c.frame), p.send, c.send))
		if n <= 0 {
			break
		}
		h := frameHeader{length: n, kind: http2.FrameData, id: p.id}
		if ended = end && n == len(data); ended {
			h.flags = http2.FlagDataEndStream
		}
		c.out.set(append(appendFrameHeader(c.out.open(), h), data[:n]...))
		p.send -= int64(n)
		c.send -= int64(n)
		gone += n
		data = data[n:]
	}
	if gone > 0 {
		c.useful.Store(true)
	}
	return gone, ended
}

// end ends p's direction, after the DATA that waits, with trailers if there are any. The connection is locked.
func (c *conn) end(p *port, trailers []Field) {
	if p.closed || p.sentEnd || p.ending {
		return
	}
	p.ending, p.tail = true, trailers
	if !p.hasWaiting() {
		c.endLocked(p)
	}
}

// endLocked sends the end of p, before which nothing waits any more.
func (c *conn) endLocked(p *port) {
	if p.sentEnd || p.closed {
		return
	}
	if p.tail != nil {
		c.appendHeaders(p.id, p.tail, true)
	} else {
		c.out.set(appendFrameHeader(c.out.open(), frameHeader{kind: http2.FrameData, flags: http2.FlagDataEndStream, id: p.id}))
	}
	c.endedLocked(p)
}

// endedLocked notes that the end of p has been sent.
func (c *conn) endedLocked(p *port) {
	p.sentEnd, p.ending, p.tail = true, false, nil
	switch {
	case p.gotEnd:
		c.closeLocked(p, false)
	case p.quit:
		c.resetLocked(p, p.quitCode)
	}
}

// resetLocked ends p at once.
func (c *conn) resetLocked(p *port, code http2.ErrCode) {
	if p.closed {
		return
	}
	c.out.set(appendFrame(c.out.open(), http2.FrameRSTStream, p.id, uint32(code)))
	if c.relay != nil {
		c.stats.ResetsOut.Add(1)
	}
	c.closeLocked(p, true)
}

// closeLocked takes p off the connection. What waits is dropped, and credited to who sent it. byUs tells that the relay reset it.
func (c *conn) closeLocked(p *port, byUs bool) {
	if p.closed {
		return
	}
	p.closed = true
	if p.gotEnd && p.sentEnd {
		c.well++
	}
	delete(c.streams, p.id)
	c.gone.add(p.id, byUs)
	if n := len(p.waiting()); n > 0 {
		c.stats.WaitingBytes.Add(-int64(n))
		c.waits -= n
		c.owe(p, n)
	}
	p.wait.release()
	p.waitFrom = 0
	if len(c.streams) == 0 {
		c.idleSince = time.Since(epoch)
		c.hangUp = c.hangUp || c.away && c.endpoint != nil || c.away && c.finalID != maxID
	}
}

// queueLocked puts p among those that are served as soon as there is room.
func (c *conn) queueLocked(p *port) {
	if !p.queued && p.hasWaiting() && p.send > 0 {
		if len(c.blocked) > 2*len(c.streams) { // A peer that grants nothing must not collect streams that ended.
			c.blocked = slices.DeleteFunc(c.blocked, func(q *port) bool { return q.closed })
		}
		p.queued = true
		c.blocked = append(c.blocked, p)
	}
}

// pumpLocked sends what waits, a frame of each stream in turn.
func (c *conn) pumpLocked() {
	for len(c.blocked) > 0 && c.send > 0 && c.out.len() < softOutput {
		p := c.blocked[0]
		c.blocked = c.blocked[1:]
		p.queued = false
		if !p.closed {
			c.serveLocked(p)
		}
	}
	if len(c.blocked) == 0 {
		c.blocked = nil
	}
}

// serveLocked sends one frame of what waits on p.
func (c *conn) serveLocked(p *port) {
	part := p.waiting()
	part = part[:min(len(part), c.frame)]
	last := len(part) == len(p.waiting()) && p.ending && p.tail == nil
	gone, ended := c.frameData(p, part, last)
	p.waitFrom += gone
	c.stats.WaitingBytes.Add(-int64(gone))
	c.waits -= gone
	c.owe(p, gone)
	if p.hasWaiting() {
		c.compactLocked(p)
		c.queueLocked(p)
		return
	}
	p.wait.release()
	p.waitFrom = 0
	switch {
	case ended:
		c.endedLocked(p)
	case p.ending:
		c.endLocked(p)
	}
}

// compactLocked keeps what waits from growing at one end while it shrinks at the other.
func (c *conn) compactLocked(p *port) {
	if p.waitFrom < firstWindow {
		return
	}
	b := p.wait.bytes()
	p.wait.set(b[:copy(b, b[p.waitFrom:])])
	p.waitFrom = 0
}

// owe notes that n bytes of p's other side have gone on.
func (c *conn) owe(p *port, n int) {
	if n = p.due(n); n > 0 {
		c.credits = append(c.credits, credit{p, n})
	}
}

// pay gives the credits to the connections that they belong to.
func pay(credits []credit) {
	var last *conn
	for _, cr := range credits {
		q := cr.p.other()
		if q == nil || q.conn == nil {
			continue
		}
		q.conn.mu.Lock()
		q.conn.creditLocked(q, cr.n, false)
		q.conn.mu.Unlock()
		if last != nil && last != q.conn {
			last.settle()
		}
		last = q.conn
	}
	if last != nil {
		last.settle()
	}
}

// other returns the port that receives what p sends; nil if there is none any more.
func (p *port) other() *port {
	if !p.isDown() {
		return &p.call.down
	}
	c := p.call.client
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.call.up
}

// creditLocked tells p, which received n bytes, that they have gone on: its peer may send as many again. fast tells that they never waited;
// the window of such a stream grows.
func (c *conn) creditLocked(p *port, n int, fast bool) {
	if c.relay != nil {
		c.held -= int64(n)
		c.grantLocked()
	}
	if p.gotEnd || p.closed {
		return
	}
	p.owed += int64(n)
	if p.owed < p.target/2 {
		return
	}
	give := p.owed
	if fast {
		give += fullWindow - p.target
		p.target = fullWindow
	}
	p.owed = 0
	p.receive += give
	c.out.set(appendFrame(c.out.open(), http2.FrameWindowUpdate, p.id, uint32(give)))
}

// grantLocked gives the credit of the connection, unless the peer has too much waiting already.
func (c *conn) grantLocked() {
	if c.owed < clientWindow/2 || c.relay != nil && c.held > int64(c.limits.HeldBytes) {
		return
	}
	c.receive += c.owed
	c.out.set(appendFrame(c.out.open(), http2.FrameWindowUpdate, 0, uint32(c.owed)))
	c.owed = 0
}

// settle pays what is owed and sends what is there.
func (c *conn) settle() {
	c.mu.Lock()
	urgent := c.out.len() > 0 || c.hangUp
	credits := c.creditsLocked()
	c.mu.Unlock()
	pay(credits)
	if urgent {
		c.flush()
	}
	if c.endpoint != nil {
		c.endpoint.serve()
	}
}

func (c *conn) creditsLocked() []credit {
	credits := c.credits
	c.credits = nil
	return credits
}

// flush writes all there is to send, if nobody does that already: in place, as far as the socket takes it. What is left a goroutine
// writes.
func (c *conn) flush() {
	c.mu.Lock()
	if c.writing || c.ended || !c.opened {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.writers.Add(1) // Until writing is false again; under the lock, so that nobody begins while the connection waits for the last.
	for c.out.len() > 0 && c.sealed >= 0 {
		out := c.out
		c.out = output{}
		if c.sealed > 0 {
			out.set(out.bytes()[:c.sealed])
			c.sealed = -1
		}
		c.mu.Unlock()
		rest, err := c.wire.send(out.bytes())
		c.stats.sent(c, out.len())
		if err == nil && len(rest) > 0 {
			go c.writeRest(out, rest) // Ends with what is to be written, or with the connection, which waits for it.
			return
		}
		out.release()
		if err != nil {
			c.fail(err)
			c.writers.Done()
			return
		}
		c.mu.Lock()
		c.pumpLocked()
	}
	c.restAndUnlock()
}

// restAndUnlock ends a flush.
func (c *conn) restAndUnlock() {
	c.writing = false
	hangUp := c.hangUp
	part := c.partLocked()
	credits := c.creditsLocked()
	c.mu.Unlock()
	c.writers.Done()
	pay(credits)
	if part && c.wire.part() {
		return
	}
	if hangUp {
		c.close()
	}
}

// writeRest writes what the socket did not take at once, and then what has come up meanwhile.
func (c *conn) writeRest(out output, rest []byte) {
	defer c.writers.Done()
	err := c.wire.finish(rest, c.limits.WriteTime)
	out.release()
	if err != nil {
		if isTimeout(err) {
			c.stats.breach(SlowReader)
		}
		c.fail(err)
		return
	}
	c.mu.Lock()
	c.writing = false
	c.pumpLocked()
	c.mu.Unlock()
	c.settle()
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func (s *Stats) sent(c *conn, n int) {
	if c.relay != nil {
		s.BytesOut.Add(int64(n))
	}
}
