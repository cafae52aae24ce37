package admin_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
)

const get = "/shop.Shop/Get" // the method of rig.call

func (r *rig) explain(req *capguardv1.ExplainRequest) *capguardv1.ExplainResponse {
	r.Helper()
	resp, err := r.guards.Explain(r.Context(), req)
	if err != nil {
		r.Fatal("explain:", err)
	}
	return resp
}

func (r *rig) explainMethod(feature string) *capguardv1.ExplainResponse {
	r.Helper()
	return r.explain(&capguardv1.ExplainRequest{
		Subject: &capguardv1.ExplainRequest_Method{Method: strings.TrimPrefix(get, "/")}, Feature: feature,
	})
}

// rule returns what an explanation says of one rule.
func rule(t testing.TB, e *capguardv1.ExplainResponse, kind capguardv1.Rule_Kind) *capguardv1.Rule {
	t.Helper()
	for _, r := range e.GetRules() {
		if r.GetKind() == kind {
			return r
		}
	}
	t.Fatalf("there is no rule %v", kind)
	return nil
}

// contains checks that a text has all parts.
func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
}

func TestExplainWalksThroughEveryRule(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.call("recs")
		e := r.explainMethod("recs")
		want(r, "back-end", e.GetBackend(), "backends/shop")
		want(r, "method", e.GetMethod(), get)
		want(r, "mode", e.GetMode(), capguardv1.Mode_MODE_ENFORCE)
		want(r, "who decides", e.GetDecides(), capguardv1.Rule_KIND_UNSPECIFIED)
		want(r, "summary", e.GetSummary(), "a first attempt of /shop.Shop/Get passes now")
		var kinds []string
		for _, x := range e.GetRules() {
			kinds = append(kinds, strings.TrimPrefix(x.GetKind().String(), "KIND_"))
			want(r, "verdict of "+x.GetKind().String(), x.GetVerdict(), capguardv1.Rule_VERDICT_PASS)
			want(r, "reason of "+x.GetKind().String(), x.GetReason(), "")
			if x.GetExplanation() == "" || strings.Contains(x.GetExplanation(), "%!") {
				r.Errorf("%v is explained by %q", x.GetKind(), x.GetExplanation())
			}
			for name, figure := range x.GetFigures() {
				contains(r, x.GetExplanation(), figure)
				want(r, name+" is no figure", figure == "", false)
			}
		}
		want(r, "rules", strings.Join(kinds, " "), "DRAIN FLAG DEADLINE BREAKER RETRY_BUDGET LIMIT QUEUE ENDPOINT")
		contains(r, rule(r, e, capguardv1.Rule_KIND_FLAG).GetExplanation(), `"recs" has no flag`)
		contains(r, rule(r, e, capguardv1.Rule_KIND_LIMIT).GetExplanation(), "0 calls", "limit is 8", "initial")
		want(r, "figure", rule(r, e, capguardv1.Rule_KIND_LIMIT).GetFigures()["limit"], "8")
		contains(r, rule(r, e, capguardv1.Rule_KIND_QUEUE).GetExplanation(), "0 of at most 1000", "SHEDDABLE")
		contains(r, rule(r, e, capguardv1.Rule_KIND_ENDPOINT).GetExplanation(), "1 of 1 addresses are connected")
	})
}

