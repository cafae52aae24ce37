package proxy_test

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/server/telemetry"
)

// traced makes a plan record its spans.
func traced(spans *tracetest.SpanRecorder) func(*plan) {
	return func(p *plan) {
		p.options.Telemetry = telemetry.Discard()
		p.options.Telemetry.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	}
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

func fromCaller(ctx context.Context, flags string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+callersTrace+"-"+callersSpan+"-"+flags,
		"capguard-feature", "recs", "capguard-tenant", "acme")
}

func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes() {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

func has(t *testing.T, s sdktrace.ReadOnlySpan, want map[string]string) {
	t.Helper()
	got := attributes(s)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%v span: %s = %q, want %q", s.SpanKind(), k, got[k], v)
		}
	}
}

// "A trace's sampled flag and context survive the guard; the back-end's span is a child of the guard's."
func TestTheTraceContinuesThroughTheGuard(t *testing.T) {
	var seen string
	handler := func(srv any, s grpc.ServerStream) error {
		seen = strings.Join(received(s)["traceparent"], ",")
		return upper(srv, s)
	}
	spans := tracetest.NewSpanRecorder()
	bubble(t, only(handler, traced(spans)), func(t *testing.T, w *world) {
		if _, err := w.call(fromCaller(t.Context(), "01"), "x"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ended := spans.Ended()
		if len(ended) != 2 {
			t.Fatalf("%d spans, want one of the server and one of the client", len(ended))
		}
		server, client := ended[0], ended[1]
		if server.SpanKind() != trace.SpanKindServer || server.Parent().SpanID().String() != callersSpan ||
			server.SpanContext().TraceID().String() != callersTrace || server.Name() != "test.Service/Call" {
			t.Errorf("server span %q %v, parent %v", server.Name(), server.SpanContext(), server.Parent())
		}
		if client.SpanKind() != trace.SpanKindClient || client.Parent().SpanID() != server.SpanContext().SpanID() {
			t.Errorf("client span %v, parent %v", client.SpanContext(), client.Parent())
		}
		if want := "00-" + callersTrace + "-" + client.SpanContext().SpanID().String() + "-01"; seen != want {
			t.Errorf("the back-end got traceparent %q, want %q", seen, want)
		}
		for _, s := range ended {
			has(t, s, map[string]string{"rpc.system.name": "grpc", "rpc.method": "test.Service/Call", "rpc.response.status_code": "OK",
				"capguard.decision": "admitted", "capguard.backend": "stock", "capguard.feature": "recs", "capguard.tenant": "acme",
				"capguard.criticality": "CRITICAL", "capguard.wait_ms": "0", "capguard.limit": "100", "capguard.inflight": "0",
				"capguard.breaker.state": "closed"})
			if s.Status().Code != otelcodes.Unset {
				t.Errorf("status %v", s.Status())
			}
		}
		has(t, server, map[string]string{"capguard.request.bytes": "8", "capguard.request.messages": "1", "capguard.response.bytes": "8",
			"capguard.response.messages": "1", "capguard.stalls": "0"})
	})
}

func TestACallThatIsNotSampledStaysSo(t *testing.T) {
	var seen string
	handler := func(srv any, s grpc.ServerStream) error {
		seen = strings.Join(received(s)["traceparent"], ",")
		return upper(srv, s)
	}
	spans := tracetest.NewSpanRecorder()
	bubble(t, only(handler, traced(spans)), func(t *testing.T, w *world) {
		if _, err := w.call(fromCaller(t.Context(), "00"), "x"); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(seen, "00-"+callersTrace) || !strings.HasSuffix(seen, "-00") || len(spans.Ended()) > 0 {
			t.Errorf("traceparent %q, %d spans", seen, len(spans.Ended()))
		}
	})
}

// "A span that was refused on purpose is not an error span; every refused call can be found by one search tag."
func TestARefusedCallIsFoundAndLeadsToTheCommand(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	bubble(t, only(upper, traced(spans)), func(t *testing.T, w *world) {
		switchOff(w, 0)
		for range 2 {
			_, err := w.call(fromCaller(t.Context(), "01"), "x")
			code(t, err, codes.FailedPrecondition)
		}
		w.backend.Guard().ForceBreaker(breaker.Override{State: breaker.ForcedOpen})
		_, err := w.call(t.Context(), "x")
		code(t, err, codes.Unavailable)
		synctest.Wait()
		ended := spans.Ended()
		if len(ended) != 3 {
			t.Fatalf("%d spans, want one a call", len(ended))
		}
		for i, decision := range []string{"shed_flag", "shed_flag", "shed_breaker"} {
			has(t, ended[i], map[string]string{"capguard.decision": decision})
			if ended[i].Status().Code == otelcodes.Error || !slices.Equal(events(ended[i]), []string{"capguard.shed"}) {
				t.Errorf("span %d: status %v, events %v", i, ended[i].Status(), events(ended[i]))
			}
		}
		has(t, ended[0], map[string]string{"capguard.flag": "recs", "capguard.flag.revision": "7"})
		links := ended[0].Links()
		if len(links) != 1 || links[0].SpanContext.TraceID().String() != callersTrace || links[0].SpanContext.SpanID().String() != callersSpan {
			t.Errorf("links of the first refused call: %v", links)
		}
		if len(ended[1].Links()) > 0 {
			t.Error("the second refused call is linked, too")
		}
	})
}

func events(s sdktrace.ReadOnlySpan) (names []string) {
	for _, e := range s.Events() {
		names = append(names, e.Name)
	}
	return names
}

func TestSpansOfFailures(t *testing.T) {
	for c, want := range map[codes.Code][2]otelcodes.Code{ // server, client
		codes.NotFound:    {otelcodes.Unset, otelcodes.Error},
		codes.Unavailable: {otelcodes.Error, otelcodes.Error},
		codes.Internal:    {otelcodes.Error, otelcodes.Error},
	} {
		spans := tracetest.NewSpanRecorder()
		bubble(t, only(fails(c, "x"), traced(spans)), func(t *testing.T, w *world) {
			_, err := w.call(t.Context(), "x")
			code(t, err, c)
			synctest.Wait()
			if n := len(spans.Ended()); n != 2 {
				t.Fatalf("%d spans, want 2", n)
			}
			for i, s := range spans.Ended() {
				if s.Status().Code != want[i] {
					t.Errorf("%v: %v span has status %v, want %v", c, s.SpanKind(), s.Status().Code, want[i])
				}
			}
		})
	}
}

// Nobody refused this call on purpose.
func TestAnUnreachableBackendIsAnError(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	bubble(t, only(upper, traced(spans)), func(t *testing.T, w *world) {
		w.net.kill("10.0.0.1:80")
		time.Sleep(time.Second)
		_, err := w.call(t.Context(), "x")
		code(t, err, codes.Unavailable)
		synctest.Wait()
		if ended := spans.Ended(); len(ended) != 1 || ended[0].Status().Code != otelcodes.Error {
			t.Errorf("spans %v, want one with an error", ended)
		} else {
			has(t, ended[0], map[string]string{"capguard.decision": "shed_unreachable"})
		}
	})
}

func TestTheWaitIsAnEvent(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	patient := func(p *plan) { p.settings.Queue.MaxWait = 10 * time.Second }
	bubble(t, only(upper, small, patient, traced(spans)), func(t *testing.T, w *world) {
		crowdFor(w, time.Second)
		if _, err := w.call(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		server := spans.Ended()[0]
		has(t, server, map[string]string{"capguard.wait_ms": "1000"})
		if !slices.Equal(events(server), []string{"capguard.queued", "capguard.admitted"}) ||
			server.Events()[1].Time.Sub(server.Events()[0].Time) != time.Second {
			t.Errorf("events %v", server.Events())
		}
	})
}

// A tracer that panics stands for any bug in the data path: it runs in the handler, with the permit in hand.
type badTracer struct {
	embedded.Tracer
	misbehave func()
}

func (b badTracer) Start(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	if c := trace.NewSpanStartConfig(o...); c.SpanKind() == trace.SpanKindClient {
		b.misbehave()
	}
	return ctx, trace.SpanFromContext(ctx)
}

// "A panic in a call, and runtime.Goexit in a call: no permit is lost, no probe is lost."
func TestNoPermitIsLostInAPanicOrAGoexit(t *testing.T) {
	for name, misbehave := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			broken := func(p *plan) {
				p.options.Telemetry = telemetry.Discard()
				p.options.Telemetry.Tracer = badTracer{misbehave: misbehave}
			}
			bubble(t, only(upper, broken), func(t *testing.T, w *world) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := w.call(ctx, "x"); err == nil {
					t.Error("no error")
				}
				if got, want := w.counts(), (counts{ignored: 1}); got != want || w.accounts() != [2]int{} {
					t.Errorf("counted %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestWithoutTracingNothingIsTraced(t *testing.T) {
	bubble(t, only(func(srv any, s grpc.ServerStream) error {
		sameMD(t, "request", received(s), metadata.Pairs("traceparent", "00-"+callersTrace+"-"+callersSpan+"-01"))
		return upper(srv, s)
	}), func(t *testing.T, w *world) {
		if _, err := w.call(fromCaller(t.Context(), "01"), "x"); err != nil {
			t.Fatal(err)
		}
	})
}
