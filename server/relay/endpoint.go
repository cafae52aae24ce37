package relay

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// State is the state of an endpoint.
type State uint8

// The states of an endpoint.
const (
	Connecting State = iota // for the first time, or after the loss of its last connection
	Ready                   // there is a connection
	Failed                  // the last attempt failed; another follows
	Closed
)

// EndpointOptions are the wiring of an Endpoint.
type EndpointOptions struct {
	// Dial connects to the back-end. Required.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS secures the connections; it names the server. Nil is plain text.
	TLS *tls.Config
	// Connections bounds the connections; there is one until the back-end's limit of concurrent streams wants more. Default 8.
	Connections int
	// Changed is told of each new state, with the error for Failed, in order; nil is for nobody. It must not close the endpoint.
	Changed func(s State, err error)
	// Limits bound what the back-end may ask; zero fields have the defaults.
	Limits Limits
	// Stats takes the figures; nil makes its own.
	Stats *Stats
}

// Times and bounds of endpoints.
const (
	connectTime   = 3 * time.Second // for one attempt to connect, handshakes and all
	firstBackoff  = 100 * time.Millisecond
	lastBackoff   = 2 * time.Second // a back-end that comes back is to be seen soon
	waitTime      = time.Second     // how long a call waits for a connection with room
	waitingCalls  = 4096
	endpointConns = 8
)

// Endpoint is one address of a back-end, kept connected. Safe for concurrent use.
type Endpoint struct {
	o     EndpointOptions
	ctx   context.Context // until Close
	stop  context.CancelFunc
	conns atomic.Pointer[[]*conn] // that take calls; never changed, but replaced
	queue atomic.Int64            // len(waiting), and those that are being placed
	asked atomic.Int64            // so many want those who wait to be served; the first of them does
	state atomic.Uint32
	tasks sync.WaitGroup

	mu      sync.Mutex
	trying  int       // connections that are being made; not zero while there is none
	grown   time.Time // when making one failed last
	waiting []waiting // for room, the first to give up first
	placing int       // taken out of waiting, and perhaps to be put back
	timer   *time.Timer
	told    sync.Mutex // held while Changed is called, so that it hears in order
	why     string     // what it was told last; guarded by told
}

// waiting is a call that waits for a connection with room.
type waiting struct {
	up    *port
	until time.Time
}

// NewEndpoint begins to connect, and goes on doing so until Close.
func NewEndpoint(o EndpointOptions) *Endpoint {
	e := &Endpoint{o: o}
	if e.o.Connections <= 0 {
		e.o.Connections = endpointConns
	}
	if e.o.Stats == nil {
		e.o.Stats = new(Stats)
	}
	e.o.Limits = o.Limits.complete()
	e.o.Limits.HandshakeTime = connectTime
	if o.TLS != nil {
		e.o.TLS = serverTLS(o.TLS)
	}
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.conns.Store(new([]*conn))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dialLocked(0)
	return e
}

// State returns the state of the endpoint.
func (e *Endpoint) State() State { return State(e.state.Load()) }

// Close ends the connections and with them the calls that are still on them.
func (e *Endpoint) Close() {
	e.stop()
	e.become(Closed, nil)
	e.mu.Lock()
	conns := *e.conns.Load()
	waiting := e.takeWaitingLocked(time.Time{})
	e.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
	e.giveUp(waiting, "the guard gave up the endpoint")
	e.tasks.Wait()
}

// become changes the state. A closed endpoint stays so.
func (e *Endpoint) become(s State, err error) {
	e.told.Lock()
	defer e.told.Unlock()
	why := ""
	if err != nil {
		why = err.Error()
	}
	was := State(e.state.Load())
	if was == Closed || was == s && why == e.why {
		return
	}
	e.state.Store(uint32(s))
	e.why = why
	if e.o.Changed != nil {
		e.o.Changed(s, err)
	}
}

// dial keeps one connection, as long as no other one takes its place. Attempts are spread out in time, and so are connections that do not
// last. The first attempt comes after a pause, if backoff is not zero.
func (e *Endpoint) dial(backoff time.Duration) {
	over := false
	defer func() {
		if !over { // A hook ended this goroutine; another one takes its place.
			e.replace(firstBackoff)
		}
	}()
	for {
		if backoff > 0 {
			e.pause(backoff*4/5 + rand.N(backoff*2/5))
		}
		began := time.Now()
		greeted, err := e.once()
		if over = !e.goOn(greeted, err); over {
			return
		}
		if backoff = min(max(backoff*8/5, firstBackoff), lastBackoff); greeted && time.Since(began) > lastBackoff {
			backoff = 0
		}
	}
}

func (e *Endpoint) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-e.ctx.Done():
	}
}

