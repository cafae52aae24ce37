package admin

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/proxy"
)

// ruleWords name the rules in sentences. It is never written to.
var ruleWords = map[capguardv1.Rule_Kind]string{
	capguardv1.Rule_KIND_DRAIN: "shutdown", capguardv1.Rule_KIND_FLAG: "flag", capguardv1.Rule_KIND_DEADLINE: "deadline",
	capguardv1.Rule_KIND_BREAKER: "breaker", capguardv1.Rule_KIND_RETRY_BUDGET: "retry budget", capguardv1.Rule_KIND_LIMIT: "limit",
	capguardv1.Rule_KIND_QUEUE: "queue", capguardv1.Rule_KIND_ENDPOINT: "endpoints",
}

// renderExplanation returns what e says, without refusals on record.
func (s *guardService) renderExplanation(b *proxy.Backend, c guard.Call, e guard.Explanation) *capguardv1.ExplainResponse {
	bounds := s.owner(b).words()
	records := b.Guard().Records()
	resp := &capguardv1.ExplainResponse{
		Backend: backendPrefix + b.Name(), Method: c.Method, Mode: renderMode(e.Mode),
		Refused: reasonCounts(e.Totals.Refused[:]), WouldRefuse: reasonCounts(e.Totals.WouldRefuse[:]), WouldWait: int64(e.Totals.WouldWait),
		Records: &capguardv1.Records{Kept: int64(records.Kept), Since: renderTime(records.Since), Unrecorded: int64(records.Unrecorded)},
	}
	for _, f := range e.Findings {
		r := renderFinding(f, c, &e)
		if f.Rule == guard.LimitRule {
			r.Explanation += bounds
		}
		resp.Rules = append(resp.Rules, r)
	}
	resp.Rules = append(resp.Rules, renderReach(b.Endpoints()))
	decide(resp, c, &e)
	for _, ch := range e.Changes {
		resp.Changes = append(resp.Changes, &capguardv1.Change{
			Time: renderTime(ch.Time), Kind: string(ch.Kind), From: ch.From, To: ch.To, Reason: ch.Reason, Actor: ch.Actor,
			Endpoint: ch.Endpoint,
		})
	}
	return resp
}

func reasonCounts(counts []uint64) map[string]int64 {
	m := map[string]int64{}
	for r, n := range counts {
		if n > 0 {
			m[grpcguard.ReasonName(guard.Reason(r))] = int64(n)
		}
	}
	return m
}

// decide sums up which rule decides. What lets calls wait is outdone by there being nobody to wait for.
func decide(resp *capguardv1.ExplainResponse, c guard.Call, e *guard.Explanation) {
	reach := resp.GetRules()[len(resp.GetRules())-1]
	resp.Decides = renderRule(e.Decisive.Rule)
	if reach.GetVerdict() == capguardv1.Rule_VERDICT_REFUSE && e.Decisive.Verdict != guard.Refuse {
		resp.Decides = reach.GetKind()
	}
	call := "a first attempt of " + c.Method
	if e.Stream {
		call = "a stream of " + c.Method
	}
	i := slices.IndexFunc(resp.GetRules(), func(r *capguardv1.Rule) bool { return r.GetKind() == resp.GetDecides() })
	if i < 0 {
		resp.Summary = call + " passes now" + despite(resp.GetRules(), e.Mode)
		return
	}
	r := resp.GetRules()[i]
	resp.Summary = fmt.Sprintf("%s %s now by the %s (%s): %s", call, verdictWords[r.GetVerdict()], ruleWords[r.GetKind()], r.GetReason(),
		r.GetExplanation())
}

// verdictWords say what a deciding rule does. It is never written to.
var verdictWords = map[capguardv1.Rule_Verdict]string{
	capguardv1.Rule_VERDICT_DEPENDS: "is let through or refused", capguardv1.Rule_VERDICT_WAIT: "is made to wait",
	capguardv1.Rule_VERDICT_REFUSE: "is refused",
}

