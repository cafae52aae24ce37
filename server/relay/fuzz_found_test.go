package relay_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// What scripts have found, each told again in words. The twins of both sides judge.

// newPair begins a game with a client and a back-end, as a script would that begins with how, and has them judged at its end.
func newPair(t *testing.T, how byte) (g *game, client, backend *side) {
	g = newGame([]byte{how}, true)
	g.open(g.next())
	t.Cleanup(func() {
		g.end()
		if g.verdict != "" {
			t.Errorf("%s\n%s", g.verdict, g.story())
		}
	})
	return g, g.sides[0], g.sides[1]
}

// asks lets the client begin a call.
func (s *side) asks(method string, end bool, more ...string) *talk {
	k := s.begin(s.nextID(), "")
	k.tag = k.self
	lines := append([]string{":method: " + method, ":scheme: http", ":path: /@", "x-tag: " + k.tag, "!x-secret: " + k.tag}, more...)
	s.fields(k.id, end, fieldsOf(lines)...)
	k.ends(end)
	s.game.pump()
	return k
}

// replies lets the back-end begin its latest answer.
func (s *side) replies(status string, more ...string) *talk {
	k := s.talks[len(s.talks)-1]
	lines := append([]string{":status: " + status, "x-tag: " + k.tag, "x-from: " + k.self, "!x-secret: " + k.tag}, more...)
	s.fields(k.id, false, fieldsOf(lines)...)
	k.begun = true
	s.game.pump()
	return k
}

// count returns how many lines of the story hold text.
func (s *side) count(text string) int { return strings.Count(strings.Join(s.twin.trace, "\n"), text) }

// A client that sent two frames after the end of its request got two resets for the one stream.
func TestWhatComesAfterTheEndIsRefusedOnce(t *testing.T) {
	g, client, backend := newPair(t, 0)
	k := client.asks("POST", true)
	b := backend.replies("200")
	backend.data(b, 0, true)
	g.pump()
	client.data(k, 5, false)
	client.data(k, 5, false)
	g.pump()
	if n := client.count("<- RST_STREAM of stream 1, 4 bytes STREAM_CLOSED"); n != 1 {
		t.Errorf("%d resets", n)
	}
}

// A back-end that sent a body where there is none had it passed on.
func TestNoContentMeansNone(t *testing.T) {
	for _, c := range []struct{ method, status string }{{"HEAD", "200"}, {"POST", "204"}, {"POST", "304"}} {
		t.Run(c.method+" "+c.status, func(t *testing.T) {
			g, client, backend := newPair(t, 0)
			client.asks(c.method, true)
			k := backend.replies(c.status, "content-length: 5")
			backend.data(k, 5, true)
			g.pump()
			if client.count("<- RST_STREAM") != 1 || backend.count("<- RST_STREAM of stream 1, 4 bytes PROTOCOL_ERROR") != 1 {
				t.Error("the answer was not refused:", g.story())
			}
		})
	}
}

// A client that broke the protocol while it was being drained was told a higher last stream than before.
func TestLastStreamOnlyGoesDown(t *testing.T) {
	g, client, _ := newPair(t, 0)
	client.asks("POST", false)
	client.Drain()
	g.pump()
	client.asks("POST", false) // Too late.
	client.frame(http2.FrameData, 0, 0, nil)
	g.pump()
	if client.count("<- GOAWAY of stream 0") != 3 {
		t.Error(g.story())
	}
}

// An answer of the hook's own ended what the back-end had said would be longer.
func TestAnswerDoesNotCutShortWhatWasMeasured(t *testing.T) {
	g, client, backend := newPair(t, 0)
	client.asks("POST", true)
	backend.replies("200", "content-length: 5")
	g.dealings[0].answer()
	g.pump()
	if client.count("<- RST_STREAM of stream 1") != 1 {
		t.Error(g.story())
	}
}

// A client that was too slow in two ways, and did not read either, was told twice that its connection was over.
func TestNothingFollowsTheLastGoAway(t *testing.T) {
	g, client, _ := newPair(t, 0)
	client.Pause(0)
	client.Feed([]byte{0, 0}) // The beginning of a frame.
	client.frame(http2.FramePing, 0, 0, []byte("12345678"))
	client.Feed(client.out[:3])
	client.out = nil
	client.twin.fromUs.buf = nil
	client.Flush()
	client.Age(time.Minute)
	client.Age(time.Minute)
	client.Resume()
	g.pump()
	if n := client.count("<- GOAWAY"); n != 1 {
		t.Errorf("%d times\n%s", n, g.story())
	}
}

// The part of a body that was too much, of a message or for the whole process, was held against its client for ever: after enough of them
// its connection had no window any more.
func TestWhatIsDroppedIsNotHeldAgainstItsClient(t *testing.T) {
	t.Run("a large message", func(t *testing.T) {
		g, client, _ := newPair(t, 0x80)
		client.asks("POST", false, "content-type: application/grpc")
		client.spoil()
		client.frame(http2.FrameData, 0, 1, []byte("\x00\xff\xff\xff\xff"))
		g.pump()
		if client.count("<- RST_STREAM of stream 1, 4 bytes ENHANCE_YOUR_CALM") != 1 {
			t.Error(g.story())
		}
	})
	t.Run("a full process", func(t *testing.T) {
		g, client, backend := newPair(t, 0x80)
		backend.settings(uint32(http2.SettingInitialWindowSize), 0)
		g.pump()
		k := client.asks("POST", false)
		for range 3 {
			client.data(k, 16000, false)
			g.pump()
		}
		if client.count("<- RST_STREAM of stream 1, 4 bytes ENHANCE_YOUR_CALM") != 1 {
			t.Error(g.story())
		}
	})
}
