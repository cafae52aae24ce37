package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// jaeger is a running Jaeger with an empty memory.
type jaeger struct{ otlp, query string }

func startJaeger(t *testing.T) jaeger {
	t.Helper()
	j := jaeger{freePort(t), freePort(t)}
	p := start(t, nil, tool(t, "jaeger"),
		"--collector.otlp.grpc.host-port="+j.otlp, "--query.http-server.host-port="+j.query,
		"--collector.otlp.http.host-port="+freePort(t), "--query.grpc-server.host-port="+freePort(t),
		"--admin.http.host-port="+freePort(t), "--collector.grpc-server.host-port="+freePort(t),
		"--collector.http-server.host-port="+freePort(t))
	j.await(t, p, func() bool {
		resp, err := http.Get("http://" + j.query + "/api/services")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	return j
}

// await asks again and again until ok, for at most 30 seconds: spans travel in batches.
func (j jaeger) await(t *testing.T, p *process, ok func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit:
			t.Fatal("Jaeger has not shown it within 30 seconds")
		case <-p.done:
			t.Fatalf("Jaeger has ended: %v", p.err)
		case <-tick.C:
		}
	}
}

// The parts of Jaeger's answers that matter here.
type (
	jaegerTrace struct {
		TraceID   string
		Spans     []jaegerSpan
		Processes map[string]struct{ ServiceName string }
	}
	jaegerSpan struct {
		TraceID, SpanID, OperationName string
		References                     []struct{ RefType, TraceID, SpanID string }
		Tags                           []struct {
			Key   string
			Value any
		}
	}
)

func (s jaegerSpan) tag(key string) string {
	for _, t := range s.Tags {
		if t.Key == key {
			return fmt.Sprint(t.Value)
		}
	}
	return ""
}

// find returns the traces of the guard that have all these tags.
func (j jaeger) find(t *testing.T, tags map[string]string) []jaegerTrace {
	t.Helper()
	text, err := json.Marshal(tags)
	if err != nil {
		t.Fatal(err)
	}
	return j.get(t, "/api/traces?"+url.Values{"service": {"capguard"}, "tags": {string(text)}, "limit": {"20"}}.Encode())
}

func (j jaeger) get(t *testing.T, path string) []jaegerTrace {
	t.Helper()
	resp, err := http.Get("http://" + j.query + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct{ Data []jaegerTrace }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data
}

// A refused call is found by its decision, and its trace leads to the operator's command: the whole way, from the symptom to the hand.
func TestJaegerLeadsFromTheRefusedCallToTheCommand(t *testing.T) {
	j := startJaeger(t)
	g := serve(t, []string{"OTEL_BSP_SCHEDULE_DELAY=50"}, fragileBackend(t), "--otlp-endpoint", j.otlp)
	_, err := g.flags(t).DisableFlag(t.Context(), &capguardv1.DisableFlagRequest{Name: "recs", Reason: "stock DB at 95%", AllowMissing: true})
	if err != nil {
		t.Fatal(err)
	}
	traceID := "0af7651916cd43dd8448eb211c80319c"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs", "traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
	_, err = fragilev1.NewStockServiceClient(dial(t, g.data)).Recommend(ctx, &fragilev1.RecommendRequest{})
	if status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("Recommend = %v, want FAILED_PRECONDITION", err)
	}

	var refused jaegerSpan
	j.await(t, g.process, func() bool {
		for _, trace := range j.find(t, map[string]string{"capguard.decision": "shed_flag", "capguard.feature": "recs"}) {
			refused = trace.Spans[0]
			return true
		}
		return false
	})
	if refused.TraceID != traceID {
		t.Errorf("the guard's span is in trace %s, not in the caller's %s", refused.TraceID, traceID)
	}
	if refused.tag("error") == "true" {
		t.Error("a call that was refused on purpose is shown as an error")
	}
	command := j.linked(t, g.process, refused)
	if command.OperationName != "capguard.v1.FlagService/DisableFlag" || command.tag("capguard.flag") != "recs" {
		t.Errorf("the link leads to %s %v, not to the operator's command", command.OperationName, command.Tags)
	}
}

// linked returns the span that s has a link to.
func (j jaeger) linked(t *testing.T, p *process, s jaegerSpan) (found jaegerSpan) {
	t.Helper()
	i := slices.IndexFunc(s.References, func(r struct{ RefType, TraceID, SpanID string }) bool { return r.TraceID != s.TraceID })
	if i < 0 {
		t.Fatalf("the span links to no other trace: %+v", s.References)
	}
	ref := s.References[i]
	j.await(t, p, func() bool {
		for _, trace := range j.get(t, "/api/traces/"+ref.TraceID) {
			for _, span := range trace.Spans {
				if span.SpanID == ref.SpanID {
					found = span
					return true
				}
			}
		}
		return false
	})
	return found
}

// The spans of an admitted call hang together: caller, guard, back-end.
func TestJaegerShowsTheWholeWay(t *testing.T) {
	j := startJaeger(t)
	g := serve(t, []string{"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_EXPORTER_OTLP_ENDPOINT=http://" + j.otlp}, fragileBackend(t))
	traceID := "4bf92f3577b34da6a3ce929d0e0e4736"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
	if _, err := fragilev1.NewStockServiceClient(dial(t, g.data)).Check(ctx, &fragilev1.CheckRequest{}); err != nil {
		t.Fatal(err)
	}
	var spans []jaegerSpan
	j.await(t, g.process, func() bool {
		for _, trace := range j.get(t, "/api/traces/"+traceID) {
			spans = trace.Spans
		}
		return len(spans) >= 2
	})
	kinds := make(map[string]jaegerSpan)
	for _, s := range spans {
		kinds[s.tag("span.kind")] = s
	}
	server, client := kinds["server"], kinds["client"]
	if server.tag("capguard.decision") != "admitted" || server.tag("capguard.backend") != "default" {
		t.Errorf("the server span lacks the decision: %v", server.Tags)
	}
	if len(server.References) == 0 || server.References[0].SpanID != "00f067aa0ba902b7" {
		t.Errorf("the server span is no child of the caller's: %+v", server.References)
	}
	if len(client.References) == 0 || client.References[0].SpanID != server.SpanID {
		t.Errorf("the client span is no child of the server span: %+v", client.References)
	}
}
