package relay_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/capguard/capguard/server/relay"
)

// game is a relay between peers that do what a script says. The script is what a fuzzer mutates: any bytes are one.
type game struct {
	script   []byte
	loud     bool // keep the story of each connection
	lab      *relay.Lab
	sides    []*side
	talks    map[string]*talk
	dealings []*dealing
	lost     bool // somebody on either side says what nobody can follow
	verdict  string
}

// newGame returns a game that has not begun.
func newGame(script []byte, loud bool) *game {
	g := &game{script: script, loud: loud, talks: map[string]*talk{}}
	bounds := lowBounds
	if len(script) > 0 && script[0]&0x80 != 0 {
		bounds = lowerBounds
	}
	g.lab = relay.NewLab(bounds, 2, g.decide)
	return g
}

// Bounds that short scripts meet, now and then and often.
var (
	lowBounds = relay.Limits{Streams: 12, HeaderBytes: 4000, Continuations: 5, Resets: 40, ControlFrames: 100,
		OutputBytes: 64 << 10, HeldBytes: 100 << 10, BufferedBytes: 400 << 10}
	lowerBounds = relay.Limits{Streams: 3, HeaderBytes: 4000, Continuations: 5, MessageBytes: 1 << 30, Resets: 3, ControlFrames: 10,
		OutputBytes: 1 << 10, HeldBytes: 10 << 10, BufferedBytes: 40 << 10}
)

// play runs a script and returns what was wrong; "" if nothing was.
func play(script []byte, loud bool) (verdict, story string) {
	g := newGame(script, loud)
	defer g.lab.Close()
	g.open(g.next())
	for len(g.script) > 0 && g.verdict == "" {
		g.step()
		g.pump()
		g.inspect(g.lab.Check())
	}
	g.end()
	return g.verdict, g.story()
}

func (g *game) fail(format string, args ...any) {
	if g.verdict == "" {
		g.verdict = fmt.Sprintf(format, args...)
	}
}

func (g *game) inspect(err error) {
	if err != nil {
		g.fail("the relay is in disorder: %v", err)
	}
}

func (g *game) story() string {
	var all []string
	for _, s := range g.sides {
		all = append(all, fmt.Sprintf("side %d", s.number), "  "+strings.Join(s.twin.trace, "\n  "))
	}
	return strings.Join(all, "\n")
}

func (g *game) next() byte {
	if len(g.script) == 0 {
		return 0
	}
	b := g.script[0]
	g.script = g.script[1:]
	return b
}

// open makes the connections that a game begins with.
func (g *game) open(how byte) {
	g.client(how)
	g.backend(0, how)
	if how&1 != 0 {
		g.client(how >> 4)
	}
	if how&2 != 0 {
		g.backend(1, how>>4)
	}
	g.pump()
}

func (g *game) client(how byte) {
	s := newSide(g, g.lab.Client(), false)
	if how&0x70 == 0x70 {
		return // It says nothing of what it should.
	}
	s.raw([]byte(http2.ClientPreface))
	s.greet(how)
}

func (g *game) backend(endpoint int, how byte) {
	newSide(g, g.lab.Backend(endpoint), true).greet(how)
}

func (s *side) greet(how byte) {
	s.manual = how&4 != 0
	if how&8 != 0 {
		s.settings(uint32(http2.SettingInitialWindowSize), 1000, uint32(http2.SettingMaxConcurrentStreams), 2)
	} else {
		s.settings()
	}
}

// pump delivers what the peers say, and what the relay says, until all have said everything.
func (g *game) pump() {
	for again := true; again && g.verdict == ""; {
		again = false
		for _, s := range g.sides {
			s.hears()
			if len(s.out) > 0 && !s.held {
				out := s.out
				s.out = nil
				s.Feed(out)
				again = true
			}
		}
	}
}

