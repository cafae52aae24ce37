package relay_test

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// wrongGreetings are what a client must not begin with.
var wrongGreetings = map[string]struct {
	sent string
	code http2.ErrCode
}{
	"HTTP/1.1":                 {"GET / HTTP/1.1\r\nHost: stock\r\n\r\n", http2.ErrCodeProtocol},
	"TLS":                      {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", http2.ErrCodeProtocol},
	"a preface that is cut":    {http2.ClientPreface[:20] + "xxxx", http2.ErrCodeProtocol},
	"no SETTINGS":              {http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x00........", http2.ErrCodeProtocol},
	"an acknowledgement first": {http2.ClientPreface + "\x00\x00\x00\x04\x01\x00\x00\x00\x00", http2.ErrCodeProtocol},
}

func TestWrongGreetings(t *testing.T) {
	for name, c := range wrongGreetings {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, bystander, backend *peer) {
				client := r.join(habits{silent: true, mute: true})
				client.raw([]byte(c.sent))
				client.wantGoAway(c.code)
				client.wantClosed()
				serve(bystander, 1, backend, 1)
			})
		})
	}
}

func TestGreetingByteByByte(t *testing.T) {
	inRig(t, setup{}, func(r *rig, _, backend *peer) {
		client := r.join(habits{silent: true, mute: true})
		client.slowly([]byte(http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), 1, 200*time.Millisecond)
		client.wantSettled()
		serve(client, 1, backend, 1)
	})
}

// wrongControl are SETTINGS and PING that neither side may send.
var wrongControl = map[string]struct {
	act  func(p *peer)
	code http2.ErrCode
}{
	"SETTINGS on a stream":          {func(p *peer) { p.frame(http2.FrameSettings, 0, 1, "") }, http2.ErrCodeProtocol},
	"SETTINGS of 5 bytes":           {func(p *peer) { p.frame(http2.FrameSettings, 0, 0, "12345") }, http2.ErrCodeFrameSize},
	"an acknowledgement of 6 bytes": {func(p *peer) { p.frame(http2.FrameSettings, flagAck, 0, "123456") }, http2.ErrCodeFrameSize},
	"ENABLE_PUSH 2":                 {func(p *peer) { p.settings(setting(http2.SettingEnablePush, 2)) }, http2.ErrCodeProtocol},
	"MAX_FRAME_SIZE 16383":          {func(p *peer) { p.settings(setting(http2.SettingMaxFrameSize, 16383)) }, http2.ErrCodeProtocol},
	"MAX_FRAME_SIZE 2^24":           {func(p *peer) { p.settings(setting(http2.SettingMaxFrameSize, 1<<24)) }, http2.ErrCodeProtocol},
	"PING on a stream":              {func(p *peer) { p.frame(http2.FramePing, 0, 1, "12345678") }, http2.ErrCodeProtocol},
	"PING of 7 bytes":               {func(p *peer) { p.frame(http2.FramePing, 0, 0, "1234567") }, http2.ErrCodeFrameSize},
	"GOAWAY on a stream":            {func(p *peer) { p.frame(http2.FrameGoAway, 0, 1, "12345678") }, http2.ErrCodeProtocol},
	"GOAWAY of 7 bytes":             {func(p *peer) { p.frame(http2.FrameGoAway, 0, 0, "1234567") }, http2.ErrCodeFrameSize},
}

func TestWrongControlFrames(t *testing.T) {
	for name, c := range wrongControl {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.hush()
				backend.hush()
				c.act(client)
				client.wantGoAway(c.code)
				client.wantClosed()
				c.act(backend)
				backend.wantGoAway(c.code)
				backend.wantClosed()
				r.wantBreaches(relay.BadProtocol, 2)
				serve(r.join(habits{}), 1, r.accept(habits{}), 1)
			})
		})
	}
}

// A back-end may not even allow itself to push.
func TestBackendThatWantsToPush(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		backend.settings(setting(http2.SettingEnablePush, 1))
		backend.wantGoAway(http2.ErrCodeProtocol)
		serve(client, 1, r.accept(habits{}), 1)
	})
}

func TestUnknownSettingsAreIgnored(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		for _, p := range []*peer{client, backend} {
			p.settings(setting(0x99, 1), setting(http2.SettingMaxConcurrentStreams, 50), setting(0xffff, 1<<32-1))
			p.settings()
			p.settings(setting(http2.SettingMaxHeaderListSize, 1))
			p.wantSettled()
		}
		serve(client, 1, backend, 1)
	})
}

// PINGs are acknowledged within a millisecond, alone or with others; so says the twin.
func TestPingsAreAnswered(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		for range 100 {
			client.ping("same")
			backend.ping("same")
		}
		client.wantSettled()
		backend.wantSettled()
		client.ping("first")
		serve(client, 1, backend, 1)
		client.wantSettled()
		client.frame(http2.FramePing, flagAck, 0, "nobody's") // An answer that nobody asked for.
		serve(client, 3, backend, 3)
	})
}

// A PING that comes while the output is stuck is answered as soon as it is not.
func TestPingBehindStuckOutput(t *testing.T) {
	inRig(t, setup{buffer: 1000}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		client.pause()
		backend.response(1)
		backend.data(1, bytesOf(5000), false)
		synctest.Wait()
		client.ping("stuck")
		time.Sleep(10 * time.Millisecond)
		client.resume()
		client.wantSettled()
		client.wantHeaders(1)
		client.wantData(1, bytesOf(5000))
	})
}

// A peer that is silent is asked for a sign of life, and cut if it gives none.
func TestSilentPeers(t *testing.T) {
	s := setup{limits: relay.Limits{PingAfter: time.Minute, PingTime: 20 * time.Second}}
	inRig(t, s, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		time.Sleep(3 * time.Minute) // It answers.
		client.wantAlive()
		client.hush()
		time.Sleep(79 * time.Second)
		backend.wantQuiet()
		time.Sleep(2 * time.Second)
		client.wantGoAway(http2.ErrCodeEnhanceYourCalm)
		client.wantClosed()
		backend.wantReset(1, http2.ErrCodeCancel)
		r.wantBreaches(relay.Silent, 1)
	})
}

func TestSilentBackend(t *testing.T) {
	inRig(t, setup{limits: relay.Limits{IdleTime: 2 * time.Hour}}, func(r *rig, client, backend *peer) {
		time.Sleep(time.Hour) // Without calls it may be as silent as it likes.
		client.request(1, true)
		backend.wantHeaders(1)
		backend.hush()
		time.Sleep(6 * time.Minute)
		backend.wantGoAway(http2.ErrCodeEnhanceYourCalm)
		backend.wantClosed()
		client.wantReset(1, http2.ErrCodeInternal)
		if e := r.call(0).end(t); !e.Lost {
			t.Errorf("the observer heard %+v, want a lost connection", e)
		}
		serve(client, 3, r.accept(habits{}), 1)
	})
}
