package relay_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// backWindow is a setup whose back-end grants windows only when told, and begins with so much for a stream.
func backWindow(n uint32) setup {
	return setup{backend: habits{manual: true, settings: []http2.Setting{setting(http2.SettingInitialWindowSize, n)}}}
}

// upload opens a call and sends text, of which the back-end allows nothing yet.
func upload(client, backend *peer, id uint32, text string) {
	client.Helper()
	client.request(id, false)
	client.data(id, text, true)
	backend.wantHeaders(id)
	backend.wantQuiet()
}

func TestWindowOpenedLater(t *testing.T) {
	inRig(t, backWindow(0), func(r *rig, client, backend *peer) {
		upload(client, backend, 1, "hello, world")
		if n := r.stats.WaitingBytes.Load(); n != 12 {
			t.Errorf("%d bytes wait, want 12", n)
		}
		backend.windowUpdate(1, 5)
		backend.wantData(1, "hello")
		for _, b := range ", world" {
			backend.wantQuiet()
			backend.windowUpdate(1, 1)
			backend.wantData(1, string(b))
		}
		backend.wantEnd(1)
		reply(client, 1, backend, 1, "x")
		if e := r.call(0).end(t); e.Traffic.Stalls == 0 || r.stats.Stalls.Load() == 0 {
			t.Error("nobody counted that the call stalled")
		}
	})
}

// A window changes while DATA waits: up, down, below zero, and twice before anything can have been acknowledged.
func TestWindowChangesInMidFlight(t *testing.T) {
	text := strings.Repeat("0123456789", 10)
	inRig(t, backWindow(0), func(r *rig, client, backend *peer) {
		upload(client, backend, 1, text)
		backend.settings(setting(http2.SettingInitialWindowSize, 30))
		backend.wantData(1, text[:30])
		backend.settings(setting(http2.SettingInitialWindowSize, 10)) // The stream has -20 now.
		backend.windowUpdate(1, 20)
		backend.wantQuiet()
		backend.windowUpdate(1, 1)
		backend.wantData(1, text[30:31])
		backend.settings(setting(http2.SettingInitialWindowSize, 0))
		backend.settings(setting(http2.SettingInitialWindowSize, 19))
		backend.wantData(1, text[31:40])
		backend.settings(setting(http2.SettingInitialWindowSize, 5), setting(http2.SettingInitialWindowSize, 1<<31-1))
		backend.wantData(1, text[40:])
		backend.wantEnd(1)
		backend.wantSettled()
	})
}

// The connection's window is closed while those of the streams are open.
func TestWindowOfTheConnection(t *testing.T) {
	s := setup{backend: habits{manual: true}, client: habits{manual: true}}
	inRig(t, s, func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 5; id += 2 {
			client.request(id, false)
			client.data(id, bytesOf(40_000), true)
			backend.wantHeaders(id)
		}
		backend.wantData(1, bytesOf(40_000))
		backend.wantEnd(1)
		backend.wantData(3, bytesOf(25_535))
		backend.wantQuiet()
		client.request(5, false)
		client.data(5, "", true) // An end without DATA needs no window.
		backend.wantHeaders(5)
		backend.wantEnd(5)
		backend.windowUpdate(0, 14_000)
		backend.wantData(3, bytesOf(14_000))
		backend.wantQuiet()
		backend.windowUpdate(0, 465)
		backend.wantData(3, bytesOf(465))
		backend.wantEnd(3)
	})
}

// What ends a stream waits behind its DATA: END_STREAM, and trailers, of requests and of answers.
func TestEndsWaitBehindData(t *testing.T) {
	s := backWindow(3)
	s.client = habits{manual: true, settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 3)}}
	inRig(t, s, func(r *rig, client, backend *peer) {
		client.request(1, false)
		client.data(1, "hello", false)
		client.headers(1, true, "x-end: 1")
		backend.wantHeaders(1)
		backend.wantData(1, "hel")
		backend.response(1)
		backend.data(1, "world", false)
		backend.trailers(1, "x-end: 2")
		client.wantHeaders(1)
		client.wantData(1, "wor")
		client.wantQuiet()
		backend.wantQuiet()
		backend.windowUpdate(1, 2)
		backend.wantData(1, "lo")
		backend.wantTrailers(1, "x-end: 1")
		client.windowUpdate(1, 2)
		client.wantData(1, "ld")
		client.wantTrailers(1, "x-end: 2", "grpc-status: 0")
	})
}

// Blocked streams are served in turn: the small one ends while the large one is still blocked.
func TestBlockedStreamsTakeTurns(t *testing.T) {
	s := backWindow(1 << 20)
	inRig(t, s, func(r *rig, client, backend *peer) {
		client.request(1, false)
		client.data(1, bytesOf(65_535), false) // All of the connection's window.
		client.request(3, false)
		client.pour(3, bytesOf(60_000), true)
		client.request(5, false)
		client.data(5, "small", true)
		for id := uint32(1); id < 7; id += 2 {
			backend.wantHeaders(id)
		}
		backend.wantData(1, bytesOf(65_535))
		backend.wantQuiet()
		backend.windowUpdate(0, 20_000)
		backend.wantData(5, "small")
		backend.wantEnd(5)
		backend.wantData(3, bytesOf(20_000-5))
		backend.windowUpdate(0, 1<<20)
		backend.wantData(3, bytesOf(40_005))
		backend.wantEnd(3)
	})
}

