package telemetry

import (
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// call is one call as the data path tells it.
type call struct {
	backend, method, decision string
	code                      codes.Code
	total, upstream, wait     time.Duration
}

func (c call) tell(t *Telemetry) {
	t.Call(c.backend, c.method, c.decision, c.code, c.total, c.upstream, c.wait)
}

// someCalls have codes of every kind, every bound of the buckets and what is just beside it, decisions that share a code, and calls that
// neither waited nor reached the back-end.
func someCalls() []call {
	calls := []call{
		{"stock", "/shop.Stock/Check", "admitted", codes.OK, 0, 0, 0},
		{"stock", "/shop.Stock/Check", "shed_limit", codes.ResourceExhausted, 40 * time.Microsecond, 0, 0},
		{"stock", "/shop.Stock/Check", "shed_queue_timeout", codes.ResourceExhausted, 120 * time.Millisecond, 0, 100 * time.Millisecond},
		{"stock", "/shop.Stock/Check", "canceled", codes.Canceled, 3 * time.Second, 0, 2 * time.Second},
		{"carts", "/shop.Stock/Check", "admitted", codes.OK, 30 * time.Second, 29 * time.Second, 1},
		{"carts", "/shop.Carts/\xff", "admitted", codes.OK, 7 * time.Millisecond, 6 * time.Millisecond, 300 * time.Microsecond},
	}
	for _, c := range []codes.Code{codes.OK, codes.Unavailable, codes.Unimplemented, codes.Unauthenticated + 1} {
		calls = append(calls, call{"carts", "/shop.Carts/Add", "admitted", c, time.Duration(c+1) * 777 * time.Microsecond, time.Millisecond, 0})
	}
	for _, bound := range append(callBounds, waitBounds...) {
		at := time.Duration(bound * float64(time.Second))
		for _, d := range []time.Duration{at - 1, at, at + 1} {
			calls = append(calls, call{"stock", "/shop.Stock/Reserve", "admitted", codes.OK, d + d/3, d, d})
		}
	}
	return calls
}

// The page was recorded when the SDK's instruments still did the counting: nothing that people have built on it may change.
func TestThePageIsAsEver(t *testing.T) {
	tel, err := New(t.Context(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range someCalls() {
		c.tell(tel)
	}
	var got strings.Builder
	for line := range strings.Lines(page(t, tel)) {
		if strings.Contains(line, "rpc_") || strings.Contains(line, "capguard_request_") {
			got.WriteString(line)
		}
	}
	want, err := os.ReadFile("testdata/calls.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the page has changed:\n%s", got.String())
	}
}