// An operator reads who decided, why, and by whose command.
func TestExplainASwitchedOffFeature(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.call("recs")
		r.disable("recs", time.Hour)
		r.call("recs")
		e := r.explainMethod("recs")
		want(r, "who decides", e.GetDecides(), capguardv1.Rule_KIND_FLAG)
		contains(r, e.GetSummary(), "is refused now by the flag (FEATURE_OFF)", "anna", "incident 7", "2000-01-01T01:00:0")
		flag := rule(r, e, capguardv1.Rule_KIND_FLAG)
		want(r, "verdict", flag.GetVerdict(), capguardv1.Rule_VERDICT_REFUSE)
		want(r, "reason", flag.GetReason(), "FEATURE_OFF")
		want(r, "who", flag.GetFigures()["who"], "anna")
		want(r, "refused so far", e.GetRefused()["FEATURE_OFF"], int64(1))
		want(r, "decisions", len(e.GetDecisions()), 1)
		d := e.GetDecisions()[0]
		want(r, "rule", d.GetRule(), capguardv1.Rule_KIND_FLAG)
		want(r, "feature", d.GetFeature(), "recs")
		want(r, "criticality", d.GetCriticality(), "CRITICAL")
		want(r, "limit", d.GetLimit(), int32(8))
		want(r, "retry after is told", d.RetryAfter != nil, false)
		contains(r, d.GetMessage(), `feature "recs" is switched off by anna`)
		want(r, "why", d.GetVariables()["why"], "incident 7")
		want(r, "other feature", r.explainMethod("").GetDecides(), capguardv1.Rule_KIND_UNSPECIFIED)
	})
}

// The figures behind the other rules, each as it decides.
func TestExplainWhatDecides(t *testing.T) {
	type expectation struct {
		kind    capguardv1.Rule_Kind
		summary []string
	}
	mode := func(r *rig, m guard.Mode) {
		s := r.guard.Settings()
		s.Mode = m
		r.guard.Configure(s, "anna", "is it us?")
	}
	limit := func(r *rig, n int, wait time.Duration) {
		s := r.guard.Settings()
		s.Limit.Min, s.Limit.Max, s.Queue.MaxWait = n, n, wait
		r.guard.Configure(s, "anna", "half of it is gone")
	}
	for name, c := range map[string]struct {
		make func(r *rig)
		want expectation
	}{
		"breaker": {func(r *rig) {
			_, err := r.guards.ForceBreaker(r.as("anna"), &capguardv1.ForceBreakerRequest{State: "open", Reason: "restart"})
			if err != nil {
				r.Fatal(err)
			}
		}, expectation{capguardv1.Rule_KIND_BREAKER, []string{"is refused now by the breaker (BREAKER_OPEN)", "forced-open", "restart"}}},
		"dimmed": {func(r *rig) {
			_, err := r.flags.DimFlag(r.as("anna"), &capguardv1.DimFlagRequest{Name: "recs", Percent: new(20.0)})
			if err != nil {
				r.Fatal(err)
			}
		}, expectation{capguardv1.Rule_KIND_FLAG, []string{"is let through or refused now by the flag (FEATURE_DIMMED)", "20 %"}}},
		"a full limit, and a line": {func(r *rig) { limit(r, 1, time.Second); r.admit("") }, expectation{
			capguardv1.Rule_KIND_LIMIT, []string{"is made to wait now by the limit (LIMIT_REACHED)", "1 calls", "the limit is 1", "fixed"},
		}},
		"a full limit, and no line": {func(r *rig) { limit(r, 1, 0); r.admit("") }, expectation{
			capguardv1.Rule_KIND_LIMIT, []string{"is refused now by the limit (LIMIT_REACHED)"},
		}},
		"mode observe": {func(r *rig) { limit(r, 1, 0); r.admit(""); mode(r, guard.Observe) }, expectation{
			capguardv1.Rule_KIND_UNSPECIFIED, []string{"passes now, because the mode is observe; in mode enforce the limit would decide: 1 calls"},
		}},
		"shutting down": {func(r *rig) { r.guard.Drain(r.Context()) }, expectation{
			capguardv1.Rule_KIND_DRAIN, []string{"is refused now by the shutdown (DRAINING): the guard is shutting down"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, parts{}, func(r *rig) {
				r.call("recs")
				c.make(r)
				e := r.explainMethod("recs")
				want(r, "who decides", e.GetDecides(), c.want.kind)
				contains(r, e.GetSummary(), c.want.summary...)
			})
		})
	}
}

