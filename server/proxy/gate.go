package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/telemetry"
)

// passage is one call on its way through the guard: it decides and observes. Whoever moves the frames makes it with arrive, defers leave,
// asks admit, and calls the hooks. Each hook may be called from any goroutine.
type passage struct {
	p         *Proxy
	backend   *Backend
	method    string
	unguarded bool // passes always, is not counted

	ctx      context.Context // of the call; carries the server span if there is one
	rules    *rules
	call     guard.Call
	decision guard.Decision
	permit   guard.Permit
	endpoint *endpoint // where it goes; nil when it goes nowhere
	life     life
	spans    spans

	began, sent time.Time
	status      *status.Status // how it ended; nil when the handler did not live to tell
	byCaller    bool           // whoever ended it was not the back-end
}

// arrive begins the passage of a call with metadata md. ctx ends when its caller is gone or its deadline has passed.
func (p *Proxy) arrive(ctx context.Context, b *Backend, method string, md metadata.MD) *passage {
	c := &passage{p: p, backend: b, method: method, ctx: ctx, began: time.Now()}
	c.rules = b.table.Load().lookup(method)
	c.call = grpcguard.Identify(md, c.rules.defaults)
	c.call.Method = method
	c.call.Deadline, _ = ctx.Deadline()
	c.life.stream, c.life.proven = func() { c.permit.Stream() }, func() { c.permit.MethodStreams() }
	return c
}

// admit decides on the call. It returns nil, and then the call goes to c.endpoint; or the refusal with its trailers. A call that was
// cancelled before anybody looked at it is not decided on: a flood of those would keep the others from the guard.
func (c *passage) admit(md metadata.MD) (*status.Status, metadata.MD) {
	switch {
	case c.unguarded:
		c.decision.Admitted = true
	case errors.Is(c.ctx.Err(), context.Canceled):
		c.decision.Reason = guard.Canceled
		c.status, c.byCaller = status.FromContextError(c.ctx.Err()), true
		return c.status, nil
	default:
		c.startServerSpan(md)
		c.permit, c.decision = c.backend.guard.Admit(c.ctx, c.call)
	}
	if !c.decision.Admitted {
		return c.refuse()
	}
	e := c.backend.endpoints.pick(c.ctx)
	if e == nil {
		return c.unreachable()
	}
	c.endpoint = e
	e.begin()
	c.sent = time.Now()
	c.life.begin()
	c.startClientSpan(md)
	return nil, nil
}

// refuse returns the refusal that the decision is.
func (c *passage) refuse() (*status.Status, metadata.MD) {
	st, trailer := grpcguard.Refusal(c.decision, c.call, c.backend.name)
	c.status, c.byCaller = st, true
	return st, trailer
}

// reconnectAfter is when a retry may find an endpoint again: the longest pause between two attempts to connect, jittered.
func reconnectAfter() time.Duration { return maxBackoff/2 + rand.N(maxBackoff/2) }

// unreachable returns the refusal of a call that found no endpoint. If its caller is gone, that is the reason, and tells nothing of the
// back-end.
func (c *passage) unreachable() (*status.Status, metadata.MD) {
	if err := c.ctx.Err(); err != nil {
		c.status, c.byCaller = status.FromContextError(err), true
		return c.status, nil
	}
	c.decision.Admitted, c.decision.Reason, c.decision.RetryAfter = false, guard.BackendUnreachable, reconnectAfter()
	st, trailer := c.refuse()
	c.byCaller = false
	return st, trailer
}

// answered tells that the back-end sent the headers of its answer.
func (c *passage) answered() {
	c.permit.Answered()
	c.life.headers()
}

// request tells of a message to the back-end, response of one from it, halfClose of the end of the request.
func (c *passage) request()   { c.life.request() }
func (c *passage) response()  { c.life.response() }
func (c *passage) halfClose() { c.life.halfClose() }

// end tells with what status the call ended. byCaller says that it was not the back-end who ended it.
func (c *passage) end(st *status.Status, byCaller bool) { c.status, c.byCaller = st, byCaller }

// leave gives everything back and tells what happened. It must be deferred as soon as there is a passage, so that it runs on every path,
// panics and runtime.Goexit among them; only then is the permit safe.
func (c *passage) leave() {
	now := time.Now()
	o := c.outcome(c.life.end())
	c.permit.Done(o)
	if c.endpoint != nil {
		c.endpoint.end(o, now)
	}
	if !c.unguarded {
		c.record(now)
	}
}

// outcome returns what the call told about the back-end.
func (c *passage) outcome(streaming bool) guard.Outcome {
	switch {
	case c.status == nil || c.byCaller || c.unguarded:
		return guard.Ignored
	case c.decision.Reason == guard.BackendUnreachable && !c.decision.Admitted:
		return guard.Failure // Nobody was there: the breaker must know, and there is no latency to learn from.
	case streaming && c.status.Code() == codes.DeadlineExceeded:
		return guard.Ignored // A stream that lived until its caller's time was up is no sign of overload.
	}
	return c.rules.outcome(c.status.Code())
}

// record hands the call to telemetry.
func (c *passage) record(now time.Time) {
	code, decision := codes.Unknown, telemetry.Decision(guard.None)
	if c.status != nil {
		code = c.status.Code()
	}
	if !c.decision.Admitted {
		decision = telemetry.Decision(c.decision.Reason)
	}
	var upstream time.Duration
	if c.endpoint != nil {
		upstream = now.Sub(c.sent)
	}
	c.p.telemetry.Call(c.ctx, c.backend.name, c.method, decision, code, now.Sub(c.began), upstream, c.decision.Wait)
	c.endSpans(decision, telemetry.CodeName(code))
}
