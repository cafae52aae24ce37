package relay

import (
	"cmp"
	"sync/atomic"
	"time"
)

// Limits bound what one peer may ask. A zero field has its default.
type Limits struct {
	// Connections of one listener at once; more of them wait to be accepted. Default 10,000.
	Connections int
	// Streams that are open at once on one connection; more are answered with REFUSED_STREAM. Default 250.
	Streams int
	// HeaderBytes of one header list, as RFC 9113 counts them: 32 for each field and its lengths. A request with more is answered with
	// 431, an answer with more is a broken one. Default 64 KiB.
	HeaderBytes int
	// TableBytes of the header table of one connection, in each direction. Default, and least, 4,096: a peer may use that before it
	// knows better.
	TableBytes int
	// Continuations of one header block. Default 16. The block itself may have HeaderBytes.
	Continuations int
	// MessageBytes of one gRPC message; a call with a larger one is ended. Default 0: no bound, as no message is ever held.
	MessageBytes int
	// Resets that a client may cause in a burst, by RST_STREAM before the answer or by stream errors, and ResetsPerSecond that it may go on
	// with; a call that ended well allows for one more. Default 1,000 and 500.
	Resets, ResetsPerSecond int
	// ControlFrames without a useful one between them (PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty DATA, unknown), and
	// ControlPerSecond that may go on. Default 2,000 and 500.
	ControlFrames, ControlPerSecond int
	// OutputBytes that may wait for one peer to read, beyond DATA. Default 1 MiB.
	OutputBytes int
	// HeldBytes of request DATA that one client may have waiting for a back-end before its connection gets no more credit. Default 1 MiB.
	HeldBytes int
	// BufferedBytes of DATA that may wait in the whole process, with streams that cannot go on; beyond, such a stream is reset. One
	// client may have an eighth of it. Default 128 MiB.
	BufferedBytes int

	// HandshakeTime for TLS, preface and first SETTINGS. Default 10 s.
	HandshakeTime time.Duration
	// FrameTime for one frame, or one header block, once it has begun. Default 20 s.
	FrameTime time.Duration
	// WriteTime without the peer taking a byte of what waits for it. Default 20 s.
	WriteTime time.Duration
	// IdleTime of a client's connection without a call. Default 30 min.
	IdleTime time.Duration
	// PingAfter is how long a peer may be silent before it is asked for a sign of life, and PingTime how long it has for the answer.
	// Default 1 min and 20 s.
	PingAfter, PingTime time.Duration
}

func (l Limits) complete() Limits {
	l.Connections = cmp.Or(max(l.Connections, 0), 10_000)
	l.Streams = cmp.Or(max(l.Streams, 0), 250)
	l.HeaderBytes = cmp.Or(max(l.HeaderBytes, 0), 64<<10)
	l.TableBytes = max(l.TableBytes, tableBytes)
	l.Continuations = cmp.Or(max(l.Continuations, 0), 16)
	l.Resets = cmp.Or(max(l.Resets, 0), 1000)
	l.ResetsPerSecond = cmp.Or(max(l.ResetsPerSecond, 0), 500)
	l.ControlFrames = cmp.Or(max(l.ControlFrames, 0), 2000)
	l.ControlPerSecond = cmp.Or(max(l.ControlPerSecond, 0), 500)
	l.OutputBytes = cmp.Or(max(l.OutputBytes, 0), 1<<20)
	l.HeldBytes = cmp.Or(max(l.HeldBytes, 0), 1<<20)
	l.BufferedBytes = cmp.Or(max(l.BufferedBytes, 0), 128<<20)
	l.HandshakeTime = cmp.Or(max(l.HandshakeTime, 0), 10*time.Second)
	l.FrameTime = cmp.Or(max(l.FrameTime, 0), 20*time.Second)
	l.WriteTime = cmp.Or(max(l.WriteTime, 0), 20*time.Second)
	l.IdleTime = cmp.Or(max(l.IdleTime, 0), 30*time.Minute)
	l.PingAfter = cmp.Or(max(l.PingAfter, 0), time.Minute)
	l.PingTime = cmp.Or(max(l.PingTime, 0), 20*time.Second)
	return l
}

// Breach is a bound or a rule that a peer broke.
type Breach uint8

// The breaches that are counted. The list is append-only.
const (
	BadProtocol   Breach = iota // a connection error of RFC 9113 that is none of the following
	BadHeaders                  // a malformed header list or body: content-length, pseudo-header fields, forbidden fields
	LargeHeaders                // a header list or block beyond its bound
	Continuations               // too many CONTINUATION frames
	Streams                     // more streams than allowed
	Resets                      // too many resets
	ControlFrames               // too many frames that do nothing
	Output                      // answers to control frames that nobody reads
	Buffered                    // DATA beyond the bound of the process
	LargeMessage                // a gRPC message beyond its bound
	SlowHandshake               // no preface or SETTINGS in time
	SlowFrame                   // a frame or header block that was not completed in time
	SlowReader                  // output that was not taken in time
	Idle                        // no call in a long time
	Silent                      // no answer to a ping
	breaches
)

var breachNames = [breaches]string{"protocol", "headers", "large_headers", "continuations", "streams", "resets", "control_frames", "output",
	"buffered", "large_message", "slow_handshake", "slow_frame", "slow_reader", "idle", "silent"}

// String returns the name of b in metrics.
func (b Breach) String() string { return breachNames[b] }

// Stats are the figures of relays and endpoints that share them. They only grow, but for those named Open and Waiting.
type Stats struct {
	Connections, OpenConnections atomic.Int64 // of clients
	BytesIn, BytesOut            atomic.Int64 // from and to clients, frames and all
	MessagesIn, MessagesOut      atomic.Int64 // gRPC messages of requests and of answers
	ResetsIn, ResetsOut          atomic.Int64 // RST_STREAM from and to clients
	Stalls                       atomic.Int64 // how often DATA had to wait for a window or for a full output
	WaitingBytes                 atomic.Int64 // of DATA that wait now
	breaches                     [breaches]atomic.Int64
}

// Breaches returns how often b was met.
func (s *Stats) Breaches(b Breach) int64 { return s.breaches[b].Load() }

// AllBreaches calls yield with every breach and its count.
func (s *Stats) AllBreaches(yield func(Breach, int64) bool) {
	for b := range breaches {
		if !yield(b, s.breaches[b].Load()) {
			return
		}
	}
}

func (s *Stats) breach(b Breach) { s.breaches[b].Add(1) }

// bucket holds tokens that come back with time.
type bucket struct {
	tokens, most, perSecond float64
	at                      time.Time
}

func newBucket(most, perSecond int, now time.Time) bucket {
	return bucket{tokens: float64(most), most: float64(most), perSecond: float64(perSecond), at: now}
}

// take takes a token; false if there is none.
func (b *bucket) take(now time.Time) bool {
	if d := now.Sub(b.at); d > 0 {
		b.tokens, b.at = min(b.tokens+d.Seconds()*b.perSecond, b.most), now
	}
	b.tokens--
	return b.tokens >= 0
}

// give puts n tokens back.
func (b *bucket) give(n float64) { b.tokens = min(b.tokens+n, b.most) }
