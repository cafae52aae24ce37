package relay

import (
	"slices"

	"golang.org/x/net/http2"
)

// This file takes what comes from back-ends, and brings calls to them.

// open begins p's stream on c; false if c takes no more. When the numbers of streams have come to their end, which a busy connection meets
// after some hours, c leaves as if its peer had sent GOAWAY.
func (c *conn) open(p *port) bool {
	opened, last := c.openStream(p)
	if last {
		c.endpoint.leave(c)
		c.endpoint.replace(0)
	}
	return opened
}

func (c *conn) openStream(p *port) (opened, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := int64(len(c.streams)) >= c.streamMax || c.out.len() >= c.limits.OutputBytes
	if c.ended || c.away || full {
		return false, false
	}
	p.conn, p.id = c, c.nextID
	c.nextID += 2
	c.away = c.nextID > maxID-2
	p.send, p.receive, p.target, p.remaining = c.window, firstWindow, firstWindow, -1
	c.streams[p.id] = p
	p.call.opened.Store(true)
	c.appendHeaders(p.id, p.call.fields, p.call.whole)
	if p.call.whole {
		c.endedLocked(p)
	}
	c.useful.Store(true)
	return true, c.away
}

// link brings to p what has come of its request so far, and has all that follows go there at once.
func (c *conn) link(p *port) {
	call := p.call
	for {
		part, end, trailers, state := call.nextEarly(p)
		if state == left {
			p.reset(http2.ErrCodeCancel)
			return
		}
		if len(part) > 0 || end {
			c.mu.Lock()
			n, ok := c.push(p, part, end && trailers == nil)
			if end && trailers != nil {
				c.end(p, trailers)
			}
			c.mu.Unlock()
			call.creditDown(n)
			if !ok {
				call.client.tooLarge(call, Buffered)
				return
			}
		}
		if state == joined {
			return
		}
	}
}

// linking is how far the linking of a port has come.
type linking uint8

const (
	joining linking = iota // there may be more of the request
	joined                 // what follows goes there at once
	left                   // the call does not go there any more
)

// nextEarly returns what is to be sent on p next. If nothing is left, p is joined; whatever ended the request is told then, perhaps for the
// second time.
func (c *Call) nextEarly(p *port) (part []byte, end bool, trailers []Field, state linking) {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	switch {
	case c.up != p:
		return nil, false, nil, left
	case c.sent == len(c.early):
		c.linked = true
		if !c.replay {
			c.early, c.sent = nil, 0
		}
		return nil, c.complete && !c.whole, c.trailers, joined
	}
	part = c.early[c.sent:]
	c.sent = len(c.early)
	c.credited = max(c.credited, c.sent)
	if c.sent > replayBytes {
		c.early, c.sent, c.credited, c.replay = nil, 0, 0, false
	}
	return part, c.complete && c.trailers == nil, nil, joining
}

// goesTo tells whether p is still where the call goes.
func (c *Call) goesTo(p *port) bool {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	return c.up == p
}

// creditDown credits n bytes of the request to the client.
func (c *Call) creditDown(n int) {
	if n == 0 {
		return
	}
	d := c.client
	d.mu.Lock()
	defer d.mu.Unlock()
	d.creditLocked(&c.down, n, false)
}

// takeAnswer takes headers or trailers of an answer.
func (c *conn) takeAnswer() *connError {
	b := &c.block
	id, end := b.head.id, b.head.flags&http2.FlagHeadersEndStream != 0
	c.mu.Lock()
	p, err := c.findLocked(id)
	c.mu.Unlock()
	switch {
	case p == nil:
		return err // Of a stream that we reset, say.
	case p.gotEnd:
		return c.streamError(id, http2.ErrCodeStreamClosed)
	}
	interim, bad := c.checkAnswerBlock(p, end)
	if bad != "" {
		c.stats.breach(BadHeaders)
		return c.streamError(id, http2.ErrCodeProtocol)
	}
	c.passAnswer(p, b.fields, end, interim)
	return nil
}

// checkAnswerBlock checks a header block of an answer and notes what it says.
func (c *conn) checkAnswerBlock(p *port, end bool) (interim bool, bad malformed) {
	b, call := &c.block, p.call
	if b.large() {
		return false, "a header list that is too large"
	}
	if p.headed {
		if !end {
			return false, "trailers without the end"
		}
		if p.remaining > 0 {
			return false, "less than its content-length"
		}
		return false, checkTrailers(b.fields, true, b.known)
	}
	a, bad := checkAnswer(b.fields, b.known)
	switch {
	case bad != "":
		return false, bad
	case !a.final() && end:
		return false, "an interim answer that ends"
	case !a.final():
		return true, ""
	}
	call.answer = a
	c.mu.Lock()
	p.headed = true
	p.remaining = a.length
	if a.empty() || call.request.head {
		p.remaining = 0
	}
	c.mu.Unlock()
	if end && p.remaining > 0 {
		return false, "less than its content-length"
	}
	return false, ""
}

// passAnswer brings headers or trailers to the client.
func (c *conn) passAnswer(p *port, fields []Field, end, interim bool) {
	call := p.call
	d := call.client
	if end {
		c.mu.Lock()
		c.gotEndLocked(p)
		c.mu.Unlock()
	}
	d.mu.Lock()
	down := &call.down
	first := call.up == p && !down.closed && !down.sentEnd && !down.ending && !d.ended
	if first {
		out := fields
		if !interim && !down.headed {
			out = call.noted(fields)
		}
		d.answerLocked(down, out, end, interim)
		call.measured = call.measured || !interim && call.answer.length >= 0
	}
	if !interim {
		call.dropEarlyLocked()
	}
	d.mu.Unlock()
	c.touch(d)
	switch {
	case end:
		call.finish(endOf(call.answer.status, fields))
	case !interim && first:
		c.answered = append(c.answered, call)
	}
}