// despite names the rule that the mode keeps from deciding.
func despite(rules []*capguardv1.Rule, m guard.Mode) string {
	i := slices.IndexFunc(rules, func(r *capguardv1.Rule) bool { return r.GetVerdict() >= capguardv1.Rule_VERDICT_WAIT })
	if m == guard.Enforce || i < 0 {
		return ""
	}
	return fmt.Sprintf(", because the mode is %v; in mode enforce the %s would decide: %s", m, ruleWords[rules[i].GetKind()],
		rules[i].GetExplanation())
}

// renderFinding returns one rule with its sentence and the figures in it.
func renderFinding(f guard.Finding, c guard.Call, e *guard.Explanation) *capguardv1.Rule {
	r := &capguardv1.Rule{
		Kind: renderRule(f.Rule), Verdict: capguardv1.Rule_Verdict(f.Verdict) + capguardv1.Rule_VERDICT_PASS,
		Reason: grpcguard.ReasonName(f.Reason), Figures: map[string]string{},
	}
	switch f.Rule {
	case guard.DrainRule:
		r.Explanation = pick(e.Draining, "the guard is shutting down", "the guard is not shutting down")
	case guard.FlagRule:
		explainFlag(r, f, c, e)
	case guard.DeadlineRule:
		explainDeadline(r, e)
	case guard.BreakerRule:
		explainBreaker(r, e)
	case guard.RetryRule:
		explainRetries(r, f, e)
	case guard.LimitRule:
		explainLimit(r, e)
	case guard.QueueRule:
		explainQueue(r, e)
	}
	return r
}

func renderRule(r guard.Rule) capguardv1.Rule_Kind { return capguardv1.Rule_Kind(r) } // same numbers, as a test checks

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

// say sets the sentence of a rule; each pair of name and value is a figure, in the order of the verbs of format.
func say(r *capguardv1.Rule, format string, pairs ...string) {
	values := make([]any, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		r.Figures[pairs[i]] = pairs[i+1]
		values = append(values, pairs[i+1])
	}
	r.Explanation = fmt.Sprintf(format, values...)
}

func explainFlag(r *capguardv1.Rule, f guard.Finding, c guard.Call, e *guard.Explanation) {
	switch {
	case c.Feature == "":
		say(r, "the call belongs to no feature")
	case e.Feature.Name == "":
		say(r, "feature %q has no flag", "feature", c.Feature)
	case f.Reason == guard.None:
		say(r, "feature %q is on", "flag", e.Feature.Name)
	default: // The same words as to the caller.
		refusal := rejection(guard.Decision{Reason: f.Reason, Feature: e.Feature, RetryAfter: grpcguard.Never}, c, "")
		r.Explanation = refusal.Message
		maps.Copy(r.GetFigures(), refusal.Metadata)
	}
}

func explainDeadline(r *capguardv1.Rule, e *guard.Explanation) {
	switch {
	case e.Stream:
		say(r, "a stream may have any deadline that has not passed")
	case e.Need == 0:
		say(r, "how long calls of the method take is not known: fewer than ten were answered lately; any deadline will do that has not passed")
	default:
		say(r, "calls are refused that have less than %s left, the median of what the method's calls took lately", "need", figure(e.Need))
	}
}

func explainBreaker(r *capguardv1.Rule, e *guard.Explanation) {
	state := e.Breaker.State.String()
	say(r, "the breaker is %s since %s: %s", "breaker", state, "since", e.Breaker.Since.UTC().Format(time.RFC3339), "why", e.Breaker.Reason)
	if e.Breaker.Reason == "" {
		say(r, "the breaker is %s", "breaker", state)
	}
	if r.GetReason() != "" {
		r.Figures["retry_after"] = figure(e.RetryAfter)
		r.Explanation += "; it may let calls pass in " + figure(e.RetryAfter)
	}
}

func explainRetries(r *capguardv1.Rule, f guard.Finding, e *guard.Explanation) {
	if !e.Short {
		say(r, "the limit held back no call within the last second, so retries pass like first attempts")
		return
	}
	say(r, "the back-end is short of capacity, so retries get at most %s %% of the first attempts: there were %s beside %s in the last ten "+
		"seconds, and one more is "+pick(f.Reason == guard.None, "let through", "refused"),
		"percent", strconv.FormatFloat(100*e.Settings.RetryRatio, 'f', -1, 64), "retries", strconv.Itoa(e.Retries),
		"first_attempts", strconv.Itoa(e.First))
}

