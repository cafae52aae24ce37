package relay

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// conn is one connection, to a client or to a back-end.
type conn struct {
	wire     *wire
	limits   *Limits
	stats    *Stats
	relay    *Relay    // nil towards a back-end
	endpoint *Endpoint // nil towards a client
	born     time.Time
	number   uint32 // spreads clients over the connections of an endpoint
	onEnd    func() // nil, or called at the end

	// Of the goroutine that reads.
	input     input
	decoder   *hpack.Decoder
	block     block
	now       time.Time // when the turn began
	prefaced  bool
	lastID    uint32 // of the client's streams
	gone      past   // streams that ended lately
	resets    bucket
	control   bucket
	touched   []*conn // others with something to send
	answered  []*Call // whose answers began in this turn
	spent     []*Call // answered in this turn by the decision hook: nobody else has heard of them
	spare     []*Call // to be used again
	swallowed []*port // answered before their request had come
	bytesIn   int64

	greeted atomic.Bool  // the first SETTINGS have come
	useful  atomic.Bool  // something useful passed since the last control frame
	partial atomic.Int64 // since when a frame or block is incomplete; 0: none is
	heard   atomic.Int64 // when something came last
	dueSoon atomic.Int64 // when the timer fires, to be looked at without the lock

	mu sync.Mutex
	// Guarded by mu.
	streams   map[uint32]*port
	nextID    uint32 // towards a back-end
	out       output
	acks      []byte // answers to PING that are held back
	opened    bool   // the handshake is done, and frames may be written
	writing   bool   // somebody writes, and will go on until out is empty
	ended     bool   // the connection is over
	broken    error
	lingering bool // the peer is to have time to read why
	hangUp    bool // to end when everything is written
	sealed    int  // length of out with the last GOAWAY, beyond which nothing is written; 0: not yet, -1: it has been
	encoder   encoder
	send      int64 // window of the connection for what goes
	receive   int64 // and for what comes
	owed      int64 // what came and was not credited yet
	held      int64 // what came and waits for the other side
	window    int64 // first window of streams for what goes
	frame     int   // largest frame for what goes
	streamMax int64 // most streams that the back-end takes
	blocked   []*port
	credits   []credit
	waits     int    // bytes of DATA that wait on all streams
	well      int    // streams that ended well, since countReset looked
	away      bool   // GOAWAY was received or sent: no new streams
	finalID   uint32 // the last stream that our GOAWAY lets in
	pingAt    time.Duration
	timer     *time.Timer
	due       time.Duration // when timer fires; dueSoon is the same
	ackTimer  *time.Timer
	idleSince time.Duration // never while there are streams
	drainAt   time.Duration // when to send the last GOAWAY, whatever the client says

	writers sync.WaitGroup
}

// Windows of a connection, in bytes. That to a back-end is credited on receipt and only has to cover the way there and back.
const (
	clientWindow  = 1 << 20
	backendWindow = 4 << 20
)

// softOutput is when DATA stops being added to the output: enough for a full write, and a bound of what a slow reader can hold.
const softOutput = 128 << 10

var connNumber atomic.Uint32

func newConn(nc net.Conn, l *Limits, s *Stats) *conn {
	now := time.Now()
	c := &conn{
		wire: newWire(nc), limits: l, stats: s, born: now, now: now, number: connNumber.Add(1),
		resets: newBucket(l.Resets, l.ResetsPerSecond, now), control: newBucket(l.ControlFrames, l.ControlPerSecond, now),
		streams: map[uint32]*port{}, nextID: 1,
		send: firstWindow, receive: firstWindow, window: firstWindow, frame: maxFrame, streamMax: maxID,
		finalID: maxID, idleSince: now.Sub(epoch),
	}
	c.heard.Store(int64(now.Sub(epoch)))
	c.decoder = hpack.NewDecoder(tableBytes, c.block.add)
	c.decoder.SetAllowedMaxDynamicTableSize(uint32(l.TableBytes))
	c.encoder.most = uint32(l.TableBytes)
	c.block.most = l.HeaderBytes
	return c
}

// serve is the life of a client's connection.
func (c *conn) serve(secure *tls.Config) {
	c.startClock()
	defer c.finish()
	if secure != nil && c.wire.secure(context.Background(), secure, tls.Server) != nil { // The clock ends it.
		return
	}
	c.greet(clientWindow, nil, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limits.Streams)})
	c.read()
}

