package relay_test

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// flood sends DATA as long as the relay allows it, and returns how much that was.
func (p *peer) flood(id uint32) (sent int) {
	for sent < 100<<20 {
		synctest.Wait()
		n := min(p.credit(id), 16384)
		if n <= 0 {
			return sent
		}
		p.data(id, bytesOf(n), false)
		sent += n
	}
	return sent
}

// openHanded is a peer that allows as much as can be allowed.
func openHanded() habits {
	return habits{manual: true, settings: []http2.Setting{setting(http2.SettingInitialWindowSize, maxWindow)}}
}

// A client that does not read stops its back-end after a bound, and nobody else.
func TestClientThatDoesNotRead(t *testing.T) {
	inRig(t, setup{buffer: 16 << 10, client: openHanded()}, func(r *rig, client, backend *peer) {
		client.windowUpdate(0, maxWindow-65535)
		client.request(1, true)
		backend.wantHeaders(1)
		backend.response(1)
		client.wantHeaders(1)
		client.pause()
		sent := backend.flood(1)
		if sent > 1<<20 {
			t.Errorf("the relay took %d bytes for a client that does not read", sent)
		}
		serve(r.join(habits{}), 1, backend, 3)
		client.resume()
		client.wantData(1, bytesOf(sent))
		backend.data(1, "go on", false)
		client.wantData(1, "go on")
	})
}

// A back-end that does not read stops its client after a bound; calls to others go on.
func TestBackendThatDoesNotRead(t *testing.T) {
	inRig(t, setup{buffer: 16 << 10, backend: openHanded()}, func(r *rig, client, backend *peer) {
		backend.windowUpdate(0, maxWindow-65535)
		client.request(1, false)
		backend.wantHeaders(1)
		backend.pause()
		sent := client.flood(1)
		if sent > 1<<20 {
			t.Errorf("the relay took %d bytes for a back-end that does not read", sent)
		}
		client.wantAlive()
		backend.resume()
		backend.wantData(1, bytesOf(sent))
		client.data(1, "", true)
		backend.wantEnd(1)
		reply(client, 1, backend, 1, "answer")
	})
}

// A back-end that does not read is not sent requests without end either.
func TestRequestsToABackendThatDoesNotRead(t *testing.T) {
	s := setup{buffer: 16 << 10, connections: 1, backLimits: relay.Limits{OutputBytes: 100_000}}
	inRig(t, s, func(r *rig, client, backend *peer) {
		backend.pause()
		for id := uint32(1); id < 500; id += 2 {
			client.request(id, true, "x: "+bytesOf(5000))
			client.rst(id, http2.ErrCodeCancel)
		}
		synctest.Wait()
		backend.resume()
		synctest.Wait()
		if n := int(nextCall(backend) / 2); n == 0 || n > 50 {
			t.Errorf("the back-end was sent %d of 250 requests", n)
		}
	})
}

// Who takes a little all the time is not cut; who takes nothing is.
func TestSlowReader(t *testing.T) {
	inRig(t, setup{buffer: 4 << 10, client: openHanded()}, func(r *rig, client, backend *peer) {
		client.windowUpdate(0, maxWindow-65535)
		client.request(1, true)
		backend.wantHeaders(1)
		backend.response(1)
		client.wantHeaders(1)
		client.pause()
		sent := backend.flood(1)
		for range 11 {
			client.sip(25_000)
			client.windowUpdate(0, 1) // A sign of life.
			time.Sleep(4 * time.Second)
		}
		r.wantBreaches(relay.SlowReader, 0)
		time.Sleep(45 * time.Second)
		r.wantBreaches(relay.SlowReader, 1)
		backend.wantReset(1, http2.ErrCodeCancel)
		if sent < 25_000*11 {
			t.Errorf("only %d bytes were sent, the test shows nothing", sent)
		}
	})
}

