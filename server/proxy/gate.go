package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/relay"
	"github.com/capguard/capguard/server/telemetry"
)

// passage is one call on its way through the guard: it decides and observes. It is the relay's Observer of the call, and the guard's Settler
// while the call waits. Its methods are called from any goroutine; each that can meet a panic contains it, for one call may fail, the
// others must not.
type passage struct {
	p         *Proxy
	relayed   *relay.Call
	backend   *Backend
	method    string
	unguarded bool // passes always, is not counted
	rules     *rules
	call      guard.Call
	began     time.Time
	ctx       context.Context // carries the server span if there is one

	wait  guard.Wait    // while it is in line
	asked atomic.Uint32 // whose turn it is when the guard has decided on a call that had to wait

	mu       sync.Mutex
	decision guard.Decision
	permit   guard.Permit
	settled  bool // there is a decision
	over     bool // somebody knows how the call ended
	left     bool // all is given back
	address  *address
	sent     time.Time
	unsent   int  // how often it did not reach its endpoint
	again    bool // a back-end turned it away, and it was sent again
	life     life
	spans    spans
	end      ending
	requests int64       // messages of a stream that the guard was told of
	answers  int64       // the same of its answers
	stop     func() bool // of what ends an unguarded call when the guard stops
}

// ending is how a call ended.
type ending struct {
	status   *status.Status // nil when nobody lived to tell
	byCaller bool           // whoever ended it was not the back-end
	traffic  relay.Traffic  // zero where the guard has ended the call
}

// The states of passage.asked: the goroutine that asked the guard goes on with the call, unless it has let go of it by then.
const (
	asking uint32 = iota
	letGo
	settled
)

// admit asks the guard, and goes on with the call if the answer comes at once. It returns true if the call was refused then: nobody else has
// heard of the passage.
func (c *passage) admit() (refused bool) {
	defer c.contain()
	c.relayed.Observe(c)
	if c.unguarded {
		c.goOn(guard.Permit{}, guard.Decision{Admitted: true})
		return false
	}
	c.startServerSpan()
	p, d, w := c.backend.guard.Ask(c.call, c)
	if !w.Waiting() {
		c.goOn(p, d)
		return !d.Admitted
	}
	c.wait = w
	c.relayed.Detach()
	if !c.asked.CompareAndSwap(asking, letGo) { // Settle came before.
		c.resume()
	}
	return false
}

// Settle takes the guard's decision on a call that had to wait.
func (c *passage) Settle(p guard.Permit, d guard.Decision) {
	c.mu.Lock()
	c.permit, c.decision = p, d
	c.mu.Unlock()
	if c.asked.Swap(settled) == letGo {
		defer c.contain()
		c.resume()
	}
}

// resume goes on with a call that had to wait.
func (c *passage) resume() {
	c.mu.Lock()
	p, d := c.permit, c.decision
	c.mu.Unlock()
	c.goOn(p, d)
}

// goOn takes a decision to the relay.
func (c *passage) goOn(p guard.Permit, d guard.Decision) {
	switch to, over := c.settle(p, d); {
	case over:
		c.leave()
	case !d.Admitted:
		c.refuse()
	case to == nil:
		c.unreachable()
	default:
		if d.Stream {
			c.tellMessages() // Some may have come while it waited.
		}
		c.relayed.Forward(to.endpoint)
	}
}

// settle notes the decision, and where an admitted call goes; over tells that it goes nowhere, as its caller is gone.
func (c *passage) settle(p guard.Permit, d guard.Decision) (to *address, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.permit, c.decision, c.settled = p, d, true
	if !c.over && d.Admitted {
		e := p.Endpoint()
		if c.unguarded {
			e = c.backend.guard.Route(nil)
		}
		c.goLocked(addressOf(e))
	}
	return c.address, c.over
}

// goLocked prepares the call for an address, unless it is none.
func (c *passage) goLocked(to *address) {
	if c.address = to; to == nil {
		return
	}
	to.begin()
	if !c.sent.IsZero() {
		return // It goes again.
	}
	if c.sent = c.began; c.decision.Wait > 0 {
		c.sent = time.Now()
	}
	c.life.sent = c.sent
	if c.decision.Stream {
		c.relayed.Follow()
	}
	c.startClientSpan()
	c.limitTime()
	c.watchLocked()
}

