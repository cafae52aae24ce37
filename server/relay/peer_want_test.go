package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// patience is how long a peer waits for what a test wants of the relay: no time at all inside a bubble.
const patience = 10 * time.Second

// await waits until ready, which it calls with the lock held, or fails the test.
func (p *peer) await(what string, id uint32, ready func() bool) {
	p.Helper()
	if !p.watch(func() bool { return ready() || p.gone }) {
		p.fatalf("%s wants %s %d in vain", p.name(), what, id)
	}
	if !p.locked(ready) {
		p.fatalf("%s wants %s %d, but the relay has closed the connection", p.name(), what, id)
	}
}

// watch waits until ready, which it calls with the lock held, and tells whether that came to be in good time.
func (p *peer) watch(ready func() bool) bool {
	over := time.NewTimer(patience)
	defer over.Stop()
	for {
		p.mu.Lock()
		ok, news := ready(), p.news
		p.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-news:
		case <-over.C:
			return false
		}
	}
}

func (p *peer) locked(ready func() bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ready()
}

func (p *peer) fatalf(format string, args ...any) {
	p.Helper()
	p.mu.Lock()
	story := p.story()
	p.mu.Unlock()
	p.Fatalf("%s\n%s", fmt.Sprintf(format, args...), story)
}

// find returns the place of the first event of a stream. Zero stands for the connection.
func (p *peer) find(id uint32) int {
	return slices.IndexFunc(p.calls, func(e event) bool { return e.id == id })
}

// next takes the next event of a stream: HEADERS, DATA or RST_STREAM, or for 0 GOAWAY.
func (p *peer) next(id uint32) (e event) {
	p.Helper()
	p.await("something on stream", id, func() bool { return p.find(id) >= 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.find(id)
	e = p.calls[at]
	p.calls = slices.Delete(p.calls, at, at+1)
	p.ended[id] = p.ended[id] || e.ends()
	return e
}

// want takes the next event of a stream and has it be of a kind.
func (p *peer) want(id uint32, kind http2.FrameType) event {
	p.Helper()
	e := p.next(id)
	if e.kind != kind {
		p.fatalf("%s got %v, want %v", p.name(), e, kind)
	}
	return e
}

// wantHeaders takes a header block that holds at least these lines. "!name: value" wants a field that is never indexed, and a name
// with a minus before it wants no such field.
func (p *peer) wantHeaders(id uint32, lines ...string) event {
	p.Helper()
	e := p.want(id, http2.FrameHeaders)
	var got []string
	for _, f := range e.fields {
		got = append(got, line(f))
	}
	for _, l := range lines {
		if name, no := strings.CutPrefix(l, "-"); no {
			if v := e.value(name); v != "" {
				p.fatalf("%s got %s: %s in %v, want none", p.name(), name, v, e)
			}
		} else if !slices.Contains(got, l) {
			p.fatalf("%s got %v, want %s in it", p.name(), e, l)
		}
	}
	return e
}

// wantTrailers takes the header block that ends a stream.
func (p *peer) wantTrailers(id uint32, lines ...string) event {
	p.Helper()
	e := p.wantHeaders(id, lines...)
	if !e.ends() {
		p.fatalf("%s got %v, want END_STREAM with it", p.name(), e)
	}
	return e
}

// wantData takes DATA until it amounts to text, however it is cut.
func (p *peer) wantData(id uint32, text string) {
	p.Helper()
	for len(text) > 0 {
		data := string(p.want(id, http2.FrameData).data)
		rest, ok := strings.CutPrefix(text, data)
		if !ok {
			p.fatalf("%s got data %.60q on stream %d, want %.60q", p.name(), data, id, text)
		}
		text = rest
	}
}

// wantEnd wants END_STREAM, with what was taken last or with nothing.
func (p *peer) wantEnd(id uint32) {
	p.Helper()
	for !p.ended[id] {
		if e := p.want(id, http2.FrameData); len(e.data) > 0 {
			p.fatalf("%s got %v, want END_STREAM", p.name(), e)
		}
	}
}

// wantReset takes RST_STREAM. What comes before it is of no interest, as it is when a call breaks.
func (p *peer) wantReset(id uint32, code http2.ErrCode) {
	p.Helper()
	e := p.next(id)
	for e.kind == http2.FrameData || e.kind == http2.FrameHeaders {
		e = p.next(id)
	}
	if got := e.code(0); got != code {
		p.fatalf("%s got %v, want code %v", p.name(), e, code)
	}
}

// wantGoAway takes GOAWAY and returns its last stream.
func (p *peer) wantGoAway(code http2.ErrCode) (last uint32) {
	p.Helper()
	e := p.want(0, http2.FrameGoAway)
	if got := e.code(4); got != code {
		p.fatalf("%s got %v, want code %v", p.name(), e, code)
	}
	return e.number(0)
}

// wantClosed waits until the relay has closed the connection.
func (p *peer) wantClosed() {
	p.Helper()
	if !p.watch(func() bool { return p.gone }) {
		p.fatalf("%s wants the relay to close the connection, in vain", p.name())
	}
}

// wantControl takes the next SETTINGS, PING, WINDOW_UPDATE or PRIORITY of a kind, passing over others.
func (p *peer) wantControl(kind http2.FrameType) (e event) {
	p.Helper()
	at := -1
	p.await(kind.String()+" on stream", 0, func() bool {
		at = slices.IndexFunc(p.control, func(e event) bool { return e.kind == kind })
		return at >= 0
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	e = p.control[at]
	p.control = slices.Delete(p.control, 0, at+1)
	return e
}

// wantQuiet wants that nothing about calls is under way or untaken, once everybody in the bubble waits.
func (p *peer) wantQuiet() {
	p.Helper()
	synctest.Wait()
	p.mu.Lock()
	calls := slices.Clone(p.calls)
	p.mu.Unlock()
	if len(calls) > 0 {
		p.fatalf("%s wants quiet, got %v", p.name(), calls)
	}
}

// wantSettled wants that every SETTINGS and PING has been answered, allowing for the time that an answer may take.
func (p *peer) wantSettled() {
	p.Helper()
	time.Sleep(2 * lateness)
	synctest.Wait()
	p.mu.Lock()
	debts := p.twin.unanswered()
	p.mu.Unlock()
	if len(debts) > 0 {
		p.fatalf("%s waits for: %s", p.name(), strings.Join(debts, "; "))
	}
}

// wantAlive wants that the connection works: a PING is answered.
func (p *peer) wantAlive() {
	p.Helper()
	p.ping("alive?")
	p.await("answer to PING", 0, func() bool { return len(p.twin.pings) == 0 })
}

// slowly sends bytes a few at a time. It takes no time inside a bubble.
func (p *peer) slowly(b []byte, piece int, every time.Duration) {
	for len(b) > 0 {
		n := min(piece, len(b))
		p.raw(b[:n])
		b = b[n:]
		time.Sleep(every)
	}
}