// headerSettings tells what the peer may send in headers.
func (c *conn) headerSettings() []http2.Setting {
	s := []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.limits.HeaderBytes)}}
	if n := c.limits.TableBytes; n != tableBytes {
		s = append(s, http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(n)})
	}
	return s
}

// greet sends what a connection begins with.
func (c *conn) greet(window uint32, first []byte, settings ...http2.Setting) {
	c.mu.Lock()
	b := appendSettings(append(c.out.open(), first...), append(settings, c.headerSettings()...)...)
	c.out.set(appendFrame(b, http2.FrameWindowUpdate, 0, window-firstWindow))
	c.receive = int64(window)
	c.opened = true
	c.mu.Unlock()
	c.flush()
}

// read handles what comes until the connection is over.
func (c *conn) read() {
	for !c.over() {
		c.input.tidy()
		if err := c.wire.read(&c.input); err != nil {
			c.fail(err)
			return
		}
		if err := c.turn(); err != nil {
			c.condemn(err)
			return
		}
	}
}

func (c *conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// turn handles every complete frame that is there, and then sends what that gave.
func (c *conn) turn() *connError {
	c.now = time.Now()
	c.heard.Store(int64(c.now.Sub(epoch)))
	before := c.input.r
	err := c.frames()
	c.bytesIn += int64(c.input.r - before)
	c.tellAnswered()
	c.endSwallowed()
	c.reuseSpent()
	c.flushTouched()
	c.settle()
	c.stats.received(c, c.bytesIn)
	c.bytesIn = 0
	return cmp.Or(err, c.checkOutput())
}

// checkOutput checks that a peer reads the answers that it causes.
func (c *conn) checkOutput() *connError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.len()+len(c.acks) < c.limits.OutputBytes+softOutput {
		return nil
	}
	return &connError{http2.ErrCodeEnhanceYourCalm, Output, "answers that are not read"}
}

func (s *Stats) received(c *conn, in int64) {
	if c.relay != nil {
		s.BytesIn.Add(in)
	}
}

func (c *conn) frames() *connError {
	for {
		b := c.input.bytes()
		if !c.prefaced && c.relay != nil {
			if ok, err := c.takePreface(b); !ok {
				return err
			}
			continue
		}
		if len(b) < frameHeaderLen {
			c.await(len(b) > 0)
			return nil
		}
		h := parseFrameHeader(b)
		if h.length > maxFrame {
			return violation(http2.ErrCodeFrameSize, "a frame that is larger than SETTINGS_MAX_FRAME_SIZE")
		}
		if len(b) < frameHeaderLen+h.length {
			c.await(true)
			return nil
		}
		if err := c.take(h, c.input.take(frameHeaderLen + h.length)[frameHeaderLen:]); err != nil {
			return err
		}
	}
}

// await notes since when a frame or a header block is incomplete.
func (c *conn) await(partial bool) {
	switch {
	case !partial && !c.block.open:
		c.partial.Store(0)
	case c.partial.Load() == 0:
		at := c.now.Sub(epoch)
		c.partial.Store(int64(at))
		c.wakeBy(at + c.limits.FrameTime)
	}
}

func (c *conn) takePreface(b []byte) (bool, *connError) {
	n := min(len(b), len(preface))
	if string(b[:n]) != preface[:n] {
		return false, violation(http2.ErrCodeProtocol, "no preface of HTTP/2")
	}
	if n < len(preface) {
		return false, nil
	}
	c.input.take(n)
	c.prefaced = true
	return true, nil
}

// take handles one frame.
func (c *conn) take(h frameHeader, payload []byte) *connError {
	if !c.block.open {
		c.partial.Store(0)
	}
	if err := c.checkOrder(h); err != nil {
		return err
	}
	if err := c.checkCalm(h); err != nil {
		return err
	}
	switch h.kind {
	case http2.FrameData:
		return c.takeData(h, payload)
	case http2.FrameHeaders:
		return c.takeHeaders(h, payload)
	case http2.FrameContinuation:
		return c.takeContinuation(h, payload)
	case http2.FramePriority:
		return c.takePriority(h, payload)
	case http2.FrameRSTStream:
		return c.takeReset(h, payload)
	case http2.FrameSettings:
		return c.takeSettings(h, payload)
	case http2.FramePing:
		return c.takePing(h, payload)
	case http2.FrameGoAway:
		return c.takeGoAway(h, payload)
	case http2.FrameWindowUpdate:
		return c.takeWindowUpdate(h, payload)
	case http2.FramePushPromise:
		return violation(http2.ErrCodeProtocol, "PUSH_PROMISE, which was never allowed")
	}
	return nil // Unknown frames are ignored.
}

