package guard_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// explain asks about a call of a method that was seen.
func (r rig) explain(c guard.Call) guard.Explanation {
	r.Helper()
	e, ok := r.Explain(c)
	if !ok {
		r.Fatalf("there is nothing to explain of %+v", c)
	}
	return e
}

func (r rig) finding(c guard.Call, rule guard.Rule) guard.Finding {
	r.Helper()
	for _, f := range r.explain(c).Findings {
		if f.Rule == rule {
			return f
		}
	}
	r.Fatalf("no finding of rule %d", rule)
	return guard.Finding{}
}

// What Explain says is what the next call meets: whatever the state, it is admitted, made to wait or refused as foretold, for that reason.
func TestExplainForetells(t *testing.T) {
	type state struct {
		settings guard.Settings
		make     func(r rig)
		verdict  guard.Verdict
		rule     guard.Rule
		reason   guard.Reason
	}
	observe, none, short := fixed(1), lined(1), lined(1)
	observe.Mode, none.Limit.Max, short.Queue.MaxLength = guard.Observe, 0, 1
	full := func(r rig) { r.pass(call) }
	for name, s := range map[string]state{
		"nothing is wrong":    {fixed(1), func(rig) {}, guard.Pass, guard.NoRule, guard.None},
		"shutting down":       {fixed(1), func(r rig) { r.Drain(r.Context()) }, guard.Refuse, guard.DrainRule, guard.Draining},
		"switched off":        {fixed(1), func(r rig) { r.set("report", 0) }, guard.Refuse, guard.FlagRule, guard.FeatureOff},
		"dimmed":              {fixed(1), func(r rig) { r.set("report", 50) }, guard.Depends, guard.FlagRule, guard.FeatureDimmed},
		"the breaker is open": {fixed(1), func(r rig) { r.holdOpen() }, guard.Refuse, guard.BreakerRule, guard.BreakerOpen},
		"full, and no line":   {fixed(1), full, guard.Refuse, guard.LimitRule, guard.LimitReached},
		"full, and a line":    {lined(1), full, guard.Waits, guard.LimitRule, guard.LimitReached},
		"full, and the line": {short, func(r rig) { r.pass(call); r.ask(r.Context(), call) }, guard.Depends, guard.QueueRule,
			guard.LimitReached},
		"the limit is zero": {none, func(rig) {}, guard.Refuse, guard.LimitRule, guard.LimitReached},
		"off, full and open": {fixed(1), func(r rig) { r.pass(call); r.holdOpen(); r.set("report", 0) }, guard.Refuse, guard.FlagRule,
			guard.FeatureOff},
		"full in mode observe":    {observe, full, guard.Pass, guard.NoRule, guard.None},
		"shutting down, observed": {observe, func(r rig) { r.Drain(r.Context()) }, guard.Refuse, guard.DrainRule, guard.Draining},
		"off in mode observe":     {observe, func(r rig) { r.set("report", 0) }, guard.Refuse, guard.FlagRule, guard.FeatureOff},
		"an operator held it, once": {fixed(1), func(r rig) { r.holdOpen(); r.ForceBreaker(breaker.Override{}) }, guard.Pass, guard.NoRule,
			guard.None},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, s.settings, func(r rig) {
				r.seen()
				s.make(r)
				e := r.explain(report)
				if got, want := e.Decisive, (guard.Finding{Rule: s.rule, Verdict: s.verdict, Reason: s.reason}); got != want {
					r.Fatalf("decisive is %+v, want %+v; all are %+v", got, want, e.Findings)
				}
				before := r.Status().Totals
				_, d, w := r.Ask(report, settler{came: make(chan answer, 1), begun: time.Now()})
				switch {
				case s.verdict == guard.Waits && w.Waiting(), s.verdict == guard.Pass && d.Admitted, s.verdict == guard.Depends:
				case s.verdict == guard.Refuse && d.Reason == s.reason && d.Reason.Rule() == s.rule:
				default:
					r.Errorf("the call meets %+v, waiting %v", d, w.Waiting())
				}
				if after := r.explain(report).Status.Totals; after.Admitted+1 < before.Admitted {
					r.Errorf("explaining counts: %+v, then %+v", before, after)
				}
				w.Cancel()
			})
		})
	}
}

// seen has the guard see a call of the method and the feature, and forget nothing of it.
func (r rig) seen() {
	p, _ := r.Admit(r.Context(), report)
	p.Done(guard.Success)
}

// holdOpen has an operator hold the breaker open.
func (r rig) holdOpen() { r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen}) }

func TestExplainChangesNothing(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.pass(report)
		r.ask(r.Context(), report)
		before, records := r.Status(), r.Records()
		for range 100 {
			r.explain(report)
		}
		after := r.Status()
		if before.Totals != after.Totals || before.Queued != after.Queued || before.InFlight != after.InFlight || records != r.Records() {
			r.Errorf("before\n%+v, after\n%+v", before, after)
		}
	})
}

func TestThereIsNothingToExplainOfAnUnknownMethod(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		if e, ok := r.Explain(guard.Call{Method: "/no/body"}); ok {
			r.Errorf("explained: %+v", e)
		}
		if n := len(r.Methods()); n != 0 {
			r.Errorf("asking made %d methods known", n)
		}
	})
}

