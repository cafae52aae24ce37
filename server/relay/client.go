package relay

import (
	"slices"
	"strconv"

	"golang.org/x/net/http2"
)

// This file takes what comes from clients.

// takeRequest begins a call.
func (c *conn) takeRequest(call *Call) *connError {
	b := &c.block
	call.fields, call.arrived = b.fields, c.now
	b.fields = nil
	id := b.head.id
	if id&1 == 0 {
		return violation(http2.ErrCodeProtocol, "a stream with an even number")
	}
	call.down = port{call: call, conn: c, id: id, receive: firstWindow, target: firstWindow, remaining: -1}
	call.whole = b.head.flags&http2.FlagHeadersEndStream != 0
	switch c.enter(&call.down) {
	case ignored:
		return nil
	case tooMany:
		c.stats.breach(Streams)
		return c.countReset()
	}
	fields, r, bad := checkRequest(call.fields, b.known)
	switch {
	case b.large():
		c.answerLarge(call)
		c.resets.tokens -= float64(b.size/b.most - 1) // A bomb of few bytes counts for all that it stands for.
		return c.countReset()
	case bad != "", call.whole && r.length > 0:
		c.stats.breach(BadHeaders)
		return c.streamError(id, http2.ErrCodeProtocol)
	}
	call.fields, call.request, call.complete = fields, r, call.whole
	c.useful.Store(true)
	c.relay.begin(call)
	return nil
}

// begin hands a call to the decision hook.
func (r *Relay) begin(call *Call) {
	c := call.client
	c.mu.Lock()
	p := &call.down
	p.remaining = call.request.length
	if call.whole {
		p.gotEnd = true
	}
	call.replay, call.early = true, call.earlyArea[:0]
	c.mu.Unlock()
	r.decide(call)
}

// entry is what becomes of a new stream.
type entry uint8

const (
	entered entry = iota
	ignored       // it came after our GOAWAY
	tooMany
)

// enter opens the stream of p.
func (c *conn) enter(p *port) entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID = p.id
	p.send = c.window
	switch {
	case p.id > c.finalID:
		p.closed = true
		c.gone.add(p.id, true)
		return ignored
	case len(c.streams) >= c.limits.Streams:
		c.out.set(appendFrame(c.out.open(), http2.FrameRSTStream, p.id, uint32(http2.ErrCodeRefusedStream)))
		c.stats.ResetsOut.Add(1)
		p.closed = true
		c.gone.add(p.id, true)
		return tooMany
	}
	c.streams[p.id] = p
	if len(c.streams) == 1 {
		c.idleSince = never
	}
	return entered
}

