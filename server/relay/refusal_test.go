package relay_test

import (
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// refusing is a setup that refuses every call.
func refusing() setup {
	return setup{decide: func(_ *rig, w *witness) { w.refuse("8", "grpc-message: full", "!grpc-retry-pushback-ms: 100") }}
}

func TestRefusals(t *testing.T) {
	inRig(t, refusing(), func(r *rig, client, backend *peer) {
		client.request(1, true)
		client.wantTrailers(1, ":status: 200", "content-type: application/grpc", "grpc-status: 8", "!grpc-retry-pushback-ms: 100")
		client.request(3, false) // The request goes on; the client is told not to.
		client.wantTrailers(3, "grpc-status: 8")
		client.wantReset(3, http2.ErrCodeNo)
		client.data(3, bytesOf(60_000), false)
		client.headers(3, true, "x: y")
		client.wantQuiet()
		backend.wantQuiet()
		client.wantAlive()
	})
}

// A request whose end is in the same write is swallowed; nobody is reset.
func TestRefusalSwallowsTheRequest(t *testing.T) {
	inRig(t, refusing(), func(r *rig, client, backend *peer) {
		client.mu.Lock() // So that it is written at once.
		for id := uint32(1); id < 2000; id += 2 {
			client.block.Reset()
			for _, f := range fieldsOf(request()) {
				_ = client.encoder.WriteField(f)
			}
			_ = client.writeBlock(client.frames, id, false, client.block.Bytes())
			_ = client.frames.WriteData(id, true, []byte(grpcMessage("ask")))
		}
		client.flush()
		client.mu.Unlock()
		for id := uint32(1); id < 2000; id += 2 {
			client.wantTrailers(id, "grpc-status: 8")
		}
		client.wantAlive()
		if n := r.stats.ResetsOut.Load(); n > 3 { // A request may be cut where what is read at once ends.
			t.Errorf("%d streams were reset", n)
		}
	})
}

// What a refused client still sends is credited to its connection.
func TestRefusalCreditsTheConnection(t *testing.T) {
	inRig(t, refusing(), func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 200; id += 2 {
			client.request(id, false)
			client.data(id, bytesOf(60_000), false)
			client.wantTrailers(id)
			client.wantReset(id, http2.ErrCodeNo)
			synctest.Wait()
		}
		if n := client.credit(0); n < 1<<19 {
			t.Errorf("the window is down to %d", n)
		}
	})
}

// The same refusal serves connections with header tables of any size and content.
func TestRefusalsWithAnyHeaderTable(t *testing.T) {
	s := refusing()
	for _, size := range []uint32{0, 50, 4096, 65536} {
		s.client = habits{settings: []http2.Setting{setting(http2.SettingHeaderTableSize, size)}}
		inRig(t, s, func(r *rig, client, backend *peer) {
			for id := uint32(1); id < 10; id += 2 {
				client.request(id, true)
				client.wantTrailers(id, response("grpc-status: 8", "grpc-message: full")...)
			}
		})
	}
}

// An answer of the relay's own may come for a call whose request has ended, or has not, or with a field that HPACK has to escape.
func TestAnswerOfAnyLength(t *testing.T) {
	long := bytesOf(300)
	answer := func(_ *rig, w *witness) {
		w.answered = true
		w.Answer([]hpack.HeaderField{{Name: ":status", Value: "503"}, {Name: "x-" + long, Value: long}, {Name: "empty"}})
	}
	inRig(t, setup{decide: answer}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		e := client.wantTrailers(1, ":status: 503", "x-"+long+": "+long)
		if len(e.fields) != 3 {
			t.Errorf("the client got %v", e)
		}
	})
}
