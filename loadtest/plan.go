package loadtest

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/capguard/capguard/internal/guard"
)

// What a Class and a Plan do when they do not say.
const (
	DefaultTimeout     = time.Second
	DefaultObjective   = 250 * time.Millisecond
	DefaultOutstanding = 10_000
)

// Class is one kind of calls: what is asked, how often, and what counts as well answered.
type Class struct {
	// Name is what reports call it.
	Name string
	// Method is the full name of a unary method, "/package.Service/Method".
	Method string
	// Request is what every call sends. The answer is read and thrown away.
	Request proto.Message
	// Rate is how many calls begin a second, over time.
	Rate Schedule
	// Uniform spaces arrivals evenly. Otherwise they are a Poisson process, as independent customers are; evenly spaced ones overstate what
	// a service can bear.
	Uniform bool
	// Feature and Criticality go into the metadata of each call; the zero values are left out.
	Feature     string
	Criticality guard.Criticality
	// Timeout is when the caller gives up, counted from the scheduled moment; 0 is DefaultTimeout.
	Timeout time.Duration
	// Objective is up to which latency an answer is good; 0 is DefaultObjective.
	Objective time.Duration
}

// Plan is a load.
type Plan struct {
	Classes []Class
	// Duration is for how long calls are scheduled; 0 is until the run is stopped.
	Duration time.Duration
	// Outstanding is how many calls may be under way at once, of all classes; 0 is DefaultOutstanding. Those beyond are dropped and counted.
	Outstanding int
	// Seed of the arrivals.
	Seed uint64
}

// Validate returns every fault of p, joined.
func (p Plan) Validate() error {
	var faults []error
	if len(p.Classes) == 0 {
		faults = append(faults, errors.New("loadtest: a plan needs at least one class of calls"))
	}
	if p.Duration < 0 || p.Outstanding < 0 {
		faults = append(faults, fmt.Errorf("loadtest: duration and outstanding must not be negative, not %v and %d", p.Duration, p.Outstanding))
	}
	for i, c := range p.Classes {
		if err := c.validate(); err != nil {
			faults = append(faults, fmt.Errorf("loadtest: class %d (%q): %w", i, c.Name, err))
		}
	}
	return errors.Join(faults...)
}

func (c Class) validate() error {
	switch {
	case c.Method == "" || c.Method[0] != '/':
		return fmt.Errorf("method must be a full name like /package.Service/Method, not %q", c.Method)
	case c.Request == nil:
		return errors.New("request is missing")
	case c.Timeout < 0 || c.Objective < 0:
		return fmt.Errorf("timeout and objective must not be negative, not %v and %v", c.Timeout, c.Objective)
	}
	return c.Rate.Validate()
}

// withDefaults returns a copy of p in which nothing is left to say.
func (p Plan) withDefaults() Plan {
	p.Outstanding = cmp.Or(p.Outstanding, DefaultOutstanding)
	classes := make([]Class, len(p.Classes))
	for i, c := range p.Classes {
		c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
		c.Objective = cmp.Or(c.Objective, DefaultObjective)
		classes[i] = c
	}
	p.Classes = classes
	return p
}
