package loadtest_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/fragile"
)

// against runs p against a fragile back-end over real gRPC in memory.
func against(t *testing.T, s fragile.Settings, p loadtest.Plan) (r loadtest.Report, st fragile.Stats) {
	synctest.Test(t, func(t *testing.T) {
		b, err := fragile.NewBackend(s)
		if err != nil {
			t.Fatal(err)
		}
		lis := bufconn.Listen(1 << 16)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- b.Serve(ctx, func() (net.Listener, error) { return lis, nil }) }() // waited for below
		cc, err := grpc.NewClient("passthrough:fragile", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		r = run(t, cc, p)
		st = b.Stats()
		cc.Close()
		cancel()
		<-ended
	})
	return r, st
}

func checks(rate loadtest.Schedule) loadtest.Plan {
	return loadtest.Plan{
		Classes: []loadtest.Class{{
			Name: "base", Method: fragilev1.StockService_Check_FullMethodName, Request: &fragilev1.CheckRequest{Sku: "kettle"}, Rate: rate,
		}},
		Duration: 10 * time.Second,
	}
}

func TestBelowCapacityEverythingIsGood(t *testing.T) {
	r, st := against(t, fragile.Default(), checks(loadtest.Steady(200)))
	if c := &r.Classes[0]; c.Good != c.Offered || st.Served != c.Offered {
		t.Errorf("below capacity:\n%v", r)
	}
}

// TestOverloadCollapses: after a short overload the back-end works for callers who have gone, and stays bad although the load is small
// again. This is what the guard is for.
func TestOverloadCollapses(t *testing.T) {
	r, st := against(t, fragile.Default(), checks(loadtest.Steady(200).Step(2*time.Second, 1000).Step(4*time.Second, 200)))
	if c := &r.Classes[0]; c.Good > c.Offered/3 || st.Wasted < st.Busy/2 {
		t.Errorf("of %v of work %v was wasted:\n%v", st.Busy, st.Wasted, r)
	}
}

func ExampleReport() {
	var r loadtest.Report
	c := loadtest.ClassTally{Name: "base", Tally: loadtest.Tally{Offered: 4, Good: 2, Late: 1, Refused: map[string]uint64{"LIMIT_REACHED": 1}}}
	for _, ms := range []time.Duration{20, 30, 400} {
		c.Latency.Record(ms * time.Millisecond)
	}
	r.Classes = append(r.Classes, c)
	fmt.Print(r)
	fmt.Print(loadtest.Second{To: time.Second, Classes: r.Classes})
	// Output:
	//   class  offered  good  late  failed  refused  dropped  cut   p50    p99    max
	//    base        4     2     1       0        1        0    0  30ms  400ms  400ms
	// base refused with LIMIT_REACHED: 1
	// calls were begun up to 0s late, 99 % of them within 0s
	//    1s   base: offered     4 good     2 late    1 failed     0 refused     1 p99   400ms
}
