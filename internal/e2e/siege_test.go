package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// attack is what a siege consists of, and what the guard may lose by it.
type attack struct {
	time    time.Duration                       // how long it goes on; 0 is attackTime
	memory  int                                 // how much more the guard may need, in MiB; 0 is attackMemory
	breach  string                              // what the guard is to count; "" is nothing
	flags   []string                            // of the guard
	dial    []grpc.DialOption                   // of honest clients
	hostile func(s *siege, p *peer)             // one connection of a back-end of /hostile.Stock; nil is no such back-end
	run     func(ctx context.Context, s *siege) // until ctx ends
	then    func(t *testing.T, s *siege)        // what is to hold afterwards, seen by the attackers
}

// Bounds of attacks. The calls of others may become slower by a factor, as far as that says anything: attackers, bystanders and back-ends
// share the processors with the guard, and the race detector with all but the guard.
const (
	attackTime   = 2 * time.Second
	attackMemory = 64
	warmTime     = 300 * time.Millisecond
	calmTime     = 700 * time.Millisecond
	slowerBy     = 20
	slowAnyway   = 500 * time.Millisecond
	slowerThan   = 4 // times what calls past the guard take meanwhile
	quietTime    = time.Second
	// breath is what an attacker takes between two batches: at full speed it would only show that the processors can be shared.
	breath   = 2 * time.Millisecond
	quietCPU = 200 * time.Millisecond
)

// siege is a guard under attack, with an honest back-end behind it and an honest client before it.
type siege struct {
	guardProcess
	backend string     // honest
	honest  *bystander // calls through the guard
	direct  *bystander // calls past it: what it meets, the guard is not to blame for

	heard     *heard // by all attackers
	sent      atomic.Int64
	thrown    atomic.Int64  // attackers whose connection the guard has ended
	connected atomic.Int64  // how often the guard has connected to the hostile back-end
	over      chan struct{} // closed at the end of the test

	mu      sync.Mutex
	longest time.Duration // of calls to the hostile back-end
}

// besiege runs an attack and checks what must hold whatever the attack: nobody else notices, memory and CPU are bounded, what was done is
// counted, and afterwards all is as before.
//
// The guard only watches, so that the calls of attackers and bystanders share one back-end, and on the way there one connection.
func besiege(t *testing.T, a attack) {
	s := newSiege(t, a)
	s.honest, s.direct = newBystander(t, s.data, a.dial...), newBystander(t, s.backend)
	time.Sleep(warmTime) // Connections are made, pools are filled.
	s.honest.sample()
	s.direct.sample()
	time.Sleep(calmTime)
	calm, before, cpu, began := s.honest.sample(), s.memory(t, "VmRSS"), s.cpu(t), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), max(a.time, attackTime))
	defer cancel()
	a.run(ctx, s)
	took, used, pressed, most := time.Since(began), s.cpu(t)-cpu, s.honest.sample(), s.memory(t, "VmHWM")
	s.honest.end()
	s.direct.end()
	f := figures{
		name: t.Name(), frames: float64(s.sent.Load()) / took.Seconds(), before: before, most: most, cpu: used.Seconds() / took.Seconds(),
		calm: calm.p99, pressed: pressed.p99, direct: s.direct.sample().p99, calls: pressed.calls,
	}
	f.report(t)
	s.bounded(t, f, a)
	s.undisturbed(t, f, calm, pressed, s.honest.sample())
	s.quiet(t)
	if a.breach != "" && s.breaches(t, a.breach) == 0 {
		t.Errorf("the breach %q is not counted", a.breach)
	}
	if a.then != nil {
		a.then(t, s)
	}
	s.settled(t)
	s.served(t, a.dial...)
}

// twoBackends is a configuration with a hostile back-end and an honest one.
const twoBackends = `
backends:
  - {name: hostile, targets: ["%s"], routes: ["/hostile.*"]}
  - {name: honest, targets: ["%s"]}
`