// Who may fail for a reason of their own is told of it, while others pass.
func TestWhatDependsOnTheCall(t *testing.T) {
	s := lined(8)
	s.RetryRatio = 0
	inBubble(t, s, func(r rig) {
		r.run(1, report, 30*time.Millisecond, guard.Success)
		for _, rule := range []guard.Rule{guard.DeadlineRule, guard.RetryRule} {
			if f := r.finding(report, rule); f.Verdict != guard.Pass || f.Reason != guard.None {
				r.Errorf("in calm the finding is %+v", f)
			}
		}
		r.run(20, report, 30*time.Millisecond, guard.Success)
		for range 8 {
			r.pass(call)
		}
		r.ask(r.Context(), call)
		e := r.explain(report)
		if e.Need != 30*time.Millisecond || !e.Short || e.First != 29 || e.Retries != 0 {
			r.Errorf("need %v, short %v, %d first attempts, %d retries", e.Need, e.Short, e.First, e.Retries)
		}
		if f := r.finding(report, guard.DeadlineRule); f.Verdict != guard.Depends || f.Reason != guard.DeadlineUnreachable {
			r.Errorf("the finding on deadlines is %+v", f)
		}
		retry := guard.Call{Method: check, Attempt: 1}
		r.refuse(retry, guard.RetryBudgetExhausted) // of nobody's in particular, and the share is zero
		if f := r.finding(report, guard.RetryRule); f.Verdict != guard.Depends || f.Reason != guard.RetryBudgetExhausted {
			r.Errorf("the finding on retries is %+v", f)
		}
		if got := r.explain(report).Totals.Refused[guard.RetryBudgetExhausted]; got != 1 {
			r.Errorf("%d retries of the method were refused, want 1", got)
		}
	})
}

// Changes stay for whoever asks, though telemetry has taken them; a limit that moves all the time washes nothing else away.
func TestTheLastChangesStay(t *testing.T) {
	s := guard.Default()
	inBubble(t, s, func(r rig) {
		r.seen()
		s.Mode = guard.Observe
		r.Configure(s, "anna", "is it us?")
		for i := range 50 {
			sleep(time.Second)
			s.Limit.Min, s.Limit.Max = 10+i, 10+i
			r.Configure(s, "bert", "move "+strconv.Itoa(i))
			r.Events()
		}
		changes := r.explain(report).Changes
		kinds := map[guard.EventKind]int{}
		for i, c := range changes {
			kinds[c.Kind]++
			if i > 0 && c.Time.After(changes[i-1].Time) {
				r.Errorf("%v comes after %v", c.Time, changes[i-1].Time)
			}
			if c.Reason == "" {
				r.Errorf("no reason for %+v", c)
			}
		}
		if kinds[guard.LimitChanged] != 20 || kinds[guard.BoundsChanged] != 20 || kinds[guard.ModeChanged] != 1 || len(changes) != 41 {
			r.Errorf("the changes are %v", kinds)
		}
		if first := changes[0]; first.To != "59" || first.Actor != "bert" {
			r.Errorf("the newest is %+v", first)
		}
		if last := changes[40]; last.Kind != guard.ModeChanged || last.Reason != "is it us?" || last.Actor != "anna" {
			r.Errorf("the oldest is %+v", last)
		}
	})
}

// The threshold follows who gets through: a class that no call of the last 64 had is below it.
func TestThreshold(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		threshold := func() guard.Criticality { return r.explain(report).Threshold }
		admit := func(n int, c guard.Criticality) {
			for range n {
				r.pass(guard.Call{Method: check, Criticality: c}).Done(guard.Success)
			}
		}
		r.seen()
		if got := threshold(); got != guard.Sheddable {
			r.Errorf("at the start the threshold is %v", got)
		}
		admit(1, guard.Sheddable)
		admit(1, guard.SheddablePlus)
		admit(62, guard.CriticalPlus)
		if got := threshold(); got != guard.Sheddable {
			r.Errorf("after 63 others the threshold is %v", got)
		}
		admit(1, guard.CriticalPlus)
		if got := threshold(); got != guard.SheddablePlus {
			r.Errorf("after 64 others the threshold is %v", got)
		}
		admit(100, guard.CriticalPlus)
		if got := threshold(); got != guard.CriticalPlus {
			r.Errorf("when only the most critical pass the threshold is %v", got)
		}
		admit(1, 77) // a class that is none counts as the nearest
		if got := threshold(); got != guard.Sheddable {
			r.Errorf("the threshold is %v", got)
		}
	})
}

// Every reason has a rule, or else a refusal could not be explained.
func TestEveryReasonHasARule(t *testing.T) {
	for r := guard.FeatureOff; r <= guard.Canceled; r++ {
		if r.Rule() == guard.NoRule {
			t.Errorf("reason %d has no rule", r)
		}
	}
	if got := guard.None.Rule(); got != guard.NoRule {
		t.Errorf("no reason is of rule %d", got)
	}
}
