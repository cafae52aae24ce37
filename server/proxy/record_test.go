package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// recorded returns the one refusal on record.
func recorded(t *testing.T, w *world) guard.Refusal {
	t.Helper()
	list := w.backend.Guard().Refusals(guard.Filter{}, 9)
	if len(list) != 1 {
		t.Fatalf("%d refusals are on record, want 1: %+v", len(list), list)
	}
	return list[0]
}

// A refusal is found by the trace of its call, whether the guard makes spans or not, and what is on record is what the caller was told.
func TestARefusalIsOnRecordByItsTrace(t *testing.T) {
	for name, change := range map[string]func(*plan){
		"without spans": func(*plan) {},
		"with spans":    traced(tracetest.NewSpanRecorder()),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, only(upper, small, change), func(t *testing.T, w *world) {
				crowdFor(w, time.Second)
				_, err := w.call(metadata.AppendToOutgoingContext(fromCaller(t.Context(), "01"), "capguard-criticality", "SHEDDABLE"), "x")
				st := code(t, err, grpcguard.Code(guard.LimitReached))
				got := recorded(t, w)
				if id := fmt.Sprintf("%x", got.Call.Trace.ID); id != callersTrace || !got.Call.Trace.Sampled {
					t.Errorf("on record is the trace %s, sampled %v", id, got.Call.Trace.Sampled)
				}
				if c := got.Call; c.Method != method || c.Feature != "recs" || c.Tenant != "acme" || c.Criticality != guard.Sheddable {
					t.Errorf("on record is %+v", c)
				}
				told, _ := grpcguard.Refusal(got.Decision, got.Call, "stock")
				if told.Message() != st.Message() || !strings.Contains(st.Message(), "limit 1, in flight 1, queued 0, down to SHEDDABLE admitted") {
					t.Errorf("the caller was told %q, on record is %q", st.Message(), told.Message())
				}
				time.Sleep(time.Second)
			})
		})
	}
}

// A guard that makes spans names the trace also of a call that comes without one.
func TestARefusalIsOnRecordByTheTraceOfTheGuard(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	bubble(t, only(upper, traced(spans)), func(t *testing.T, w *world) {
		switchOff(w, 0)
		_, err := w.call(withHeader(t.Context(), "capguard-feature", "recs"), "x")
		code(t, err, grpcguard.Code(guard.FeatureOff))
		synctest.Wait()
		if got, want := recorded(t, w).Call.Trace.ID, spans.Ended()[0].SpanContext().TraceID(); got != want {
			t.Errorf("on record is the trace %x, the span has %x", got, want)
		}
	})
}

func TestThatNobodyIsThereIsOnRecord(t *testing.T) {
	bubble(t, only(upper), func(t *testing.T, w *world) {
		w.net.kill("10.0.0.1:80")
		time.Sleep(time.Second)
		_, err := w.call(fromCaller(t.Context(), "00"), "x")
		st := code(t, err, grpcguard.Code(guard.BackendUnreachable))
		got := recorded(t, w)
		if got.Decision.Reason != guard.BackendUnreachable || got.Observed() || got.Call.Tenant != "acme" || got.Call.Trace.Sampled {
			t.Errorf("on record is %+v", got)
		}
		if told, _ := grpcguard.Refusal(got.Decision, got.Call, "stock"); told.Message() != st.Message() {
			t.Errorf("the caller was told %q, on record is %q", st.Message(), told.Message())
		}
	})
}