// end lets everybody read on, sees that the relay owes nothing, and ends all connections.
func (g *game) end() {
	for _, s := range g.sides {
		s.held = false
		s.Resume()
	}
	g.pump()
	g.lab.Reap()
	for _, s := range g.sides {
		s.Flush()
	}
	g.pump()
	for _, s := range g.sides {
		if debts := s.twin.unanswered(); !s.Over() && !s.spoilt && !s.twin.fromUs.midway() && len(debts) > 0 {
			g.fail("the relay owes side %d: %v", s.number, debts)
		}
	}
	g.lab.Close()
	g.inspect(g.lab.Empty())
	for _, d := range g.dealings {
		if d.ended == 0 && !d.answered {
			g.fail("call %s, decided on as %b, has no end", d.tag, d.policy)
		}
	}
}

// midway tells whether a part of a frame is there.
func (w *wire) midway() bool { return w.preface || len(w.buf) > 0 }

// step does one thing.
func (g *game) step() {
	who, what := g.next(), g.next()
	s := g.sides[int(who)%4%len(g.sides)]
	s.held = who&4 != 0
	n := who >> 3
	if s.Over() {
		what = what%4 + 28 // It has nothing to say any more.
	}
	switch what % 32 {
	case 0, 1, 2, 3:
		s.opens(n, g.next(), g.next())
	case 4, 5, 6, 7, 8, 9:
		s.speaks(s.pick(n), g.next())
	case 10, 11:
		s.closes(s.pick(n), g.next())
	case 12:
		s.resets(s.pick(n), g.next())
	case 13, 14, 15:
		s.grants(s.pick(n), g.next())
	case 16:
		s.sets(g.next(), g.next())
	case 17:
		s.controls(s.pick(n), g.next())
	case 18:
		s.leaves(s.pick(n), g.next())
	case 19:
		s.restyles(g.next())
	case 20:
		s.invents(s.pick(n), g.next(), g.next())
	case 21:
		s.stammers(n)
	case 22:
		s.Pause(int(g.next()) << (n % 8))
	case 23, 24:
		s.Resume()
	case 25:
		s.hurries(n)
	case 26:
		s.Flush()
	case 27:
		s.Age(time.Duration(g.next()) * 2 * time.Second)
	case 28, 29:
		g.decides(n, g.next())
	default:
		g.connects(n, g.next())
	}
}

// decides does on a call what the hook has left for later, or ends it.
func (g *game) decides(n, how byte) {
	if len(g.dealings) == 0 {
		return
	}
	recent := g.dealings[max(0, len(g.dealings)-8):]
	d := recent[int(n)%len(recent)]
	switch {
	case d.detached && d.ended == 0 && !d.answered && how&1 == 0:
		d.detached = false
		d.forward()
	case !d.answered && (d.detached || how&6 == 0):
		if d.ended == 0 {
			d.answer()
		}
	}
}

func (g *game) connects(n, how byte) {
	switch {
	case how%8 == 0:
		g.lab.Endpoints[0].Close()
	case how%8 == 1:
		g.lab.GiveUp(int(n) % 2)
	case how%8 < 4 || len(g.sides) >= 8:
		g.lab.Reap()
	case how%8 < 6:
		g.client(how)
	default:
		g.backend(int(n)%2, how)
	}
}

// shortAmounts are sizes of DATA; the last ones come from the windows.
var shortAmounts = []int{0, 1, 5, 100, 1000, 9000, 16000, 16000}

// speaks sends DATA.
func (s *side) speaks(k *talk, how byte) {
	if k == nil {
		return
	}
	n := shortAmounts[how&7]
	if how&0x40 == 0 { // Within the windows.
		n = min(n, max(0, s.twin.credit(k.id)-s.style.pad-1))
	}
	if s.backend && !k.begun && how&0x20 == 0 {
		s.answers(k, false, 0)
	}
	if k.end >= 0 && how&0x10 == 0 || k.over {
		return
	}
	s.data(k, n, how&0x80 != 0)
}

