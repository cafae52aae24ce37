package e2e_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// until waits for what must come true.
func until(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	limit := time.After(15 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !isTrue() {
		select {
		case <-limit:
			t.Fatalf("never came true: %s", what)
		case <-tick.C:
		}
	}
}

// settled checks that the guard has all permits back, and that nothing in it broke.
func (g guardProcess) settled(t *testing.T) {
	t.Helper()
	guards := capguardv1.NewGuardServiceClient(dial(t, g.admin))
	until(t, "all permits are back", func() bool {
		resp, err := guards.ListBackends(t.Context(), &capguardv1.ListBackendsRequest{})
		busy := false
		for _, b := range resp.GetBackends() {
			if b.GetDoubleReturns() != 0 {
				t.Fatalf("permits were given back twice: %v", b)
			}
			busy = busy || b.GetInFlight() != 0 || b.GetQueued() != 0 || b.GetOpenStreams() != 0
		}
		return err == nil && !busy
	})
	if out := g.output.String(); strings.Contains(out, "goroutine ") || strings.Contains(out, "panic") {
		t.Errorf("the guard panicked:\n%s", tail(out, 4000))
	}
}

// served checks that a well-behaved client gets an answer. A refusal is one, while others abuse the guard.
func (g guardProcess) served(t *testing.T, options ...grpc.DialOption) {
	t.Helper()
	stock := fragilev1.NewStockServiceClient(dial(t, g.data, options...))
	until(t, "an ordinary call is answered", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := stock.Check(ctx, &fragilev1.CheckRequest{Sku: "tree"})
		return err == nil
	})
}

func (g guardProcess) metrics(t *testing.T) string {
	t.Helper()
	resp, err := http.Get("http://" + g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v\n%s", resp.Status, err, text)
	}
	return string(text)
}

// metric returns a figure of /metrics; name may have labels.
func (g guardProcess) metric(t *testing.T, name string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)`).FindStringSubmatch(g.metrics(t))
	if m == nil {
		t.Fatalf("no %s in the metrics", name)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// breaches returns how often the guard says that a bound was broken.
func (g guardProcess) breaches(t *testing.T, name string) int {
	t.Helper()
	return g.metric(t, `capguard_relay_breaches_total{breach="`+name+`"}`)
}

// configFile writes a configuration.
func configFile(t *testing.T, text string) string {
	t.Helper()
	file := t.TempDir() + "/capguard.yml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// listenTCP listens on a free port.
func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	return lis
}

// open returns how many calls the guard has at its back-end.
func (g guardProcess) open(t *testing.T) int {
	t.Helper()
	resp, err := capguardv1.NewGuardServiceClient(dial(t, g.admin)).GetBackend(t.Context(), &capguardv1.GetBackendRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return int(resp.GetBackend().GetInFlight() + resp.GetBackend().GetOpenStreams())
}
