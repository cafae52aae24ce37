package scenario

import (
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/fragile"
)

// Scenario is one trial of a guard. Never changed once made; a Variant changes a copy.
type Scenario struct {
	// Name is short and unique: the number of the specification, and which of its cases.
	Name string
	// Story is what happens, in one line.
	Story string
	// Replicas are the back-ends; at least one. Their seeds are those of the run.
	Replicas []fragile.Settings
	// Classes are the kinds of calls; at least one.
	Classes []Class
	// Duration is for how long calls are scheduled.
	Duration time.Duration
	// Measured is what the wants are about unless they say otherwise.
	Measured Window
	// Change is when the load or the back-end changes, the moment from which convergence counts; 0 is never.
	Change time.Duration
	// Heal is when a trouble ends, the moment from which recovery counts; 0 is never.
	Heal time.Duration
	// Objective is up to which response time a success is good.
	Objective time.Duration
	// Timeout is when a caller gives up an attempt.
	Timeout time.Duration
	// Retry is what callers do then; the zero value is nothing.
	Retry Retry
	// Oracle is what goodput is measured by.
	Oracle Oracle
	// Kills are deaths of a replica that have other causes than load.
	Kills []Kill
	// Restart is when the guard is killed and starts again at once, knowing nothing; 0 is never.
	Restart time.Duration
	// Clients is over how many connections of the client library the calls are spread, each of which knows the flags. Such a scenario is
	// about the whole product: a gate alone can not be judged by it. 0 is about admission.
	Clients int
	// Flips are commands of an operator, in the order of their moments.
	Flips []Flip
	// Outages are times without the guard, or without its admin port, in the order of their moments.
	Outages []Outage
	// Wants are what a guard has to reach.
	Wants []Want
	// Without are the variants that would change what the scenario is about.
	Without []Variant
}

// Class is one kind of calls.
type Class struct {
	Name        string
	Method      string // full name
	Tenant      string
	Criticality guard.Criticality
	Weight      float64 // work of a unary call in units of the service time, above 0; of the whole product also 0
	Rate        loadtest.Schedule
	Stream      *Stream // nil for unary calls
	Feature     string  // that the calls belong to; needs Clients
	Direct      bool    // the calls go past the guard, and not through the library either
}

// Stream makes the calls of a class streams. What is asked for then is that they are opened; from there on each sends messages.
type Stream struct {
	Lifetime time.Duration // mean, exponentially distributed
	Every    time.Duration // time between two messages
	Weight   float64       // work of a message
}

// Retry is what callers do about attempts that failed, were refused or timed out.
type Retry struct {
	Most               int           // further attempts
	PauseMin, PauseMax time.Duration // between two attempts, uniformly distributed
	Within             time.Duration // a success is good up to this time after the first attempt; 0 is the objective for each attempt
}

// Oracle is what goodput is measured by.
type Oracle uint8

// The oracles.
const (
	// Fluid is in each second the lesser of what is offered and what the back-ends can serve at best.
	Fluid Oracle = iota
	// Offered is all that is offered: the back-ends can serve it.
	Offered
	// Hindsight is what the best static limit reaches, chosen afterwards.
	Hindsight
)

// Kill is the death of a replica.
type Kill struct {
	Replica int
	At      time.Duration
}

// Window is a part of a run: From is in it, To is not.
type Window struct{ From, To time.Duration }

// seconds returns a Window.
func seconds(from, to float64) Window {
	return Window{time.Duration(from * float64(time.Second)), time.Duration(to * float64(time.Second))}
}

func (w Window) seconds() float64 { return (w.To - w.From).Seconds() }

func (w Window) holds(t time.Duration) bool { return w.From <= t && t < w.To }

// Good returns how long an attempt may take and be good, if it is the first.
func (s *Scenario) Good() time.Duration {
	if s.Retry.Within > 0 {
		return s.Retry.Within
	}
	return s.Objective
}

// Late returns from when on an attempt is late that was made for a request which was scheduled at due.
func (s *Scenario) Late(due, made time.Duration) time.Duration {
	if s.Retry.Within > 0 {
		return due + s.Retry.Within
	}
	return made + s.Objective
}

// Halved returns s at half the pace: half of the calls, each of which costs twice the time. The wants follow, as far as they are in terms
// of either.
func (s Scenario) Halved() Scenario {
	s.Replicas, s.Classes, s.Wants = slices.Clone(s.Replicas), slices.Clone(s.Classes), slices.Clone(s.Wants)
	for i := range s.Replicas {
		s.Replicas[i].ServiceTime *= 2
	}
	for i := range s.Classes {
		s.Classes[i].Rate = s.Classes[i].Rate.Times(0.5)
	}
	for i := range s.Wants {
		switch w := &s.Wants[i]; w.Metric {
		case P99, MessageP99:
			w.Most *= 2
		case Rate:
			w.Least /= 2
		case Dispatched:
			w.Most /= 2
		}
	}
	return s
}