// opens begins a call, or an answer.
func (s *side) opens(n, how, policy byte) {
	if s.backend {
		if k := s.pick(n); k != nil && (!k.begun && !k.over || how&0x80 != 0) {
			s.answers(k, how&1 != 0, how)
		}
		return
	}
	id := s.nextID()
	if how == 0xff {
		id = uint32(n)
	}
	k := s.byID[id]
	if k == nil {
		k = s.begin(id, fmt.Sprintf("%d.%d", s.number, id))
	} else {
		k.spoilt = true // Opened twice: its end may be that of either.
	}
	fields := []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/" + string('@'+policy&0x3f)}, {Name: "x-tag", Value: k.tag}, {Name: "x-secret", Value: k.tag, Sensitive: true}}
	if how&2 != 0 {
		fields = append(fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
	}
	end := how&1 != 0
	switch how >> 2 & 0xf {
	case 1:
		fields[0].Value = "HEAD"
	case 2:
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: "5"})
	case 3:
		fields = append(fields, hpack.HeaderField{Name: "connection", Value: "close"})
	case 4:
		fields = append(fields, hpack.HeaderField{Name: "x-long", Value: strings.Repeat("l", 3000)})
	case 5:
		fields = append(fields, hpack.HeaderField{Name: "x-long", Value: strings.Repeat("l", 4000)})
	case 6:
		s.speaksWith(k, fields, 5)
		return
	}
	s.fields(id, end, fields...)
	k.ends(end)
}

// speaksWith says a whole request that keeps to its content-length.
func (s *side) speaksWith(k *talk, fields []hpack.HeaderField, n int) {
	s.fields(k.id, false, append(fields, hpack.HeaderField{Name: "content-length", Value: fmt.Sprint(n)})...)
	s.data(k, n, true)
}

// answers says the headers of an answer.
func (s *side) answers(k *talk, end bool, how byte) {
	status := []string{"200", "200", "200", "204", "304", "100", "103", "404"}[how>>1&7]
	fields := []hpack.HeaderField{{Name: ":status", Value: status}, {Name: "x-tag", Value: k.tag}}
	if status[0] != '1' {
		fields = append(fields, hpack.HeaderField{Name: "x-from", Value: k.self},
			hpack.HeaderField{Name: "x-secret", Value: k.tag, Sensitive: true})
		k.begun = true
	}
	switch how >> 4 & 7 {
	case 1:
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: "5"})
	case 2:
		fields = append(fields, hpack.HeaderField{Name: "x-odd", Value: "a\nb"})
	case 3:
		fields = append(fields, hpack.HeaderField{Name: "x-long", Value: strings.Repeat("l", 3900)})
	}
	s.fields(k.id, end, fields...)
	k.ends(end)
}

// closes ends a stream with trailers, or nearly so.
func (s *side) closes(k *talk, how byte) {
	if k == nil || (k.over || k.end >= 0) && how&0x10 == 0 {
		return
	}
	if s.backend && !k.begun && how&0x20 == 0 {
		s.answers(k, false, 0)
	}
	fields := []hpack.HeaderField{{Name: "grpc-status", Value: "0"}, {Name: "x-tag", Value: k.tag}}
	if how&7 == 7 {
		fields = append(fields, hpack.HeaderField{Name: "Bad", Value: "name"})
	}
	end := how&7 != 6
	s.fields(k.id, end, fields...)
	k.ends(end)
}

func (s *side) resets(k *talk, how byte) {
	if k == nil {
		return
	}
	s.number32(http2.FrameRSTStream, k.id, uint32(how%14))
	k.over = true
}

// amounts are increments of windows.
var amounts = []uint32{1, 7, 100, 1000, 20_000, 65_535, 1 << 20, 1<<31 - 1 - 65535}

func (s *side) grants(k *talk, how byte) {
	n := amounts[how&7]
	s.greedy = s.greedy || n >= 1<<20 || how&0x38 == 0x38
	if how&0x38 == 0x38 {
		n = []uint32{0, 1<<31 - 1}[how&1]
	}
	if k == nil || how&0x40 != 0 {
		s.number32(http2.FrameWindowUpdate, 0, n)
	}
	if k != nil && how&0x80 == 0 {
		s.number32(http2.FrameWindowUpdate, k.id, n)
	}
}

