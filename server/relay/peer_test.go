package relay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/test/bufconn"
)

// peer is the other end of one of the relay's connections. It writes whatever a test says, legal or not, reads all the while into
// queues without a bound, so that it never holds up the relay by accident, and has a twin that judges what the relay writes.
type peer struct {
	testing.TB
	conn    net.Conn
	habits  habits
	style   style
	working sync.WaitGroup // the two goroutines, one reading and one writing

	mu      sync.Mutex
	changed sync.Cond
	twin    *twin
	out     []byte // still to be written
	frames  *http2.Framer
	made    bytes.Buffer // what frames writes
	encoder *hpack.Encoder
	block   bytes.Buffer // what encoder writes
	allowed int          // bytes that may be read now; negative is no bound
	calls   []event      // HEADERS, DATA, RST_STREAM, GOAWAY that no test has looked at
	control []event      // the others
	ended   map[uint32]bool
	told    map[http2.SettingID]uint32 // settings of the relay
	gone    bool                       // the relay has closed the connection
	closing bool                       // the peer does
	news    chan struct{}              // closed and replaced at whatever happens
}

// habits are what a peer does by itself. The zero value is a polite peer.
type habits struct {
	settings []http2.Setting // that it begins with
	manual   bool            // it grants window only when told
	mute     bool            // it acknowledges neither SETTINGS nor PING
	silent   bool            // it begins with nothing, not even a preface
	patient  bool            // it does not mind late answers to PING: for tests outside of a bubble
}

// style is how a peer writes header blocks and DATA.
type style struct {
	fragment int  // size at which a header block or DATA is cut; 0 is the largest that every receiver takes
	pad      int  // bytes of padding
	priority bool // HEADERS come with a priority
}

// clientOf makes the peer a client of the relay, which holds the other end of conn.
func clientOf(t testing.TB, conn net.Conn, h habits) *peer { return newPeer(t, conn, h, false) }

// backendOf makes the peer a back-end of the relay, which holds the other end of conn.
func backendOf(t testing.TB, conn net.Conn, h habits) *peer { return newPeer(t, conn, h, true) }

func newPeer(t testing.TB, conn net.Conn, h habits, relayIsClient bool) *peer {
	t.Helper()
	p := &peer{TB: t, conn: conn, habits: h, twin: newTwin(relayIsClient), allowed: -1, ended: map[uint32]bool{},
		told: map[http2.SettingID]uint32{}, news: make(chan struct{})}
	p.changed.L = &p.mu
	p.twin.patient = h.patient
	p.frames = http2.NewFramer(&p.made, nil)
	p.frames.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.block)
	if !h.silent {
		if !relayIsClient {
			p.raw([]byte(http2.ClientPreface))
		}
		p.settings(h.settings...)
	}
	p.working.Go(p.read)
	p.working.Go(p.write)
	t.Cleanup(p.finish)
	return p
}

// finish closes the connection and reports what the twin saw.
func (p *peer) finish() {
	p.Helper()
	p.close()
	p.working.Wait()
	if len(p.twin.broken) > 0 {
		p.Errorf("the relay broke HTTP/2 towards %s:\n  %s\n%s", p.name(), strings.Join(p.twin.broken, "\n  "), p.story())
	}
}

func (p *peer) name() string {
	if p.twin.client {
		return "its back-end"
	}
	return "its client"
}

// story is what happened on the connection, for a test that fails.
func (p *peer) story() string {
	return "story of the connection, -> to the relay, <- from it:\n  " + strings.Join(p.twin.trace, "\n  ")
}

// close ends the connection from the peer's side, at once: what is not written by then is lost.
func (p *peer) close() {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	p.changed.Broadcast()
	_ = p.conn.Close() // A connection that the relay has closed first.
}

// write is the goroutine that writes, so that nobody else waits for the relay to read.
func (p *peer) write() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.out) == 0 && !p.closing {
			p.changed.Wait()
		}
		if p.closing {
			return
		}
		b := p.out
		p.out = nil
		p.mu.Unlock()
		_, err := p.conn.Write(b)
		p.mu.Lock()
		if err != nil {
			return
		}
	}
}

// read is the goroutine that reads.
func (p *peer) read() {
	buf := make([]byte, 1<<16)
	for {
		n, err := p.conn.Read(buf[:p.mayRead(len(buf))])
		p.mu.Lock()
		if p.allowed > 0 {
			p.allowed = max(0, p.allowed-n)
		}
		for _, e := range p.twin.receives(buf[:n]) {
			p.react(e)
		}
		late, slow := errors.AsType[net.Error](err)
		over := err != nil && !(slow && late.Timeout())
		if over && !p.closing {
			p.gone = true
			p.twin.severed()
		}
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
		if over {
			return
		}
	}
}

