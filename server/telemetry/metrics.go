package telemetry

import (
	"time"

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

// instruments are what is recorded with: durations by calls, transitions by events.
type instruments struct {
	durations   *durations
	transitions metric.Int64Counter
	meter       metric.Meter
}

func newInstruments(m metric.Meter, d *durations) (i instruments, err error) {
	i = instruments{meter: m, durations: d}
	i.transitions, err = m.Int64Counter("capguard.breaker.transitions", metric.WithUnit("{transition}"),
		metric.WithDescription("Changes of the breaker's state."))
	return i, err
}

// Call records one call that the data path has finished: the whole time at the guard, and the time at the back-end (zero if refused).
// wait is the time in the queue. No exemplars are kept: a trace is found by the attributes of its spans, and the look at the caller's
// span would cost every call.
func (t *Telemetry) Call(backend, method, decision string, code codes.Code, total, upstream, wait time.Duration) {
	d := t.instruments.durations
	d.call(seriesKey{backend, method, code}, total, upstream)
	if wait > 0 {
		d.waited(waitKey{backend, decision}, wait)
	}
}