// limitTime takes off the deadline what the call has waited.
func (c *passage) limitTime() {
	if c.call.Deadline.IsZero() || c.decision.Wait == 0 {
		return // What passed since its headers came is less than the network adds.
	}
	c.relayed.Set("grpc-timeout", grpcguard.FormatTimeout(c.call.Deadline.Sub(c.sent)))
}

// watchLocked asks to be woken when time alone changes something.
func (c *passage) watchLocked() {
	at := c.life.due()
	if d := c.call.Deadline; !d.IsZero() {
		if d = d.Add(maxSlack); at.IsZero() || d.Before(at) {
			at = d
		}
	}
	c.relayed.Wake(at)
}

// Progress takes how far the call has come.
func (c *passage) Progress(p relay.Progress) {
	defer c.contain()
	switch p {
	case relay.RequestComplete:
		c.complete()
		return
	case relay.MoreMessages:
		c.tellMessages()
		return
	}
	now := time.Now()
	c.mu.Lock()
	switch p {
	case relay.RequestBegun:
		c.life.requested = now
	case relay.ManyRequests:
		c.life.many = true
	case relay.Answered:
		c.life.answered = now
	case relay.ManyAnswers:
		c.life.shown = true
	}
	e := c.concludeLocked(now)
	permit := c.permit
	c.mu.Unlock()
	if p == relay.Answered {
		permit.Answered()
	}
	c.tell(permit, e)
}

// tellMessages tells the guard of the messages that passed on a stream since the last time.
func (c *passage) tellMessages() {
	requests, answers := c.relayed.Messages()
	c.mu.Lock()
	sent, answered := requests-c.requests, answers-c.answers
	c.requests, c.answers = max(c.requests, requests), max(c.answers, answers)
	permit := c.permit
	c.mu.Unlock()
	if sent > 0 || answered > 0 { // Who was overtaken by another has nothing to tell.
		permit.Messages(int(sent), int(answered))
	}
}

// complete notes that the request is complete, which makes nobody a stream.
func (c *passage) complete() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life.halfClosed = true
	if !c.sent.IsZero() && !c.over {
		c.watchLocked()
	}
}

// concludeLocked draws the conclusion, once the call was sent.
func (c *passage) concludeLocked(now time.Time) evidence {
	if c.sent.IsZero() || c.over {
		return nothing
	}
	e := c.life.conclude(now)
	c.watchLocked()
	return e
}

// tell tells the guard what has turned out. What passed on the call until now was part of it as a call, and is forgotten.
func (c *passage) tell(p guard.Permit, e evidence) {
	switch e {
	case nothing:
		return
	case stream:
		p.Stream()
	case methodStream:
		p.MethodStreams()
	}
	requests, answers := c.relayed.Messages()
	c.mu.Lock()
	c.requests, c.answers = max(c.requests, requests), max(c.answers, answers)
	c.mu.Unlock()
	c.relayed.Follow()
}

// Woken looks at the call again: it may have become a stream, or its deadline may have passed while its back-end had it.
func (c *passage) Woken(now time.Time) {
	defer c.contain()
	c.mu.Lock()
	e := c.concludeLocked(now)
	late := !c.over && !c.call.Deadline.IsZero() && !now.Before(c.call.Deadline.Add(maxSlack))
	permit := c.permit
	c.mu.Unlock()
	c.tell(permit, e)
	if late {
		st, byCaller := c.expired()
		c.finish(st, byCaller)
	}
}

// Unsent sends a call once more that did not reach its endpoint, elsewhere if there is another.
func (c *passage) Unsent(err error) {
	defer c.contain()
	to, over := c.sendAgain(err)
	switch {
	case over:
	case to == nil:
		c.backend.log.Debug("call not sent", "method", c.method, "error", err)
		c.unreachable()
	default:
		c.relayed.Forward(to.endpoint)
	}
}

// sendTime is how long a call may look for an endpoint that takes it.
const sendTime = time.Second

// sendAgain chooses where a call goes that did not reach its endpoint. Those that were turned away go again once: a back-end that turns calls
// away is short, and so are, most likely, its neighbours.
func (c *passage) sendAgain(err error) (to *address, over bool) {
	from, enough, over := c.comeBack(err)
	if over {
		return nil, true
	}
	if !enough {
		to = addressOf(c.elsewhere(from)) // Without the lock: the guard may tell others their decisions.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.goLocked(to)
	}
	return to, c.over
}

