package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"

	"github.com/capguard/capguard/internal/guard"
)

// Decision returns the value of capguard.decision for a reason.
func Decision(r guard.Reason) string {
	switch r {
	case guard.None:
		return "admitted"
	case guard.FeatureOff:
		return "shed_flag"
	case guard.FeatureDimmed:
		return "shed_dimmer"
	case guard.DeadlineUnreachable:
		return "shed_deadline"
	case guard.BreakerOpen:
		return "shed_breaker"
	case guard.RetryBudgetExhausted:
		return "shed_retry"
	case guard.LimitReached:
		return "shed_limit"
	case guard.QueueTimeout:
		return "shed_queue_timeout"
	case guard.BackendUnreachable:
		return "shed_unreachable"
	case guard.Draining:
		return "shed_draining"
	case guard.Canceled:
		return "canceled"
	}
	return "unknown"
}

// instruments are what calls are recorded with.
type instruments struct {
	server      metric.Float64Histogram // whole call, at the guard
	client      metric.Float64Histogram // at the back-end
	wait        metric.Float64Histogram // in the queue
	transitions metric.Int64Counter
	meter       metric.Meter
	sets        *attributeSets
}

// Boundaries, in seconds: the call durations as the OpenTelemetry RPC conventions have them; the queue from 100 µs, as it is short.
var (
	callBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	waitBounds = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1}
)

func newInstruments(m metric.Meter) (instruments, error) {
	i := instruments{meter: m, sets: newAttributeSets()}
	var errs [4]error
	i.server, errs[0] = m.Float64Histogram("rpc.server.call.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of a call at the guard, refused calls included."), metric.WithExplicitBucketBoundaries(callBounds...))
	i.client, errs[1] = m.Float64Histogram("rpc.client.call.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of an admitted call at the back-end."), metric.WithExplicitBucketBoundaries(callBounds...))
	i.wait, errs[2] = m.Float64Histogram("capguard.request.time_in_queue", metric.WithUnit("s"),
		metric.WithDescription("Time that calls which had to wait spent in the queue."), metric.WithExplicitBucketBoundaries(waitBounds...))
	i.transitions, errs[3] = m.Int64Counter("capguard.breaker.transitions", metric.WithUnit("{transition}"),
		metric.WithDescription("Changes of the breaker's state."))
	return i, errors.Join(errs[:]...)
}

// Call records one call that the data path has finished: the whole time at the guard, and the time at the back-end (zero if refused).
// wait is the time in the queue.
func (t *Telemetry) Call(ctx context.Context, backend, method, decision string, code codes.Code, total, upstream, wait time.Duration) {
	i := &t.instruments
	set := i.sets.of(callKey{backend, method, decision, code})
	i.server.Record(ctx, total.Seconds(), set.call)
	if upstream > 0 {
		i.client.Record(ctx, upstream.Seconds(), set.call)
	}
	if wait > 0 {
		i.wait.Record(ctx, wait.Seconds(), set.wait)
	}
}

// callKey tells calls with different attributes apart.
type callKey struct {
	backend, method, decision string
	code                      codes.Code
}

// callSet is the attributes of such calls, made once.
type callSet struct{ call, wait metric.MeasurementOption }

// attributeSets makes each attribute set once and bounds how many there are: callers invent method names, and back-ends status codes.
type attributeSets struct {
	sets    sync.Map // callKey → callSet
	mu      sync.Mutex
	methods map[string]struct{}
}

const (
	maxMethods    = 1000
	maxMethodName = 256      // bytes
	otherMethod   = "_OTHER" // the name that the conventions give to what is not known
)

func newAttributeSets() *attributeSets { return &attributeSets{methods: make(map[string]struct{})} }

func (a *attributeSets) of(k callKey) callSet {
	if s, ok := a.sets.Load(k); ok {
		return s.(callSet)
	}
	k = a.bounded(k)
	s, _ := a.sets.LoadOrStore(k, newCallSet(k))
	return s.(callSet)
}

// bounded returns k with names from sets that do not grow. A method gets a name of its own when it is text of a decent length and an
// answer other than UNIMPLEMENTED makes it likely that there is such a method: who tries names does not push out the real ones.
func (a *attributeSets) bounded(k callKey) callKey {
	if k.code > codes.Unauthenticated { // the last there is
		k.code = codes.Unknown
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.methods[k.method]; ok {
		return k
	}
	if len(a.methods) >= maxMethods || len(k.method) > maxMethodName || !utf8.ValidString(k.method) || k.code == codes.Unimplemented {
		k.method = otherMethod
		return k
	}
	k.method = strings.Clone(k.method) // not to hold on to the headers that it is a part of
	a.methods[k.method] = struct{}{}
	return k
}

func newCallSet(k callKey) callSet {
	call := []attribute.KeyValue{
		attribute.String("rpc.system.name", "grpc"),
		attribute.String("rpc.method", k.method),
		attribute.String("rpc.response.status_code", CodeName(k.code)),
		attribute.String("capguard.backend", k.backend),
	}
	if BlamesServer(k.code) {
		call = append(call, attribute.String("error.type", CodeName(k.code)))
	}
	return callSet{
		call: metric.WithAttributeSet(attribute.NewSet(call...)),
		wait: metric.WithAttributeSet(attribute.NewSet(
			attribute.String("capguard.backend", k.backend), attribute.String("capguard.decision", k.decision))),
	}
}