// checkOrder checks what may follow what.
func (c *conn) checkOrder(h frameHeader) *connError {
	switch {
	case c.block.open && (h.kind != http2.FrameContinuation || h.id != c.block.head.id):
		return violation(http2.ErrCodeProtocol, "a header block that another frame interrupts")
	case !c.block.open && h.kind == http2.FrameContinuation:
		return violation(http2.ErrCodeProtocol, "CONTINUATION of nothing")
	case !c.greeted.Load() && h.kind != http2.FrameSettings:
		return violation(http2.ErrCodeProtocol, "a first frame that is not SETTINGS")
	}
	return nil
}

// checkCalm counts frames that do nothing for anybody.
func (c *conn) checkCalm(h frameHeader) *connError {
	switch {
	case h.kind == http2.FrameHeaders, h.kind == http2.FrameContinuation, h.kind == http2.FrameRSTStream, h.kind == http2.FrameData && h.length > 0:
		return nil
	}
	return c.countControl()
}

// countControl counts a frame that did nothing for anybody.
func (c *conn) countControl() *connError {
	switch {
	case c.useful.Swap(false):
		c.control.give(c.control.most)
		return nil
	case c.control.take(c.now):
		return nil
	}
	return &connError{http2.ErrCodeEnhanceYourCalm, ControlFrames, "too many frames that do nothing"}
}

// countReset counts a stream that a client opened and ended before it was answered.
func (c *conn) countReset() *connError {
	c.mu.Lock()
	well := c.well
	c.well = 0
	c.mu.Unlock()
	c.resets.give(float64(well))
	if c.relay == nil || c.resets.take(c.now) {
		return nil
	}
	return &connError{http2.ErrCodeEnhanceYourCalm, Resets, "too many streams that were reset"}
}

func (c *conn) takePriority(h frameHeader, payload []byte) *connError {
	switch {
	case h.id == 0:
		return violation(http2.ErrCodeProtocol, "PRIORITY of no stream")
	case len(payload) != 5:
		return c.streamError(h.id, http2.ErrCodeFrameSize)
	case binary.BigEndian.Uint32(payload)&maxID == h.id:
		return c.streamError(h.id, http2.ErrCodeProtocol)
	}
	return nil
}

func (c *conn) takePing(h frameHeader, payload []byte) *connError {
	switch {
	case h.id != 0:
		return violation(http2.ErrCodeProtocol, "PING on a stream")
	case len(payload) != 8:
		return violation(http2.ErrCodeFrameSize, "PING that is not of 8 bytes")
	case h.flags&http2.FlagPingAck != 0:
		c.pong(payload)
		return nil
	}
	return c.ackPing(payload)
}

// The payloads of our pings.
var (
	alivePing = []byte("capguard")
	drainPing = []byte("draining")
)

func (c *conn) pong(payload []byte) {
	c.mu.Lock()
	c.pingAt = 0
	c.mu.Unlock()
	if c.relay != nil && bytes.Equal(payload, drainPing) {
		c.drained()
	}
}

// ackTime is how long the answer to a PING is held back. gRPC measures each connection with one PING after the other for as long as messages
// come: answered at once, there is one for each call and in each direction, and they cost the guard and its neighbours as much as the
// calls do. Held back for a moment, there are few.
const ackTime = 5 * time.Millisecond

func (c *conn) ackPing(payload []byte) *connError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acks) == 0 {
		c.ackLater()
	}
	c.acks = appendPing(c.acks, http2.FlagPingAck, payload)
	return nil
}

func (c *conn) ackLater() {
	if c.ackTimer == nil {
		c.ackTimer = time.AfterFunc(ackTime, c.ackNow)
		return
	}
	c.ackTimer.Reset(ackTime)
}

func (c *conn) ackNow() {
	c.mu.Lock()
	if c.sealed == 0 {
		c.out.set(append(c.out.open(), c.acks...))
	}
	c.acks = c.acks[:0]
	c.mu.Unlock()
	c.flush()
}