func (s *side) sets(how, value byte) {
	choices := [][]uint32{
		{uint32(http2.SettingInitialWindowSize), 0, 1, 100, 65_535, 100_000, 1<<31 - 1, 1 << 31, 20_000},
		{uint32(http2.SettingMaxFrameSize), 16_384, 16_385, 20_000, 1<<24 - 1, 16_384, 16_384, 16_383, 1 << 24},
		{uint32(http2.SettingHeaderTableSize), 0, 50, 100, 4096, 5000, 1<<32 - 1, 32, 31},
		{uint32(http2.SettingMaxConcurrentStreams), 0, 1, 2, 3, 100, 1<<32 - 1, 5, 1},
		{uint32(http2.SettingEnablePush), 0, 0, 0, 0, 1, 0, 0, 2},
		{0x77, 0, 1, 2, 3, 4, 5, 6, 7},
	}
	first, second := choices[int(how&0xf)%len(choices)], choices[int(how>>4)%len(choices)]
	s.greedy = true // Some of these make a window too large.
	if value&0x80 != 0 {
		s.settings(first[0], first[1+value&7])
		return
	}
	s.settings(first[0], first[1+value&7], second[0], second[1+value>>3&7])
}

func (s *side) controls(k *talk, how byte) {
	switch how & 7 {
	case 0:
		s.frame(http2.FrameSettings, flagAck, 0, nil)
	case 1:
		s.frame(http2.FramePing, flagAck, 0, []byte("draining"))
	case 2:
		s.frame(http2.FramePriority, 0, uint32(how>>3), []byte{0, 0, 0, how >> 6, 1})
	case 3:
		s.encoder.SetMaxDynamicTableSize(uint32(how) * 10)
	case 4:
		s.mute = !s.mute
	default:
		s.frame(http2.FramePing, 0, 0, []byte{how, 1, 2, 3, 4, 5, 6, 7})
	}
}

// leaves says GOAWAY, or goes without a word, or is sent away.
func (s *side) leaves(k *talk, how byte) {
	last := uint32(1<<31 - 1)
	if k != nil && how&1 != 0 {
		last = k.id
	}
	switch {
	case how&0x18 == 0x18:
		s.Hang()
	case how&0x10 != 0 && !s.backend:
		s.Drain()
	default:
		payload := binary.BigEndian.AppendUint32(nil, last)
		s.frame(http2.FrameGoAway, 0, 0, binary.BigEndian.AppendUint32(payload, uint32(how>>1&3)))
	}
}

func (s *side) restyles(how byte) {
	s.style = style{fragment: []int{0, 0, 20, 100}[how&3], pad: []int{0, 0, 1, 200}[how>>2&3], priority: how&0x10 != 0}
	s.manual = how&0x20 != 0
}

// invents sends a frame that is anything but what its stream expects.
func (s *side) invents(k *talk, kind, flags byte) {
	n := int(s.game.next())
	payload := s.game.script[:min(n, len(s.game.script))]
	s.game.script = s.game.script[len(payload):]
	id := uint32(n)
	if k != nil && kind&0x10 == 0 {
		id = k.id
	}
	switch t := http2.FrameType(kind & 0xf); t {
	case http2.FrameData:
		s.greedy = true
		if k := s.byID[id]; k != nil {
			k.spoilt = true
		}
	case http2.FrameHeaders, http2.FrameContinuation:
		s.spoil()
	case http2.FrameSettings, http2.FrameWindowUpdate:
		s.greedy = true
	}
	s.frame(http2.FrameType(kind&0xf), http2.Flags(flags), id, payload)
}

// spoil notes that this peer can no longer be followed.
func (s *side) spoil() {
	s.spoilt = true
	s.game.lost = true
}

// stammers sends bytes that are no frames.
func (s *side) stammers(n byte) {
	b := s.game.script[:min(int(n), len(s.game.script))]
	s.game.script = s.game.script[len(b):]
	if len(b) > 0 {
		s.spoil()
		s.raw(b)
	}
}

// hurries delivers a part of what has been said.
func (s *side) hurries(n byte) {
	part := s.out[:min(len(s.out), int(n)*3)]
	s.out = s.out[len(part):]
	s.Feed(part)
}

// FuzzFrames plays scripts: two kinds of peers around a relay do anything in any order. A twin on each connection checks what the relay
// says to it, each byte of DATA tells of which stream it is, and after each step the relay's own books are audited.
func FuzzFrames(f *testing.F) {
	for _, seed := range scripts() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if verdict, _ := play(script, false); verdict != "" {
			_, story := play(script, true)
			t.Fatalf("%s\n%s", verdict, story)
		}
	})
}
