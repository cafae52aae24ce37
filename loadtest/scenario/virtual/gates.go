package virtual

import (
	"strconv"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

// Guard is the real guard with some settings.
func Guard(name string, s guard.Settings) Maker {
	return Maker{Name: name, Clocked: true, Make: func(w *World) Gate { return newGuarded(s, w.Replicas) }}
}

// guarded is the guard as a gate.
type guarded struct {
	g         *guard.Guard
	endpoints []*guard.Endpoint
}

func newGuarded(s guard.Settings, replicas int) *guarded {
	x := &guarded{g: guard.New(s)}
	for i := range replicas {
		e := x.g.AddEndpoint(strconv.Itoa(i))
		e.Value = i
		e.SetState(guard.Ready)
		x.endpoints = append(x.endpoints, e)
	}
	return x
}

// hold is what the guard gave a call.
type hold struct {
	call   *Call
	permit guard.Permit
	wait   guard.Wait
}

// Settle hears the decision on a call that waited, and does what the data path does with it: where no endpoint can be reached the call is
// refused all the same.
func (h *hold) Settle(p guard.Permit, d guard.Decision) {
	h.permit = p
	switch e := p.Endpoint(); {
	case !d.Admitted:
		h.call.Refuse()
	case e == nil:
		p.Done(guard.Failure)
		h.call.Refuse()
	default:
		h.call.Admit(e.Value.(int))
	}
}

func (x *guarded) Arrive(c *Call) {
	h := &hold{call: c}
	c.State = h
	p, d, w := x.g.Ask(guard.Call{
		Method: c.Method, Tenant: c.Tenant, Criticality: c.Criticality, Attempt: c.Attempt, Deadline: c.Deadline, Stream: c.Stream,
	}, h)
	if h.wait = w; !w.Waiting() {
		h.Settle(p, d)
	}
}

func (x *guarded) Gone(c *Call) { c.State.(*hold).wait.Cancel() }

func (x *guarded) Ended(c *Call, o guard.Outcome, _ time.Duration) { c.State.(*hold).permit.Done(o) }

// Status returns the state of the guard.
func (x *guarded) Status() guard.Status { return x.g.Status() }

// Connection is for Connected.
func (x *guarded) Connection(replica int, up bool) {
	if up {
		x.endpoints[replica].SetState(guard.Ready)
	} else {
		x.endpoints[replica].SetState(guard.Failed)
	}
}

// Message is for Streaming.
func (x *guarded) Message(c *Call, answered bool) {
	p := c.State.(*hold).permit
	if answered {
		p.Answered()
		p.Messages(0, 1)
	} else {
		p.Messages(1, 0)
	}
}

func (x *guarded) Limit() (sum float64) {
	for _, e := range x.endpoints {
		sum += float64(e.Status().Limit.Limit)
	}
	return sum
}

// Open lets every call pass.
func Open() Maker { return Maker{Name: "none", Make: func(w *World) Gate { return &open{world: w} }} }

// open is no gate; it takes the replicas in turn.
type open struct {
	world *World
	turn  int
}

func (o *open) Arrive(c *Call) {
	o.turn++
	c.Admit(o.turn % o.world.Replicas)
}

func (o *open) Gone(*Call) {}

func (o *open) Ended(*Call, guard.Outcome, time.Duration) {}

func (o *open) Limit() float64 { return 0 }
