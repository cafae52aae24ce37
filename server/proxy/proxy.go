// Package proxy is the data path: it joins the relay, which moves frames and decides nothing, with the guards, which decide and know no
// frames.
//
// # The seam
//
// A passage (gate.go) is one call on its way: it identifies the call from its headers, asks the guard, picks an endpoint, makes spans and
// metrics, and is told by the relay, as the call goes on, of its first sign of life, of its messages and of its end. A call that has to
// wait in the guard's line costs no goroutine: the guard tells the passage when it is decided.
//
// # Transparency
//
// Any method of any service passes, whatever it carries, as it came: fields in their order, with duplicates and binary values, whatever the
// encoding, trailers, status details, half-close and cancellation in both directions, resets with their codes. The guard changes
// three fields: grpc-timeout, from which the wait in line is taken; traceparent and tracestate, if it makes spans; and a host that says the
// same as the :authority goes. capguard-lease is between client and guard: it is answered, and goes no further. (docs/design/leases.md)
//
// # Invariants
//
// A refused call is answered Trailers-Only, before its message is read. A permit is given back exactly once, on every path. A side that does
// not read stops the other side after the windows of flow control are full. Health and reflection of the back-end always pass; they are
// neither refused nor counted.
//
// Whoever ends a call first determines what its caller sees: the back-end's status if there is one; else the fault in the caller's own
// request; else the caller's cancellation or deadline.
//
// # What this package does not do
//
// It does not retry (beyond calls that a back-end provably never began), it changes no message, and it decides nothing: package guard
// does. It speaks no HTTP/2 itself: package relay does.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/relay"
	"github.com/capguard/capguard/server/telemetry"
)

// Options are the wiring of a proxy and the bounds of what one client may ask of it.
type Options struct {
	// TLS secures the data port; nil is plain text.
	TLS *tls.Config
	// Telemetry takes spans and figures; nil discards them.
	Telemetry *telemetry.Telemetry
	// Limits bound what a client may ask.
	Limits relay.Limits
	// Stats takes the figures of the data port; nil makes its own.
	Stats *relay.Stats
}

// Proxy stands in front of one or more back-ends. Safe for concurrent use.
type Proxy struct {
	relay     *relay.Relay
	backends  []*Backend
	telemetry *telemetry.Telemetry

	// drained is done when nothing guarded is left to be waited for: what passed unguarded ends then, too.
	drained context.Context
	drain   context.CancelFunc
}

// New returns a proxy before backends, of which a call goes to the first that has a route for its method. At least one back-end is
// needed. They stay the caller's to close, after Drain.
func New(o Options, backends ...*Backend) *Proxy {
	p := &Proxy{backends: backends, telemetry: o.Telemetry}
	if p.telemetry == nil {
		p.telemetry = telemetry.Discard()
	}
	p.drained, p.drain = context.WithCancel(context.Background())
	p.relay = relay.New(relay.Options{Decide: p.decide, TLS: o.TLS, Limits: o.Limits, Stats: o.Stats})
	return p
}

// Serve answers the calls that come in on lis, until Drain; then it returns nil. It may be called for several listeners at once.
func (p *Proxy) Serve(lis net.Listener) error {
	if err := p.relay.Serve(lis); err != nil {
		return fmt.Errorf("serve data port %s: %w", lis.Addr(), err)
	}
	return nil
}

// Drain stops for good: listeners close, clients are told to go elsewhere, calls that still arrive are refused with DRAINING, and the
// calls in flight may end until ctx does. What is left then is cut, and the error says so.
func (p *Proxy) Drain(ctx context.Context) error {
	defer p.drain()
	errs := make([]error, len(p.backends)+1)
	var guards, port sync.WaitGroup
	port.Go(func() { errs[len(p.backends)] = p.relay.Drain(ctx) })
	for i, b := range p.backends {
		guards.Go(func() { errs[i] = b.guard.Drain(ctx) })
	}
	guards.Wait()
	p.drain()
	port.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drain data port: %w", err)
	}
	return nil
}

