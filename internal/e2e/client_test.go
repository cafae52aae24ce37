package e2e_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/capguard/capguard/client"
	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// eventually asks again and again until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit:
			t.Fatalf("ten seconds without: %s", what)
		case <-tick.C:
		}
	}
}

// The client library against the real guard: an operator's command is known at once, a refusal is typed, and when the guard is killed
// calls fail fast and flags keep their last values, also in a program that starts while the guard is dead.
func TestTheLibraryOutlivesTheGuard(t *testing.T) {
	g := serve(t, nil, fragileBackend(t))
	known := t.TempDir() + "/flags"
	options := []client.Option{client.WithAdmin(g.admin), client.WithFlagFile(known)}
	conn, err := client.Dial(g.data, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stock, recs := fragilev1.NewStockServiceClient(conn), conn.Feature("recs")
	if _, err := stock.Recommend(recs.Tag(t.Context()), &fragilev1.RecommendRequest{}); err != nil || !recs.On() {
		t.Fatalf("before the command: %v", err)
	}

	if _, err := g.flags(t).DisableFlag(t.Context(), &capguardv1.DisableFlagRequest{Name: "recs", Reason: "INC-4821"}); err != nil {
		t.Fatal(err)
	}
	_, err = stock.Recommend(recs.Tag(t.Context()), &fragilev1.RecommendRequest{})
	if r, ok := client.Rejected(err); !ok || !errors.Is(err, client.FeatureOff) || r.Metadata["why"] != "INC-4821" {
		t.Errorf("a call of a feature that is off: %v", err)
	}
	eventually(t, "the flag known to the library", func() bool { return !recs.On() })

	g.kill9()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = stock.Check(ctx, &fragilev1.CheckRequest{})
	if _, ok := errors.AsType[*client.UnreachableError](err); !ok || ctx.Err() != nil {
		t.Errorf("a call without the guard: %v", err)
	}
	if recs.On() {
		t.Error("the flag has changed because the guard died")
	}

	later, err := client.Dial(g.data, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = later.Close() }()
	if later.Feature("recs").On() {
		t.Error("a program that starts without the guard has forgotten the flag")
	}
}
