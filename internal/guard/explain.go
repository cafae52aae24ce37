package guard

import "time"

// Rule is one of the checks that a call goes through.
type Rule uint8

// The rules, in the order in which a call meets them.
const (
	NoRule Rule = iota
	DrainRule
	FlagRule
	DeadlineRule
	BreakerRule
	RetryRule
	LimitRule
	QueueRule
	EndpointRule // of the data path
)

// Rule returns the rule that refuses for a reason.
func (r Reason) Rule() Rule {
	switch r {
	case FeatureOff, FeatureDimmed:
		return FlagRule
	case DeadlineUnreachable:
		return DeadlineRule
	case BreakerOpen:
		return BreakerRule
	case RetryBudgetExhausted:
		return RetryRule
	case LimitReached:
		return LimitRule
	case QueueTimeout, Canceled:
		return QueueRule
	case BackendUnreachable:
		return EndpointRule
	case Draining:
		return DrainRule
	}
	return NoRule
}

// Verdict is what a rule does to calls.
type Verdict uint8

const (
	// Pass lets calls pass.
	Pass Verdict = iota
	// Depends refuses some: those beyond a percentage, with too little time left, or that are retries.
	Depends
	// Waits makes calls wait.
	Waits
	// Refuse refuses calls.
	Refuse
)

// Finding is what one rule does to the calls of a method now, whatever the mode makes of it.
type Finding struct {
	Rule    Rule
	Verdict Verdict
	Reason  Reason // of a refusal, also if only some are refused; None if nobody is
}

// Explanation is what happens to a call of a method at one moment, and why.
type Explanation struct {
	Status
	Settings Settings
	Findings []Finding // of all rules, in their order
	// Decisive is the finding that decides on a first attempt with time enough: the first that refuses, else that of a full line, a full
	// limit or a dimmed flag. It is zero when the call passes, be it by the mode.
	Decisive Finding

	Stream     bool          // the method streams: limit and in-flight are those of streams
	Feature    Feature       // the setting of the feature; zero without a flag
	Need       time.Duration // the median of the method's recent service times; 0 while unknown
	RetryAfter time.Duration // when an open breaker may let calls pass
	Short      bool          // the limit held calls back within the last second: the budget of retries is in force
	Retries    int           // admitted over the last ten seconds, those in line included
	First      int           // first attempts admitted over the last ten seconds
	Threshold  Criticality
	Totals     Totals  // of the method, since the start; those of the guard are in Status
	Changes    []Event // the last ones, newest first
}

// Explain tells what would happen to c now, and why; it decides and counts nothing. ok is false if no call of c.Method was seen lately.
func (g *Guard) Explain(c Call) (e Explanation, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.clock()
	m := g.methods.byName[c.Method]
	if m == nil {
		return e, false
	}
	a := ask{at: at, now: g.now(at), method: m, stream: c.Stream || m.streams, attempt: c.Attempt, cost: c.Cost}
	a.feature = g.features.byName[c.Feature]
	e = Explanation{
		Status: g.statusLocked(at), Settings: g.settings, Stream: a.stream, Need: a.need(), Short: g.shortLocked(at),
		Threshold: g.classes.threshold(), Totals: *m.totals, Changes: g.events.past.newest(),
	}
	if a.feature != nil && a.feature.flagged {
		e.Feature = a.feature.setting
	}
	e.First, e.Retries = g.attemptsLocked(at)
	e.Findings = g.findLocked(&c, &a, &e)
	e.Decisive = e.decisive()
	return e, true
}

// findLocked asks every rule, without taking anything.
func (g *Guard) findLocked(c *Call, a *ask, e *Explanation) []Finding {
	ready, after := g.readyLocked(a.now)
	e.RetryAfter = after
	full := !g.roomLocked(a)
	return []Finding{
		refuseIf(g.drained != nil, DrainRule, Draining),
		a.flagFinding(),
		dependsIf(e.Need > 0, DeadlineRule, DeadlineUnreachable),
		refuseIf(!ready, BreakerRule, BreakerOpen),
		dependsIf(!g.spareLocked(c.Tenant, a.at), RetryRule, RetryBudgetExhausted),
		g.limitFinding(a, full),
		g.queueFinding(a, full),
	}
}

func refuseIf(holds bool, r Rule, why Reason) Finding {
	if holds {
		return Finding{Rule: r, Verdict: Refuse, Reason: why}
	}
	return Finding{Rule: r}
}

func dependsIf(holds bool, r Rule, why Reason) Finding {
	if holds {
		return Finding{Rule: r, Verdict: Depends, Reason: why}
	}
	return Finding{Rule: r}
}

// flagFinding tells what the switch of the feature does, without throwing the dice.
func (a *ask) flagFinding() Finding {
	switch {
	case a.feature == nil || a.feature.pass == fully:
		return Finding{Rule: FlagRule}
	case a.feature.pass == 0:
		return Finding{Rule: FlagRule, Verdict: Refuse, Reason: FeatureOff}
	}
	return Finding{Rule: FlagRule, Verdict: Depends, Reason: FeatureDimmed}
}

// limitFinding tells what becomes of calls at a full limit: those that may wait do.
func (g *Guard) limitFinding(a *ask, full bool) Finding {
	if full && g.queuesLocked(a) {
		return Finding{Rule: LimitRule, Verdict: Waits, Reason: LimitReached}
	}
	return refuseIf(full, LimitRule, LimitReached)
}

// roomLocked tells whether a call would find room. Those in line go first; where nobody can be reached no room is needed.
func (g *Guard) roomLocked(a *ask) bool {
	switch {
	case a.stream:
		return g.openings.Len() == 0 && g.roomForStreamLocked(a.at)
	case g.line.Len() > 0:
		return false
	}
	return len(g.pool) == 0 ||
		!g.fullLocked(a.units()) && g.pickLocked(journey{at: a.at, now: a.now, units: a.units(), heavy: g.heavyLocked(a.method), roomy: true}) != nil
}

// queuesLocked tells whether a call that finds no room may wait.
func (g *Guard) queuesLocked(a *ask) bool {
	return (!a.stream || g.countsLocked()) && g.settings.Limit.Max > 0 && g.settings.Queue.MaxWait > 0
}

// queueFinding tells what becomes of calls that have to wait: in a full line the last leaves, which may be another.
func (g *Guard) queueFinding(a *ask, full bool) Finding {
	line := g.line
	if a.stream {
		line = g.openings
	}
	switch {
	case !full || !g.queuesLocked(a):
		return Finding{Rule: QueueRule}
	case line.Len() >= g.settings.Queue.MaxLength:
		return Finding{Rule: QueueRule, Verdict: Depends, Reason: LimitReached}
	}
	return Finding{Rule: QueueRule, Verdict: Waits, Reason: QueueTimeout}
}

// decisive returns the finding that decides.
func (e *Explanation) decisive() Finding {
	var d Finding
	for _, f := range e.Findings {
		byMode := e.Mode == Enforce || f.Rule == FlagRule || f.Rule == DrainRule
		switch {
		case !byMode:
		case f.Verdict == Refuse:
			return f
		case f.Verdict == Waits && f.Rule == LimitRule, f.Verdict == Depends && (f.Rule == FlagRule || f.Rule == QueueRule):
			d = f
		}
	}
	return d
}