// decide is asked by the relay for each call.
func (p *Proxy) decide(call *relay.Call) {
	method := call.Path()
	if !utf8.ValidString(method) { // Traces and metrics take nothing but text; no method is named so.
		st := status.Newf(codes.Unimplemented, "malformed method name: %+q", method[:min(len(method), 256)])
		call.Answer(answerFor(call, grpcguard.AppendStatus(nil, st)))
		return
	}
	b, unguarded := p.route(method)
	if b == nil {
		call.Answer(answerFor(call, grpcguard.AppendStatus(nil, p.noRoute(method))))
		return
	}
	c := p.arrive(call, b, method)
	if unguarded {
		c.unguarded = true
		call.Detach() // A drain may end it at any time.
		c.stop = context.AfterFunc(p.drained, func() { c.finish(errDrained, true) })
	}
	if c.admit() {
		*c = passage{}
		passages.Put(c)
	}
}

// passages are those that were refused at once, to be used again: a flood of refusals so leaves no garbage behind.
var passages = sync.Pool{New: func() any { return new(passage) }}

// arrive begins the passage of a call.
func (p *Proxy) arrive(call *relay.Call, b *Backend, method string) *passage {
	c := passages.Get().(*passage)
	c.p, c.relayed, c.backend, c.method, c.began, c.ctx = p, call, b, method, call.Arrived(), background
	c.rules = b.table.Load().lookup(method)
	var said grpcguard.Said
	var deadline time.Time
	var traced guard.Trace
	demand, asks := "", false
	for _, f := range call.Fields() {
		switch f.Name {
		case "grpc-timeout":
			if d, ok := grpcguard.ParseTimeout(f.Value); ok && deadline.IsZero() {
				deadline = c.began.Add(d)
			}
		case grpcguard.TraceparentKey:
			traced = grpcguard.ParseTrace(f.Value)
		case grpcguard.LeaseKey:
			demand, asks = f.Value, true
		default:
			said.Field(f.Name, f.Value)
		}
	}
	c.call = said.Call(c.rules.defaults, c.rules.most)
	c.call.Method, c.call.Deadline, c.call.Trace = method, deadline, traced
	if asks {
		lease(call, b, demand)
	}
	return c
}

// lease answers a call that asks for one. What is no demand is not answered; neither goes on to the back-end.
func lease(call *relay.Call, b *Backend, demand string) {
	call.Drop(grpcguard.LeaseKey)
	if slots, ok := grpcguard.ParseLease(demand); ok {
		call.Note(relay.Field{Name: grpcguard.LeaseKey, Value: grpcguard.FormatLease(b.guard.Lease(slots))})
	}
}

// background is the context of calls that carry no span.
var background = context.Background()

// answerFor makes fields, which are an answer in gRPC, one that the caller understands: who does not speak gRPC looks at the :status alone.
func answerFor(call *relay.Call, fields []relay.Field) []relay.Field {
	if call.GRPC() {
		return fields
	}
	for i, f := range fields {
		if f.Name == "grpc-status" {
			fields[0].Value = httpStatus(grpcguard.ParseCode(f.Value))
		}
		if f.Name == "content-type" {
			fields[i].Value = "text/plain"
		}
	}
	return fields
}

// httpStatus returns the :status that says about the same as a code of the guard's.
func httpStatus(c codes.Code) string {
	switch c {
	case codes.Unimplemented:
		return "404"
	case codes.ResourceExhausted:
		return "429"
	case codes.Internal:
		return "500"
	case codes.DeadlineExceeded:
		return "504"
	}
	return "503"
}

// route returns the back-end of method, or nil, and whether the method is one that always passes.
func (p *Proxy) route(method string) (b *Backend, unguarded bool) {
	unguarded = strings.HasPrefix(method, "/grpc.health.v1.Health/") || strings.HasPrefix(method, "/grpc.reflection.")
	for _, b := range p.backends {
		if b.table.Load().routesTo(method) {
			return b, unguarded
		}
	}
	if unguarded { // Routes name the services of people; these two belong to whoever is there.
		return p.backends[0], true
	}
	return nil, false
}

// maxRoutes bounds the routes in the answer to a call that has none.
const maxRoutes = 20

// noRoute is the answer to a call that no back-end has a route for.
func (p *Proxy) noRoute(method string) *status.Status {
	var routes []string
	for _, b := range p.backends {
		for _, r := range b.Routes() {
			routes = append(routes, b.name+": "+r)
		}
	}
	if len(routes) > maxRoutes {
		routes = append(routes[:maxRoutes], "...")
	}
	return status.Newf(codes.Unimplemented, "no back-end of this guard has a route for %q; the routes are %s",
		method[:min(len(method), 256)], strings.Join(routes, ", "))
}