// dropEarlyLocked notes that the request will not be sent again. What has not gone yet is still to go.
func (c *Call) dropEarlyLocked() {
	c.replay = false
	if c.linked {
		c.early, c.sent = nil, 0
	}
}

// tellAnswered tells of the answers that have begun in this turn, but for those that have ended in it too.
func (c *conn) tellAnswered() {
	for i, call := range c.answered {
		c.answered[i] = nil
		call.progress(Answered)
	}
	c.answered = c.answered[:0]
}

// answerLocked sends headers or trailers on p, behind what waits.
func (c *conn) answerLocked(p *port, fields []Field, end, interim bool) {
	if p.hasWaiting() { // Only trailers can come behind DATA.
		c.end(p, slices.Clone(fields))
		return
	}
	if interim && c.out.len() >= softOutput {
		return // Who reads so slowly does without: there is no end to the number of these.
	}
	c.appendHeaders(p.id, fields, end)
	p.headed = p.headed || !interim
	c.useful.Store(true)
	if end {
		c.endedLocked(p)
	}
}

// endOf returns the end that an answer with these last fields is.
func endOf(status string, fields []Field) End {
	e := End{Status: status}
	for _, f := range fields {
		switch f.Name {
		case "grpc-status":
			e.GRPCStatus = f.Value
		case "grpc-message":
			e.GRPCMessage = f.Value
		}
	}
	return e
}

// takeAnswerData passes DATA of an answer.
func (c *conn) takeAnswerData(p *port, data []byte, end bool) *connError {
	call := p.call
	d := call.client
	d.mu.Lock()
	before := call.traffic.AnswerMessages
	bound := call.countAnswerLocked(data, d.limits.MessageBytes)
	after := call.traffic.AnswerMessages
	n, ok := 0, bound
	if bound {
		n, ok = d.push(&call.down, data, end)
	}
	whole := !call.down.hasWaiting()
	d.mu.Unlock()
	c.touch(d)
	c.stats.MessagesOut.Add(after - before)
	if n > 0 {
		c.mu.Lock()
		c.creditLocked(p, n, whole)
		c.mu.Unlock()
	}
	switch {
	case !bound:
		d.tooLarge(call, LargeMessage)
	case !ok:
		d.tooLarge(call, Buffered)
	case end:
		call.finish(End{Status: call.answer.status})
	default:
		c.tellMessages(call, before, after)
	}
	return nil
}

// tellMessages tells what the messages of an answer from before to after mean.
func (c *conn) tellMessages(call *Call, before, after int64) {
	if before < 2 && after >= 2 {
		c.tellAnswered()
		call.progress(ManyAnswers)
	}
	call.more(after - before)
}

// countAnswerLocked counts DATA of the answer; false if a message in it is larger than most, which is not to pass.
func (c *Call) countAnswerLocked(data []byte, most int) bool {
	c.traffic.AnswerBytes += int64(len(data))
	if !c.request.grpc {
		return true
	}
	was := c.answers
	begun, largest := c.answers.scan(data)
	c.traffic.AnswerMessages += begun
	if most > 0 && largest > int64(most) {
		c.answers = was
		return false
	}
	return true
}

// backendReset takes a back-end's reset. After a whole answer it only says that the rest of the request is not wanted.
func (c *conn) backendReset(p *port, code http2.ErrCode) {
	if p.gotEnd {
		p.call.quit(code)
		c.touch(p.call.client)
		return
	}
	p.lost(End{Broken: true, Code: code, Reason: "the back-end reset the call"}, code == http2.ErrCodeRefusedStream, c)
}

// quit tells the client, after the whole answer, that the rest of its request is not wanted.
func (c *Call) quit(code http2.ErrCode) {
	d := c.client
	d.mu.Lock()
	defer d.mu.Unlock()
	p := &c.down
	if p.sentEnd {
		d.resetLocked(p, code)
		return
	}
	p.quit, p.quitCode = true, code
}

// lost ends the call of p, whose back-end did not come to the end of its answer. unsent says that it certainly did not begin. by is the
// connection whose turn it is, if any.
func (p *port) lost(e End, unsent bool, by *conn) {
	call := p.call
	d := call.client
	d.mu.Lock()
	if call.up != p {
		d.mu.Unlock()
		return // It has been taken elsewhere, or ended.
	}
	again := unsent && call.replay && !call.down.headed && call.observer != nil
	if again {
		call.up, call.linked = nil, false
	} else {
		call.retireLocked()
	}
	d.mu.Unlock()
	if again {
		call.observer.Unsent(&UnsentError{Reason: e.Reason, TurnedAway: call.opened.Swap(false)})
		return
	}
	call.finish(e)
	d.mu.Lock()
	if call.down.sentEnd {
		e.Code = http2.ErrCodeNo // The rest of the request is not wanted.
	}
	d.resetLocked(&call.down, e.Code)
	d.mu.Unlock()
	if by != nil {
		by.touch(d)
	} else {
		d.settle()
	}
}

// UnsentError says why a call did not reach a back-end.
type UnsentError struct {
	Reason string
	// TurnedAway tells that the call had been sent, and that the back-end said it has not begun it.
	TurnedAway bool
}

// Error returns the reason.
func (e *UnsentError) Error() string { return e.Reason }
