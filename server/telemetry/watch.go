package telemetry

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// Watch exports the state and counters of a back-end's guard as metrics and logs its events, until ctx ends. It is the one reader of the
// guard's events.
func (t *Telemetry) Watch(ctx context.Context, backend string, g *guard.Guard) {
	registration, err := t.observe(backend, g)
	if err != nil {
		t.Log.Warn("metrics of a back-end are missing", "backend", backend, "error", err)
	} else {
		defer func() { _ = registration.Unregister() }()
	}
	for {
		events, next := g.Events()
		for _, e := range events {
			t.event(ctx, backend, e)
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

func (t *Telemetry) event(ctx context.Context, backend string, e guard.Event) {
	level := slog.LevelInfo
	switch e.Kind {
	case guard.LimitChanged:
		level = slog.LevelDebug // it moves all the time; the metric shows it
	case guard.BreakerChanged:
		t.instruments.transitions.Add(ctx, 1, metric.WithAttributes(
			attribute.String("capguard.backend", backend), attribute.String("from", e.From), attribute.String("to", e.To)))
	}
	attrs := []slog.Attr{slog.String("backend", backend), slog.String("from", e.From), slog.String("to", e.To),
		slog.String("reason", e.Reason), slog.String("actor", e.Actor)}
	if e.Endpoint != "" {
		attrs = append(attrs, slog.String("endpoint", e.Endpoint))
	}
	t.Log.LogAttrs(ctx, level, string(e.Kind)+" changed", attrs...)
}

// gauges are read from the guard when a collector comes.
type gauges struct {
	requests                        metric.Int64ObservableCounter
	inflight, queued, streams       metric.Int64ObservableUpDownCounter
	limit, breaker, maxStreams      metric.Int64ObservableGauge
	doubleReturns, featureDecisions metric.Int64ObservableCounter
	featureInFlight                 metric.Float64ObservableGauge
}

func (t *Telemetry) observe(backend string, g *guard.Guard) (metric.Registration, error) {
	s, err := newGauges(t.instruments.meter)
	if err != nil {
		return nil, err
	}
	name := attribute.String("capguard.backend", backend)
	return t.instruments.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s.status(o, name, g.Status())
		s.methods(o, name, g.Methods())
		s.features(o, name, g.Features())
		return nil
	}, s.requests, s.inflight, s.queued, s.streams, s.limit, s.breaker, s.maxStreams, s.doubleReturns, s.featureDecisions, s.featureInFlight)
}

func newGauges(m metric.Meter) (gauges, error) {
	var s gauges
	var errs [10]error
	s.requests, errs[0] = m.Int64ObservableCounter("capguard.requests", metric.WithUnit("{request}"),
		metric.WithDescription("Calls by decision; in mode observe also would_ decisions, beside admitted."))
	s.inflight, errs[1] = m.Int64ObservableUpDownCounter("capguard.inflight", metric.WithUnit("{request}"),
		metric.WithDescription("Calls at the back-end."))
	s.queued, errs[2] = m.Int64ObservableUpDownCounter("capguard.queued", metric.WithUnit("{request}"),
		metric.WithDescription("Calls waiting in the guard."))
	s.streams, errs[3] = m.Int64ObservableUpDownCounter("capguard.streams", metric.WithUnit("{stream}"),
		metric.WithDescription("Streams open at the back-end."))
	s.limit, errs[4] = m.Int64ObservableGauge("capguard.limit", metric.WithUnit("{request}"),
		metric.WithDescription("How many calls may be at the back-end."))
	s.breaker, errs[5] = m.Int64ObservableGauge("capguard.breaker.state",
		metric.WithDescription("1 for the state the breaker is in, 0 for the others."))
	s.maxStreams, errs[6] = m.Int64ObservableGauge("capguard.stream.limit", metric.WithUnit("{stream}"),
		metric.WithDescription("How many streams may be open at the back-end."))
	s.doubleReturns, errs[7] = m.Int64ObservableCounter("capguard.permit.double_returns", metric.WithUnit("{permit}"),
		metric.WithDescription("Permits given back twice: a bug of the guard."))
	s.featureDecisions, errs[8] = m.Int64ObservableCounter("capguard.flag.evaluations", metric.WithUnit("{evaluation}"),
		metric.WithDescription("Calls of a feature that its flag let pass or refused."))
	s.featureInFlight, errs[9] = m.Float64ObservableGauge("capguard.feature.inflight", metric.WithUnit("{request}"),
		metric.WithDescription("Calls of a feature at the back-end, averaged over the last ten seconds."))
	return s, errors.Join(errs[:]...)
}

func (s gauges) status(o metric.Observer, name attribute.KeyValue, st guard.Status) {
	set := metric.WithAttributeSet(attribute.NewSet(name))
	o.ObserveInt64(s.inflight, int64(st.InFlight), set)
	o.ObserveInt64(s.queued, int64(st.Queued), set)
	o.ObserveInt64(s.streams, int64(st.OpenStreams), set)
	o.ObserveInt64(s.limit, int64(st.Limit.Limit), set)
	o.ObserveInt64(s.maxStreams, int64(st.MaxStreams), set)
	o.ObserveInt64(s.doubleReturns, int64(st.DoubleReturns), set)
	for b := breaker.Closed; b <= breaker.ForcedClosed; b++ {
		o.ObserveInt64(s.breaker, one(b == st.Breaker.State), metric.WithAttributes(name, attribute.String("state", b.String())))
	}
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (s gauges) methods(o metric.Observer, name attribute.KeyValue, ms []guard.MethodStatus) {
	for _, m := range ms {
		observe := func(n uint64, decision string) {
			if n > 0 {
				o.ObserveInt64(s.requests, int64(n), metric.WithAttributes(name,
					attribute.String("rpc.method", m.Method), attribute.String("capguard.decision", decision)))
			}
		}
		observe(m.Totals.Admitted, Decision(guard.None))
		observe(m.Totals.WouldWait, "would_wait")
		for r := guard.FeatureOff; r <= guard.Canceled; r++ {
			observe(m.Totals.Refused[r], Decision(r))
			observe(m.Totals.WouldRefuse[r], "would_"+Decision(r))
		}
	}
}

func (s gauges) features(o metric.Observer, name attribute.KeyValue, fs []guard.FeatureStatus) {
	for _, f := range fs {
		key := attribute.String("feature_flag.key", f.Name)
		o.ObserveFloat64(s.featureInFlight, f.InFlightTime, metric.WithAttributes(name, attribute.String("capguard.feature", f.Name)))
		o.ObserveInt64(s.featureDecisions, int64(f.Passed), metric.WithAttributes(name, key, attribute.String("feature_flag.result.variant", "on")))
		o.ObserveInt64(s.featureDecisions, int64(f.Blocked), metric.WithAttributes(name, key, attribute.String("feature_flag.result.variant", "off")))
	}
}