// Nobody is there: that decides, also where calls would else have to wait.
func TestExplainThatNobodyIsThere(t *testing.T) {
	inBubble(t, parts{dial: unreachable}, func(r *rig) {
		r.call("recs")
		time.Sleep(time.Minute)
		synctest.Wait()
		e := r.explainMethod("recs")
		want(r, "who decides", e.GetDecides(), capguardv1.Rule_KIND_ENDPOINT)
		contains(r, e.GetSummary(), "is refused now by the endpoints (BACKEND_UNREACHABLE): 0 of 1 addresses are connected, 1 can not be reached")
	})
}

func TestExplainTellsOfChanges(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.call("recs")
		if _, err := r.guards.SetLimit(r.as("anna"), &capguardv1.SetLimitRequest{Max: new(int32(5)), Reason: "half of it is gone"}); err != nil {
			r.Fatal(err)
		}
		if _, err := r.guards.SetMode(r.as("bert"), &capguardv1.SetModeRequest{Mode: "observe", Reason: "is it us?"}); err != nil {
			r.Fatal(err)
		}
		changes := r.explainMethod("recs").GetChanges()
		want(r, "changes", len(changes), 3)
		got := map[string]string{}
		for _, c := range changes {
			got[c.GetKind()] = fmt.Sprint(c.GetFrom(), " to ", c.GetTo(), " by ", c.GetActor(), " at ", cmp.Or(c.GetEndpoint(), "all"))
			want(r, "reason of "+c.GetKind()+" is missing", c.GetReason() == "", false)
		}
		want(r, "limit", got["limit"], "8 to 5 by anna at 127.0.0.1:9")
		want(r, "bounds", got["bounds"],
			"min 1, max 1000, max_streams 1000 to min 1, max 5, max_streams 1000 by anna at all")
		want(r, "mode", got["mode"], "enforce to observe by bert at all")
	})
}

// Story: invented names filled the table of methods, and Explain said of a method with 200 calls that none was seen.
func TestExplainTellsThatTheTableIsFull(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		ask := func() string {
			_, err := r.guards.Explain(r.Context(), &capguardv1.ExplainRequest{Subject: &capguardv1.ExplainRequest_Method{Method: get}})
			return wantError(r, err, codes.NotFound, "METHOD_NOT_FOUND").Message()
		}
		for i := range 1001 {
			if i == 1000 {
				contains(r, ask(), "no call with the method \"/shop.Shop/Get\" was seen")
			}
			p, _ := r.guard.Admit(r.Context(), guard.Call{Method: fmt.Sprint("/invented.Service/", i)})
			p.Done(guard.Ignored)
		}
		contains(r, ask(), "the table of them is full", "either no call with it was seen", "made room")
	})
}

