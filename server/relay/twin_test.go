package relay_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// twin watches one connection of the relay from its other end, sees every frame of both directions, and notes whatever the relay does
// that RFC 9113 forbids. It shares no code with the relay and keeps only maps and sums.
//
// The relay learns later what the peer has sent. So whatever the peer allows counts from the moment when it is sent, and whatever it
// forbids counts only once the relay has acknowledged a frame that was sent later: by then it has certainly read it.
type twin struct {
	client  bool // the relay is the client of this connection, the peer is a back-end
	patient bool // acknowledgements may be late, because the peer reads slowly or the clock is real
	quiet   bool // no story is kept, for speed
	broken  []string
	trace   []string
	fromUs  wire
	toUs    wire

	sent int // frames of the peer, counted
	seen int // as many of them the relay has certainly read

	inForce map[http2.SettingID]uint32 // settings of the peer that the relay has acknowledged
	pending []promise                  // settings that it has not
	pings   map[string][]question      // unanswered PINGs of the peer, by payload
	goneAt  int                        // the peer's first GOAWAY, as counted in sent; 0 is none

	greeted   bool   // the relay has sent SETTINGS
	initial   int    // first window of a stream, as the relay set it
	lastID    uint32 // of the relay's latest GOAWAY
	parting   bool   // the relay has sent GOAWAY
	ruptured  bool   // and one with an error code
	connUsed  int    // bytes of DATA that the relay sent
	connGiven int    // bytes that the peer granted beyond the first window
	filled    int    // bytes of DATA that the peer sent
	granted   int    // bytes that the relay granted beyond the first window
	highest   uint32 // stream opened so far
	streams   map[uint32]*stream
	block     *block         // the relay's header block under way
	ours      *block         // the peer's
	decoder   *hpack.Decoder // of what the relay sends
	reader    *hpack.Decoder // of what the peer sends
	table     int            // size of the relay's encoder's table
	shrunk    int            // smallest size that the relay acknowledged since its last header block
	illegible bool           // a block could not be decoded: the table is lost
}

// promise is a SETTINGS frame of the peer.
type promise struct {
	at     int // as counted in sent
	values []http2.Setting
}

// question is a PING of the peer.
type question struct {
	at   int
	when time.Time
}

// block is a header block of which the end has not come.
type block struct {
	frame
	bytes []byte
}

const (
	firstWindow = 65535
	maxWindow   = 1<<31 - 1
	lateness    = 10 * time.Millisecond // by which a PING may be answered late
)

// newTwin returns the twin of a connection of which the relay is the client, or the server.
func newTwin(relayIsClient bool) *twin {
	w := &twin{
		client: relayIsClient,
		fromUs: wire{preface: !relayIsClient},
		toUs:   wire{preface: relayIsClient},
		inForce: map[http2.SettingID]uint32{
			http2.SettingHeaderTableSize: 4096, http2.SettingInitialWindowSize: firstWindow,
			http2.SettingMaxFrameSize: 16384, http2.SettingMaxConcurrentStreams: math.MaxUint32,
		},
		pings:   make(map[string][]question),
		initial: firstWindow, lastID: maxWindow,
		streams: make(map[uint32]*stream),
		decoder: hpack.NewDecoder(4096, nil), reader: hpack.NewDecoder(4096, nil),
		table: 4096, shrunk: math.MaxInt,
	}
	w.decoder.SetAllowedMaxDynamicTableSize(0) // The twin applies the changes itself, at the beginning of a block.
	w.reader.SetAllowedMaxDynamicTableSize(math.MaxUint32)
	return w
}

// breach notes that the relay did what it must not.
func (w *twin) breach(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
	w.note("  !! " + w.broken[len(w.broken)-1])
}

// note keeps the latest lines of the connection's story.
func (w *twin) note(line string) {
	w.trace = append(w.trace, line)
	w.trace = w.trace[max(0, len(w.trace)-200):]
}

