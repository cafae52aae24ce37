package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
)

// connectWait bounds how long a call waits for endpoints that are just being connected for the first time, or anew after a connection
// was lost. Once an attempt has failed, calls are refused at once until one succeeds.
const connectWait = time.Second

// maxUserAgents bounds the connections of one endpoint: gRPC ties the user agent to the connection.
const maxUserAgents = 8

// endpoint is one address of a back-end.
type endpoint struct {
	target string
	o      BackendOptions
	conn   *grpc.ClientConn

	mu       sync.Mutex
	inFlight int
	trust    float64 // 1 is full; falls with failures, returns with successes and with time
	trusted  time.Time
	agents   map[string]*grpc.ClientConn // by user agent, for callers that have one of their own
}

func newEndpoint(target string, o BackendOptions) (*endpoint, error) {
	if err := checkTarget(target); err != nil {
		return nil, err
	}
	conn, err := dial(target, "", o)
	if err != nil {
		return nil, err
	}
	return &endpoint{target: target, o: o, conn: conn, trust: 1, trusted: time.Now(), agents: map[string]*grpc.ClientConn{}}, nil
}

// connection returns the connection for callers that identify themselves as userAgent. gRPC appends its own name to every user agent; of
// callers that already end in it, it is taken off first, so that the back-end sees what it would without the guard. The first call of a
// user agent waits for its connection; beyond maxUserAgents callers share the one without a name of its own.
func (e *endpoint) connection(userAgent string) *grpc.ClientConn {
	agent := strings.TrimSpace(strings.TrimSuffix(userAgent, "grpc-go/"+grpc.Version))
	if agent == "" {
		return e.conn
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.agents[agent]; ok {
		return c
	}
	if len(e.agents) >= maxUserAgents {
		return e.conn
	}
	c, err := dial(e.target, agent, e.o)
	if err != nil {
		return e.conn
	}
	c.Connect()
	e.agents[agent] = c
	return c
}

func (e *endpoint) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.conn.Close() // It fails only when it is closed already.
	for _, c := range e.agents {
		_ = c.Close()
	}
}

// recovery is the time in which an endpoint that failed regains most of its trust, and thereby a few calls to show itself with.
const recovery = 10 * time.Second

// trustLocked returns how far the endpoint is trusted now.
func (e *endpoint) trustLocked(now time.Time) float64 {
	return 1 - (1-e.trust)*math.Exp(-float64(now.Sub(e.trusted))/float64(recovery))
}

// load compares endpoints: calls in flight, weighed up by mistrust. An endpoint that fails fast has nothing in flight; without the second
// factor it would draw all calls to itself.
func (e *endpoint) load(now time.Time) float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := max(e.trustLocked(now), 0.01)
	return float64(e.inFlight+1) / (t * t)
}

func (e *endpoint) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inFlight++
}

// end takes the outcome of a call that begin has counted.
func (e *endpoint) end(o guard.Outcome, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inFlight--
	switch o {
	case guard.Success:
		t := e.trustLocked(now)
		e.trust, e.trusted = t+(1-t)/10, now
	case guard.Overload, guard.Failure:
		e.trust, e.trusted = e.trustLocked(now)/2, now
	}
}

// describe returns the state of the endpoint.
func (e *endpoint) describe() *capguardv1.Endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &capguardv1.Endpoint{Target: e.target, State: stateOf(e.conn.GetState()), InFlight: int64(e.inFlight)}
}

func stateOf(s connectivity.State) capguardv1.Endpoint_State {
	switch s {
	case connectivity.Idle:
		return capguardv1.Endpoint_STATE_IDLE
	case connectivity.Connecting:
		return capguardv1.Endpoint_STATE_CONNECTING
	case connectivity.Ready:
		return capguardv1.Endpoint_STATE_READY
	}
	return capguardv1.Endpoint_STATE_FAILED
}

// endpoints are all addresses of one back-end.
type endpoints struct {
	all  []*endpoint
	log  *slog.Logger
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the state of any endpoint changes
}

func newEndpoints(targets []string, o BackendOptions, log *slog.Logger) (*endpoints, error) {
	es := &endpoints{log: log, changed: make(chan struct{})}
	for i, t := range targets {
		e, err := newEndpoint(t, o)
		if err != nil {
			es.closeAll()
			return nil, fmt.Errorf("targets[%d]: %w", i, err)
		}
		es.all = append(es.all, e)
	}
	ctx, stop := context.WithCancel(context.Background())
	es.stop = stop
	for _, e := range es.all {
		es.wg.Go(func() { es.watch(ctx, e) })
	}
	return es, nil
}

// watch keeps an endpoint connected and tells of its changes, until ctx ends.
func (es *endpoints) watch(ctx context.Context, e *endpoint) {
	for {
		state := e.conn.GetState()
		if state == connectivity.Idle {
			e.conn.Connect()
		}
		es.mu.Lock()
		close(es.changed)
		es.changed = make(chan struct{})
		es.mu.Unlock()
		if !e.conn.WaitForStateChange(ctx, state) {
			return
		}
		es.tell(ctx, e, state)
	}
}

// tell logs a change of state.
func (es *endpoints) tell(ctx context.Context, e *endpoint, from connectivity.State) {
	to := e.conn.GetState()
	if to == connectivity.TransientFailure {
		es.log.WarnContext(ctx, "endpoint unreachable", "target", e.target, "from", from.String(), "error", e.why(ctx))
		return
	}
	es.log.InfoContext(ctx, "endpoint changed", "target", e.target, "from", from.String(), "to", to.String())
}

// why returns what the last attempt to connect failed with. gRPC tells it only to those who try to make a call.
func (e *endpoint) why(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err := e.conn.NewStream(ctx, &anyStream, "/grpc.health.v1.Health/Check")
	return err
}

func (es *endpoints) close() {
	es.stop()
	es.wg.Wait()
	es.closeAll()
}

func (es *endpoints) closeAll() {
	for _, e := range es.all {
		e.close()
	}
}

// pick returns the less loaded of two random endpoints that are connected. If none is, it waits while one is being connected, for at most
// connectWait and until ctx ends; nil says that none can be reached.
func (es *endpoints) pick(ctx context.Context) *endpoint {
	if e, _, _ := es.choose(); e != nil {
		return e
	}
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	for {
		e, hope, changed := es.choose()
		if e != nil || !hope {
			return e
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// choose returns an endpoint, or whether there is hope for one when changed is closed.
func (es *endpoints) choose() (e *endpoint, hope bool, changed <-chan struct{}) {
	es.mu.Lock()
	changed = es.changed
	es.mu.Unlock()
	var a, b *endpoint
	n := 0
	for _, e := range es.all { // Two at random out of an unknown number, in one pass.
		switch e.conn.GetState() {
		case connectivity.Ready:
			n++
			switch {
			case a == nil:
				a = e
			case b == nil:
				b = e
			default:
				if i := rand.IntN(n); i == 0 {
					a = e
				} else if i == 1 {
					b = e
				}
			}
		case connectivity.Idle, connectivity.Connecting:
			hope = true
		}
	}
	if b == nil {
		return a, hope, changed
	}
	if rand.IntN(2) == 0 { // Of two that are equal, either.
		a, b = b, a
	}
	if now := time.Now(); b.load(now) < a.load(now) {
		a = b
	}
	return a, hope, changed
}