// once makes a connection and reads it until it ends.
func (e *Endpoint) once() (greeted bool, err error) {
	c, err := e.connect()
	if err != nil {
		return false, err
	}
	defer func() { // Whatever a hook does.
		c.finish()
		e.leave(c)
	}()
	c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.greeted.Load(), c.broken
}

// connect dials, shakes hands and greets.
func (e *Endpoint) connect() (*conn, error) {
	ctx, cancel := context.WithTimeout(e.ctx, connectTime)
	defer cancel()
	nc, err := e.o.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := newConn(nc, &e.o.Limits, e.o.Stats)
	c.endpoint = e
	if e.o.TLS != nil {
		if err := c.wire.secure(ctx, e.o.TLS, tls.Client); err != nil {
			_ = nc.Close()
			return nil, err
		}
	}
	c.startClock()
	stop := context.AfterFunc(e.ctx, c.close)
	c.onEnd = func() { stop() }
	c.greet(backendWindow, []byte(preface), http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	return c, nil
}

// goOn tells whether a dialling goroutine is to try again: somebody must if there is no connection. greeted tells whether there was one,
// and err why it ended or never was.
func (e *Endpoint) goOn(greeted bool, err error) bool {
	e.mu.Lock()
	if !greeted {
		e.trying--
		e.grown = time.Now()
	}
	alone := len(*e.conns.Load()) == 0 && e.trying == 0
	more := alone && e.ctx.Err() == nil
	if more {
		e.trying++
	}
	var hopeless []waiting
	if alone && !greeted {
		hopeless = e.takeWaitingLocked(time.Time{})
	}
	e.mu.Unlock()
	switch {
	case !more:
	case greeted:
		e.become(Connecting, nil)
	default:
		e.become(Failed, err)
		e.giveUp(hopeless, fmt.Sprintf("no connection to the back-end: %v", err))
	}
	return more
}

// dialLocked starts another connection, after a pause if backoff is not zero.
func (e *Endpoint) dialLocked(backoff time.Duration) {
	e.trying++
	e.tasks.Go(func() { e.dial(backoff) }) // Ends with the connection.
}

// ready takes a connection whose back-end has greeted.
func (e *Endpoint) ready(c *conn) {
	e.mu.Lock()
	e.trying--
	conns := append(slices.Clone(*e.conns.Load()), c)
	e.conns.Store(&conns)
	e.mu.Unlock()
	e.become(Ready, nil)
	e.serve()
}

// leave takes a connection out that takes no more calls.
func (e *Endpoint) leave(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	conns := slices.DeleteFunc(slices.Clone(*e.conns.Load()), func(d *conn) bool { return d == c })
	e.conns.Store(&conns)
}

// send brings a call to a connection with room, or lets it wait for one. turn tells that this is the turn of its client's connection.
func (e *Endpoint) send(up *port, turn bool) {
	client := up.call.client
	var c *conn
	if e.queue.Load() == 0 { // Nobody gets past those who wait.
		c = e.place(up)
	}
	switch {
	case c == nil:
		e.wait(up)
	case turn:
		client.touch(c)
	default:
		c.settle()
		client.settle()
	}
}

// place opens the call's stream on a connection with room. Calls of one client take the same connection, if they can, so that what comes
// in one turn goes out in one write.
func (e *Endpoint) place(up *port) *conn {
	conns := *e.conns.Load()
	for i := range conns {
		c := conns[(i+int(up.call.client.number))%len(conns)]
		if c.open(up) {
			c.link(up)
			return c
		}
	}
	return nil
}

// wait puts a call in line, and sees to it that there will be room.
func (e *Endpoint) wait(up *port) {
	e.mu.Lock()
	if s := e.State(); s != Ready && s != Connecting || len(e.waiting) >= waitingCalls {
		e.mu.Unlock()
		up.unsent("no connection to the back-end has room")
		return
	}
	e.waiting = append(e.waiting, waiting{up, time.Now().Add(waitTime)})
	e.countLocked()
	if len(e.waiting) == 1 {
		e.scheduleLocked()
	}
	if e.trying == 0 && len(*e.conns.Load()) < e.o.Connections && time.Since(e.grown) > waitTime {
		e.dialLocked(0)
	}
	e.mu.Unlock()
	e.serve() // Room may have come before the call was in line.
}

func (e *Endpoint) scheduleLocked() {
	d := time.Until(e.waiting[0].until)
	if e.timer == nil {
		e.timer = time.AfterFunc(d, e.expire)
		return
	}
	e.timer.Reset(d)
}

// expire gives up the calls that have waited too long.
func (e *Endpoint) expire() {
	e.mu.Lock()
	expired := e.takeWaitingLocked(time.Now())
	if len(e.waiting) > 0 {
		e.scheduleLocked()
	}
	e.mu.Unlock()
	e.giveUp(expired, "no connection to the back-end had room in time")
}

// takeWaitingLocked takes those out who wait no longer than until; all, if that is zero.
func (e *Endpoint) takeWaitingLocked(until time.Time) []waiting {
	n := len(e.waiting)
	if !until.IsZero() {
		n = 0
		for n < len(e.waiting) && !e.waiting[n].until.After(until) {
			n++
		}
	}
	taken := e.waiting[:n:n]
	e.waiting = e.waiting[n:]
	e.countLocked()
	return taken
}

// countLocked notes how many there are to be served. Who is being placed counts too: it may turn out that there is no room, while room comes
// from elsewhere, and whoever brings that has to see that somebody wants it.
func (e *Endpoint) countLocked() { e.queue.Store(int64(len(e.waiting) + e.placing)) }

func (e *Endpoint) giveUp(ws []waiting, why string) {
	for _, w := range ws {
		w.up.unsent(why)
	}
}

// unsent tells that p was never opened.
func (p *port) unsent(why string) {
	p.lost(End{Broken: true, Code: http2.ErrCodeRefusedStream, Reason: why}, true, nil)
}

// serve places those who wait, as far as there is room. One goroutine does so at a time, so that they keep their order; it looks again for
// those that come meanwhile.
func (e *Endpoint) serve() {
	if e.queue.Load() == 0 || e.asked.Add(1) > 1 {
		return
	}
	over := false
	defer func() {
		if !over { // A hook ended this goroutine.
			e.asked.Store(0)
		}
	}()
	for n := int64(1); !over; {
		e.serveQueue()
		if over = e.asked.CompareAndSwap(n, 0); !over {
			n = e.asked.Load()
		}
	}
}

func (e *Endpoint) serveQueue() {
	for e.serveNext() {
	}
}

// serveNext places the first of those who wait, and tells whether to go on.
func (e *Endpoint) serveNext() bool {
	w, ok := e.nextWaiting()
	if !ok {
		return false
	}
	defer e.placed() // Whatever a hook does.
	if !w.up.call.goesTo(w.up) {
		return true // Its caller is gone.
	}
	c := e.place(w.up)
	if c == nil {
		e.waitOn(w)
		return false
	}
	c.flush()
	w.up.call.client.settle()
	return true
}

func (e *Endpoint) placed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.placing--
	e.countLocked()
}

