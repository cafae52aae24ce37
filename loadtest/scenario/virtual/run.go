package virtual

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/loadtest/scenario"
)

// patience is how long after the last scheduled call a run may last.
const patience = 15 * time.Second

// after is for how long calls come after the end, so that what is measured last does not find an emptying back-end.
const after = time.Second

// job is the work of a call at a replica.
type job = *fragile.Job

// run is one run of a scenario.
type run struct {
	s      *scenario.Scenario
	record *scenario.Record
	maker  Maker
	gate   Gate
	clock  *clock // nil if the gate needs none
	now    time.Duration
	rng    *rand.Rand // of the pauses between attempts

	cores    []*fragile.Core
	crashes  []uint64 // of each core, as last seen
	arrivals []arrival
	calls    []*Call // in the order of their deadlines; those that are over, or open streams, included
	agenda   agenda
	requests []request
	inFlight int
	queued   int

	mu    sync.Mutex
	said  []answer
	rest  bool          // the loop sleeps
	until time.Duration // until then
}

// arrival is a request that is scheduled.
type arrival struct {
	at    time.Duration
	class int
}

// request is what the loop knows of a request beside its record.
type request struct{ attempts int }

// Play plays s once. It panics if s is not valid, or is about the whole product. A gate that is clocked has to be played inside a bubble, and settle is synctest.Wait
// then; otherwise it is not used.
func Play(s *scenario.Scenario, v scenario.Variant, seed uint64, m Maker, settle func()) *scenario.Record {
	if s.Clients > 0 {
		panic("virtual: " + s.Name + " can not be played by a gate alone")
	}
	r := &run{
		s: s, record: scenario.NewRecord(s, v, m.Name, seed), maker: m,
		rng:     rand.New(rand.NewPCG(seed, 1<<32)),
		crashes: make([]uint64, len(s.Replicas)),
	}
	if m.Clocked {
		r.clock = newClock(settle)
	}
	for i, settings := range s.Replicas {
		settings.Seed = seed<<8 + uint64(i)
		core, err := fragile.NewCore(settings)
		if err != nil {
			panic(err)
		}
		r.cores = append(r.cores, core)
	}
	r.schedule(seed)
	r.make()
	for r.step() {
	}
	if r.clock != nil {
		settle()
		r.hear()
	}
	return r.record
}

func (r *run) make() {
	r.gate = r.maker.Make(&World{Replicas: len(r.cores), Objective: r.s.Objective, run: r})
}

// schedule draws when which requests come, and sets down what else happens.
func (r *run) schedule(seed uint64) {
	for i, c := range r.s.Classes {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		for at := range c.Rate.Arrivals(rng) {
			if at >= r.s.Duration+after {
				break
			}
			r.arrivals = append(r.arrivals, arrival{at, i})
		}
	}
	slices.SortStableFunc(r.arrivals, func(a, b arrival) int { return int(a.at - b.at) })
	r.record.Requests = make([]scenario.Request, 0, len(r.arrivals))
	r.record.Attempts = make([]scenario.Attempt, 0, len(r.arrivals))
	for at := scenario.Bin; at <= r.s.Duration; at += scenario.Bin {
		r.agenda.add(at, r.sample)
	}
	for _, k := range r.s.Kills {
		r.agenda.add(k.At, func() { r.ended(k.Replica, r.cores[k.Replica].Crash(r.now)) })
	}
	if r.s.Restart > 0 {
		r.agenda.add(r.s.Restart, r.restart)
	}
}

// step lets the next event happen, or hears what the gate said before that; false if nothing is left to happen.
func (r *run) step() bool {
	at, happen := r.next()
	if happen == nil || at > r.s.Duration+patience {
		return false
	}
	if r.sleep(at) {
		happen()
	}
	r.hear()
	return true
}

