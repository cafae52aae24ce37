package relay_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// clientResets are the moments at which a client may reset; each leaves the back-end with CANCEL.
var clientResets = map[string]func(client, backend *peer){
	"after the headers":       func(c, b *peer) { c.request(1, false) },
	"within the request":      func(c, b *peer) { c.request(1, false); c.data(1, "ab", false) },
	"after the request":       func(c, b *peer) { c.request(1, true) },
	"after the answer's head": func(c, b *peer) { c.request(1, true); b.wantHeaders(1); b.response(1); c.wantHeaders(1) },
	"within the answer": func(c, b *peer) {
		c.request(1, false)
		b.wantHeaders(1)
		b.response(1)
		b.data(1, "abc", false)
		c.wantHeaders(1)
		c.wantData(1, "abc")
	},
}

func TestClientResets(t *testing.T) {
	for name, act := range clientResets {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				act(client, backend)
				synctest.Wait()
				client.rst(1, http2.ErrCode(77))
				backend.wantReset(1, http2.ErrCodeCancel)
				e := r.call(0).end(t)
				if e.By != relay.ByCaller || !e.Broken || e.Code != 77 {
					t.Errorf("the observer heard %+v", e)
				}
				client.wantQuiet()
				backend.wantQuiet()
				serve(client, 3, backend, 3)
			})
		})
	}
}

// What a back-end still sends on a stream that was reset is ignored, credited, and read by HPACK.
func TestFramesAfterOurReset(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		client.rst(1, http2.ErrCodeCancel)
		backend.wantReset(1, http2.ErrCodeCancel)
		backend.response(1, "x-table: "+strings.Repeat("y", 50))
		for range 300 {
			backend.data(1, bytesOf(16000), false)
		}
		backend.windowUpdate(1, 100)
		backend.headers(1, true, "grpc-status: 0", "x-table: "+strings.Repeat("y", 50))
		serve(client, 3, backend, 3)
		client.request(5, true)
		backend.wantHeaders(5)
		backend.headers(5, true, response("x-table: "+strings.Repeat("y", 50))...)
		client.wantTrailers(5, "x-table: "+strings.Repeat("y", 50))
	})
}

func TestClientsFramesAfterOurReset(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		backend.wantHeaders(1)
		backend.rst(1, http2.ErrCodeInternal)
		client.wantReset(1, http2.ErrCodeInternal)
		client.data(1, bytesOf(60_000), false)
		client.windowUpdate(1, 10)
		client.headers(1, true, "x-table: 1")
		client.rst(1, http2.ErrCodeCancel)
		serve(client, 3, backend, 3)
		client.request(5, true, "x-table: 1")
		backend.wantHeaders(5, "x-table: 1")
	})
}

func TestBackendResets(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeEnhanceYourCalm, 0x4711} {
		for name, act := range clientResets {
			t.Run(code.String()+" "+name, func(t *testing.T) {
				inRig(t, setup{}, func(r *rig, client, backend *peer) {
					act(client, backend)
					synctest.Wait()
					backend.rst(1, code)
					client.wantReset(1, code)
					e := r.call(0).end(t)
					if e.By != relay.ByBackend || !e.Broken || e.Code != code || e.Lost {
						t.Errorf("the observer heard %+v", e)
					}
					serve(client, 3, backend, 3)
				})
			})
		}
	}
}

// Both sides reset at the same instant: neither hears of it twice.
func TestResetsCross(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 100; id += 2 {
			client.request(id, false)
			backend.wantHeaders(id)
			go client.rst(id, http2.ErrCodeCancel)
			go backend.rst(id, http2.ErrCodeInternal)
			synctest.Wait()
		}
		client.wantSettled()
		serve(client, 101, backend, 101)
		if in, out := r.stats.ResetsIn.Load(), r.stats.ResetsOut.Load(); in > 50 || out > 50 || in+out < 50 {
			t.Errorf("%d resets came from the client and %d went to it, of 50 calls", in, out)
		}
	})
}

// A reset frees what waits in the relay, and restores the credit of who sent it.
func TestResetFreesWhatWaits(t *testing.T) {
	inRig(t, setup{backend: habits{settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 0)}}},
		func(r *rig, client, backend *peer) {
			for id := uint32(1); id < 2*100; id += 2 {
				client.request(id, false)
				client.data(id, bytesOf(60_000), false)
				backend.wantHeaders(id)
				if n := r.stats.WaitingBytes.Load(); n == 0 {
					synctest.Wait()
				}
				client.rst(id, http2.ErrCodeCancel)
				backend.wantReset(id, http2.ErrCodeCancel)
			}
			synctest.Wait()
			if n := r.stats.WaitingBytes.Load(); n != 0 {
				t.Errorf("%d bytes wait", n)
			}
			if n := client.credit(0); n < 1<<19 {
				t.Errorf("the client's window is down to %d", n)
			}
		})
}