// A trace id from a log of a caller leads to the refusal, with the state as it was then.
func TestExplainATrace(t *testing.T) {
	inBubble(t, parts{backends: []string{"shop", "stock"}}, func(r *rig) {
		const id = "0af7651916cd43dd8448eb211c80319c"
		g := r.backends[1].Guard()
		s := g.Settings()
		s.Limit.Min, s.Limit.Max, s.Queue.MaxWait = 1, 1, 0
		g.Configure(s, "", "")
		p, _ := g.Admit(r.Context(), guard.Call{Method: get})
		call := guard.Call{Method: get, Feature: "recs", Criticality: guard.Sheddable, Tenant: "acme", Trace: traceOf(id)}
		time.Sleep(time.Second)
		_, d := g.Admit(r.Context(), call)
		p.Done(guard.Success)
		time.Sleep(time.Minute)
		e := r.explain(&capguardv1.ExplainRequest{Subject: &capguardv1.ExplainRequest_TraceId{TraceId: strings.ToUpper(id)}})
		want(r, "back-end", e.GetBackend(), "backends/stock")
		want(r, "method", e.GetMethod(), get)
		want(r, "decides now", e.GetDecides(), capguardv1.Rule_KIND_UNSPECIFIED)
		contains(r, e.GetSummary(), "a call of /shop.Shop/Get was refused at 2000-01-01T00:00:01Z by the limit (LIMIT_REACHED)",
			"limit 1, in flight 1")
		want(r, "decisions", len(e.GetDecisions()), 1)
		got := e.GetDecisions()[0]
		want(r, "rule", got.GetRule(), capguardv1.Rule_KIND_LIMIT)
		want(r, "in flight", got.GetInFlight(), int64(1))
		want(r, "criticality", got.GetCriticality(), "SHEDDABLE")
		want(r, "tenant", got.GetTenant(), "acme")
		want(r, "trace", got.GetTraceId(), id)
		contains(r, rule(r, e, capguardv1.Rule_KIND_FLAG).GetExplanation(), `"recs"`)
		want(r, "when to retry", got.GetRetryAfter().AsDuration(), d.RetryAfter)
		want(r, "limit, to a program", got.GetVariables()["limit"], "1")
		want(r, "records", e.GetRecords().GetKept(), int64(1))
		r.guard.Report(guard.Call{Method: "/shop.Shop/Put", Trace: traceOf(id)}, guard.Decision{Reason: guard.BackendUnreachable})
		e = r.explain(&capguardv1.ExplainRequest{Subject: &capguardv1.ExplainRequest_TraceId{TraceId: id}})
		want(r, "the newest first", e.GetDecisions()[0].GetMethod()+" "+e.GetDecisions()[1].GetMethod(), "/shop.Shop/Put "+get)
		want(r, "back-end of the newest", e.GetBackend(), "backends/shop")
		_, err := r.guards.Explain(r.Context(), &capguardv1.ExplainRequest{
			Name: "shop", Subject: &capguardv1.ExplainRequest_TraceId{TraceId: strings.Repeat("ef", 16)},
		})
		st := wantError(r, err, codes.NotFound, "TRACE_NOT_FOUND")
		contains(r, st.Message(), strings.Repeat("ef", 16), "records go back to 2000-01-01T00:01:01Z (1 refusals",
			"at least the last half minute", "sampled traces first")
	})
}

func TestExplainUnknownNames(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.call("recs")
		method := func(name string) *capguardv1.ExplainRequest {
			return &capguardv1.ExplainRequest{Subject: &capguardv1.ExplainRequest_Method{Method: name}}
		}
		_, err := r.guards.Explain(r.Context(), method("shop.Shop/Gte"))
		st := wantError(r, err, codes.NotFound, "METHOD_NOT_FOUND")
		contains(r, st.Message(), `no call with the method "/shop.Shop/Gte" was seen`, `did you mean "/shop.Shop/Get"?`)
		want(r, "nearest", detail[*errdetails.ErrorInfo](st).GetMetadata()["nearest"], get)
		req := method(get)
		req.Feature = "rec"
		_, err = r.guards.Explain(r.Context(), req)
		contains(r, wantError(r, err, codes.NotFound, "FLAG_NOT_FOUND").Message(), `did you mean "recs"?`)
		req.Name = "stock"
		_, err = r.guards.Explain(r.Context(), req)
		wantError(r, err, codes.NotFound, "BACKEND_NOT_FOUND")
		trace := func(id string) *capguardv1.ExplainRequest {
			return &capguardv1.ExplainRequest{Subject: &capguardv1.ExplainRequest_TraceId{TraceId: id}}
		}
		_, err = r.guards.Explain(r.Context(), trace(strings.Repeat("ab", 16)))
		contains(r, wantError(r, err, codes.NotFound, "TRACE_NOT_FOUND").Message(), "there are no records yet (0 refusals")
		for field, reqs := range map[string][]*capguardv1.ExplainRequest{
			"method":   {{}, method("Get"), method("/shop.Shop/"), method("/shop.*/Get"), method("/a/" + strings.Repeat("b", 300)), trace("")},
			"trace_id": {trace("12"), trace(strings.Repeat("0", 32)), trace(strings.Repeat("x", 32))},
			"feature": {
				{Subject: method(get).Subject, Feature: "Recs of the day"},
				{Subject: trace(strings.Repeat("a", 32)).Subject, Feature: "recs"},
			},
		} {
			for _, req := range reqs {
				_, err := r.guards.Explain(r.Context(), req)
				wantViolation(r, err, field)
			}
		}
	})
}