// comeBack takes a call off the address that it did not reach, and tells whether it has been sent often enough.
func (c *passage) comeBack(err error) (from *address, enough, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil, false, true
	}
	from, c.address = c.address, nil
	from.end()
	enough = c.unsent >= len(c.backend.endpoints.targets) || time.Since(c.sent) >= sendTime
	c.unsent++
	if e, ok := errors.AsType[*relay.UnsentError](err); ok && e.TurnedAway {
		enough, c.again = enough || c.again, true
	}
	return from, enough, false
}

// elsewhere returns where the guard sends a call that did not reach its endpoint.
func (c *passage) elsewhere(from *address) *guard.Endpoint {
	if c.unguarded {
		return c.backend.guard.Route(from.guarded)
	}
	e, _ := c.permit.Elsewhere()
	return e
}

// Ended takes the end of a call that the relay has forwarded, or that waits.
func (c *passage) Ended(e relay.End) {
	defer c.contain()
	st, byCaller := c.judge(e)
	// A reset passes as it is, but one at the deadline would look like a cancellation to a caller whose own clock is late.
	if e.Lost || e.By == relay.ByRelay || e.Broken && st.Code() == codes.DeadlineExceeded {
		c.relayed.Answer(c.fields(st))
	}
	c.close(st, byCaller, e.Traffic)
}

// judge returns the status that an end is, and whether somebody else than the back-end ended the call.
func (c *passage) judge(e relay.End) (st *status.Status, byCaller bool) {
	switch {
	case e.By == relay.ByCaller:
		return c.canceled()
	case e.By == relay.ByRelay:
		return status.New(codes.ResourceExhausted, e.Reason), true
	case e.Lost:
		return status.New(codes.Unavailable, e.Reason), false
	case e.Broken && e.Code == http2.ErrCodeCancel && c.nearDeadline(): // So grpc-go's server tells of it.
		return c.expired()
	case e.Broken:
		return status.New(resetCode(e.Code), e.Reason), false
	case e.GRPCStatus == "0":
		return statusOK, false
	case e.GRPCStatus != "":
		return status.New(grpcguard.ParseCode(e.GRPCStatus), grpcguard.DecodeMessage(e.GRPCMessage)), false
	case e.Status == "200" && !c.relayed.GRPC():
		return statusOK, false
	}
	return status.New(grpcguard.HTTPCode(e.Status), "HTTP status "+e.Status), false
}

// resetCode returns the code that a reset stands for, as gRPC maps them. (grpc's doc/PROTOCOL-HTTP2.md)
func resetCode(c http2.ErrCode) codes.Code {
	switch c {
	case http2.ErrCodeRefusedStream:
		return codes.Unavailable
	case http2.ErrCodeCancel:
		return codes.Canceled
	case http2.ErrCodeEnhanceYourCalm:
		return codes.ResourceExhausted
	case http2.ErrCodeInadequateSecurity:
		return codes.PermissionDenied
	}
	return codes.Internal
}

// canceled returns what is behind a call that its caller ended: that, or its deadline.
//
// A deadline often looks like a cancellation: the caller's clock strikes first, and the caller resets the call. So what comes within a
// tenth of the call's time, 50 ms at most, before its deadline, is taken for the deadline. The back-end had the call, and was too slow.
func (c *passage) canceled() (_ *status.Status, byCaller bool) {
	if c.nearDeadline() {
		return c.expired()
	}
	return status.New(codes.Canceled, "the caller ended the call"), true
}

func (c *passage) nearDeadline() bool {
	d := c.call.Deadline
	return !d.IsZero() && time.Until(d) <= min(d.Sub(c.began)/10, maxSlack)
}

// expired returns what a call is whose deadline has passed: too slow an answer, if it was sent at all.
func (c *passage) expired() (_ *status.Status, byCaller bool) {
	if c.relayed.Sent() {
		return status.New(codes.DeadlineExceeded, "the deadline passed while the back-end had the call"), false
	}
	return status.New(codes.DeadlineExceeded, "the deadline passed before the call could be sent"), true
}

// maxSlack is the most that a caller's clock is taken to strike before the guard's, and that an answer at the deadline is waited for.
const maxSlack = 50 * time.Millisecond

// refuse answers with the refusal that the decision is.
func (c *passage) refuse() {
	c.mu.Lock()
	d := c.decision
	c.mu.Unlock()
	var area [8]relay.Field
	fields := c.backend.refuser.Append(area[:0], d, c.call)
	c.relayed.Answer(c.forCaller(fields))
	c.close(status.New(grpcguard.Code(d.Reason), ""), true, relay.Traffic{})
}

