package admin_test

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// unreachable is a dialer to nobody.
func unreachable(context.Context, string) (net.Conn, error) {
	return nil, errors.New("nobody is there")
}

func traceOf(id string) guard.Trace {
	raw, err := hex.DecodeString(id)
	if err != nil {
		panic(err)
	}
	return guard.Trace{ID: [16]byte(raw), Sampled: true}
}

// watchDecisions opens a watch and returns when it is on.
func (r *rig) watchDecisions(req *capguardv1.WatchDecisionsRequest) grpc.ServerStreamingClient[capguardv1.WatchDecisionsResponse] {
	r.Helper()
	stream, err := r.guards.WatchDecisions(r.Context(), req)
	if err != nil {
		r.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		r.Fatal("watch:", err)
	}
	return stream
}

func next(t testing.TB, s grpc.ServerStreamingClient[capguardv1.WatchDecisionsResponse]) *capguardv1.WatchDecisionsResponse {
	t.Helper()
	m, err := s.Recv()
	if err != nil {
		t.Fatal("receive:", err)
	}
	return m
}

// refuse has the guard refuse a call of a feature that is switched off.
func (r *rig) refuse(c guard.Call) {
	r.Helper()
	if _, d := r.guard.Admit(r.Context(), c); d.Admitted {
		r.Fatalf("%+v is admitted", c)
	}
}

func TestWatchDecisionsSendsWhatMatches(t *testing.T) {
	recs := guard.Call{Method: get, Feature: "recs", Tenant: "acme", Trace: traceOf(strings.Repeat("ab", 16))}
	for name, req := range map[string]*capguardv1.WatchDecisionsRequest{
		"all":     {},
		"feature": {Feature: "flags/recs"},
		"method":  {Method: "shop.Shop/Get"},
		"tenant":  {Tenant: "acme"},
		"reason":  {Reason: "FEATURE_OFF"},
		"every":   {Name: "backends/shop", Feature: "recs", Method: get, Tenant: "acme", Reason: "FEATURE_OFF", MaxPerSecond: 100},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, parts{}, func(r *rig) {
				r.disable("recs", 0)
				stream := r.watchDecisions(req)
				if name != "all" {
					r.guard.Report(guard.Call{Method: "/shop.Shop/Put", Feature: "gift"}, guard.Decision{Reason: guard.BackendUnreachable})
				}
				r.refuse(recs)
				m := next(r, stream)
				want(r, "decisions", len(m.GetDecisions()), 1)
				d := m.GetDecisions()[0]
				want(r, "back-end", d.GetBackend(), "backends/shop")
				want(r, "reason", d.GetReason(), "FEATURE_OFF")
				want(r, "trace", d.GetTraceId(), strings.Repeat("ab", 16))
				want(r, "observed", d.GetObserved(), false)
				if e := r.explainMethod("recs").GetDecisions(); !proto.Equal(e[0], d) {
					r.Errorf("Explain says\n%v, WatchDecisions\n%v", e[0], d)
				}
			})
		})
	}
}

func TestWatchDecisionsOfModeObserve(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		s := r.guard.Settings()
		s.Mode, s.Limit.Min, s.Limit.Max = guard.Observe, 1, 1
		r.guard.Configure(s, "", "")
		enforced := r.watchDecisions(&capguardv1.WatchDecisionsRequest{})
		all := r.watchDecisions(&capguardv1.WatchDecisionsRequest{IncludeObserved: true})
		r.admit("")
		r.admit("")
		m := next(r, all)
		want(r, "decisions", len(m.GetDecisions()), 1)
		want(r, "observed", m.GetDecisions()[0].GetObserved(), true)
		want(r, "reason", m.GetDecisions()[0].GetReason(), "LIMIT_REACHED")
		want(r, "of what was enforced", len(next(r, enforced).GetDecisions()), 0)
	})
}