// next returns the next event and its moment; of several at the same moment what ends comes before what begins.
func (r *run) next() (at time.Duration, happen func()) {
	at = 1<<63 - 1
	for i, c := range r.cores {
		if t, ok := c.Next(); ok && t < at {
			at, happen = t, func() { r.ended(i, c.Step()) }
		}
	}
	if t, ok := r.agenda.next(); ok && t < at {
		at, happen = t, r.agenda.happen
	}
	if c := r.oldest(); c != nil && c.Left < at {
		at, happen = c.Left, func() { r.timeOut(c) }
	}
	if len(r.arrivals) > 0 && r.arrivals[0].at < at {
		at, happen = r.arrivals[0].at, r.arrive
	}
	if len(r.arrivals) == 0 && len(r.calls) == 0 && len(r.agenda.events) == 0 {
		return at, nil // what is left is work for nobody
	}
	return at, happen
}

// oldest returns the call whose caller gives up next.
func (r *run) oldest() *Call {
	for len(r.calls) > 0 && (r.calls[0].stage == over || r.calls[0].talk != nil) {
		r.calls[0] = nil
		r.calls = r.calls[1:]
	}
	if len(r.calls) == 0 {
		return nil
	}
	return r.calls[0]
}

// arrive makes the next scheduled request.
func (r *run) arrive() {
	a := r.arrivals[0]
	r.arrivals = r.arrivals[1:]
	r.record.Requests = append(r.record.Requests, scenario.Request{Class: a.class, Due: a.at})
	r.requests = append(r.requests, request{})
	r.attempt(len(r.requests) - 1)
}

// attempt makes an attempt of a request.
func (r *run) attempt(i int) {
	class := &r.s.Classes[r.record.Requests[i].Class]
	c := &Call{
		Method: class.Method, Tenant: class.Tenant, Criticality: class.Criticality, Attempt: r.requests[i].attempts, Stream: class.Stream != nil,
		Left: r.now + r.s.Timeout, run: r, gate: r.gate, request: i, attempt: len(r.record.Attempts),
	}
	if r.clock != nil {
		c.Deadline = r.clock.start.Add(c.Left)
	}
	r.requests[i].attempts++
	r.record.Attempts = append(r.record.Attempts, scenario.Attempt{Class: r.record.Requests[i].Class, Made: r.now, Sent: -1})
	r.calls = append(r.calls, c)
	r.queued++
	r.gate.Arrive(c)
}

// hear acts on what the gate said.
func (r *run) hear() {
	for {
		r.mu.Lock()
		said := r.said
		r.said = nil
		r.mu.Unlock()
		if len(said) == 0 {
			return
		}
		for _, a := range said {
			r.answered(a)
		}
	}
}

// answered acts on an answer. A call that is over in the meantime gives back at once what it was given.
func (r *run) answered(a answer) {
	c := a.call
	switch {
	case c.stage == sent:
		panic("virtual: a gate answered a call twice")
	case c.stage == over && a.replica == refused:
	case c.stage == over:
		c.gate.Ended(c, guard.Ignored, 0)
	case a.replica == refused:
		r.record.Requests[c.request].Refused = true
		r.end(c, scenario.Shed, a.at)
	default:
		r.send(c, a.replica)
	}
}

// send brings an admitted call to its replica.
func (r *run) send(c *Call, replica int) {
	c.stage, c.replica, c.admitted = sent, replica, r.now
	r.queued--
	r.inFlight++
	a := &r.record.Attempts[c.attempt]
	a.Sent, a.Replica = r.now, replica
	class := &r.s.Classes[a.Class]
	if class.Stream != nil {
		r.open(c, class.Stream)
		return
	}
	c.job, c.outcome = r.cores[replica].Arrive(class.Weight, c, r.now)
	if c.outcome != nil {
		r.agenda.add(r.now+fragile.Refusal, func() { r.answer(c, c.outcome) })
	}
}