// mayRead waits until something may be read, and returns how much of n.
func (p *peer) mayRead(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.allowed == 0 && !p.closing {
		p.changed.Wait()
	}
	_ = p.conn.SetReadDeadline(time.Time{}) // The read that follows fails if this does.
	if p.allowed > 0 {
		n = min(n, p.allowed)
	}
	return n
}

// react queues an event and answers it out of habit.
func (p *peer) react(e event) {
	switch e.kind {
	case http2.FrameData, http2.FrameHeaders, http2.FrameRSTStream, http2.FrameGoAway:
		p.calls = append(p.calls, e)
	default:
		p.control = append(p.control, e)
	}
	switch {
	case e.kind == http2.FrameSettings && !e.acks():
		p.obey(e.values())
	case e.kind == http2.FramePing && !e.acks() && !p.habits.mute:
		_ = p.frames.WritePing(true, [8]byte(e.payload))
	case e.kind == http2.FrameData && !p.habits.manual && len(e.payload) > 0:
		p.giveBack(e)
	}
	p.flush()
}

// obey keeps to settings of the relay and acknowledges them.
func (p *peer) obey(values []http2.Setting) {
	for _, v := range values {
		p.told[v.ID] = v.Val
		if v.ID == http2.SettingHeaderTableSize {
			p.encoder.SetMaxDynamicTableSizeLimit(v.Val)
			p.encoder.SetMaxDynamicTableSize(min(v.Val, 4096)) // The limit alone forgets that the table was smaller in between.
		}
	}
	if !p.habits.mute {
		_ = p.frames.WriteSettingsAck()
	}
}

// giveBack grants the window that DATA has used up.
func (p *peer) giveBack(e event) {
	_ = p.frames.WriteWindowUpdate(0, uint32(len(e.payload)))
	if !e.ends() {
		_ = p.frames.WriteWindowUpdate(e.id, uint32(len(e.payload)))
	}
}

// flush hands the frames made to the twin and to the goroutine that writes.
func (p *peer) flush() {
	p.twin.sends(p.made.Bytes())
	p.out = append(p.out, p.made.Bytes()...)
	p.made.Reset()
	p.changed.Broadcast()
}

// pause stops reading, at once and in the middle of a frame if it so happens.
func (p *peer) pause() { p.sip(0) }

// sip reads n bytes more and pauses then.
func (p *peer) sip(n int) {
	p.mu.Lock()
	p.twin.patient = true
	p.allowed = max(0, p.allowed) + n
	_ = p.conn.SetReadDeadline(time.Now()) // Wakes a read under way, which is too large by now.
	p.mu.Unlock()
	p.changed.Broadcast()
}

// resume reads on without a bound.
func (p *peer) resume() {
	p.mu.Lock()
	p.allowed = -1
	p.mu.Unlock()
	p.changed.Broadcast()
}

// site is an address at which back-ends stand: the relay dials it, the test accepts.
type site struct {
	testing.TB
	listener *bufconn.Listener
}

// newSite returns an address whose connections hold up to buffer bytes each way on their way.
func newSite(t testing.TB, buffer int) *site {
	s := &site{t, bufconn.Listen(buffer)}
	t.Cleanup(func() { _ = s.listener.Close() }) // It cannot fail.
	return s
}

// dial is for the relay. It succeeds when the test accepts, and fails once the listener is closed.
func (s *site) dial(ctx context.Context) (net.Conn, error) { return s.listener.DialContext(ctx) }

// accept waits for the relay to dial, and returns the back-end at the other end.
func (s *site) accept(h habits) *peer {
	s.Helper()
	conn, err := s.listener.Accept()
	if err != nil {
		s.Fatal("accept:", err)
	}
	return backendOf(s.TB, conn, h)
}

// fieldsOf reads header fields as tests write them.
func fieldsOf(lines []string) (fields []hpack.HeaderField) {
	for _, l := range lines {
		fields = append(fields, field(l))
	}
	return fields
}

// grpcMessage returns text behind the five bytes that precede a message of gRPC.
func grpcMessage(text string) string {
	return "\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) + text
}

// request returns the fields of a gRPC request, and more.
func request(more ...string) []string {
	return slices.Concat([]string{":method: POST", ":scheme: http", ":path: /test.Service/Call", ":authority: stock",
		"content-type: application/grpc", "te: trailers"}, more)
}

// response returns the fields of the beginning of a gRPC response, and more.
func response(more ...string) []string {
	return slices.Concat([]string{":status: 200", "content-type: application/grpc"}, more)
}
