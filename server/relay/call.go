package relay

import (
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Observer is told what becomes of one call. Its methods are called without locks, from any goroutine, and must not block.
type Observer interface {
	// Progress tells how far the call has come.
	Progress(p Progress)
	// Unsent tells that the call, which was forwarded, has certainly not been begun by its back-end; err, an UnsentError, says why. The call
	// is as it was before: the observer forwards it again, elsewhere, or answers it.
	Unsent(err error)
	// Woken comes at the time that Call.Wake has set, or a millisecond before, with others.
	Woken(now time.Time)
	// Ended tells how a call that was forwarded, or was detached, ended at its back-end or by its caller. It comes once, not after
	// Answer, and last, but for a Progress or Woken that another goroutine is telling at that moment. Where the answer has broken off
	// (e.Broken) the observer may still call Answer; if it does not, the client's stream is reset with e.Code.
	Ended(e End)
}

// Progress is how far a call has come.
type Progress uint8

// What may be told of a call. A request that is complete with its headers or with its first DATA frame is only told to be complete, and of
// an answer that begins and ends in one turn only Ended tells.
const (
	RequestBegun    Progress = iota // its first message, and more is to come
	RequestComplete                 // its last byte
	ManyRequests                    // its second message
	Answered                        // the headers of the answer, and more is to come
	ManyAnswers                     // the second message of the answer
	MoreMessages                    // of a call that is followed, in either direction; Call.Messages says how many
)

// By tells who ended a call.
type By uint8

// Who may end a call.
const (
	ByBackend By = iota // with an answer, a reset or the end of its connection
	ByCaller            // with a reset or the end of its connection, or with a request that broke the protocol
	ByRelay             // because of a bound
)

// End is how a call ended.
type End struct {
	By By
	// Status is the :status of the answer, GRPCStatus and GRPCMessage are what its trailers said; "" if they did not.
	Status, GRPCStatus, GRPCMessage string
	// Broken tells that the answer did not come to its end; then Code is that of the reset, and Reason says what happened.
	Broken bool
	Code   http2.ErrCode
	Reason string
	// Lost tells that the whole connection to the back-end was lost.
	Lost bool
	// Breach is the bound that was broken if By is ByRelay.
	Breach  Breach
	Traffic Traffic
}

// Traffic is what passed on one call.
type Traffic struct {
	RequestBytes, AnswerBytes       int64 // of DATA
	RequestMessages, AnswerMessages int64
	Stalls                          int64 // how often DATA had to wait for a window, or for a full output
}

// Call is one call of a client. Its methods are for the decision hook and its Observer.
type Call struct {
	// Set once, before the decision.
	client  *conn
	fields  []Field
	store   [12]Field
	request request
	arrived time.Time
	whole   bool // the request is nothing but its headers

	note     *Field // goes with the headers of the answer, whoever gives it; nil is nothing
	observer Observer
	spent    bool // to be used again when the turn ends

	detached atomic.Bool // on its way, or decided on outside the turn of its client's connection

	ended  atomic.Bool // Ended was called, or will not be
	wake   atomic.Int64
	stalls atomic.Int64
	opened atomic.Bool // its stream to the back-end was begun

	followed atomic.Bool // its observer hears of every message

	down  port // on the client's connection
	first port // where it goes, unless it has to go again

	// Guarded by client.mu.
	traffic   Traffic // but for stalls
	requests  scanner // of what came
	answers   scanner
	up        *port    // where the call goes, was told to go, or nil
	linked    bool     // what comes goes to up at once
	dead      bool     // the client needs no more of its back-end
	early     []byte   // what came of the body; kept as long as it may have to be sent again
	sent      int      // how much of early has gone to up
	credited  int      // how much of early the client has credit for again
	replay    bool     // early holds all that came
	complete  bool     // the request has come to its end
	measured  bool     // the headers of the answer, which have gone out, have a content-length
	trailers  []Field  // of the request
	earlyArea [64]byte // for short bodies

	// Of the goroutine that reads the back-end's connection.
	answer answer
}

// replayBytes is how much of a request is kept, to be sent again if its first back-end certainly did not begin it.
const replayBytes = 16 << 10

// Path returns the :path of the call: of gRPC, its full method name.
func (c *Call) Path() string { return c.request.path }

// GRPC tells whether the content-type is one of gRPC.
func (c *Call) GRPC() bool { return c.request.grpc }

// Arrived returns when the headers of the call were read.
func (c *Call) Arrived() time.Time { return c.arrived }

// Fields returns the header list of the request, with the pseudo-header fields first. It is not to be changed but by Set.
func (c *Call) Fields() []Field { return c.fields }

// Sent tells whether the headers of the call are on their way to a back-end, or were: whether it may have begun to work on it.
func (c *Call) Sent() bool { return c.opened.Load() }

// Set replaces a field, or adds it. To be called before Forward.
func (c *Call) Set(name, value string) {
	i := slices.IndexFunc(c.fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		c.fields = append(c.fields, Field{Name: name, Value: value})
		return
	}
	c.fields[i].Value = value
	same := func(f Field) bool { return f.Name == name }
	c.fields = append(c.fields[:i+1], slices.DeleteFunc(c.fields[i+1:], same)...)
}

// Drop takes a field away. To be called before Forward.
func (c *Call) Drop(name string) {
	c.fields = slices.DeleteFunc(c.fields, func(f Field) bool { return f.Name == name })
}

// Note adds f to the headers of the answer, whoever gives it, interim ones excepted. To be called in the decision hook, before Forward or
// Answer.
func (c *Call) Note(f Field) { c.note = &f }

// noted returns the headers of an answer with what was to be added to them.
func (c *Call) noted(fields []Field) []Field {
	if c.note == nil {
		return fields
	}
	return append(fields[:len(fields):len(fields)], *c.note)
}

// Observe sets who is told of the call. To be called in the decision hook, before anything else.
func (c *Call) Observe(o Observer) { c.observer = o }

// Detach announces that the decision will come from elsewhere. To be called in the decision hook, before anybody else may know of the call.
func (c *Call) Detach() { c.detached.Store(true) }

// Wake asks for Observer.Woken at t instead of any time that was set before; zero is never.
func (c *Call) Wake(t time.Time) {
	if t.IsZero() {
		c.wake.Store(0)
		return
	}
	at := t.Sub(epoch)
	c.wake.Store(int64(at))
	c.client.wakeBy(at)
}

// Follow asks for a Progress of MoreMessages whenever messages have begun from now on: before what brings those of the request goes on, and
// after what brings those of the answer has gone on.
func (c *Call) Follow() { c.followed.Store(true) }

// Messages returns how many messages of gRPC have begun in each direction.
func (c *Call) Messages() (requests, answers int64) {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	return c.traffic.RequestMessages, c.traffic.AnswerMessages
}

// epoch is what times are kept relative to, as one word.
var epoch = time.Now()

// Forward sends the call to e. If that turns out to be impossible the observer's Unsent is called, perhaps before Forward returns.
func (c *Call) Forward(e *Endpoint) {
	up := c.prepare()
	if up == nil {
		return // The client is gone, and Ended says so.
	}
	turn := !c.detached.Swap(true) // Whatever happens from now on happens elsewhere.
	e.send(up, turn)
}

// prepare makes the port that the call is sent through next; nil if there is nobody to send it for.
func (c *Call) prepare() *port {
	up := &c.first
	if up.call != nil { // It goes again.
		up = new(port)
	}
	up.call = c
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	if c.dead {
		return nil
	}
	up.gift = c.credited
	c.up, c.linked, c.sent = up, false, 0
	return up
}

// Answer ends the call with an answer of the relay's own: fields are a whole header list, :status first. If headers of the back-end's
// answer have gone out, the rest of fields goes as trailers; inside a message, or after a content-length, the client's stream is reset. A
// back-end that has the call gets a reset. A call that is answered in the decision hook must not be used after it. Answer reports whether
// the client has been told anything; it has not if the call is over.
func (c *Call) Answer(fields []Field) bool {
	c.ended.Store(true)
	up, told := c.answerClient(fields)
	if up != nil {
		up.reset(http2.ErrCodeCancel)
	}
	switch {
	case c.detached.Load():
		c.client.flush()
	case !c.spent:
		c.spent = true
		c.client.spent = append(c.client.spent, c)
	}
	return told
}

func (c *Call) answerClient(fields []Field) (up *port, told bool) {
	cl := c.client
	cl.mu.Lock()
	defer cl.mu.Unlock()
	up = c.retireLocked()
	p := &c.down
	if p.closed || p.sentEnd || p.ending {
		return up, false
	}
	switch {
	case !p.headed:
		cl.appendHeaders(p.id, c.noted(fields), true)
	case p.wait.len() > 0 || c.measured || c.answers.inside():
		cl.resetLocked(p, http2.ErrCodeCancel)
		return up, true
	default:
		cl.appendHeaders(p.id, withoutHead(fields), true)
	}
	cl.endedLocked(p)
	if !p.closed {
		cl.swallowLocked(p, c.detached.Load())
	}
	return up, true
}

// retireLocked takes the call off its back-end, and returns the port there, if it has one that is linked.
func (c *Call) retireLocked() *port {
	var up *port
	if c.linked {
		up = c.up // Otherwise whoever is about to link it finds that it is not wanted.
	}
	c.client.held -= int64(max(len(c.early)-c.credited, 0)) // Nobody will credit it any more.
	c.client.grantLocked()
	c.up, c.linked, c.dead, c.early, c.replay = nil, false, true, nil, false
	return up
}

// withoutHead returns the fields that may be trailers.
func withoutHead(fields []Field) []Field {
	var rest []Field
	for _, f := range fields {
		if f.Name[0] != ':' && f.Name != "content-type" {
			rest = append(rest, f)
		}
	}
	return rest
}

// finish tells the observer, once, how the call ended.
func (c *Call) finish(e End) {
	if c.ended.Swap(true) || c.observer == nil {
		return
	}
	c.client.mu.Lock()
	e.Traffic = c.traffic
	c.client.mu.Unlock()
	e.Traffic.Stalls = c.stalls.Load()
	c.observer.Ended(e)
}

func (c *Call) progress(p Progress) {
	if c.observer != nil && !c.ended.Load() {
		c.observer.Progress(p)
	}
}