// A flood costs the watcher no more than it asked for; the rest is counted, and every refusal is in one or the other.
func TestWatchDecisionsIsBounded(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("recs", 0)
		stream := r.watchDecisions(&capguardv1.WatchDecisionsRequest{MaxPerSecond: 5})
		ten := r.watchDecisions(&capguardv1.WatchDecisionsRequest{})
		began := time.Now()
		go func() {
			for range 100 {
				for range 100 {
					r.call("recs")
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
		sent, skipped := 0, int64(0)
		for time.Since(began) < 20*time.Second {
			m := next(r, stream)
			sent, skipped = sent+len(m.GetDecisions()), skipped+m.GetSkipped()
		}
		if sent < 50 || sent > 60 || int64(sent)+skipped != 10_000 {
			r.Errorf("%d are sent and %d skipped in ten seconds; want 5 a second, and 10,000 in all", sent, skipped)
		}
		if n := len(next(r, ten).GetDecisions()); n < 10 || n > 11 { // the next call may be in time for it
			r.Errorf("%d are sent at once by default, want 10", n)
		}
	})
}

// There is a sign of life when nothing is refused, and the watch ends with its client or with the guard.
func TestWatchDecisionsLivesAndEnds(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		began := time.Now()
		stream := r.watchDecisions(&capguardv1.WatchDecisionsRequest{})
		for range 3 {
			if m := next(r, stream); len(m.GetDecisions()) != 0 || m.GetSkipped() != 0 {
				r.Errorf("received %v", m)
			}
		}
		if took := time.Since(began); took < 15*time.Second || took > 16*time.Second {
			r.Errorf("three signs of life took %v", took)
		}
		for range 40 { // each goes away: else the seventeenth would be one too many
			ctx, cancel := context.WithCancel(r.Context())
			stream, err := r.guards.WatchDecisions(ctx, &capguardv1.WatchDecisionsRequest{})
			if err != nil {
				r.Fatal(err)
			}
			if _, err := stream.Header(); err != nil {
				r.Fatal(err)
			}
			cancel()
			synctest.Wait()
		}
		next(r, r.watchDecisions(&capguardv1.WatchDecisionsRequest{}))
		r.server.Shutdown(r.Context())
		var err error
		for err == nil {
			_, err = stream.Recv()
		}
		want(r, "end", codeOf(err), codes.Unavailable)
	})
}

func TestWatchDecisionsRefusals(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		try := func(req *capguardv1.WatchDecisionsRequest) error {
			stream, err := r.guards.WatchDecisions(r.Context(), req)
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}
		for field, req := range map[string]*capguardv1.WatchDecisionsRequest{
			"feature": {Feature: "Recs!"}, "method": {Method: "Get"}, "tenant": {Tenant: strings.Repeat("x", 129)},
			"reason": {Reason: "TIRED"}, "max_per_second": {MaxPerSecond: 101},
		} {
			wantViolation(r, try(req), field)
		}
		wantViolation(r, try(&capguardv1.WatchDecisionsRequest{MaxPerSecond: -1}), "max_per_second")
		for _, tenant := range []string{"a\nb", "\x00", "a\u2028b"} { // Story: such a watch was opened, and no call could ever match it.
			wantViolation(r, try(&capguardv1.WatchDecisionsRequest{Tenant: tenant}), "tenant")
		}
		err := try(&capguardv1.WatchDecisionsRequest{Reason: "TIRED"})
		for reason := guard.FeatureOff; reason <= guard.Canceled; reason++ {
			contains(r, err.Error(), grpcguard.ReasonName(reason))
		}
		wantError(r, try(&capguardv1.WatchDecisionsRequest{Name: "stock"}), codes.NotFound, "BACKEND_NOT_FOUND")
		for range 16 {
			r.watchDecisions(&capguardv1.WatchDecisionsRequest{})
		}
		contains(r, wantError(r, try(&capguardv1.WatchDecisionsRequest{}), codes.ResourceExhausted, "TOO_MANY_WATCHERS").Message(), "Explain")
	})
}

// The rules have the same numbers in the core and on the wire.
func TestTheRulesOfTheCoreAndOfTheWire(t *testing.T) {
	for reason, kind := range map[guard.Reason]capguardv1.Rule_Kind{
		guard.FeatureOff: capguardv1.Rule_KIND_FLAG, guard.FeatureDimmed: capguardv1.Rule_KIND_FLAG,
		guard.DeadlineUnreachable: capguardv1.Rule_KIND_DEADLINE, guard.BreakerOpen: capguardv1.Rule_KIND_BREAKER,
		guard.RetryBudgetExhausted: capguardv1.Rule_KIND_RETRY_BUDGET, guard.LimitReached: capguardv1.Rule_KIND_LIMIT,
		guard.QueueTimeout: capguardv1.Rule_KIND_QUEUE, guard.Canceled: capguardv1.Rule_KIND_QUEUE,
		guard.BackendUnreachable: capguardv1.Rule_KIND_ENDPOINT, guard.Draining: capguardv1.Rule_KIND_DRAIN,
	} {
		want(t, grpcguard.ReasonName(reason), capguardv1.Rule_Kind(reason.Rule()), kind)
	}
}
