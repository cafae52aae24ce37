package relay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/capguard/capguard/server/relay"
)

// side is one connection of a game, with the peer at its far end.
type side struct {
	*relay.Line
	game    *game
	number  int
	backend bool
	twin    *twin
	style   style
	manual  bool   // it grants window only when the script says so
	mute    bool   // it acknowledges nothing
	held    bool   // what it says is not delivered yet
	spoilt  bool   // it has said what nobody can follow: its own words are not checked on the other side
	greedy  bool   // it may have gone beyond a window, or made one too large
	out     []byte // said and not delivered
	encoder *hpack.Encoder
	block   bytes.Buffer
	talks   []*talk // in the order of their beginning
	highest uint32  // of its streams so far
	byID    map[uint32]*talk
}

// talk is a stream as its peer sees it.
type talk struct {
	side   *side
	id     uint32
	tag    string // of the call: that of the client's stream
	self   string // of this very stream
	said   int    // bytes of DATA
	end    int    // said at END_STREAM; -1 before
	heard  int
	from   *talk // who is heard
	begun  bool  // final headers were said, or heard by a client
	over   bool
	spoilt bool // DATA that follow no pattern were said
}

func newSide(g *game, line *relay.Line, backend bool) *side {
	s := &side{Line: line, game: g, number: len(g.sides), backend: backend, twin: newTwin(backend), byID: map[uint32]*talk{}}
	s.twin.patient, s.twin.quiet = true, !g.loud
	s.encoder = hpack.NewEncoder(&s.block)
	g.sides = append(g.sides, s)
	return s
}

func (s *side) begin(id uint32, tag string) *talk {
	k := &talk{side: s, id: id, tag: tag, self: fmt.Sprintf("%d.%d", s.number, id), end: -1}
	s.talks = append(s.talks, k)
	s.byID[id] = k
	s.highest = max(s.highest, id|1)
	s.game.talks[k.self] = k
	return k
}

// pick returns one of the latest streams; nil if there is none.
func (s *side) pick(n byte) *talk {
	recent := s.talks[max(0, len(s.talks)-8):]
	if len(recent) == 0 {
		return nil
	}
	return recent[int(n)%len(recent)]
}

func (s *side) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	n := len(payload)
	at := len(s.out)
	s.out = append(s.out, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	s.out = binary.BigEndian.AppendUint32(s.out, id)
	s.out = append(s.out, payload...)
	s.twin.sends(s.out[at:])
}

func (s *side) number32(kind http2.FrameType, id, value uint32) {
	s.frame(kind, 0, id, binary.BigEndian.AppendUint32(nil, value))
}

func (s *side) raw(b []byte) {
	s.out = append(s.out, b...)
	s.twin.sends(b)
}

func (s *side) settings(values ...uint32) {
	var b []byte
	for i := 0; i+1 < len(values); i += 2 {
		b = binary.BigEndian.AppendUint16(b, uint16(values[i]))
		b = binary.BigEndian.AppendUint32(b, values[i+1])
	}
	s.frame(http2.FrameSettings, 0, 0, b)
}

// fields says a header list, in the side's style.
func (s *side) fields(id uint32, end bool, fields ...hpack.HeaderField) {
	s.block.Reset()
	for _, f := range fields {
		_ = s.encoder.WriteField(f) // To a buffer.
	}
	block := s.block.Bytes()
	size := s.style.fragment
	if size == 0 {
		size = 16000
	}
	var flags http2.Flags
	if end {
		flags |= flagEndStream
	}
	var payload []byte
	if s.style.pad > 0 {
		flags |= flagPadded
		payload = append(payload, byte(s.style.pad))
	}
	if s.style.priority {
		flags |= flagPriority
		payload = append(payload, 0, 0, 0, 0, 15)
	}
	n := min(size, len(block))
	payload = append(append(payload, block[:n]...), make([]byte, s.style.pad)...)
	if block = block[n:]; len(block) == 0 {
		flags |= flagEndHeaders
	}
	s.frame(http2.FrameHeaders, flags, id, payload)
	for len(block) > 0 {
		n, flags = min(size, len(block)), 0
		if n == len(block) {
			flags = flagEndHeaders
		}
		s.frame(http2.FrameContinuation, flags, id, block[:n])
		block = block[n:]
	}
}

// data says n bytes of the stream's own pattern.
func (s *side) data(k *talk, n int, end bool) {
	var flags http2.Flags
	if end {
		flags |= flagEndStream
	}
	var payload []byte
	if s.style.pad > 0 {
		flags |= flagPadded
		payload = append(payload, byte(s.style.pad))
	}
	payload = append(append(payload, pattern(k, k.said, n)...), make([]byte, s.style.pad)...)
	s.greedy = s.greedy || len(payload) > s.twin.credit(k.id)
	k.said += n
	s.frame(http2.FrameData, flags, k.id, payload)
	k.ends(end)
}

