// Package telemetry sends what the guard sees to those who want to know: traces and metrics over OTLP, metrics to Prometheus, state
// changes to the log.
//
// Traces are on only if somebody asked for them: the --otlp-endpoint flag, or one of the standard OTEL_* variables. When they are off,
// Telemetry.Tracer is nil and nobody makes a span. Counters of decisions cost a call nothing: they are read from the guard when a
// collector comes. A call pays for two histograms, which are our own: a look-up, a mutex and two sums, without an allocation.
//
// Invariant: the number of attribute sets is bounded. Method names come from callers without end; beyond a bound they are "_OTHER", as
// the OpenTelemetry conventions say, and beyond a bound of sets "otel.metric.overflow", as its SDK does.
//
// What this package does not do: it makes no spans (the data path and the admin port do), it decides nothing, and no collector that is
// slow, wrong or gone can delay a call.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// scope is the instrumentation scope of everything the guard exports.
const scope = "github.com/capguard/capguard"

// Telemetry holds the providers of one guard process. Safe for concurrent use.
type Telemetry struct {
	// Tracer makes spans; nil when tracing is off, and then nobody makes any.
	Tracer trace.Tracer
	// Metrics serves the Prometheus page.
	Metrics http.Handler
	// Log is never nil.
	Log *slog.Logger

	meter       *sdkmetric.MeterProvider
	spans       *sdktrace.TracerProvider
	instruments instruments
}

// Settings say where telemetry goes.
type Settings struct {
	// OTLPEndpoint is `host:port` or a URL; "" leaves it to the OTEL_* variables.
	OTLPEndpoint string
	// Version is the version of the guard, for the resource.
	Version string
	// Log takes state changes; nil discards them.
	Log *slog.Logger
}

// New starts the providers. Its errors name a malformed endpoint or variable; an endpoint that nobody listens on is no error.
func New(ctx context.Context, s Settings) (*Telemetry, error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	// The SDK reports a collector that is gone to one handler for the whole process; its default writes to standard error.
	otel.SetErrorHandler(&complaints{log: s.Log})
	res, err := describe(ctx, s.Version)
	if err != nil {
		return nil, err
	}
	spans, err := newTracing(ctx, s.OTLPEndpoint, res)
	if err != nil {
		return nil, err
	}
	durations := newDurations()
	readers, page, err := newReaders(ctx, s.OTLPEndpoint, durations)
	if err != nil {
		return nil, errors.Join(err, stop(ctx, spans))
	}
	t := &Telemetry{Log: s.Log, Metrics: page, spans: spans}
	t.meter = sdkmetric.NewMeterProvider(append(readers, sdkmetric.WithResource(res))...)
	if spans != nil {
		t.Tracer = spans.Tracer(scope, trace.WithInstrumentationVersion(s.Version))
	}
	t.instruments, err = newInstruments(t.meter.Meter(scope), durations)
	return t, err
}

// Discard returns telemetry that goes nowhere, for tests and for guards that are embedded.
func Discard() *Telemetry {
	t := &Telemetry{Log: slog.New(slog.DiscardHandler), Metrics: http.NotFoundHandler(), meter: sdkmetric.NewMeterProvider()}
	// Without a reader nothing can fail.
	t.instruments, _ = newInstruments(t.meter.Meter(scope), newDurations())
	return t
}

// Stop sends what is left and stops. It gives up after grace: a collector that is gone must not hold up the end, and is worth a line in
// the log, no error.
func (t *Telemetry) Stop(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := errors.Join(stop(ctx, t.spans), t.meter.Shutdown(ctx)); err != nil {
		t.Log.Warn("last telemetry was not sent", "error", err)
	}
}

// complaints logs what the SDK complains of, each complaint once until another one comes: a Jaeger that takes traces but no metrics is
// worth a line, not one a minute.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	last string
}

// Handle is called by the SDK.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	known := err.Error() == c.last
	c.last = err.Error()
	c.mu.Unlock()
	if !known {
		c.log.Warn("telemetry was not sent", "error", err)
	}
}

func stop(ctx context.Context, p *sdktrace.TracerProvider) error {
	if p == nil {
		return nil
	}
	return p.Shutdown(ctx)
}

// describe returns the resource: our name and version, overruled by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
func describe(ctx context.Context, version string) (*resource.Resource, error) {
	r, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "capguard"), attribute.String("service.version", version)),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return r, nil
}

// newReaders returns the Prometheus page, and the OTLP reader if metrics are to be pushed.
func newReaders(ctx context.Context, endpoint string, d *durations) ([]sdkmetric.Option, http.Handler, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	page, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(),
		otelprometheus.WithProducer(newProducer(d, metricdata.CumulativeTemporality)))
	if err != nil {
		return nil, nil, fmt.Errorf("make Prometheus page: %w", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithReader(page)}
	push, err := newMetricPush(ctx, endpoint)
	if err != nil {
		return nil, nil, err
	}
	if push != nil {
		p := newProducer(d, push.Temporality(sdkmetric.InstrumentKindHistogram))
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(push, sdkmetric.WithProducer(p))))
	}
	return options, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}

// newTracing returns nil if nobody asked for traces.
func newTracing(ctx context.Context, endpoint string, res *resource.Resource) (*sdktrace.TracerProvider, error) {
	exporter, err := newSpanExport(ctx, endpoint)
	if exporter == nil || err != nil {
		return nil, err
	}
	// Sampler, batch sizes and span limits come from the OTEL_* variables, which the SDK reads itself.
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res)), nil
}