func TestFrameSizeChangesInMidFlight(t *testing.T) {
	inRig(t, backWindow(0), func(r *rig, client, backend *peer) {
		backend.settings(setting(http2.SettingMaxFrameSize, 16_385))
		upload(client, backend, 1, bytesOf(60_000))
		backend.windowUpdate(1, 20_000)
		if e := backend.want(1, http2.FrameData); len(e.data) != 16_385 {
			t.Errorf("the frame has %d bytes, want 16,385", len(e.data))
		}
		backend.wantData(1, bytesOf(20_000-16_385))
		backend.settings(setting(http2.SettingMaxFrameSize, 16_384))
		backend.windowUpdate(1, 16_385)
		backend.wantData(1, bytesOf(16_385)) // The twin sees how it is cut.
		backend.settings(setting(http2.SettingMaxFrameSize, 1<<24-1))
		backend.windowUpdate(1, 40_000)
		backend.wantData(1, bytesOf(60_000-36_385))
	})
}

// wrongWindows are grants that no peer may make, on an open stream 1; the answers hold in both directions.
var wrongWindows = []struct {
	name string
	act  func(p *peer)
	code http2.ErrCode
	conn bool
}{
	{"nothing, to a stream", func(p *peer) { p.windowUpdate(1, 0) }, http2.ErrCodeProtocol, false},
	{"nothing, to the connection", func(p *peer) { p.windowUpdate(0, 0) }, http2.ErrCodeProtocol, true},
	{"too much, to a stream", func(p *peer) { p.windowUpdate(1, maxWindow) }, http2.ErrCodeFlowControl, false},
	{"too much, to the connection", func(p *peer) { p.windowUpdate(0, maxWindow) }, http2.ErrCodeFlowControl, true},
	{"too much, by a setting", func(p *peer) {
		p.windowUpdate(1, maxWindow-65535)
		p.settings(setting(http2.SettingInitialWindowSize, 65536))
	}, http2.ErrCodeFlowControl, true},
	{"a setting beyond 2^31-1", func(p *peer) { p.settings(setting(http2.SettingInitialWindowSize, 1<<31)) }, http2.ErrCodeFlowControl, true},
	{"of 3 bytes", func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 1, "123") }, http2.ErrCodeFrameSize, true},
}

func TestWrongWindows(t *testing.T) {
	for _, c := range wrongWindows {
		t.Run("client: "+c.name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, false)
				backend.wantHeaders(1)
				c.act(client)
				if c.conn {
					client.wantGoAway(c.code)
					client.wantClosed()
				} else {
					client.wantReset(1, c.code)
				}
				backend.wantReset(1, http2.ErrCodeCancel)
			})
		})
		t.Run("back-end: "+c.name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, false)
				backend.wantHeaders(1)
				c.act(backend)
				if c.conn {
					backend.wantGoAway(c.code)
					backend.wantClosed()
				} else {
					backend.wantReset(1, c.code)
				}
				client.wantReset(1, http2.ErrCodeInternal)
			})
		})
	}
}

// A sender that ignores a window of the relay's is stopped.
func TestOverrunWindows(t *testing.T) {
	inRig(t, backWindow(0), func(r *rig, client, backend *peer) {
		client.request(1, false)
		backend.wantHeaders(1)
		client.data(1, bytesOf(65_536), false)
		client.wantReset(1, http2.ErrCodeFlowControl)
		backend.wantReset(1, http2.ErrCodeCancel)
		for id := uint32(3); id < 60; id += 2 {
			client.request(id, false)
			client.data(id, bytesOf(65_535), false)
		}
		for id := uint32(61); id < 99; id += 2 {
			client.request(id, false)
			client.data(id, bytesOf(65_535), false)
		}
		client.wantGoAway(http2.ErrCodeFlowControl)
		client.wantClosed()
	})
	s := setup{client: habits{manual: true, settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 0)}}}
	inRig(t, s, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		backend.response(1)
		backend.data(1, bytesOf(65_536), false)
		backend.wantReset(1, http2.ErrCodeFlowControl)
		client.wantReset(1, http2.ErrCodeInternal)
		serve(r.join(habits{}), 1, backend, 3)
	})
}

// After many calls of random sizes, some of them reset, the windows of both connections are whole again.
func TestWindowsAreWholeAfterManyCalls(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		dice := rand.New(rand.NewPCG(1, 2))
		for id := uint32(1); id < 600; id += 2 {
			ask, answer := bytesOf(dice.IntN(60_000)), bytesOf(dice.IntN(60_000))
			client.request(id, false)
			client.data(id, ask, true)
			backend.wantHeaders(id)
			switch dice.IntN(4) {
			case 0:
				client.rst(id, http2.ErrCodeCancel)
				backend.wantReset(id, http2.ErrCodeCancel)
			case 1:
				backend.rst(id, http2.ErrCodeInternal)
				client.wantReset(id, http2.ErrCodeInternal)
			default:
				backend.wantData(id, ask)
				backend.wantEnd(id)
				reply(client, id, backend, id, answer)
			}
		}
		synctest.Wait()
		if c, b := client.credit(0), backend.credit(0); c < 1<<19 || b < 3<<20 {
			t.Errorf("the windows are down to %d towards the client and %d towards the back-end", c, b)
		}
	})
}

// Calls that wait for a decision hold back the connection's credit beyond a bound; refusing them gives it back.
func TestRefusedCallsGiveTheirCreditBack(t *testing.T) {
	s := setup{limits: relay.Limits{HeldBytes: 100_000}, decide: func(r *rig, w *witness) { w.Detach() }}
	inRig(t, s, func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 32; id += 2 {
			client.request(id, false)
			client.pour(id, bytesOf(65_535), false)
		}
		synctest.Wait()
		if n := client.credit(0); n > 1<<19 {
			t.Fatalf("the window is %d, want most of it held back", n)
		}
		for i := range 16 {
			r.call(i).refuse("8")
		}
		synctest.Wait()
		if n := client.credit(0); n < 1<<19 {
			t.Errorf("the window is %d, want it whole again", n)
		}
	})
}
