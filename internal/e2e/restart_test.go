package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// What the guard has learned survives a stop and a kill, and a file that a kill has torn does not.
func TestWhatTheGuardLearnedSurvivesARestart(t *testing.T) {
	backend, dir := serveStock(t, &busyStock{took: 50 * time.Millisecond}), t.TempDir() // A back-end without end: the limit grows with demand.
	g := serve(t, nil, backend, "--data-dir", dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, callers := crowd(ctx, t, g.data, 100)
	until(t, "the limit has grown", func() bool { return g.endpoint(t).GetLimit() > 16 })
	cancel()
	callers.Wait()
	most := g.endpoint(t).GetLimit() // It may just be trying more than it knows to do.
	if err := g.stop(t); err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{"after a stop", "after a kill"} {
		if err := os.WriteFile(filepath.Join(dir, "learned.json.new"), []byte(`{"capguard_learned":1,"sav`), 0o600); err != nil {
			t.Fatal(err)
		}
		g = serve(t, nil, backend, "--data-dir", dir)
		e := g.endpoint(t)
		if n := e.GetLimit(); n <= 8 || n > most || !strings.HasPrefix(e.GetLimitReason(), "resume") {
			t.Errorf("%s the guard begins with the limit %d (%s); it was %d at the most", next, n, e.GetLimitReason(), most)
		}
		g.kill9()
	}
	if err := os.Truncate(filepath.Join(dir, "learned.json"), 100); err != nil {
		t.Fatal(err)
	}
	g = serve(t, nil, backend, "--data-dir", dir)
	g.await(t, `left out: the guards learn anew.*learned\.json\.unread.*damaged`)
	if e := g.endpoint(t); e.GetLimit() != 8 {
		t.Errorf("after damage the guard begins with the limit %d (%s)", e.GetLimit(), e.GetLimitReason())
	}
}

// endpoint returns the state of the only endpoint.
func (g guardProcess) endpoint(t *testing.T) *capguardv1.Endpoint {
	t.Helper()
	guards := capguardv1.NewGuardServiceClient(dial(t, g.admin))
	resp, err := guards.GetBackend(t.Context(), &capguardv1.GetBackendRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetBackend().GetEndpoints()[0]
}