// ended tells the callers of jobs that have ended at a replica, and writes down its crashes.
func (r *run) ended(replica int, jobs []*fragile.Job) {
	if n := r.cores[replica].Stats().Crashes; n > r.crashes[replica] {
		r.crashes[replica] = n
		r.record.Crashes = append(r.record.Crashes, r.now)
		r.disconnect(replica)
	}
	for _, j := range jobs {
		switch owner := j.Owner.(type) {
		case *Call:
			if j.Ends > j.Began {
				r.record.Work(j.Began, j.Ends, min(owner.Left, r.late(owner)))
			}
			r.answer(owner, j.Err)
		case *message:
			r.reply(owner, j)
		}
	}
}

// reconnect is the longest pause of the guard's relay between two attempts to connect.
const reconnect = 2 * time.Second

// disconnect tells a gate that wants to know that a replica cannot be reached, and when it can again: some time after it is up.
func (r *run) disconnect(replica int) {
	tell := func(up bool) {
		if g, ok := r.gate.(Connected); ok {
			g.Connection(replica, up)
		}
	}
	tell(false)
	up := r.now + r.s.Replicas[replica].Crash.Restart + time.Duration(r.rng.Float64()*float64(reconnect))
	r.agenda.add(up, func() {
		if !r.cores[replica].Stats().Down {
			tell(true)
		}
	})
}

// answer is the back-end's answer to a call.
func (r *run) answer(c *Call, err error) {
	if c.stage == over {
		return
	}
	o, fate := guard.Success, scenario.Served
	switch {
	case err == nil:
	case err == fragile.ErrCrashed && c.job == nil: // there was nobody to connect to
		o, fate = guard.Failure, scenario.Failed
	default:
		o, fate = guard.Overload, scenario.Failed
	}
	r.giveBack(c, o, fate)
}

// giveBack ends a call that was sent, and tells the gate.
func (r *run) giveBack(c *Call, o guard.Outcome, fate scenario.Fate) {
	r.end(c, fate, r.now)
	c.gate.Ended(c, o, r.now-c.admitted)
}

// timeOut is the end of a caller's patience. The back-end may go on working.
func (r *run) timeOut(c *Call) {
	if c.stage == waiting {
		r.end(c, scenario.TimedOut, r.now)
		c.gate.Gone(c)
		return
	}
	r.abandon(c)
	r.giveBack(c, guard.Overload, scenario.TimedOut)
}

func (r *run) abandon(c *Call) {
	if c.job != nil {
		r.cores[c.replica].Leave(c.job, r.now)
	}
}

// end ends an attempt. Its caller is content, tries again or gives up.
func (r *run) end(c *Call, fate scenario.Fate, at time.Duration) {
	if c.stage == sent {
		r.inFlight--
	} else {
		r.queued--
	}
	c.stage = over
	a := &r.record.Attempts[c.attempt]
	a.Ended, a.Fate = at, fate
	q := &r.record.Requests[c.request]
	q.Done = at
	q.Good = fate == scenario.Served && at <= r.late(c)
	retry := &r.s.Retry
	if fate != scenario.Served && r.requests[c.request].attempts <= retry.Most {
		pause := retry.PauseMin + time.Duration(r.rng.Float64()*float64(retry.PauseMax-retry.PauseMin))
		r.agenda.add(at+pause, func() { r.attempt(c.request) })
	}
}

// late returns from when on an answer to c is late.
func (r *run) late(c *Call) time.Duration {
	return r.s.Late(r.record.Requests[c.request].Due, r.record.Attempts[c.attempt].Made)
}

// restart kills the gate and starts another that knows nothing. The calls that were in it fail; the back-end goes on working on them.
func (r *run) restart() {
	for _, c := range slices.Clone(r.calls) {
		if c.stage == sent {
			r.abandon(c)
		}
		if c.stage != over {
			r.end(c, scenario.Failed, r.now)
		}
	}
	r.make()
}

func (r *run) sample() {
	work := 0
	for i, c := range r.cores {
		st := c.Stats()
		work += st.Running + st.Queued
		r.record.Coldness[i] = append(r.record.Coldness[i], c.Coldness())
	}
	r.record.Samples = append(r.record.Samples, scenario.Sample{
		At: r.now, InFlight: r.inFlight, Work: work, Queued: r.queued, Limit: r.gate.Limit(),
	})
}