func explainLimit(r *capguardv1.Rule, e *guard.Explanation) {
	if e.Stream {
		say(r, "%s of at most %s streams are open, and their messages take %s of the %s units of the limit that they may",
			"in_flight", strconv.Itoa(e.OpenStreams), "limit", strconv.Itoa(e.MaxStreams),
			"stream_work", strconv.Itoa(e.StreamWork), "stream_work_limit", strconv.Itoa(e.StreamWorkLimit))
		return
	}
	say(r, "%s calls are at the back-end, and the limit is %s: %s", "in_flight", strconv.Itoa(e.InFlight), "limit",
		strconv.Itoa(e.Status.Limit.Limit), "why", limitReason(e.Status.Limit))
}

func explainQueue(r *capguardv1.Rule, e *guard.Explanation) {
	say(r, "%s of at most %s calls wait, each for at most %s; of the last 64 admitted calls the least critical was %s",
		"queued", strconv.Itoa(e.Queued), "max_length", strconv.Itoa(e.Settings.Queue.MaxLength), "max_wait", e.Settings.Queue.MaxWait.String(),
		"threshold", e.Threshold.String())
}

// figure writes a time as refusals do.
func figure(d time.Duration) string {
	switch {
	case d < 0:
		return "never"
	case d < 10*time.Millisecond:
		return d.Round(time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// renderReach tells whether anybody is there to take a call.
func renderReach(es []*capguardv1.Endpoint) *capguardv1.Rule {
	ready, failed := 0, 0
	for _, e := range es {
		switch e.GetState() {
		case capguardv1.Endpoint_STATE_READY:
			ready++
		case capguardv1.Endpoint_STATE_FAILED:
			failed++
		}
	}
	r := &capguardv1.Rule{Kind: capguardv1.Rule_KIND_ENDPOINT, Verdict: capguardv1.Rule_VERDICT_PASS, Figures: map[string]string{}}
	if failed == len(es) {
		r.Verdict, r.Reason = capguardv1.Rule_VERDICT_REFUSE, grpcguard.ReasonName(guard.BackendUnreachable)
	}
	say(r, "%s of %s addresses are connected, %s can not be reached", "ready", strconv.Itoa(ready), "endpoints", strconv.Itoa(len(es)),
		"failed", strconv.Itoa(failed))
	return r
}

// renderRefusals returns the newest refusals on record that match f, newest first.
func renderRefusals(b *proxy.Backend, f guard.Filter, n int) []*capguardv1.Decision {
	var ds []*capguardv1.Decision
	for _, r := range b.Guard().Refusals(f, n) {
		ds = append(ds, renderDecision(b.Name(), r))
	}
	return ds
}

// renderDecision returns one refusal, with what its caller was told.
func renderDecision(backend string, r guard.Refusal) *capguardv1.Decision {
	told := rejection(r.Decision, r.Call, backend)
	d := &capguardv1.Decision{
		Time: renderTime(r.Time), Backend: backendPrefix + backend, Method: r.Call.Method, Feature: r.Call.Feature, Tenant: r.Call.Tenant,
		Criticality: r.Call.Criticality.String(), Attempt: int32(r.Call.Attempt), Rule: renderRule(r.Decision.Reason.Rule()),
		Reason: grpcguard.ReasonName(r.Decision.Reason), Observed: r.Observed(), Message: told.Message, Variables: told.Metadata,
		Limit: int32(r.Decision.Limit), InFlight: int64(r.Decision.InFlight), Queued: int64(r.Decision.Queued),
		Threshold: r.Decision.Threshold.String(), Breaker: renderBreakerState(r.Decision.Breaker), Wait: durationpb.New(r.Decision.Wait),
	}
	if told.RetryAfter >= 0 {
		d.RetryAfter = durationpb.New(told.RetryAfter)
	}
	if r.Call.Trace.ID != [16]byte{} {
		d.TraceId = fmt.Sprintf("%x", r.Call.Trace.ID)
	}
	return d
}

// rejection returns a refusal as its caller meets it.
func rejection(d guard.Decision, c guard.Call, backend string) grpcguard.Rejection {
	st, _ := grpcguard.Refusal(d, c, backend)
	told, _ := grpcguard.Recognize(st)
	return told
}
