// Package proxy is the data path: calls come in, are decided on from their headers, and pass as raw frames to a back-end and back.
//
// # The seam
//
// The way of a call is cut in two. A passage (gate.go) decides and observes: it identifies the call, asks the guard, picks an endpoint,
// makes spans and metrics, and is told, as the call goes on, of its first sign of life, of its messages and of its end. It knows nothing
// of how frames move. The handler (handler.go) moves frames between a grpc-go server stream and a grpc-go client stream and calls those
// hooks. A faster relay replaces the handler and leaves the passage as it is.
//
// # Transparency
//
// Any method of any service passes, whatever it carries: metadata with duplicates and binary values, trailers, status details, deadlines
// (what is left of them after the wait in line), half-close and cancellation in both directions, the authority, and headers as soon as
// they arrive. What belongs to one connection alone (content-length, te, grpc-timeout and the like) is made anew on the other.
//
// Messages compressed with gzip are unpacked and packed again, in the encoding that each side chose. This is the place where grpc-go
// binds: a request in an encoding that it does not know is refused with UNIMPLEMENTED, which makes clients choose another. It also
// writes its own name behind every user agent; callers that do not use the same grpc-go see theirs with that suffix.
//
// # Invariants
//
// A refused call is answered Trailers-Only, before its message is read. A permit is given back exactly once, on every path out of the
// handler. A side that does not read stops the other side after the windows of flow control are full, about a megabyte; nothing is
// buffered beyond. Health and reflection of the back-end always pass; they are neither refused nor counted.
//
// Whoever ends a call first determines what its caller sees: the back-end's status if there is one; else the fault in the caller's own
// request; else the caller's cancellation or deadline.
//
// # What this package does not do
//
// It does not retry (beyond calls that a closing connection provably never processed), it changes no message, and it decides nothing:
// package guard does.
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

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/server/telemetry"
)

// Options are the wiring of a proxy and the bounds of what one client may ask of it.
type Options struct {
	// TLS secures the data port; nil is plain text.
	TLS *tls.Config
	// Telemetry takes spans and figures; nil discards them.
	Telemetry *telemetry.Telemetry
	// MaxMessageBytes bounds one message of a request; default DefaultMaxMessageBytes.
	MaxMessageBytes int
	// MaxHeaderBytes bounds the headers of a call; default 64 KiB.
	MaxHeaderBytes int
	// MaxConnectionStreams bounds the calls that are open at once on one connection; more of them wait at the client; default 250.
	MaxConnectionStreams int
	// MaxConnections bounds the connections of one listener; more of them wait to be accepted; default 10,000.
	MaxConnections int
}

// Times of the data port. Clients may ping as often as gRPC allows them to at the most; a stricter rule cuts well-meant streams.
const (
	handshakeTimeout = 20 * time.Second
	idleTimeout      = 30 * time.Minute // of a connection without calls
	pingAfter        = time.Minute      // of silence, to notice clients that vanished
	pingTimeout      = 20 * time.Second
	minPing          = 10 * time.Second
)

// Proxy stands in front of one or more back-ends. Safe for concurrent use.
type Proxy struct {
	server         *grpc.Server
	backends       []*Backend
	telemetry      *telemetry.Telemetry
	maxConnections int

	// drained is done when nothing guarded is left to be waited for: what passed unguarded ends then, too.
	drained context.Context
	drain   context.CancelFunc
}

// New returns a proxy before backends, of which a call goes to the first that has a route for its method. At least one back-end is
// needed. They stay the caller's to close, after Drain.
func New(o Options, backends ...*Backend) *Proxy {
	p := &Proxy{backends: backends, telemetry: o.Telemetry, maxConnections: boundOr(o.MaxConnections, 10_000)}
	if p.telemetry == nil {
		p.telemetry = telemetry.Discard()
	}
	p.drained, p.drain = context.WithCancel(context.Background())
	options := []grpc.ServerOption{
		grpc.UnknownServiceHandler(p.handle),
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.MaxRecvMsgSize(boundOr(o.MaxMessageBytes, DefaultMaxMessageBytes)),
		grpc.MaxHeaderListSize(uint32(boundOr(o.MaxHeaderBytes, 64<<10))),
		grpc.MaxConcurrentStreams(uint32(boundOr(o.MaxConnectionStreams, 250))),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	p.server = grpc.NewServer(options...)
	return p
}

// Serve answers the calls that come in on lis, until Drain; then it returns nil. It may be called for several listeners at once.
func (p *Proxy) Serve(lis net.Listener) error {
	if err := p.server.Serve(netutil.LimitListener(lis, p.maxConnections)); err != nil {
		return fmt.Errorf("serve data port %s: %w", lis.Addr(), err)
	}
	return nil
}

// Drain stops for good: listeners close, clients are told to go elsewhere, calls that still arrive are refused with DRAINING, and the
// calls in flight may end until ctx does. What is left then is cut, and the error says so.
func (p *Proxy) Drain(ctx context.Context) error {
	defer p.drain()
	stopped := make(chan struct{})
	go func() { // Ends before Drain does.
		defer close(stopped)
		p.server.GracefulStop()
	}()
	errs := make([]error, len(p.backends))
	var wg sync.WaitGroup
	for i, b := range p.backends {
		wg.Go(func() { errs[i] = b.guard.Drain(ctx) })
	}
	wg.Wait()
	p.drain()
	select {
	case <-stopped:
	case <-ctx.Done():
		p.server.Stop()
		<-stopped
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drain data port: %w", err)
	}
	return nil
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
