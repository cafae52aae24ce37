package live

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest/scenario"
)

// callers are the clients of one run: open loop, each request in a goroutine of its own.
type callers struct {
	s      *scenario.Scenario
	note   *recorder
	lines  []*line
	direct []*line
	free   bool // calls cost no work
	calls  sync.WaitGroup
}

// generate makes the requests of class i begin when they are due, until ctx ends.
func (c *callers) generate(ctx context.Context, i int, seed uint64) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for due := range c.s.Classes[i].Rate.Arrivals(rand.New(rand.NewPCG(seed, uint64(i)))) {
		if due >= c.s.Duration {
			return
		}
		timer.Reset(time.Until(c.note.start.Add(due)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		request := c.note.request(i, due)
		c.calls.Go(func() { c.request(ctx, request, i, due) })
	}
}

// request is one request: as many attempts as it takes and its caller makes.
func (c *callers) request(ctx context.Context, request, class int, due time.Duration) {
	retry := c.s.Retry
	for n, made := 0, due; ; n++ {
		if c.attempt(ctx, request, class, n, due, made) || n >= retry.Most || ctx.Err() != nil {
			return
		}
		pause := retry.PauseMin + rand.N(max(1, retry.PauseMax-retry.PauseMin))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		made = c.note.now()
	}
}

// attempt is one call; it tells whether it succeeded.
func (c *callers) attempt(ctx context.Context, request, class, n int, due, made time.Duration) bool {
	attempt := c.note.made(class, made)
	late := c.s.Late(due, made)
	ctx = c.tag(ctx, class, attempt, n)
	lines := c.lines
	if c.s.Classes[class].Direct {
		lines = c.direct
	}
	conn := lines[attempt%len(lines)]
	ctx = conn.tag(ctx, c.s.Classes[class].Feature)
	if s := c.s.Classes[class].Stream; s != nil {
		c.stream(ctx, conn, request, class, attempt, late)
		return true
	}
	ctx, cancel := context.WithDeadline(ctx, c.note.start.Add(made+c.s.Timeout))
	defer cancel()
	err := conn.Invoke(ctx, c.s.Classes[class].Method, &emptypb.Empty{}, &emptypb.Empty{})
	c.note.ended(request, attempt, fate(err), late)
	return err == nil
}

// fate returns what became of a call.
func fate(err error) scenario.Fate {
	st := status.Convert(err)
	switch r, refused := grpcguard.Recognize(st); {
	case err == nil:
		return scenario.Served
	case r.Reason == guard.FeatureOff:
		return scenario.Off
	case refused:
		return scenario.Shed
	case st.Code() == codes.DeadlineExceeded:
		return scenario.TimedOut
	}
	return scenario.Failed
}

// tag puts what the guard and the back-end should know into the metadata.
func (c *callers) tag(ctx context.Context, class, attempt, n int) context.Context {
	k := &c.s.Classes[class]
	weight := k.Weight
	if k.Stream != nil {
		weight = k.Stream.Weight
	}
	if c.free {
		weight = 0
	}
	fields := []string{attemptKey, strconv.Itoa(attempt), weightKey, strconv.FormatFloat(weight, 'g', -1, 64)}
	if k.Criticality != 0 {
		fields = append(fields, grpcguard.CriticalityKey, k.Criticality.String())
	}
	if k.Tenant != "" {
		fields = append(fields, grpcguard.TenantKey, k.Tenant)
	}
	if n > 0 {
		fields = append(fields, grpcguard.AttemptsKey, strconv.Itoa(n))
	}
	return metadata.AppendToOutgoingContext(ctx, fields...)
}

// stream opens a stream, and keeps it open for its lifetime.
func (c *callers) stream(ctx context.Context, conn *line, request, class, attempt int, late time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &c.s.Classes[class]
	ss, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, k.Method)
	if err == nil {
		err = c.say(ss, class)
	}
	if err != nil {
		c.note.ended(request, attempt, fate(err), late)
		return
	}
	c.note.opened(request, late)
	end := time.After(time.Duration(rand.ExpFloat64() * float64(k.Stream.Lifetime)))
	tick := time.NewTicker(k.Stream.Every)
	defer tick.Stop()
	for {
		select {
		case <-end:
			c.note.closed(attempt, scenario.Served)
			return
		case <-ctx.Done():
			c.note.closed(attempt, scenario.Served)
			return
		case <-tick.C:
		}
		if err := c.say(ss, class); err != nil {
			c.note.closed(attempt, fate(err))
			return
		}
	}
}

// say sends a message and waits for its answer.
func (c *callers) say(ss grpc.ClientStream, class int) error {
	sent := c.note.now()
	if err := ss.SendMsg(&emptypb.Empty{}); err != nil {
		return ss.RecvMsg(&emptypb.Empty{}) // which tells why
	}
	if err := ss.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	c.note.message(class, sent)
	return nil
}