// answerLarge refuses a request whose header list is too large.
func (c *conn) answerLarge(call *Call) {
	c.stats.breach(LargeHeaders)
	text := "header list of more than " + strconv.Itoa(c.limits.HeaderBytes) + " bytes"
	fields := []Field{{Name: ":status", Value: "431"}}
	if slices.ContainsFunc(call.fields, func(f Field) bool {
		return f.Name == "content-type" && len(f.Value) >= 16 && f.Value[:16] == "application/grpc"
	}) {
		fields = []Field{
			{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"},
			{Name: "grpc-status", Value: "8"}, {Name: "grpc-message", Value: text},
		}
	}
	if call.whole {
		c.mu.Lock()
		call.down.gotEnd = true
		c.mu.Unlock()
	}
	call.Answer(fields)
}

// swallowLocked deals with a stream that was answered before its request had come: what still comes in this turn is dropped, and if the
// request does not end in it, the client is told not to send more. Outside a turn it is told so at once.
func (c *conn) swallowLocked(p *port, detached bool) {
	if detached {
		c.resetLocked(p, http2.ErrCodeNo)
		return
	}
	c.swallowed = append(c.swallowed, p)
}

// spareCalls bounds the calls that a connection keeps for use again.
const spareCalls = 64

// newCall returns a call that is all zero but for its client.
func (c *conn) newCall() *Call {
	n := len(c.spare)
	if n == 0 {
		return &Call{client: c}
	}
	call := c.spare[n-1]
	c.spare = c.spare[:n-1]
	call.client = c
	return call
}

// reuseSpent keeps the calls that were answered at once. A flood of refusals so leaves no garbage behind.
func (c *conn) reuseSpent() {
	for i, call := range c.spent {
		c.spent[i] = nil
		if len(c.spare) < spareCalls {
			*call = Call{}
			c.spare = append(c.spare, call)
		}
	}
	c.spent = c.spent[:0]
}

// endSwallowed resets what swallowLocked has noted.
func (c *conn) endSwallowed() {
	if len(c.swallowed) == 0 {
		return
	}
	c.mu.Lock()
	for _, p := range c.swallowed {
		c.resetLocked(p, http2.ErrCodeNo)
	}
	c.mu.Unlock()
	clear(c.swallowed)
	c.swallowed = c.swallowed[:0]
}

// takeRequestTrailers takes a second header block on a stream.
func (c *conn) takeRequestTrailers() *connError {
	b := &c.block
	id, end := b.head.id, b.head.flags&http2.FlagHeadersEndStream != 0
	c.mu.Lock()
	p, err := c.findLocked(id)
	found, byUs := c.gone.find(id)
	c.mu.Unlock()
	switch {
	case err != nil || p == nil && !found:
		return violation(http2.ErrCodeProtocol, "a stream whose number is lower than that of the last")
	case p == nil && byUs:
		return c.countControl()
	case p == nil:
		return violation(http2.ErrCodeStreamClosed, "HEADERS on a stream that has ended")
	case p.gotEnd: // It is only written by this goroutine.
		return c.streamError(id, http2.ErrCodeStreamClosed)
	case !end || b.large() || checkTrailers(b.fields, false, b.known) != "" || p.remaining > 0:
		c.stats.breach(BadHeaders)
		return c.streamError(id, http2.ErrCodeProtocol)
	}
	return c.endRequest(p, slices.Clone(b.fields))
}

// endRequest passes the trailers of a request.
func (c *conn) endRequest(p *port, trailers []Field) *connError {
	call := p.call
	c.mu.Lock()
	c.gotEndLocked(p)
	call.complete, call.trailers = true, trailers
	up := call.linkedLocked()
	c.mu.Unlock()
	call.progress(RequestComplete) // First: the back-end may answer at once.
	if up != nil {
		up.conn.mu.Lock()
		up.conn.end(up, trailers)
		up.conn.mu.Unlock()
		c.touch(up.conn)
	}
	return nil
}

// linkedLocked returns the port that takes what comes, or nil.
func (c *Call) linkedLocked() *port {
	if !c.linked {
		return nil
	}
	return c.up
}

// takeRequestData passes DATA of a request.
func (c *conn) takeRequestData(p *port, data []byte, end bool) *connError {
	call := p.call
	c.mu.Lock()
	if call.dead {
		c.mu.Unlock()
		return nil
	}
	call.complete = end
	before := call.traffic.RequestMessages
	largest := call.countRequestLocked(data)
	after := call.traffic.RequestMessages
	most := int64(c.limits.MessageBytes)
	large := most > 0 && largest > most
	if !large {
		c.held += int64(len(data))
		call.keepLocked(data)
	}
	up := call.linkedLocked()
	c.mu.Unlock()
	c.stats.MessagesIn.Add(after - before)
	if large {
		c.tooLarge(call, LargeMessage)
		return nil
	}
	tellRequest(call, before, after, end) // First: the back-end may answer at once.
	if up != nil && !c.pass(up, p, data, end) {
		c.tooLarge(call, Buffered)
	}
	return nil
}

// tellRequest tells what the messages from before to after mean.
func tellRequest(call *Call, before, after int64, end bool) {
	if before < 2 && after >= 2 {
		call.progress(ManyRequests)
	}
	switch {
	case end:
		call.progress(RequestComplete)
	case before == 0 && after > 0:
		call.progress(RequestBegun)
	}
	call.more(after - before)
}

// more tells an observer who follows the call that messages have begun.
func (c *Call) more(messages int64) {
	if messages > 0 && c.followed.Load() {
		c.progress(MoreMessages)
	}
}

func (c *Call) countRequestLocked(data []byte) (largest int64) {
	c.traffic.RequestBytes += int64(len(data))
	if !c.request.grpc {
		return 0
	}
	begun, largest := c.requests.scan(data)
	c.traffic.RequestMessages += begun
	return largest
}

// keepLocked keeps DATA that cannot go on yet, or may have to be sent again.
func (c *Call) keepLocked(data []byte) {
	switch {
	case !c.linked:
		c.early = append(c.early, data...)
	case !c.replay:
	case len(c.early)+len(data) > replayBytes:
		c.early, c.replay = nil, false
	default:
		c.early = append(c.early, data...)
		c.sent = len(c.early)
		c.credited = c.sent
	}
}

// pass sends DATA from p on to q, which is on another connection, and credits what has gone. false says that no more may wait.
func (c *conn) pass(q, p *port, data []byte, end bool) bool {
	q.conn.mu.Lock()
	n, ok := q.conn.push(q, data, end)
	whole := !q.hasWaiting()
	q.conn.mu.Unlock()
	c.touch(q.conn)
	if n > 0 {
		c.mu.Lock()
		c.creditLocked(p, n, whole)
		c.mu.Unlock()
	}
	return ok
}

// touch notes that d has something to send at the end of the turn.
func (c *conn) touch(d *conn) {
	if d != c && !slices.Contains(c.touched, d) {
		c.touched = append(c.touched, d)
	}
}

func (c *conn) flushTouched() {
	for _, d := range c.touched {
		d.settle()
	}
	clear(c.touched)
	c.touched = c.touched[:0]
}

// tooLarge ends a call that goes beyond a bound.
func (c *conn) tooLarge(call *Call, b Breach) {
	c.stats.breach(b)
	why := "more data waits to be read than the bound of the process allows"
	if b == LargeMessage {
		why = "a message is larger than max, which is " + strconv.Itoa(c.limits.MessageBytes) + " bytes"
	}
	call.cut(End{By: ByRelay, Broken: true, Code: http2.ErrCodeEnhanceYourCalm, Breach: b, Reason: why})
}

// cut ends a call from the middle, on both sides.
func (c *Call) cut(e End) {
	c.client.mu.Lock()
	up := c.retireLocked()
	c.client.mu.Unlock()
	if up != nil {
		up.reset(http2.ErrCodeCancel)
	}
	c.finish(e)
	c.down.reset(e.Code)
}

// callerReset takes a client's reset.
func (c *conn) callerReset(p *port, code http2.ErrCode) *connError {
	c.stats.ResetsIn.Add(1)
	var err *connError
	if !p.headed { // It is only closed now; nobody writes to it any more.
		err = c.countReset()
	}
	c.abandon(p.call, code, "the caller reset the call")
	return err
}

// callerBroke takes the end of a stream on which the client broke the protocol.
func (c *conn) callerBroke(p *port, code http2.ErrCode) {
	c.abandon(p.call, code, "the caller broke the protocol")
}

// abandon ends a call whose client is gone.
func (c *conn) abandon(call *Call, code http2.ErrCode, why string) {
	c.mu.Lock()
	up := call.retireLocked()
	c.mu.Unlock()
	if up != nil && up.conn != nil {
		up.conn.mu.Lock()
		up.conn.resetLocked(up, http2.ErrCodeCancel)
		up.conn.mu.Unlock()
		c.touch(up.conn)
	}
	call.finish(End{By: ByCaller, Broken: true, Code: code, Reason: why})
}
