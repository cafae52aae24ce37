// Package relay passes HTTP/2 calls between clients and back-ends, frame by frame.
//
// A call is decided on from its request headers; its DATA frames pass unread but for the boundaries of gRPC messages; its trailers tell the
// outcome. No message is ever held: what a receiver does not take stops the sender, end to end, after the windows of flow control.
//
//	r := relay.New(relay.Options{Decide: func(c *relay.Call) {
//		if c.Path() == "/shop.Stock/Recommend" {
//			c.Answer(refusal)
//			return
//		}
//		c.Forward(endpoint)
//	}})
//	err := r.Serve(listener)
//
// # How it works
//
// Each connection has one goroutine that reads whatever is there and handles every complete frame in it. What that puts out is appended to the
// buffers of the connections it concerns, and each of those is written once, at the end of the turn: batches form by themselves under load.
// Whoever finds a connection's writer idle writes in place, without blocking; only when the socket is full does a goroutine take over. There
// is no goroutine for a stream, none for a call that waits, and none for an idle writer.
//
// A call is two ports: one on the connection of its client, one on the connection to its back-end. Each connection has one mutex, which
// guards its ports and everything that is sent on it. Two of these locks are never held together, and none while a hook runs.
//
// # Flow control
//
// A byte is credited to its sender when it has gone into the output of the other side, and that output is bounded. The credit of a
// connection to a back-end is given on receipt, since its callers share it: one that does not read must not stop the others. Its memory is
// bounded by the windows of its streams, which begin at 64 KiB and grow to 256 KiB for those that are read as fast as they are
// filled.
//
// # Hostile peers
//
// Every bound of Limits has a default. A breach is answered as RFC 9113 says: with RST_STREAM where it concerns one stream, with GOAWAY and the
// end of the connection where it does not. It is counted in Stats.
//
// # What this package does not do
//
// It knows nothing of flags, limits, breakers or telemetry: it asks one hook for each decision and tells an Observer what became of it. It
// resolves no names and balances nothing. It has no HTTP/1.1, no server push, no extended CONNECT, and it does not retry a call that its
// back-end may have begun.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Options are the wiring of a Relay.
type Options struct {
	// Decide is called with each new call, on the goroutine that reads the client's connection: it must not block. It ends with exactly
	// one of c.Forward and c.Answer, or with c.Detach; then one of the two is to follow later, from any goroutine. Required.
	Decide func(c *Call)
	// TLS secures the listeners; nil is plain text (HTTP/2 with prior knowledge). ALPN is set to h2.
	TLS *tls.Config
	// Limits bound what a client may ask; zero fields have the defaults.
	Limits Limits
	// Stats takes the figures; nil makes its own.
	Stats *Stats
}

// Relay takes calls from clients. Safe for concurrent use.
type Relay struct {
	decide func(c *Call)
	tls    *tls.Config
	limits Limits
	stats  *Stats

	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	draining  bool
	emptied   chan struct{} // closed when it drains and no connection is left
	tasks     sync.WaitGroup
}

// New returns a relay that serves nothing yet. End it with Drain or Close.
func New(o Options) *Relay {
	r := &Relay{
		decide: o.Decide, tls: serverTLS(o.TLS), limits: o.Limits.complete(), stats: o.Stats,
		conns: map[*conn]struct{}{}, listeners: map[net.Listener]struct{}{}, emptied: make(chan struct{}),
	}
	if r.stats == nil {
		r.stats = new(Stats)
	}
	return r
}

// Stats returns the figures so far.
func (r *Relay) Stats() *Stats { return r.stats }

// Serve takes the connections of lis, until the relay ends; then it returns nil. It closes lis. It may be called for several listeners;
// the bound of connections holds for each.
func (r *Relay) Serve(lis net.Listener) error {
	if !r.listen(lis) {
		return lis.Close()
	}
	defer r.unlisten(lis)
	room := make(chan struct{}, r.limits.Connections)
	for pause := time.Duration(0); ; {
		room <- struct{}{}
		nc, err := lis.Accept()
		switch {
		case err == nil:
			pause = 0
			r.take(nc, func() { <-room })
			continue
		case r.ended():
			return nil
		case !temporary(err):
			return fmt.Errorf("accept on %s: %w", lis.Addr(), err)
		}
		<-room
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		time.Sleep(pause) // Out of files, say: connections that end will free some.
	}
}

// temporary tells whether the next Accept may do better.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func (r *Relay) listen(lis net.Listener) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.draining {
		r.listeners[lis] = struct{}{}
	}
	return !r.draining
}

func (r *Relay) unlisten(lis net.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.listeners, lis)
	_ = lis.Close() // Closed already when the relay ends.
}

func (r *Relay) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draining
}

// take has a new connection run until it ends; then it calls left.
func (r *Relay) take(nc net.Conn, left func()) {
	c := newConn(nc, &r.limits, r.stats)
	c.relay = r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining { // And perhaps nobody waits for it any more.
		_ = nc.Close()
		left()
		return
	}
	r.conns[c] = struct{}{}
	r.stats.Connections.Add(1)
	r.stats.OpenConnections.Add(1)
	r.tasks.Go(func() { // Ends with the connection.
		defer left()
		defer r.drop(c)
		c.serve(r.tls)
	})
}

func (r *Relay) drop(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	r.stats.OpenConnections.Add(-1)
	r.emptyLocked()
}

func (r *Relay) emptyLocked() {
	if !r.draining || len(r.conns) > 0 {
		return
	}
	select {
	case <-r.emptied:
	default:
		close(r.emptied)
	}
}

// Drain stops listening and tells every client to go elsewhere: with a first GOAWAY that takes calls still on their way, and, once those
// have arrived, a second one that names the last. It returns when every connection has ended; what is left when ctx ends is cut, and the
// error says how much that was.
func (r *Relay) Drain(ctx context.Context) error {
	for _, c := range r.stop() {
		c.drain()
	}
	select {
	case <-r.emptied:
		r.tasks.Wait()
		return nil
	case <-ctx.Done():
	}
	cut := r.Close()
	if cut == 0 {
		return nil
	}
	return fmt.Errorf("drain relay: %d connections cut: %w", cut, context.Cause(ctx))
}

// Close ends every connection at once, and returns how many that were.
func (r *Relay) Close() (cut int) {
	conns := r.stop()
	for _, c := range conns {
		c.close()
	}
	r.tasks.Wait()
	return len(conns)
}

// stop closes the listeners and returns the connections there are.
func (r *Relay) stop() []*conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for lis := range r.listeners {
		_ = lis.Close() // Serve returns then.
	}
	conns := make([]*conn, 0, len(r.conns))
	for c := range r.conns {
		conns = append(conns, c)
	}
	r.emptyLocked()
	return conns
}
