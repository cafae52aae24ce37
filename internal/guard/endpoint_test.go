package guard_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

// endpoints adds some, all of them ready.
func (r rig) endpoints(names ...string) (es []*guard.Endpoint) {
	for _, name := range names {
		e := r.AddEndpoint(name)
		e.SetState(guard.Ready)
		es = append(es, e)
	}
	return es
}

// goes is a pass of a call that must go to e.
func (r rig) goes(e *guard.Endpoint) guard.Permit {
	r.Helper()
	p := r.pass(call)
	if got := p.Endpoint(); got != e {
		r.Fatalf("the call goes to %v, want %v", nameOf(got), nameOf(e))
	}
	return p
}

func nameOf(e *guard.Endpoint) string {
	if e == nil {
		return "nowhere"
	}
	return e.Name()
}

// at checks how many calls and streams are at an endpoint.
func (r rig) at(e *guard.Endpoint, calls, streams int) {
	r.Helper()
	if s := e.Status(); s.InFlight != calls || s.OpenStreams != streams {
		r.Errorf("%s: %d calls and %d streams, want %d and %d", s.Name, s.InFlight, s.OpenStreams, calls, streams)
	}
}

// A guard that was told of no endpoint has one of its own; the first that is added takes its place.
func TestLoneEndpoint(t *testing.T) {
	inBubble(t, fixed(2), func(r rig) {
		p := r.pass(call)
		if e := p.Endpoint(); e == nil || e.Value != nil || r.Status().Endpoints != nil {
			t.Errorf("the call goes to %v of %v", e, r.Status().Endpoints)
		}
		es := r.endpoints("a")
		r.goes(es[0]).Done(guard.Success)
		if s := r.Status(); len(s.Endpoints) != 1 || s.InFlight != 1 || s.Limit.Limit != 2 {
			t.Errorf("status is %+v", s)
		}
		p.Done(guard.Success)
		r.inFlight(0, 0)
	})
}

// Calls go to what is ready, else to what is being connected to. Where nobody can be reached they are admitted, for the data path to say so.
func TestStatesOfEndpoints(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		a, b := r.AddEndpoint("a"), r.AddEndpoint("b")
		for _, step := range []struct {
			a, b guard.EndpointState
			want *guard.Endpoint
		}{
			{guard.Failed, guard.Failed, nil},
			{guard.Connecting, guard.Failed, a},
			{guard.Connecting, guard.Ready, b},
			{guard.Ready, guard.Failed, a},
			{guard.Failed, guard.Failed, nil},
		} {
			a.SetState(step.a)
			b.SetState(step.b)
			for range 10 {
				r.goes(step.want).Done(guard.Success)
			}
		}
		b.Remove()
		b.SetState(guard.Ready)
		r.goes(nil).Done(guard.Failure)
		a.Remove()
		r.goes(nil).Done(guard.Failure)
	})
}

// Who waits for a slot goes as soon as an endpoint is ready, and when the last one is gone.
func TestStatesFreeTheLine(t *testing.T) {
	for name, change := range map[string]func(r rig, a *guard.Endpoint) *guard.Endpoint{
		"one more":     func(r rig, _ *guard.Endpoint) *guard.Endpoint { return r.endpoints("b")[0] },
		"none is left": func(_ rig, a *guard.Endpoint) *guard.Endpoint { a.SetState(guard.Failed); return nil },
		"removed":      func(_ rig, a *guard.Endpoint) *guard.Endpoint { a.Remove(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := guard.Default()
			s.Limit.Initial, s.Queue.MaxWait = 1, time.Second
			inBubble(t, s, func(r rig) {
				a := r.endpoints("a")[0]
				p := r.goes(a)
				waits := r.ask(r.Context(), call)
				r.waiting(1)
				want := change(r, a)
				synctest.Wait()
				if waits.look(); !waits.d.Admitted || waits.p.Endpoint() != want {
					t.Errorf("%+v goes to %s, want %s", waits.d, nameOf(waits.p.Endpoint()), nameOf(want))
				}
				p.Done(guard.Success)
				waits.p.Done(guard.Success)
				r.at(a, 0, 0)
			})
		})
	}
}

// The operator's bounds are those of the back-end as a whole: the ceiling of the calls in flight, and the floor of the limits' sum. A fixed
// limit is shared.
func TestBoundsOfTheWhole(t *testing.T) {
	ceiling, shared := guard.Default(), fixed(10)
	ceiling.Limit.Max, ceiling.Queue.MaxWait = 10, 0
	shut := fixed(10)
	shut.Limit.Max = 0
	for name, c := range map[string]struct {
		s    guard.Settings
		want int
	}{"ceiling": {ceiling, 10}, "fixed": {shared, 10}, "shut": {shut, 0}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, c.s, func(r rig) {
				es := r.endpoints("a", "b", "c")
				for range c.want {
					r.pass(call)
				}
				d := r.refuse(call, guard.LimitReached)
				if s := r.Status(); d.Limit != c.want || d.InFlight != c.want || s.Limit.Limit != c.want {
					t.Errorf("%+v with limit %+v, want %d", d, s.Limit, c.want)
				}
				for _, e := range es {
					if c.want > 0 && e.Status().InFlight < 2 {
						t.Errorf("%s has %d calls", e.Name(), e.Status().InFlight)
					}
				}
			})
		})
	}
}