func (k *talk) ends(end bool) {
	if end && k.end < 0 {
		k.end = k.said
	}
}

// noise is what DATA are made of: each stream begins elsewhere in it, so that a byte in the wrong place is soon seen.
var noise = func() []byte {
	r := rand.NewChaCha8([32]byte{7})
	b := make([]byte, 1<<17)
	_, _ = r.Read(b) // It never fails.
	return append(b, b...)
}()

func pattern(k *talk, at, n int) []byte {
	at = (at + 7919*int(k.id) + 104729*k.side.number) & (1<<17 - 1)
	return noise[at : at+n]
}

// hears takes what the relay has written, checks it, and reacts to it.
func (s *side) hears() {
	for _, e := range s.twin.receives(s.Take()) {
		switch e.kind {
		case http2.FrameSettings:
			if !e.acks() && !s.mute {
				s.frame(http2.FrameSettings, flagAck, 0, nil)
			}
		case http2.FramePing:
			if !e.acks() && !s.mute {
				s.frame(http2.FramePing, flagAck, 0, e.payload)
			}
		case http2.FrameHeaders:
			s.hearsFields(e)
		case http2.FrameData:
			s.hearsData(e)
		case http2.FrameGoAway:
			s.hearsBlame(e)
		case http2.FrameRSTStream:
			if k := s.byID[e.id]; k != nil {
				k.over = true
			}
		}
	}
	if len(s.twin.broken) > 0 {
		s.game.fail("the relay breaks HTTP/2 towards side %d: %s", s.number, s.twin.broken)
	}
}

// hearsBlame checks that the relay blames nobody for what he has not done.
func (s *side) hearsBlame(e event) {
	code := e.code(4)
	if !s.spoilt && (code == http2.ErrCodeCompression || code == http2.ErrCodeFlowControl && !s.greedy || code == http2.ErrCodeInternal) {
		s.game.fail("the relay blames side %d: %v", s.number, e)
	}
}

func (s *side) hearsFields(e event) {
	k := s.byID[e.id]
	if k == nil {
		if k = s.begin(e.id, e.value("x-tag")); s.backend {
			k.from = s.game.talks[k.tag]
		}
	}
	if e.value("x-hook") != "" {
		s.hearsHook(k, e)
		return
	}
	if !s.backend && e.value("x-from") != "" {
		k.from = s.game.talks[e.value("x-from")]
		k.begun = true
	}
	if k.from == nil || k.from.side.spoilt || k.from.spoilt || s.game.lost {
		return
	}
	want := k.tag
	if e.value("x-tag") != want {
		s.game.fail("side %d, stream %d is of call %q and hears of call %q: %v", s.number, k.id, want, e.value("x-tag"), e)
	}
	for _, f := range e.fields {
		if (f.Name == "x-secret") != f.Sensitive || f.Sensitive && f.Value != want {
			s.game.fail("side %d, stream %d: %+v", s.number, k.id, f)
		}
	}
	s.hearsEnd(k, e)
}

// hearsHook checks an answer of the relay's own.
func (s *side) hearsHook(k *talk, e event) {
	if e.value("x-hook") != k.tag && !s.spoilt {
		s.game.fail("stream %d of side %d hears what the hook says to %s", k.id, s.number, e.value("x-hook"))
	}
	k.from = nil
}

func (s *side) hearsData(e event) {
	k := s.byID[e.id]
	if k == nil {
		return
	}
	if k.from != nil && !k.from.side.spoilt && !k.from.spoilt {
		if !bytes.Equal(e.data, pattern(k.from, k.heard, len(e.data))) {
			s.game.fail("side %d, stream %d hears bytes that are not those of %s from %d on", s.number, k.id, k.from.self, k.heard)
		}
	}
	k.heard += len(e.data)
	if !s.manual && len(e.payload) > 0 {
		s.number32(http2.FrameWindowUpdate, 0, uint32(len(e.payload)))
		if !e.ends() {
			s.number32(http2.FrameWindowUpdate, k.id, uint32(len(e.payload)))
		}
	}
	s.hearsEnd(k, e)
}

// hearsEnd checks that a body that ends is whole.
func (s *side) hearsEnd(k *talk, e event) {
	if !e.ends() || k.from == nil || k.from.spoilt || k.from.side.spoilt {
		return
	}
	if k.from.end != k.heard {
		s.game.fail("side %d, stream %d has heard %d bytes of %s at its end, which ended at %d", s.number, k.id, k.heard, k.from.self, k.from.end)
	}
}

// nextID returns the stream that a client opens next.
func (s *side) nextID() uint32 {
	if len(s.talks) == 0 {
		return 1
	}
	return s.highest + 2
}