// Streams that nobody reads are reset when the process holds too much for them.
// One client may have an eighth of what may wait in all.
func TestTooMuchWaits(t *testing.T) {
	s := setup{limits: relay.Limits{BufferedBytes: 8 * 200_000}, client: habits{manual: true,
		settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 1)}}}
	inRig(t, s, func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 10; id += 2 {
			client.request(id, true)
			backend.wantHeaders(id)
			backend.response(id)
			client.wantHeaders(id)
		}
		for id := uint32(1); id < 10; id += 2 {
			backend.flood(id)
		}
		if n := r.stats.WaitingBytes.Load(); n > 200_000 {
			t.Errorf("%d bytes wait", n)
		}
		client.wantReset(7, http2.ErrCodeEnhanceYourCalm)
		client.wantReset(9, http2.ErrCodeEnhanceYourCalm)
		backend.wantReset(7, http2.ErrCodeCancel)
		r.wantBreaches(relay.Buffered, 2)
		if e := r.call(3).end(t); e.By != relay.ByRelay || e.Breach != relay.Buffered || !e.Broken {
			t.Errorf("the observer heard %+v", e)
		}
		serve(r.join(habits{}), 1, backend, 11)
	})
}

// A back-end that never comes to its final answer does not fill the memory for a client that does not read.
func TestInterimAnswersWithoutEnd(t *testing.T) {
	inRig(t, setup{buffer: 16 << 10}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		client.pause()
		for range 2000 {
			backend.headers(1, false, ":status: 103", "!link: "+bytesOf(1000))
		}
		synctest.Wait()
		backend.headers(1, true, response("grpc-status: 0")...)
		client.resume()
		n := 0
		for ; client.next(1).value(":status") == "103"; n++ {
			continue
		}
		if n == 0 || n > 500 {
			t.Errorf("%d of 2,000 interim answers came", n)
		}
	})
}

// slowSenders are clients that begin something and do not come to its end.
var slowSenders = map[string]func(c *peer){
	"in a frame header": func(c *peer) { c.raw([]byte("\x00\x00\x08")) },
	"in a frame":        func(c *peer) { c.request(1, false); c.raw([]byte("\x00\x00\x08\x00\x00\x00\x00\x00\x01abc")) },
	"after HEADERS":     func(c *peer) { c.frame(http2.FrameHeaders, 0, 1, "\x83") },
	"between two CONTINUATION": func(c *peer) {
		c.frame(http2.FrameHeaders, 0, 1, "\x83")
		c.frame(http2.FrameContinuation, 0, 1, "\x86")
	},
	"in a slow header block": func(c *peer) {
		c.frame(http2.FrameHeaders, 0, 1, "\x83")
		time.Sleep(12 * time.Second)
		c.frame(http2.FrameContinuation, 0, 1, "\x86")
	},
	"byte by byte": func(c *peer) { c.slowly(make([]byte, 4), 1, 4*time.Second) },
}

func TestSlowSenders(t *testing.T) {
	for name, act := range slowSenders {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				began := time.Now()
				act(client)
				for range 2 { // Twice the patience of a peer.
					client.watch(func() bool { return client.gone })
				}
				client.wantGoAway(http2.ErrCodeEnhanceYourCalm)
				client.wantClosed()
				if d := time.Since(began); d < 19*time.Second || d > 24*time.Second {
					t.Errorf("the client was cut after %v", d)
				}
				r.wantBreaches(relay.SlowFrame, 1)
				serve(r.join(habits{}), 1, backend, nextCall(backend))
			})
		})
	}
}

func TestSlowFramesInTime(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		backend.wantHeaders(1)
		client.slowly([]byte("\x00\x00\x03\x00\x00\x00\x00\x00\x01abc"), 1, time.Second)
		backend.wantData(1, "abc")
		client.data(1, "", true)
		backend.wantEnd(1)
		reply(client, 1, backend, 1, "answer")
		r.wantBreaches(relay.SlowFrame, 0)
	})
}

func TestSlowHandshakes(t *testing.T) {
	for name, sent := range map[string]string{
		"nothing": "", "half a preface": http2.ClientPreface[:10],
		"no SETTINGS": http2.ClientPreface, "half of SETTINGS": http2.ClientPreface + "\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, bystander, backend *peer) {
				client := r.join(habits{silent: true, mute: true})
				client.raw([]byte(sent))
				time.Sleep(10 * time.Second)
				client.wantGoAway(http2.ErrCodeSettingsTimeout)
				client.wantClosed()
				r.wantBreaches(relay.SlowHandshake, 1)
				serve(bystander, 1, backend, 1)
			})
		})
	}
}