// The floor holds for the sum, whoever is ready.
func TestFloorOfTheWhole(t *testing.T) {
	s := guard.Default()
	s.Limit.Min = 100
	s.Breaker.MinCalls = 1 << 30
	inBubble(t, s, func(r rig) {
		es := r.endpoints("a", "b", "c")
		for _, ready := range []int{3, 2, 1} {
			for range 200 {
				r.run(1, call, time.Millisecond, guard.Overload)
			}
			got := r.Status().Limit
			if each := (100 + ready - 1) / ready; got.Limit != each*ready || got.Min != 100 {
				t.Errorf("%d ready: limit is %+v", ready, got)
			}
			es[ready-1].SetState(guard.Failed)
		}
	})
}

// A fixed limit is that of whoever is ready.
func TestShareOfWhoIsReady(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		es := r.endpoints("a", "b")
		es[0].SetState(guard.Failed)
		for range 10 {
			r.goes(es[1])
		}
		es[0].SetState(guard.Ready)
		r.refuse(call, guard.LimitReached)
		if a, b := es[0].Status().Limit.Limit, es[1].Status().Limit.Limit; a != 5 || b != 5 {
			t.Errorf("limits are %d and %d", a, b)
		}
	})
}

// A call that did not reach its endpoint takes its slot along, if need be beyond the limit of the other, and tells nothing of the first.
func TestElsewhere(t *testing.T) {
	s := fixed(4)
	inBubble(t, s, func(r rig) {
		es := r.endpoints("a", "b")
		var permits []guard.Permit
		for range 4 {
			permits = append(permits, r.pass(call))
		}
		r.at(es[0], 2, 0)
		r.at(es[1], 2, 0)
		for _, p := range permits {
			if p.Endpoint() == es[0] {
				if e, ok := p.Elsewhere(); !ok || e != es[1] || p.Endpoint() != es[1] {
					t.Errorf("moved to %s, %v", nameOf(e), ok)
				}
			}
		}
		r.at(es[0], 0, 0)
		r.at(es[1], 4, 0)
		r.inFlight(4, 0)
		r.refuse(call, guard.LimitReached) // the sum is what it was
		for _, p := range permits {
			p.Done(guard.Success)
		}
		r.at(es[1], 0, 0)
		if got := es[0].Status().Trust; got != 1 {
			t.Errorf("trust is %v", got)
		}
		for range 4 { // no slot was left behind
			r.pass(call)
		}
		r.at(es[0], 2, 0)
		if e, ok := permits[0].Elsewhere(); ok || e != nil {
			t.Errorf("a permit that was given back moves to %v", e)
		}
	})
}

// Whatever else there is comes before the endpoint that was tried: one that is being connected to, too. Where there is nothing else it is
// tried again, unless it is gone.
func TestElsewhereWithoutChoice(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		es := r.endpoints("a", "b")
		es[1].SetState(guard.Failed)
		p := r.goes(es[0])
		to := func(want *guard.Endpoint) {
			t.Helper()
			if e, ok := p.Elsewhere(); e != want || ok != (want != nil) {
				t.Errorf("moved to %s, %v, want %s", nameOf(e), ok, nameOf(want))
			}
		}
		to(es[0])
		es[1].SetState(guard.Connecting)
		to(es[1])
		to(es[0])
		es[0].SetState(guard.Failed)
		to(es[1])
		es[1].Remove()
		to(nil)
		r.at(es[0], 0, 0)
		r.at(es[1], 0, 0)
		r.inFlight(1, 0)
		es[0].SetState(guard.Ready)
		to(es[0])
		r.at(es[0], 1, 0)
		p.Done(guard.Success)
		r.at(es[0], 0, 0)
	})
}

// What passes outside of all decisions goes the same ways and is not counted.
func TestRoute(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		es := r.endpoints("a", "b")
		r.pass(call)
		for range 10 {
			if e := r.Route(es[0]); e != es[1] {
				t.Errorf("routed to %s", nameOf(e))
			}
		}
		es[1].SetState(guard.Failed)
		if e := r.Route(es[0]); e != es[0] {
			t.Errorf("routed to %s", nameOf(e))
		}
		es[0].SetState(guard.Failed)
		if e := r.Route(nil); e != nil {
			t.Errorf("routed to %s", nameOf(e))
		}
		r.inFlight(1, 0)
	})
}

// What has just been started is not overrun: its limit begins from below, and what was known of it before is forgotten.
func TestAnEndpointThatComesBackRamps(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		es := r.endpoints("a", "b")
		for range 100 {
			r.run(1, call, time.Millisecond, guard.Success)
		}
		es[0].SetState(guard.Connecting) // a connection that is replaced is no restart
		es[0].SetState(guard.Ready)
		if s := es[0].Status(); s.Limit.Limit != 8 || s.Latency == 0 {
			t.Errorf("after a new connection: %+v", s)
		}
		for _, state := range []guard.EndpointState{guard.Connecting, guard.Failed, guard.Connecting, guard.Ready} {
			es[0].SetState(state)
		}
		if s := es[0].Status(); s.Limit.Limit != 1 || s.Latency != 0 || s.Trust != 1 {
			t.Errorf("after a restart: %+v", s)
		}
		if s := es[1].Status(); s.Limit.Limit != 8 {
			t.Errorf("the other one: %+v", s)
		}
	})
}
