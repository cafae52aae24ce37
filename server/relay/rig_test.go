package relay_test

import (
	"cmp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/test/bufconn"

	"github.com/capguard/capguard/server/relay"
)

// setup is what a rig is made of. The zero value is a relay with its defaults and polite peers.
type setup struct {
	limits      relay.Limits // towards clients
	backLimits  relay.Limits // towards back-ends
	connections int          // to the back-end
	buffer      int          // bytes on their way on each connection; default 1 MiB, so that writers do not wait by accident
	client      habits
	backend     habits
	decide      func(r *rig, w *witness) // default: forward
}

// rig is a relay in a bubble, whose clients and back-ends the test plays.
type rig struct {
	testing.TB
	relay    *relay.Relay
	stats    *relay.Stats
	door     *bufconn.Listener
	site     *site
	endpoint *relay.Endpoint

	mu    sync.Mutex
	calls []*witness
}

// inRig runs act in a bubble, with one client and one back-end that have shaken hands with the relay. Afterwards nothing may be left: no
// goroutine, no byte that waits, no call of which the observer has not heard the end.
func inRig(t *testing.T, s setup, act func(r *rig, client, backend *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, s)
		backend := r.accept(s.backend)
		act(r, r.join(s.client), backend)
	})
}

// newRig makes a relay. The test is to accept its first connection to the back-end.
func newRig(t testing.TB, s setup) *rig {
	s.buffer = cmp.Or(s.buffer, 1<<20)
	r := &rig{TB: t, stats: new(relay.Stats), door: bufconn.Listen(s.buffer), site: newSite(t, s.buffer)}
	if s.decide == nil {
		s.decide = func(r *rig, w *witness) { w.Forward(r.endpoint) }
	}
	r.endpoint = relay.NewEndpoint(relay.EndpointOptions{Dial: r.site.dial, Connections: s.connections, Limits: s.backLimits, Stats: r.stats})
	r.relay = relay.New(relay.Options{Limits: s.limits, Stats: r.stats, Decide: func(c *relay.Call) { s.decide(r, r.observe(c)) }})
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := r.relay.Serve(r.door); err != nil {
			t.Error("serve:", err)
		}
	})
	t.Cleanup(func() {
		r.relay.Close()
		r.endpoint.Close()
		serving.Wait()
		r.check()
	})
	return r
}

// check checks what must hold when all is over.
func (r *rig) check() {
	r.Helper()
	if n := r.stats.WaitingBytes.Load(); n != 0 {
		r.Errorf("%d bytes wait although all is over", n)
	}
	if n := r.stats.OpenConnections.Load(); n != 0 {
		r.Errorf("%d connections are open although all is over", n)
	}
	for i, w := range r.calls {
		if n := len(w.ends); n > 1 || n == 0 && !w.answered {
			r.Errorf("the observer of call %d heard %d ends, want one", i, n)
		}
		if w.late != "" {
			r.Errorf("the observer of call %d heard %s after its end", i, w.late)
		}
	}
}

// join connects another client.
func (r *rig) join(h habits) *peer {
	r.Helper()
	conn, err := r.door.DialContext(r.Context())
	if err != nil {
		r.Fatal("dial:", err)
	}
	p := clientOf(r.TB, conn, h)
	synctest.Wait()
	return p
}

// accept takes the relay's next connection, and waits until it is ready.
func (r *rig) accept(h habits) *peer {
	r.Helper()
	p := r.site.accept(h)
	synctest.Wait()
	return p
}

// call returns the witness of the call that was decided on in that place.
func (r *rig) call(i int) *witness {
	r.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if i >= len(r.calls) {
		r.Fatalf("%d calls were decided on, want %d", len(r.calls), i+1)
	}
	return r.calls[i]
}

// wantBreaches wants that a bound was broken so often, and no other.
func (r *rig) wantBreaches(b relay.Breach, n int64) {
	r.Helper()
	synctest.Wait()
	for is, got := range r.stats.AllBreaches {
		if want := map[bool]int64{true: n}[is == b]; got != want {
			r.Errorf("%d breaches of %v, want %d", got, is, want)
		}
	}
}

// witness is the observer of one call.
type witness struct {
	*relay.Call
	mu       sync.Mutex
	progress []relay.Progress
	unsent   []error
	woken    []time.Duration // since arrival
	ends     []relay.End
	answered bool
	late     string // what came after the end

	onUnsent func(err error)   // nil: end with UNAVAILABLE
	onEnded  func(e relay.End) // nil: nothing
}

func (r *rig) observe(c *relay.Call) *witness {
	w := &witness{Call: c}
	r.mu.Lock()
	r.calls = append(r.calls, w)
	r.mu.Unlock()
	c.Observe(w)
	return w
}

// note takes what the observer is told. Progress and Woken may cross the end, the others may not.
func (w *witness) note(what string, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if (w.answered || len(w.ends) > 0) && what != "" {
		w.late += what + " "
	}
	f()
}

func (w *witness) Progress(p relay.Progress) {
	w.note("", func() { w.progress = append(w.progress, p) })
}

func (w *witness) Woken(now time.Time) {
	w.note("", func() { w.woken = append(w.woken, now.Sub(w.Arrived())) })
}

func (w *witness) Unsent(err error) {
	w.note("unsent", func() { w.unsent = append(w.unsent, err) })
	if w.onUnsent != nil {
		w.onUnsent(err)
		return
	}
	w.refuse("14")
}

func (w *witness) Ended(e relay.End) {
	w.note("end", func() { w.ends = append(w.ends, e) })
	if w.onEnded != nil {
		w.onEnded(e)
	}
}

// refuse answers with a status of gRPC.
func (w *witness) refuse(status string, more ...string) bool {
	w.mu.Lock()
	w.answered = len(w.ends) == 0
	w.mu.Unlock()
	return w.Answer(fieldsOf(response(append([]string{"grpc-status: " + status}, more...)...)))
}

// steps returns how far the call has come, in order.
func (w *witness) steps() []relay.Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.progress)
}

// end returns how the call ended.
func (w *witness) end(t testing.TB) relay.End {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ends) != 1 {
		t.Fatalf("the observer heard of %d ends, want one", len(w.ends))
	}
	return w.ends[0]
}

// serve carries one whole call from client to back-end and back: the proof that both connections work.
func serve(client *peer, id uint32, backend *peer, at uint32) {
	client.Helper()
	ask, answer := grpcMessage("ask"), grpcMessage("answer")
	client.request(id, false)
	client.data(id, ask, true)
	backend.wantHeaders(at, request()...)
	backend.wantData(at, ask)
	backend.wantEnd(at)
	reply(client, id, backend, at, answer)
}

// reply carries an answer to a request that has come to its end.
func reply(client *peer, id uint32, backend *peer, at uint32, answer string) {
	client.Helper()
	backend.response(at)
	backend.data(at, answer, false)
	backend.trailers(at)
	client.wantHeaders(id, response()...)
	client.wantData(id, answer)
	client.wantTrailers(id, "grpc-status: 0")
}

// hush has a peer acknowledge nothing any more.
func (p *peer) hush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.habits.mute = true
}

// setting is short for a setting.
func setting(id http2.SettingID, value uint32) http2.Setting {
	return http2.Setting{ID: id, Val: value}
}

// pass lets time go by, which takes none in a bubble.
func pass(d time.Duration) { time.Sleep(d) }