func (e *Endpoint) nextWaiting() (w waiting, ok bool) {
	if e.queue.Load() == 0 {
		return w, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) == 0 {
		return w, false
	}
	w = e.waiting[0]
	e.waiting = e.waiting[1:]
	e.placing++
	return w, true
}

// waitOn puts a call back to the front of the line.
func (e *Endpoint) waitOn(w waiting) {
	e.mu.Lock()
	closed := e.ctx.Err() != nil
	if !closed {
		e.waiting = slices.Insert(e.waiting, 0, w)
		e.countLocked()
		e.scheduleLocked()
	}
	e.mu.Unlock()
	if closed {
		w.up.unsent("the endpoint was closed")
	}
}

// takeGoAway takes that the peer is leaving. A back-end has not begun the calls above its last stream; they may be sent elsewhere.
func (c *conn) takeGoAway(h frameHeader, payload []byte) *connError {
	switch {
	case h.id != 0:
		return violation(http2.ErrCodeProtocol, "GOAWAY on a stream")
	case len(payload) < 8:
		return violation(http2.ErrCodeFrameSize, "GOAWAY of less than 8 bytes")
	case c.relay != nil:
		return nil // A client's last call is the last that it sends.
	}
	last := binary.BigEndian.Uint32(payload) & maxID
	c.endpoint.leave(c)
	var unbegun []*port
	c.mu.Lock()
	c.away = true
	for id, p := range c.streams {
		if id > last {
			unbegun = append(unbegun, p)
		}
	}
	for _, p := range unbegun {
		c.closeLocked(p, true)
	}
	c.hangUp = len(c.streams) == 0
	c.mu.Unlock()
	c.endpoint.replace(c.pace())
	for _, p := range unbegun {
		p.lost(End{Broken: true, Code: http2.ErrCodeRefusedStream, Reason: "the back-end is shutting down"}, true, c)
	}
	return nil
}

// pace returns the pause before a connection is made in the place of c, which a back-end should not be able to end again and again.
func (c *conn) pace() time.Duration {
	if time.Since(c.born) < lastBackoff {
		return firstBackoff
	}
	return 0
}

// replace dials anew when the last connection that takes calls is leaving, after a pause if backoff is not zero.
func (e *Endpoint) replace(backoff time.Duration) {
	e.mu.Lock()
	alone := len(*e.conns.Load()) == 0 && e.trying == 0 && e.ctx.Err() == nil
	if alone {
		e.dialLocked(backoff)
	}
	e.mu.Unlock()
	if alone {
		e.become(Connecting, nil)
	}
}
