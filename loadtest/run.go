package loadtest

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/capguard/capguard/internal/grpcguard"
)

// Run puts the load of p on cc until its duration is over and every call has ended, or until ctx ends, which cuts the calls in flight. If
// each is not nil it is called once a second, and a last time for what is left, with what happened since the call before; it should not
// take long. Run returns the sum of it all; the only error is that of a plan that is not valid.
func Run(ctx context.Context, cc grpc.ClientConnInterface, p Plan, each func(Second)) (Report, error) {
	if err := p.Validate(); err != nil {
		return Report{}, err
	}
	p = p.withDefaults()
	r := &run{cc: cc, plan: p, begin: time.Now(), window: make([]Tally, len(p.Classes))}
	report := r.report()
	r.follow(r.start(ctx), func(s Second) {
		report.add(s)
		if each != nil {
			each(s)
		}
	})
	report.Lateness = r.lateness
	return report, nil
}

// run is one run of a plan.
type run struct {
	cc    grpc.ClientConnInterface
	plan  Plan
	begin time.Time

	mu          sync.Mutex
	window      []Tally // since the last second was taken, by class
	outstanding int
	lateness    Histogram
}

// start begins to generate calls and returns a channel that is closed when the last of them has ended.
func (r *run) start(ctx context.Context) <-chan struct{} {
	var wg sync.WaitGroup
	for i := range r.plan.Classes {
		wg.Go(func() { r.generate(ctx, i, &wg) })
	}
	ended := make(chan struct{})
	go func() { // ends with the calls; whoever started it waits for the channel
		wg.Wait()
		close(ended)
	}()
	return ended
}

// follow takes the seconds, and at last what remains, until all calls have ended.
func (r *run) follow(ended <-chan struct{}, take func(Second)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := r.begin
	for {
		select {
		case now := <-tick.C:
			take(r.second(last, now))
			last = now
		case <-ended:
			take(r.second(last, time.Now()))
			return
		}
	}
}

// generate makes the calls of class i begin when they are due. One that is behind does not wait and does not skip.
func (r *run) generate(ctx context.Context, i int, calls *sync.WaitGroup) {
	c := &r.plan.Classes[i]
	var rng *rand.Rand
	if !c.Uniform {
		rng = rand.New(rand.NewPCG(r.plan.Seed, uint64(i)))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for at := range c.Rate.Arrivals(rng) {
		if r.plan.Duration > 0 && at >= r.plan.Duration {
			break
		}
		due := r.begin.Add(at)
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if r.offer(i, due) {
			calls.Go(func() { r.call(ctx, i, due) })
		}
	}
	r.idle(ctx)
}

// idle keeps a run alive whose rate is 0 for the rest of its time.
func (r *run) idle(ctx context.Context) {
	var end <-chan time.Time
	if r.plan.Duration > 0 {
		end = time.After(time.Until(r.begin.Add(r.plan.Duration)))
	}
	select {
	case <-end:
	case <-ctx.Done():
	}
}

// offer counts a call that is due and tells whether it may be sent.
func (r *run) offer(i int, due time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lateness.Record(time.Since(due))
	r.window[i].Offered++
	if r.outstanding >= r.plan.Outstanding {
		r.window[i].Dropped++
		return false
	}
	r.outstanding++
	return true
}

func (r *run) call(ctx context.Context, i int, due time.Time) {
	c := &r.plan.Classes[i]
	callCtx, cancel := context.WithDeadline(c.tag(ctx), due.Add(c.Timeout))
	defer cancel()
	// An empty message takes any answer.
	err := r.cc.Invoke(callCtx, c.Method, c.Request, &emptypb.Empty{})
	r.end(i, time.Since(due), err, ctx.Err() != nil)
}

// tag puts what the guard should know of the call into its metadata.
func (c *Class) tag(ctx context.Context) context.Context {
	if c.Feature != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, grpcguard.FeatureKey, c.Feature)
	}
	if c.Criticality != 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, grpcguard.CriticalityKey, c.Criticality.String())
	}
	return ctx
}

// end counts what became of a call; stopped tells that the run was over before it.
func (r *run) end(i int, latency time.Duration, err error, stopped bool) {
	st := status.Convert(err)
	rejection, refused := grpcguard.Recognize(st)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outstanding--
	t := &r.window[i]
	switch {
	case err == nil && latency <= r.plan.Classes[i].Objective:
		t.Good++
		t.Latency.Record(latency)
	case err == nil:
		t.Late++
		t.Latency.Record(latency)
	case refused:
		t.Refused = count(t.Refused, grpcguard.ReasonName(rejection.Reason), 1)
	case stopped:
		t.Cut++
	default:
		t.Failed = count(t.Failed, st.Code(), 1)
		if st.Code() == codes.DeadlineExceeded {
			t.Latency.Record(latency)
		}
	}
}

// second takes what was counted since last.
func (r *run) second(last, now time.Time) Second {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Second{From: last.Sub(r.begin), To: now.Sub(r.begin), Outstanding: r.outstanding}
	for i, c := range r.plan.Classes {
		s.Classes = append(s.Classes, ClassTally{Name: c.Name, Tally: r.window[i]})
	}
	r.window = make([]Tally, len(r.window))
	return s
}

// report returns an empty report.
func (r *run) report() Report {
	var rep Report
	for _, c := range r.plan.Classes {
		rep.Classes = append(rep.Classes, ClassTally{Name: c.Name})
	}
	return rep
}
