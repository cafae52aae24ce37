package relay_test

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// tight are bounds that a flood of a test reaches.
var tight = relay.Limits{Resets: 20, ResetsPerSecond: 5, ControlFrames: 50, ControlPerSecond: 10, Streams: 10}

// floods are what a client may try, the i-th step of it, and the bound that it breaks.
var floods = map[string]struct {
	step func(c *peer, id uint32)
	is   relay.Breach
}{
	"rapid reset":               {func(c *peer, id uint32) { c.request(id, true); c.rst(id, http2.ErrCodeCancel) }, relay.Resets},
	"rapid reset of open calls": {func(c *peer, id uint32) { c.request(id, false); c.rst(id, http2.ErrCodeCancel) }, relay.Resets},
	"made you reset: window":    {func(c *peer, id uint32) { c.request(id, false); c.windowUpdate(id, 0) }, relay.Resets},
	"made you reset: overflow":  {func(c *peer, id uint32) { c.request(id, false); c.windowUpdate(id, maxWindow) }, relay.Resets},
	"made you reset: priority":  {func(c *peer, id uint32) { c.request(id, false); c.priority(id, id) }, relay.Resets},
	"made you reset: DATA late": {func(c *peer, id uint32) { c.request(id, true); c.data(id, "x", false) }, relay.Resets},
	"made you reset: HEADERS":   {func(c *peer, id uint32) { c.request(id, true); c.headers(id, true, "x: y") }, relay.Resets},
	"made you reset: length": {func(c *peer, id uint32) {
		c.request(id, false, "content-length: 1")
		c.data(id, "xy", false)
	}, relay.Resets},
	"made you reset: malformed": {func(c *peer, id uint32) { c.request(id, true, "X: y") }, relay.Resets},
	"made you reset: too many":  {func(c *peer, id uint32) { c.request(id, false) }, relay.Resets},
	"PING":                      {func(c *peer, id uint32) { c.ping("x") }, relay.ControlFrames},
	"PING answers":              {func(c *peer, id uint32) { c.frame(http2.FramePing, flagAck, 0, "........") }, relay.ControlFrames},
	"SETTINGS":                  {func(c *peer, id uint32) { c.settings() }, relay.ControlFrames},
	"SETTINGS acknowledgements": {func(c *peer, id uint32) { c.ackSettings() }, relay.ControlFrames},
	"WINDOW_UPDATE":             {func(c *peer, id uint32) { c.windowUpdate(0, 1) }, relay.ControlFrames},
	"PRIORITY":                  {func(c *peer, id uint32) { c.priority(id, 0) }, relay.ControlFrames},
	"GOAWAY":                    {func(c *peer, id uint32) { c.goaway(0, http2.ErrCodeNo) }, relay.ControlFrames},
	"unknown frames":            {func(c *peer, id uint32) { c.frame(0x77, 0, id, "x") }, relay.ControlFrames},
	"empty DATA":                {func(c *peer, id uint32) { open(c, id); c.data(1, "", false) }, relay.ControlFrames},
	"DATA of padding": {func(c *peer, id uint32) {
		open(c, id)
		c.frame(http2.FrameData, flagPadded, 1, "\x01\x00")
	}, relay.ControlFrames},
	"RST_STREAM of closed calls": {func(c *peer, id uint32) { open(c, id); c.rst(1, http2.ErrCodeCancel) }, relay.ControlFrames},
	"HEADERS of refused requests": {func(c *peer, id uint32) {
		c.headers(1, id == 1, ":bad: 1")
		c.headers(1, true, "x: y")
	}, relay.ControlFrames},
}

// open opens a call at the first step of a flood.
func open(c *peer, id uint32) {
	if id == 1 {
		c.request(1, false)
	}
}

func TestFloods(t *testing.T) {
	for name, f := range floods {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{limits: tight}, func(r *rig, bystander, backend *peer) {
				client := r.join(habits{mute: true})
				for i := range uint32(200) {
					f.step(client, 2*i+1)
				}
				client.wantGoAway(http2.ErrCodeEnhanceYourCalm)
				client.wantClosed()
				if n := r.stats.Breaches(f.is); n != 1 {
					t.Errorf("%d breaches of %v, want 1", n, f.is)
				}
				serve(bystander, 1, backend, nextCall(backend))
			})
		})
	}
}