func (w *twin) tell(way string, f frame) {
	if !w.quiet {
		w.note(way + f.String())
	}
}

// most returns the largest value of a setting that the relay may go by now.
func (w *twin) most(id http2.SettingID) int {
	most := w.inForce[id]
	for _, p := range w.pending {
		for _, v := range p.values {
			if v.ID == id {
				most = max(most, v.Val)
			}
		}
	}
	return int(most)
}

// unanswered returns what the relay still owes.
func (w *twin) unanswered() (debts []string) {
	for _, p := range w.pending {
		debts = append(debts, fmt.Sprintf("SETTINGS %v not acknowledged", p.values))
	}
	for _, payload := range slices.Sorted(maps.Keys(w.pings)) {
		debts = append(debts, fmt.Sprintf("PING %q not answered", payload))
	}
	if w.block != nil {
		debts = append(debts, fmt.Sprintf("header block of stream %d not finished", w.block.id))
	}
	return debts
}

// sends learns what the peer is about to write.
func (w *twin) sends(b []byte) {
	frames, err := w.fromUs.feed(b)
	if err != nil {
		w.note("-> " + err.Error())
	}
	for _, f := range frames {
		w.tell("-> ", f)
		w.sent++
		w.learn(f)
	}
}

// learn keeps in mind what a frame of the peer allows and forbids. The peer may break any rule, which is not the twin's affair.
func (w *twin) learn(f frame) {
	switch f.kind {
	case http2.FrameSettings:
		if !f.acks() {
			w.pending = append(w.pending, promise{w.sent, f.values()})
		}
	case http2.FramePing:
		if !f.acks() {
			w.pings[string(f.payload)] = append(w.pings[string(f.payload)], question{w.sent, time.Now()})
		}
	case http2.FrameGoAway:
		if w.goneAt == 0 {
			w.goneAt = w.sent
		}
	case http2.FrameWindowUpdate:
		if f.id == 0 {
			w.connGiven += int(f.number(0))
		}
	case http2.FrameData:
		w.filled += len(f.payload)
	}
	if f.id != 0 && (f.kind != http2.FramePriority || len(f.payload) != 5 || f.number(0) == f.id) {
		w.learnStream(f) // A PRIORITY that is in order concerns no stream in any state.
	}
}

// receives checks what the relay has written, and returns what it says as far as it is complete.
func (w *twin) receives(b []byte) (events []event) {
	frames, err := w.toUs.feed(b)
	if err != nil {
		w.breach("%v", err)
	}
	for _, f := range frames {
		e := event{frame: f}
		w.tell("<- ", f)
		if w.check(&e) {
			events = append(events, e)
		}
	}
	return events
}

// severed learns that the relay has closed the connection.
func (w *twin) severed() {
	w.note("<- closed")
	if len(w.toUs.buf) > 0 && !w.patient {
		w.breach("closed in the middle of a frame: %x", w.toUs.buf)
	}
}

// check tells whether e is complete now.
func (w *twin) check(e *event) bool {
	w.checkPlace(e.frame)
	if !w.checkShape(e.frame) {
		return false
	}
	switch e.kind {
	case http2.FrameSettings:
		w.checkSettings(e.frame)
	case http2.FramePing:
		w.checkPing(e.frame)
	case http2.FrameGoAway:
		w.checkGoAway(e.frame)
	case http2.FrameWindowUpdate:
		w.checkGrant(e.frame)
	case http2.FrameData:
		w.checkData(e)
	case http2.FrameRSTStream:
		w.checkReset(e.frame)
	case http2.FrameHeaders, http2.FrameContinuation:
		return w.checkHeaders(e)
	}
	return true
}

