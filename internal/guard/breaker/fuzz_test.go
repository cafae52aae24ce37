package breaker_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// FuzzTwin drives a breaker and its twin by the same bytes; at every step they must agree. Run it with
// -fuzzminimizetime=10x: by default the fuzzer spends a minute on shortening each new find, and that without end here.
func FuzzTwin(f *testing.F) {
	f.Add([]byte{0x0b, 0x19, 0x19, 0x19, 0x19, 0x3a, 0x00, 0x00, 0x01})
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) { newPair(t).run(program[:min(len(program), 2000)]) })
	})
}

// The same for random programs, with every run of the tests; and they must have seen all states and all ways between them.
func TestTwinOnRandomPrograms(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		program := make([]byte, 1000)
		for i := range program {
			program[i] = byte(random.Uint32())
		}
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t)
			p.run(program)
			for _, c := range p.seen {
				seen[c.From.String()+" -> "+c.To.String()]++
			}
		})
	}
	for _, way := range []string{
		"closed -> open", "open -> half-open", "half-open -> open", "half-open -> closed", "closed -> forced-open",
		"forced-open -> closed", "forced-open -> open", "forced-open -> half-open", "forced-open -> forced-closed",
		"forced-closed -> open", "forced-closed -> half-open", "half-open -> forced-open", "open -> forced-closed",
	} {
		if seen[way] == 0 {
			t.Errorf("no program went %s; all: %v", way, seen)
		}
	}
}

// pair is a breaker, its twin, and the calls under way at both.
type pair struct {
	*testing.T
	settings breaker.Settings
	breaker  *breaker.Breaker
	twin     *twin
	calls    []bothCalls
	seen     []breaker.Transition
}

type bothCalls struct {
	ticket breaker.Ticket
	pass   pass
}

func newPair(t *testing.T) *pair {
	now := time.Now()
	return &pair{T: t, settings: quick(), breaker: breaker.New(quick(), now), twin: newTwin(quick(), now)}
}

// run takes the low three bits of a byte for the step and the others for how.
func (p *pair) run(program []byte) {
	for i, b := range program {
		how := int(b >> 3)
		switch b & 7 {
		case 0, 1:
			p.allow()
		case 2:
			p.done(how)
		case 3:
			p.burst(how)
		case 4:
			time.Sleep([]time.Duration{1, 1e6, 99e6, 500e6, 999999999, 1e9, 2e9, 11e9}[how&7])
			continue // so that the next step is the first to notice
		case 5:
			p.force(how)
		case 6:
			p.configure(how)
		case 7:
			p.transitions()
		}
		p.agree(i)
		if p.Failed() {
			return
		}
	}
}

func (p *pair) allow() {
	ticket, ok, retryAfter := p.breaker.Allow(time.Now())
	pass, wantOK, want := p.twin.allow(time.Now())
	if ok != wantOK || retryAfter != want {
		p.Errorf("Allow = %v, %v; want %v, %v", ok, retryAfter, wantOK, want)
	}
	p.calls = append(p.calls, bothCalls{ticket, pass})
}

// done ends one of the calls under way; now and then, where that must do no harm, it will be ended again.
func (p *pair) done(how int) {
	if len(p.calls) == 0 {
		return
	}
	i := len(p.calls) - 1 - how%min(len(p.calls), 8)
	c := p.calls[i]
	if probing := p.breaker.Status(time.Now()).State == breaker.HalfOpen; !probing || how&16 == 0 {
		p.calls = slices.Delete(p.calls, i, i+1)
	}
	p.end(c, how)
}

func (p *pair) end(c bothCalls, how int) {
	result := []breaker.Result{breaker.Success, breaker.Failure, breaker.Success, breaker.Ignored}[how&3]
	took := time.Duration(how&4) * 300 * time.Millisecond
	p.breaker.Done(c.ticket, result, took, time.Now())
	p.twin.done(c.pass, result, took, time.Now())
}

// burst makes some calls that all end the same way at once.
func (p *pair) burst(how int) {
	for range how >> 2 {
		p.allow()
		last := len(p.calls) - 1
		c := p.calls[last]
		p.calls = p.calls[:last]
		p.end(c, how)
	}
}

func (p *pair) force(how int) {
	o := breaker.Override{
		State: []breaker.State{breaker.Closed, breaker.ForcedOpen, breaker.ForcedClosed, breaker.Closed}[how&3],
		Actor: []string{"alice", "bob"}[how>>2&1],
	}
	if how&8 != 0 {
		o.Until = time.Now().Add(time.Duration(how>>3-1) * 700 * time.Millisecond)
	}
	p.breaker.Force(o, time.Now())
	p.twin.force(o, time.Now())
}

func (p *pair) configure(how int) {
	s := &p.settings
	switch how & 3 {
	case 0:
		s.MinCalls = 10 + how>>2
	case 1:
		s.FailureRatio, s.SlowRatio = float64(1+how>>2)/8, float64(8-how>>2)/8
	case 2:
		s.OpenFor, s.ProbeTimeout = time.Duration(1+how>>3)*time.Second, time.Duration(4-how>>3)*time.Second
	case 3:
		s.Probes, s.SlowAfter = 1+how>>2&3, time.Duration(how>>4)*time.Second
	}
	if err := s.Validate(); err != nil {
		p.Error(err)
	}
	p.breaker.Configure(*s, time.Now())
	p.twin.configure(*s, time.Now())
}

func (p *pair) transitions() {
	got := p.breaker.Transitions(time.Now())
	p.twin.tick(time.Now())
	want := p.twin.told
	p.twin.told = nil
	p.seen = append(p.seen, got...)
	want = want[max(0, len(want)-256):]
	if len(got) != len(want) {
		p.Errorf("transitions %v, want %v", got, want)
		return
	}
	for i, c := range got {
		if (change{c.Time, c.From, c.To, c.Actor}) != want[i] || c.Reason == "" {
			p.Errorf("transition %d is %v, want %v", i, c, want[i])
		}
	}
}

// agree compares what both show.
func (p *pair) agree(step int) {
	now := time.Now()
	ok, retryAfter := p.breaker.Ready(now)
	wantOK, want := p.twin.ready(now)
	if ok != wantOK || retryAfter != want || ok != (retryAfter == 0) || retryAfter < 0 {
		p.Errorf("step %d: Ready = %v, %v; want %v, %v", step, ok, retryAfter, wantOK, want)
	}
	s := p.breaker.Status(now)
	if s.State != p.twin.visible() || s.Actor != p.twin.forced.Actor || !s.Until.Equal(p.twin.forced.Until) {
		p.Errorf("step %d: status %+v, want %v and %+v", step, s, p.twin.visible(), p.twin.forced)
	}
	if s.State == breaker.Open && !s.RetryAt.Equal(p.twin.retryAt) || s.State != breaker.Open && !s.RetryAt.IsZero() {
		p.Errorf("step %d: probes at %v, want %v", step, s.RetryAt, p.twin.retryAt)
	}
}
