package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// acknowledged is what the guard has answered to.
type acknowledged struct {
	percent  map[string]float64
	revision int64
	total    int
}

// TestAcknowledgedCommandsSurviveKill9 kills the guard in the middle of a stream of commands, a hundred times, on one data directory.
// After each restart every command that was answered is in force: the flag has the percentage of the last answered command, or that of
// the one command which was under way when the guard died.
func TestAcknowledgedCommandsSurviveKill9(t *testing.T) {
	const rounds = 100
	dir := t.TempDir()
	done := acknowledged{percent: make(map[string]float64)}
	pending := make(map[string]float64) // sent, not answered, when the guard died
	for round := range rounds {
		g := serve(t, nil, "127.0.0.1:1", "--data-dir", dir)
		conn, err := grpc.NewClient("passthrough:///"+g.admin, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		flags := capguardv1.NewFlagServiceClient(conn)
		done.check(t, flags, pending)
		stop := time.AfterFunc(rand.N(120*time.Millisecond), func() { _ = g.cmd.Process.Kill() })
		pending = done.command(t.Context(), flags, round)
		stop.Stop()
		g.kill9()
		_ = conn.Close()
	}
	t.Logf("%d commands answered over %d kills, none lost", done.total, rounds)
	if done.total < rounds/2 {
		t.Errorf("only %d commands were answered: the guard died too early to show anything", done.total)
	}
}

// command dims flags until the guard dies, and returns the command that got no answer.
func (a *acknowledged) command(ctx context.Context, flags capguardv1.FlagServiceClient, round int) map[string]float64 {
	for i := 0; ; i++ {
		name, percent := fmt.Sprintf("feature-%d", i%7), float64((round*31+i*17)%1000)/10
		resp, err := flags.DimFlag(ctx, &capguardv1.DimFlagRequest{Name: name, Percent: &percent, AllowMissing: true})
		if err != nil {
			return map[string]float64{name: percent}
		}
		a.percent[name], a.revision = percent, max(a.revision, resp.GetFlag().GetRevision())
		a.total++
	}
}

// check compares the flags of a guard that has just started with what was answered before.
func (a *acknowledged) check(t *testing.T, flags capguardv1.FlagServiceClient, pending map[string]float64) {
	t.Helper()
	for name, want := range a.percent {
		resp, err := flags.GetFlag(t.Context(), &capguardv1.GetFlagRequest{Name: name})
		if err != nil {
			t.Fatalf("%s was answered before the kill: %v", name, err)
		}
		got := resp.GetFlag().GetPercent()
		if unanswered, ok := pending[name]; got != want && (!ok || got != unanswered) {
			t.Fatalf("%s is at %v %% after the restart, but %v %% was answered", name, got, want)
		}
		a.percent[name] = got
	}
}