// checkPlace checks that a frame of any kind may stand here.
func (w *twin) checkPlace(f frame) {
	if !w.greeted && (f.kind != http2.FrameSettings || f.acks()) {
		w.breach("%v before the first SETTINGS", f)
	}
	w.greeted = true
	if w.ruptured {
		w.breach("%v after a GOAWAY with an error code", f)
	}
	if w.block != nil && (f.kind != http2.FrameContinuation || f.id != w.block.id) {
		w.breach("%v within the header block of stream %d", f, w.block.id)
	}
	if w.block == nil && f.kind == http2.FrameContinuation {
		w.breach("%v without a header block to continue", f)
	}
}

func (w *twin) checkSettings(f frame) {
	if f.acks() {
		w.acknowledged()
		return
	}
	for _, v := range f.values() {
		switch {
		case v.ID == http2.SettingEnablePush && (v.Val > 1 || v.Val == 1 && !w.client),
			v.ID == http2.SettingInitialWindowSize && v.Val > maxWindow,
			v.ID == http2.SettingMaxFrameSize && (v.Val < 1<<14 || v.Val >= 1<<24):
			w.breach("setting %v is out of bounds", v)
		case v.ID == http2.SettingInitialWindowSize:
			w.initial = int(v.Val)
		}
	}
	for id, s := range w.streams {
		if s.opened && !s.done() && w.room(s) > maxWindow {
			w.breach("%v: window of stream %d is %d then", f, id, w.room(s))
		}
	}
}

// acknowledged puts the oldest pending settings into force.
func (w *twin) acknowledged() {
	if len(w.pending) == 0 {
		w.breach("SETTINGS acknowledged that were never sent")
		return
	}
	p := w.pending[0]
	w.pending = w.pending[1:]
	w.seen = max(w.seen, p.at)
	for _, v := range p.values {
		w.inForce[v.ID] = v.Val
		if v.ID == http2.SettingHeaderTableSize {
			w.shrunk = min(w.shrunk, int(v.Val))
		}
	}
}

func (w *twin) checkPing(f frame) {
	if !f.acks() {
		return
	}
	asked := w.pings[string(f.payload)]
	if len(asked) == 0 {
		w.breach("PING %x answered that was never sent", f.payload)
		return
	}
	if late := time.Since(asked[0].when); late > lateness && !w.patient {
		w.breach("PING %x answered after %v", f.payload, late)
	}
	w.seen = max(w.seen, asked[0].at)
	w.pings[string(f.payload)] = asked[1:]
	if len(asked) == 1 {
		delete(w.pings, string(f.payload))
	}
}

func (w *twin) checkGoAway(f frame) {
	last := f.number(0)
	if last > w.lastID {
		w.breach("%v: its last stream was %d before", f, w.lastID)
	}
	w.lastID, w.parting, w.ruptured = last, true, f.code(4) != http2.ErrCodeNo
	for id, s := range w.streams {
		if !w.client && id > last && s.answered() {
			w.breach("%v: stream %d has been answered", f, id)
		}
	}
}

// checkGrant checks that no window, as the peer counts it, grows beyond what a window may be.
func (w *twin) checkGrant(f frame) {
	n := int(f.number(0))
	if n == 0 {
		w.breach("%v grants nothing", f)
	}
	if f.id == 0 {
		w.granted += n
		if room := firstWindow + w.granted - w.filled; room > maxWindow {
			w.breach("%v: window of the connection is %d then", f, room)
		}
		return
	}
	if s := w.usable(f); s != nil {
		s.granted += n
		if w.room(s) > maxWindow {
			w.breach("%v: window of the stream is %d then", f, w.room(s))
		}
	}
}

// room returns how much the peer may send on a stream, the connection's window aside.
func (w *twin) room(s *stream) int { return w.initial + s.granted - s.filled }

// credit returns how much the peer may send on a stream, or on the connection for 0.
func (w *twin) credit(id uint32) int {
	conn := firstWindow + w.granted - w.filled
	if id == 0 {
		return conn
	}
	if s := w.streams[id]; s != nil {
		return min(conn, w.room(s))
	}
	return min(conn, w.initial)
}
