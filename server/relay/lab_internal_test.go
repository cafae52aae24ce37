package relay

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Lab is a relay without goroutines: a test feeds its connections, one turn at a time, and so a whole life of it takes microseconds and
// goes the same way each time. It does by hand what Relay.take and Endpoint.dial do.
type Lab struct {
	Relay     *Relay
	Endpoints []*Endpoint
	Lines     []*Line
	dials     []int // that the lab has to make, of each endpoint
}

// NewLab returns a relay and as many endpoints, none of them connected.
func NewLab(limits Limits, endpoints int, decide func(*Call)) *Lab {
	l := &Lab{Relay: New(Options{Decide: decide, Limits: limits})}
	for range endpoints {
		e := &Endpoint{trying: 1, o: EndpointOptions{Connections: 2, Limits: limits.complete(), Stats: l.Relay.stats}}
		e.o.Dial = func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done() // The lab makes connections when its script says so.
			return nil, ctx.Err()
		}
		e.ctx, e.stop = context.WithCancel(context.Background())
		e.conns.Store(new([]*conn))
		l.Endpoints, l.dials = append(l.Endpoints, e), append(l.dials, 1)
	}
	return l
}

// Line is a connection of the relay, seen from its far end. What the relay writes is kept for Take.
type Line struct {
	lab      *Lab
	c        *conn
	endpoint int // -1 for a client
	finished bool

	mu     sync.Mutex
	freed  sync.Cond
	room   int // of the socket; negative is no bound
	wrote  []byte
	closed bool
}

// Client connects a client.
func (l *Lab) Client() *Line {
	line := l.line(&l.Relay.limits, -1)
	c := line.c
	c.relay = l.Relay
	l.Relay.conns[c] = struct{}{}
	c.greet(clientWindow, nil,
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limits.Streams)})
	return line
}

// Backend connects a back-end of endpoint n.
func (l *Lab) Backend(n int) *Line {
	e := l.Endpoints[n]
	if l.dials[n] > 0 {
		l.dials[n]--
	} else {
		e.mu.Lock()
		e.trying++
		e.mu.Unlock()
	}
	line := l.line(&e.o.Limits, n)
	line.c.endpoint = e
	line.c.greet(backendWindow, []byte(preface), http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	return line
}

func (l *Lab) line(limits *Limits, endpoint int) *Line {
	line := &Line{lab: l, endpoint: endpoint, room: -1}
	line.freed.L = &line.mu
	c := newConn(line, limits, l.Relay.stats)
	c.number = uint32(len(l.Lines)) // Not what other labs have counted.
	c.wire.raw = (*socket)(line)
	c.timer = time.AfterFunc(time.Hour, func() {}) // Tick and Flush are what the script says.
	c.ackTimer = time.AfterFunc(time.Hour, func() {})
	c.due = never
	line.c = c
	l.Lines = append(l.Lines, line)
	return line
}

// Feed lets the relay read b.
func (l *Line) Feed(b []byte) {
	for len(b) > 0 && !l.Over() {
		l.c.input.tidy()
		n := copy(l.c.input.space(), b)
		l.c.input.w += n
		b = b[n:]
		if err := l.c.turn(); err != nil {
			l.c.condemn(err)
			l.finish()
		}
	}
}

// Take returns what the relay has written since the last Take.
func (l *Line) Take() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.wrote
	l.wrote = nil
	return b
}

// Pause lets the socket take no more than room bytes.
func (l *Line) Pause(room int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room = room
}

// Resume lets the socket take all there is and will be.
func (l *Line) Resume() {
	l.Pause(-1)
	l.freed.Broadcast()
	l.c.writers.Wait()
}

// Hang ends the connection from its far end.
func (l *Line) Hang() {
	l.c.fail(io.EOF)
	l.finish()
}

// Over tells whether the relay has ended the connection.
func (l *Line) Over() bool { return l.finished || l.c.over() }

// Flush is what comes when an answer to PING has waited long enough.
func (l *Line) Flush() { l.c.ackNow() }

// Drain tells the client to go elsewhere.
func (l *Line) Drain() { l.c.drain() }

// Age lets time pass, as far as the connection's clock can tell.
func (l *Line) Age(d time.Duration) {
	c := l.c
	c.heard.Add(-int64(d))
	if c.partial.Load() != 0 {
		c.partial.Add(-int64(d))
	}
	c.mu.Lock()
	for _, at := range []*time.Duration{&c.idleSince, &c.pingAt, &c.drainAt} {
		if *at != 0 && *at != never {
			*at -= d
		}
	}
	c.mu.Unlock()
	c.tick()
}

// Reap does what the goroutines of connections that are over would do.
func (l *Lab) Reap() {
	for _, line := range l.Lines {
		if line.Over() {
			line.finish()
		}
	}
}

// GiveUp lets the calls that wait for a connection of endpoint n have waited for too long.
func (l *Lab) GiveUp(n int) {
	e := l.Endpoints[n]
	e.mu.Lock()
	waiting := e.takeWaitingLocked(time.Time{})
	e.mu.Unlock()
	e.giveUp(waiting, "no room in time")
}

// Close ends everything.
func (l *Lab) Close() {
	for _, line := range l.Lines {
		line.c.close()
		line.finish()
	}
	for _, e := range l.Endpoints {
		e.Close()
	}
}

func (l *Line) finish() {
	if l.finished {
		return
	}
	l.finished = true
	l.c.finish()
	if l.endpoint < 0 {
		l.lab.Relay.drop(l.c)
		return
	}
	e := l.c.endpoint
	e.leave(l.c)
	if e.goOn(l.c.greeted.Load(), l.c.broken) {
		l.lab.dials[l.endpoint]++
	}
}

// socket is how the relay writes to a line in place.
type socket Line

// Write takes what there is room for, and never waits.
func (s *socket) Write(func(uintptr) bool) error {
	l := (*Line)(s)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	w := l.c.wire
	w.out = w.out[l.takeLocked(w.out):]
	return nil
}

// Control is never called.
func (s *socket) Control(func(uintptr)) error { return nil }

// Read is never called.
func (s *socket) Read(func(uintptr) bool) error { return io.EOF }

func (l *Line) takeLocked(b []byte) int {
	n := len(b)
	if l.room >= 0 {
		n = min(n, l.room)
		l.room -= n
	}
	l.wrote = append(l.wrote, b[:n]...)
	return n
}

// Write waits until there was room for all of b.
func (l *Line) Write(b []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed {
		n += l.takeLocked(b[n:])
		if n == len(b) {
			return n, nil
		}
		l.freed.Wait()
	}
	return n, net.ErrClosed
}

// Close is the relay's end of the connection.
func (l *Line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.freed.Broadcast()
	return nil
}

// Read is never called.
func (l *Line) Read([]byte) (int, error) { return 0, io.EOF }

// LocalAddr is never called.
func (l *Line) LocalAddr() net.Addr { return nil }

// RemoteAddr is never called.
func (l *Line) RemoteAddr() net.Addr { return nil }

// SetDeadline does nothing.
func (l *Line) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (l *Line) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (l *Line) SetWriteDeadline(time.Time) error { return nil }
