package admin

import (
	"time"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/server/proxy"
)

func (s *guardService) renderAll() []*capguardv1.Backend {
	views := make([]*capguardv1.Backend, len(s.backends))
	for i, b := range s.backends {
		views[i] = s.render(b)
	}
	return views
}

// render returns the back-end as it is now.
func (s *guardService) render(b *proxy.Backend) *capguardv1.Backend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renderLocked(b)
}

func (s *guardService) renderLocked(b *proxy.Backend) *capguardv1.Backend {
	st := b.Guard().Status()
	v := &capguardv1.Backend{
		Name:          backendPrefix + b.Name(),
		Mode:          renderMode(st.Mode),
		Breaker:       renderBreaker(st.Breaker),
		Limit:         renderLimit(st),
		InFlight:      int64(st.InFlight),
		Queued:        int64(st.Queued),
		OpenStreams:   int64(st.OpenStreams),
		Rates:         renderRates(st.Recent, st.Span),
		Endpoints:     b.Endpoints(),
		Routes:        b.Routes(),
		DoubleReturns: int64(min(st.DoubleReturns, 1<<62)),
	}
	o := s.ownerLocked(b)
	v.Limit.Actor = o.actor
	v.Limit.Reason += o.words()
	return v
}

// ownerLocked returns who set the bounds in force; nobody is the configuration.
func (s *guardService) ownerLocked(b *proxy.Backend) owner {
	if o, ok := s.owners[b.Name()]; ok {
		if g := b.Guard().Settings(); o.limit == g.Limit && o.maxStreams == g.MaxStreams {
			return o
		}
	}
	return owner{}
}

func (s *guardService) owner(b *proxy.Backend) owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ownerLocked(b)
}

// ownLocked remembers who set bounds, if it was bounds that changed.
func (s *guardService) ownLocked(b *proxy.Backend, old, next guard.Settings, o owner) {
	if old.Limit == next.Limit && old.MaxStreams == next.MaxStreams {
		return
	}
	if s.owners == nil {
		s.owners = map[string]owner{}
	}
	o.limit, o.maxStreams = next.Limit, next.MaxStreams
	s.owners[b.Name()] = o
}

// preview returns v as it would be under g.
func preview(v *capguardv1.Backend, g guard.Settings) *capguardv1.Backend {
	v.Mode = renderMode(g.Mode)
	l := v.GetLimit()
	l.Min, l.Max, l.MaxStreams = int32(g.Limit.Min), int32(g.Limit.Max), int32(g.MaxStreams)
	l.Current = min(max(l.GetCurrent(), l.GetMin()), l.GetMax())
	return v
}

func renderMode(m guard.Mode) capguardv1.Mode {
	switch m {
	case guard.Observe:
		return capguardv1.Mode_MODE_OBSERVE
	case guard.Off:
		return capguardv1.Mode_MODE_OFF
	}
	return capguardv1.Mode_MODE_ENFORCE
}

func renderBreaker(s breaker.Status) *capguardv1.Breaker {
	return &capguardv1.Breaker{
		State:      renderBreakerState(s.State),
		Since:      renderTime(s.Since),
		Reason:     s.Reason,
		Actor:      s.Actor,
		ExpireTime: renderTime(s.Until),
		RetryTime:  renderTime(s.RetryAt),
	}
}

func renderBreakerState(s breaker.State) capguardv1.Breaker_State {
	switch s {
	case breaker.Open:
		return capguardv1.Breaker_STATE_OPEN
	case breaker.HalfOpen:
		return capguardv1.Breaker_STATE_HALF_OPEN
	case breaker.ForcedOpen:
		return capguardv1.Breaker_STATE_FORCED_OPEN
	case breaker.ForcedClosed:
		return capguardv1.Breaker_STATE_FORCED_CLOSED
	}
	return capguardv1.Breaker_STATE_CLOSED
}

func renderLimit(st guard.Status) *capguardv1.Limit {
	return &capguardv1.Limit{
		Current:    int32(st.Limit.Limit),
		Min:        int32(st.Limit.Min),
		Max:        int32(st.Limit.Max),
		MaxStreams: int32(st.MaxStreams),
		Law:        string(st.Limit.Law),
		Reason:     limitReason(st.Limit),
		ChangeTime: renderTime(st.Limit.Changed),
	}
}

// limitReason tells why the limit is what it is. A limit of 0 is nobody's finding.
func limitReason(s limit.Status) string {
	if s.Max == 0 {
		return "max is 0: no call may pass"
	}
	return s.Reason
}

// renderRates turns counts over a span into rates; over no time at all there are none.
func renderRates(t guard.Totals, span time.Duration) *capguardv1.Rates {
	per := func(n uint64) float64 {
		if span <= 0 {
			return 0
		}
		return legible(float64(n) / span.Seconds())
	}
	r := &capguardv1.Rates{
		Admitted:    per(t.Admitted),
		Succeeded:   per(t.Succeeded),
		Failed:      per(t.Overloaded + t.Failed),
		Refused:     map[string]float64{},
		WouldRefuse: map[string]float64{},
		WouldWait:   per(t.WouldWait),
	}
	for i := range t.Refused {
		name := grpcguard.ReasonName(guard.Reason(i))
		if t.Refused[i] > 0 {
			r.Refused[name] = per(t.Refused[i])
		}
		if t.WouldRefuse[i] > 0 {
			r.WouldRefuse[name] = per(t.WouldRefuse[i])
		}
	}
	return r
}

// checkReason bounds what an operator writes about a back-end, as the registry does for flags.
func checkReason(reason string) error {
	switch {
	case len(reason) > maxReason:
		return invalid("reason", "has %d bytes, at most %d are kept; shorten it", len(reason), maxReason)
	case !featureflags.OneLine(reason):
		return invalid("reason", "contains control characters; write it in one line")
	}
	return nil
}
