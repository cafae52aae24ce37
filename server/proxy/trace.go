package proxy

import (
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/relay"
	"github.com/capguard/capguard/server/telemetry"
)

// spans are the two spans of a traced call: the guard as a server, and as a client of the back-end. Both are nil without tracing.
type spans struct{ server, client trace.Span }

// carrier lets a propagator read the trace context of a call and write it.
type carrier struct{ call *relay.Call }

// Get returns the first value of key, or "".
func (c carrier) Get(key string) string {
	for _, f := range c.call.Fields() {
		if f.Name == key {
			return f.Value
		}
	}
	return ""
}

// Set replaces all values of key.
func (c carrier) Set(key, value string) { c.call.Set(key, value) }

// Keys returns all keys.
func (c carrier) Keys() (keys []string) {
	for _, f := range c.call.Fields() {
		keys = append(keys, f.Name)
	}
	return keys
}

// startServerSpan begins the span of the call at the guard, as a child of what its headers say. Without tracing it does nothing, and the
// headers pass to the back-end as they came.
func (c *passage) startServerSpan() {
	tracer := c.p.telemetry.Tracer
	if tracer == nil {
		return
	}
	c.ctx = propagation.TraceContext{}.Extract(c.ctx, carrier{c.relayed})
	c.ctx, c.spans.server = tracer.Start(c.ctx, strings.TrimPrefix(c.method, "/"),
		trace.WithTimestamp(c.began), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(c.identity()...))
	if sc := c.spans.server.SpanContext(); sc.IsValid() {
		c.call.Trace = guard.Trace{ID: sc.TraceID(), Sampled: sc.IsSampled()}
	}
}

// startClientSpan begins the span of the call at the back-end and writes its context into the headers, for the back-end to continue.
func (c *passage) startClientSpan() {
	if c.spans.server == nil {
		return
	}
	ctx, span := c.p.telemetry.Tracer.Start(c.ctx, strings.TrimPrefix(c.method, "/"),
		trace.WithTimestamp(c.sent), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(c.identity()...))
	c.spans.client = span
	propagation.TraceContext{}.Inject(ctx, carrier{c.relayed})
}

// endSpans tells the decision and the end of the call on its spans.
func (c *passage) endSpans(decision, code string) {
	if c.spans.server == nil {
		return
	}
	if c.spans.server.IsRecording() {
		c.traceDecision(decision)
		c.traceTraffic()
		c.linkCommand()
	}
	c.endSpan(c.spans.server, decision, code)
	if c.spans.client != nil {
		c.endSpan(c.spans.client, decision, code)
	}
}

// traceTraffic tells on the server span what has passed on the call.
func (c *passage) traceTraffic() {
	t := c.end.traffic
	if t == (relay.Traffic{}) {
		return
	}
	c.spans.server.SetAttributes(
		attribute.Int64("capguard.request.bytes", t.RequestBytes), attribute.Int64("capguard.request.messages", t.RequestMessages),
		attribute.Int64("capguard.response.bytes", t.AnswerBytes), attribute.Int64("capguard.response.messages", t.AnswerMessages),
		attribute.Int64("capguard.stalls", t.Stalls))
}

// endSpan ends one of the two spans. By the conventions of OpenTelemetry every code but OK is an error on the side of the client; on that
// of the server only those that blame the server. What was refused on purpose is no error on either; that nobody was there is.
func (c *passage) endSpan(s trace.Span, decision, code string) {
	if s.IsRecording() {
		s.SetAttributes(append(c.figures(), attribute.String("capguard.decision", decision),
			attribute.String("rpc.response.status_code", code))...)
		onPurpose := !c.decision.Admitted && c.decision.Reason != guard.BackendUnreachable
		if st := c.end.status; st != nil && !onPurpose && (telemetry.BlamesServer(st.Code()) || s == c.spans.client && st.Code() != codes.OK) {
			s.SetStatus(otelcodes.Error, st.Message())
			s.SetAttributes(attribute.String("error.type", code))
		}
	}
	s.End()
}

// identity returns what is known of a call before the decision.
func (c *passage) identity() []attribute.KeyValue {
	as := []attribute.KeyValue{
		attribute.String("rpc.system.name", "grpc"),
		attribute.String("rpc.method", strings.TrimPrefix(c.method, "/")),
		attribute.String("capguard.backend", c.backend.name),
		attribute.String("capguard.criticality", c.call.Criticality.String()),
	}
	if c.call.Feature != "" {
		as = append(as, attribute.String("capguard.feature", c.call.Feature))
	}
	if c.call.Tenant != "" {
		as = append(as, attribute.String("capguard.tenant", c.call.Tenant))
	}
	return as
}

// figures returns what the decision was made on.
func (c *passage) figures() []attribute.KeyValue {
	d := c.decision
	as := []attribute.KeyValue{
		attribute.Float64("capguard.wait_ms", milliseconds(d.Wait)),
		attribute.Int("capguard.limit", d.Limit),
		attribute.Int("capguard.inflight", d.InFlight),
		attribute.String("capguard.breaker.state", d.Breaker.String()),
	}
	if d.Feature.Name != "" {
		as = append(as, attribute.String("capguard.flag", d.Feature.Name), attribute.Int64("capguard.flag.revision", d.Feature.Revision))
	}
	if d.Admitted && d.Reason != guard.None { // Mode observe.
		as = append(as, attribute.String("capguard.would_shed", grpcguard.ReasonName(d.Reason)))
	}
	return as
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// traceDecision writes the order of things as events of the server span.
func (c *passage) traceDecision(decision string) {
	s, d := c.spans.server, c.decision
	if d.Wait > 0 {
		s.AddEvent("capguard.queued", trace.WithTimestamp(c.began))
	}
	decided := trace.WithTimestamp(c.began.Add(d.Wait))
	if d.Admitted {
		s.AddEvent("capguard.admitted", decided, trace.WithAttributes(attribute.String("wait", d.Wait.String())))
		return
	}
	s.AddEvent("capguard.shed", decided, trace.WithAttributes(attribute.String("cause", decision),
		attribute.String("retry_after", retryAfter(d.RetryAfter))))
}

func retryAfter(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return d.String()
}

// linkCommand leads from the first call that a switch refused to the operator's command. It is a link, not the parent: the call belongs
// to its caller.
func (c *passage) linkCommand() {
	if !c.decision.First || c.decision.Admitted {
		return
	}
	traceID, err1 := trace.TraceIDFromHex(c.decision.Feature.TraceID)
	spanID, err2 := trace.SpanIDFromHex(c.decision.Feature.SpanID)
	if err1 != nil || err2 != nil {
		return // The command was not traced.
	}
	command := trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, Remote: true}
	c.spans.server.AddLink(trace.Link{
		SpanContext: trace.NewSpanContext(command),
		Attributes:  []attribute.KeyValue{attribute.String("capguard.link", "command")},
	})
}
