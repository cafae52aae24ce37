package telemetry

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/capguard/capguard/internal/guard"
)

// page returns what a Prometheus server would read.
func page(t *testing.T, tel *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func wants(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

func TestCallsAreMeasured(t *testing.T) {
	tel, err := New(t.Context(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	tel.Call("stock", "/shop.Stock/Check", "admitted", codes.OK, 30*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond)
	tel.Call("stock", "/shop.Stock/Check", "shed_limit", codes.ResourceExhausted, time.Millisecond, 0, 0)
	tel.Call("stock", "/shop.Stock/Check", "admitted", codes.Unavailable, time.Millisecond, time.Millisecond, 0)
	wants(t, page(t, tel),
		`rpc_server_call_duration_seconds_count{capguard_backend="stock",rpc_method="/shop.Stock/Check",rpc_response_status_code="OK",rpc_system_name="grpc"} 1`,
		`rpc_client_call_duration_seconds_sum{capguard_backend="stock",rpc_method="/shop.Stock/Check",rpc_response_status_code="OK",rpc_system_name="grpc"} 0.02`,
		`rpc_response_status_code="RESOURCE_EXHAUSTED"`,
		`error_type="UNAVAILABLE"`,
		`capguard_request_time_in_queue_seconds_count{capguard_backend="stock",capguard_decision="admitted"} 1`)
	if strings.Contains(page(t, tel), `error_type="RESOURCE_EXHAUSTED"`) {
		t.Error("a refusal on purpose is counted as an error")
	}
}

// Method names come from callers: they must not grow the metrics without end.
func TestMethodNamesAreBounded(t *testing.T) {
	tel, err := New(t.Context(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxMethods {
		tel.Call("stock", fmt.Sprintf("/a.B/M%d", i), "admitted", codes.OK, 1, 1, 0)
	}
	wants(t, page(t, tel), `rpc_method="_OTHER"`)
	if n := strings.Count(page(t, tel), "rpc_server_call_duration_seconds_count"); n > maxMethods+10 {
		t.Errorf("%d series for method names that a caller made up", n)
	}
}

// One call whose method was no text made every later reading of the metrics fail; names of any length, and codes that nobody has defined,
// had lines of their own. Who only tries names leaves no trace but one line.
func TestNonsenseDoesNotSpoilTheMetrics(t *testing.T) {
	tel, err := New(t.Context(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	tel.Call("stock", "/a.B/\xff", "admitted", codes.OK, 1, 1, 0)
	tel.Call("stock", "/a.B/"+strings.Repeat("long", 1000), "admitted", codes.OK, 1, 1, 0)
	tel.Call("stock", "/a.B/Good", "admitted", codes.OK, 1, 1, 0)
	for i := range 2 * maxMethods {
		tel.Call("stock", fmt.Sprintf("/a.B/Tried%d", i), "admitted", codes.Unimplemented, 1, 1, 0)
		tel.Call("stock", "/a.B/Good", "admitted", codes.Code(1000+i), 1, 1, 0)
	}
	text := page(t, tel)
	wants(t, text, `rpc_method="_OTHER",rpc_response_status_code="OK"`, `rpc_method="/a.B/Good",rpc_response_status_code="UNKNOWN"`)
	if n := strings.Count(text, "rpc_server_call_duration_seconds_count"); n != 4 {
		t.Errorf("%d series, want 4:\n%s", n, text)
	}
}

func TestGuardStateIsExported(t *testing.T) {
	tel, err := New(t.Context(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	g := guard.New(guard.Default())
	registration, err := tel.observe("stock", g)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = registration.Unregister() }()
	g.SetFeatures(map[string]guard.Feature{"recs": {Name: "recs", Percent: 0, Revision: 1}})
	p, d := g.Admit(t.Context(), guard.Call{Method: "/shop.Stock/Check"})
	if !d.Admitted {
		t.Fatal(d.Reason)
	}
	g.Admit(t.Context(), guard.Call{Method: "/shop.Stock/Recommend", Feature: "recs"})
	wants(t, page(t, tel),
		`capguard_inflight{capguard_backend="stock"} 1`,
		`capguard_requests_total{capguard_backend="stock",capguard_decision="admitted",rpc_method="/shop.Stock/Check"} 1`,
		`capguard_requests_total{capguard_backend="stock",capguard_decision="shed_flag",rpc_method="/shop.Stock/Recommend"} 1`,
		`capguard_breaker_state{capguard_backend="stock",state="closed"} 1`,
		`capguard_breaker_state{capguard_backend="stock",state="open"} 0`,
		`capguard_flag_evaluations_total{capguard_backend="stock",feature_flag_key="recs",feature_flag_result_variant="off"} 1`)
	p.Done(guard.Success)
	wants(t, page(t, tel), `capguard_inflight{capguard_backend="stock"} 0`)
}

func TestEveryReasonHasADecision(t *testing.T) {
	seen := make(map[string]bool)
	for r := guard.None; r <= guard.Canceled; r++ {
		d := Decision(r)
		if d == "unknown" || seen[d] {
			t.Errorf("reason %d has decision %q", r, d)
		}
		seen[d] = true
	}
}