// reconnectAfter is when a retry may find an endpoint again: the longest pause between two attempts to connect, jittered.
func reconnectAfter() time.Duration { return maxBackoff/2 + rand.N(maxBackoff/2) }

// maxBackoff is the longest pause between two attempts to connect to an endpoint.
const maxBackoff = 2 * time.Second

// unreachable refuses a call that found no endpoint.
func (c *passage) unreachable() {
	c.mu.Lock()
	c.decision.Admitted, c.decision.Reason, c.decision.RetryAfter = false, guard.BackendUnreachable, reconnectAfter()
	d := c.decision
	c.mu.Unlock()
	c.backend.guard.Report(c.call, d)
	c.relayed.Answer(c.forCaller(c.backend.refuser.Append(nil, d, c.call)))
	c.close(status.New(codes.Unavailable, "no endpoint can be reached"), false, relay.Traffic{})
}

// finish ends the call with a status of the guard's own.
func (c *passage) finish(st *status.Status, byCaller bool) {
	c.relayed.Answer(c.fields(st))
	c.close(st, byCaller, relay.Traffic{})
}

// fields returns the header list of a status of the guard's own.
func (c *passage) fields(st *status.Status) []relay.Field {
	return c.forCaller(grpcguard.AppendStatus(nil, st))
}

// forCaller makes an answer one that its caller understands: who does not speak gRPC looks at the :status alone.
func (c *passage) forCaller(fields []relay.Field) []relay.Field { return answerFor(c.relayed, fields) }

// close notes how the call ended, and gives everything back if the guard has decided; if not, it is made to.
func (c *passage) close(st *status.Status, byCaller bool, t relay.Traffic) {
	c.mu.Lock()
	first := !c.over
	if first {
		c.over, c.end = true, ending{st, byCaller, t}
	}
	decided := c.settled
	c.mu.Unlock()
	switch {
	case !first:
	case decided:
		c.leave()
	default:
		c.wait.Cancel() // Its Settle leaves.
	}
}

// leave gives everything back and tells what happened, once.
func (c *passage) leave() {
	now := time.Now()
	c.mu.Lock()
	if c.left {
		c.mu.Unlock()
		return
	}
	c.left = true
	o := c.outcomeLocked()
	c.mu.Unlock()
	c.permit.Done(o) // From here on nobody writes to the passage.
	if c.address != nil {
		c.address.end()
	}
	if c.stop != nil {
		c.stop()
	}
	if !c.unguarded {
		c.record(now)
	}
}

// outcomeLocked returns what the call told about the back-end.
func (c *passage) outcomeLocked() guard.Outcome {
	st := c.end.status
	switch {
	case c.unguarded, st == nil:
		return guard.Ignored
	case c.end.byCaller && st.Code() == codes.Canceled && c.relayed.Sent():
		return guard.Abandoned
	case c.end.byCaller:
		return guard.Ignored
	case c.decision.Reason == guard.BackendUnreachable && !c.decision.Admitted:
		return guard.Failure // Nobody was there: the breaker must know, and there is no latency to learn from.
	case c.life.streaming && st.Code() == codes.DeadlineExceeded:
		return guard.Ignored // A stream that lived until its caller's time was up is no sign of overload.
	}
	return c.rules.outcome(st.Code())
}

// record hands the call to telemetry.
func (c *passage) record(now time.Time) {
	code, decision := codes.Unknown, telemetry.Decision(guard.None)
	if c.end.status != nil {
		code = c.end.status.Code()
	}
	if !c.decision.Admitted {
		decision = telemetry.Decision(c.decision.Reason)
	}
	var upstream time.Duration
	if c.address != nil {
		upstream = now.Sub(c.sent)
	}
	c.p.telemetry.Call(c.backend.name, c.method, decision, code, now.Sub(c.began), upstream, c.decision.Wait)
	c.endSpans(decision, telemetry.CodeName(code))
}

// contain keeps a panic to its call.
func (c *passage) contain() {
	r := recover()
	if r == nil {
		return
	}
	c.backend.log.Error("call panicked", "method", c.method, "panic", r, "stack", string(debug.Stack()))
	c.finish(errPanicked, true)
}

var (
	statusOK    = status.New(codes.OK, "")
	errPanicked = status.New(codes.Internal, "the guard failed on this call; please report this bug")
	// errDrained ends what passed unguarded when the guard stops.
	errDrained = status.New(codes.Unavailable, "the guard is shutting down; try again at once, elsewhere")
)