// What a flood does in a second is allowed if it takes long enough.
func TestSlowFloodsAreServed(t *testing.T) {
	for name, f := range floods {
		if name == "made you reset: too many" {
			continue // Its calls stay.
		}
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{limits: tight}, func(r *rig, client, backend *peer) {
				client.hush()
				for i := range uint32(100) {
					f.step(client, 2*i+1)
					pass(time.Second)
				}
				if n := r.stats.Breaches(f.is); n != 0 {
					t.Errorf("%d breaches of %v, want none", n, f.is)
				}
				serve(r.join(habits{}), 1, backend, nextCall(backend))
			})
		})
	}
}

// Useful calls between them allow for as many frames again, and calls that end well for resets.
func TestUsefulCallsAllowForMore(t *testing.T) {
	inRig(t, setup{limits: tight}, func(r *rig, client, backend *peer) {
		id := uint32(1)
		for range 20 {
			for range 40 {
				client.ping("x")
			}
			serve(client, id, backend, nextCall(backend))
			id += 2
		}
		for range 20 {
			for range 10 {
				client.request(id, true)
				client.rst(id, http2.ErrCodeCancel)
				serve(client, id+2, backend, nextCall(backend))
				id += 4
			}
		}
	})
}

// The bounds hold for back-ends too.
func TestFloodsOfABackend(t *testing.T) {
	for name, f := range floods {
		switch name { // These end the calls, which is another matter.
		case "HEADERS of refused requests", "RST_STREAM of closed calls", "GOAWAY":
			continue
		}
		if f.is != relay.ControlFrames {
			continue
		}
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{backLimits: tight}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				backend.wantHeaders(1)
				backend.response(1)
				client.wantHeaders(1)
				backend.hush()
				for range 200 {
					f.step(backend, 3)
				}
				backend.wantGoAway(http2.ErrCodeEnhanceYourCalm)
				backend.wantClosed()
				client.wantReset(1, http2.ErrCodeInternal)
				serve(client, 3, r.accept(habits{}), 1)
			})
		})
	}
}

func TestContinuationFloods(t *testing.T) {
	for name, f := range map[string]struct {
		piece string
		is    relay.Breach
	}{
		"empty": {"", relay.Continuations}, "small": {"\x83", relay.Continuations}, "large": {bytesOf(16_384), relay.LargeHeaders},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.frame(http2.FrameHeaders, 0, 1, "")
				for range 100 {
					client.frame(http2.FrameContinuation, 0, 1, f.piece)
				}
				client.wantGoAway(http2.ErrCodeEnhanceYourCalm)
				client.wantClosed()
				r.wantBreaches(f.is, 1)
				serve(r.join(habits{}), 1, backend, 1)
			})
		})
	}
}

// Answers to control frames that nobody reads are bounded.
func TestUnreadAnswers(t *testing.T) {
	for name, act := range map[string]func(c *peer, id uint32){
		"PING":     func(c *peer, _ uint32) { c.ping("x") },
		"SETTINGS": func(c *peer, _ uint32) { c.settings() },
		"refusals": func(c *peer, id uint32) { c.request(id, true, "!long: "+bytesOf(1000)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{buffer: 4 << 10, limits: relay.Limits{OutputBytes: 10_000, ControlFrames: 1 << 30, HeaderBytes: 1000}}
			inRig(t, s, func(r *rig, bystander, backend *peer) {
				client := r.join(habits{mute: true})
				client.pause()
				for i := range uint32(20_000) {
					act(client, 2*i+1)
					if i%100 == 99 && client.locked(func() bool { return client.gone || len(client.out) > 1<<20 }) {
						break
					}
				}
				pass(2 * time.Second)
				if n := r.stats.Breaches(relay.Output); n != 1 {
					t.Errorf("%d breaches of output, want 1", n)
				}
				serve(bystander, 1, backend, 1)
			})
		})
	}
}

// More connections than allowed wait until others end.
func TestTooManyConnections(t *testing.T) {
	inRig(t, setup{limits: relay.Limits{Connections: 2}}, func(r *rig, client, backend *peer) {
		second := r.join(habits{})
		accepted := make(chan *peer)
		go func() { accepted <- r.join(habits{}) }() // Ends when second does.
		pass(time.Minute)
		if n := r.stats.OpenConnections.Load(); n != 2 {
			t.Errorf("%d connections are open, want 2", n)
		}
		second.close()
		serve(<-accepted, 1, backend, 1)
	})
}