func newSiege(t *testing.T, a attack) *siege {
	t.Helper()
	path, err := lean()
	if err != nil {
		t.Fatal(err)
	}
	s := &siege{heard: newHeard(), backend: sturdyBackend(t), over: make(chan struct{})}
	t.Cleanup(func() { close(s.over) })
	backend := s.backend
	flags := append([]string{"--mode", "observe", "--log-level", "ERROR"}, a.flags...)
	if a.hostile != nil {
		hostile := serveFrames(t, func(p *peer) {
			s.connected.Add(1)
			a.hostile(s, p)
		})
		backend = "" // The file names both.
		flags = append(flags, "--config", configFile(t, fmt.Sprintf(twoBackends, hostile, s.backend)))
	}
	s.guardProcess = serveBinary(t, path, nil, backend, flags...)
	return s
}

func (s *siege) bounded(t *testing.T, f figures, a attack) {
	t.Helper()
	most := a.memory
	if most == 0 {
		most = attackMemory
	}
	if grown := (f.most - f.before) >> 20; grown > most {
		t.Errorf("the guard has grown by %d MiB, want at most %d", grown, most)
	}
}

// undisturbed checks that no honest call failed, and that none was slow that would not have been slow without the guard.
func (s *siege) undisturbed(t *testing.T, f figures, samples ...sample) {
	t.Helper()
	for _, sample := range samples {
		for _, err := range sample.failed {
			t.Errorf("an honest call failed: %v", err)
		}
	}
	if most := max(slowerBy*f.calm, slowAnyway+slowerThan*f.direct); f.pressed > most {
		t.Errorf("p99 of honest calls rose from %v to %v, want at most %v", f.calm, f.pressed, most)
	}
	if f.calls < 50 {
		t.Errorf("only %d honest calls were answered during the attack", f.calls)
	}
}

// quiet checks that the guard has nothing to do once nobody wants anything.
func (s *siege) quiet(t *testing.T) {
	t.Helper()
	used := time.Duration(0)
	for range 5 { // Streams end, garbage is collected.
		before := s.cpu(t)
		time.Sleep(quietTime)
		if used = s.cpu(t) - before; used < quietCPU {
			return
		}
	}
	t.Errorf("long after the attack the guard still used %v of CPU in %v", used, quietTime)
}

// act is what an attacker does over and over; it returns how many frames it has written.
type act func(p *peer) (frames int, err error)

// flood has n clients do a on a connection of their own, over and over, until ctx ends. Who is thrown out comes back.
func (s *siege) flood(ctx context.Context, n int, a act, settings ...http2.Setting) {
	s.floodAs(ctx, n, a, (*peer).listenAll, settings...)
}

// floodDeaf is flood of clients that read nothing.
func (s *siege) floodDeaf(ctx context.Context, n int, a act, settings ...http2.Setting) {
	s.floodAs(ctx, n, a, func(p *peer) { close(p.ended) }, settings...)
}

func (s *siege) floodAs(ctx context.Context, n int, a act, listen func(p *peer), settings ...http2.Setting) {
	var attackers sync.WaitGroup
	for range n {
		attackers.Go(func() {
			for ctx.Err() == nil {
				if p, err := join(ctx, s.data, settings...); err == nil {
					go listen(p) // Ends with the connection.
					s.press(ctx, p, a)
					s.heard.addAll(p.heard)
				}
			}
		})
	}
	attackers.Wait()
}

// press does a until ctx or the connection ends.
func (s *siege) press(ctx context.Context, p *peer, a act) {
	stop := context.AfterFunc(ctx, func() { _ = p.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	for ctx.Err() == nil {
		n, err := a(p)
		if err == nil {
			err = p.out.Flush()
		}
		if err != nil {
			break
		}
		s.sent.Add(int64(n))
		time.Sleep(breath)
	}
	if ctx.Err() == nil {
		s.thrown.Add(1)
		p.part()
		return
	}
	_ = p.Close()
	<-p.ended
}

// wantGoAway is for attacks that end with the connection, of each of so many attackers.
func wantGoAway(code http2.ErrCode, attackers int) func(*testing.T, *siege) {
	return func(t *testing.T, s *siege) {
		t.Logf("thrown out %d times; heard %v", s.thrown.Load(), s.heard)
		if n := s.heard.left(code); n < attackers {
			t.Errorf("%v was heard %d times, want at least %d", code, n, attackers)
		}
	}
}
