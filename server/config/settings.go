package config

import (
	"cmp"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/internal/guard/queue"
)

// ParseMode returns the mode of a word: enforce, observe or off.
func ParseMode(s string) (m guard.Mode, ok bool) {
	switch s {
	case "enforce":
		return guard.Enforce, true
	case "observe":
		return guard.Observe, true
	case "off":
		return guard.Off, true
	}
	return guard.Enforce, false
}

// Settings returns the guard's settings for a back-end of a complete configuration; what it leaves out has the guard's defaults.
func Settings(b *capguardv1.BackendConfig) guard.Settings {
	s := guard.Default()
	s.Mode, _ = ParseMode(b.GetMode())
	s.Limit = limitSettings(b.GetLimit())
	if l := b.GetLimit(); l != nil && l.MaxStreams != nil {
		s.MaxStreams = int(l.GetMaxStreams())
	}
	s.Queue = queueSettings(b.GetQueue())
	s.Breaker = breakerSettings(b.GetBreaker())
	if b.RetryRatio != nil {
		s.RetryRatio = b.GetRetryRatio()
	}
	s.Tenants = weights(b.GetTenants())
	return s
}

func limitSettings(c *capguardv1.LimitConfig) limit.Settings {
	s := limit.Default()
	s.Law = cmp.Or(limit.Law(c.GetLaw()), s.Law)
	s.Min = cmp.Or(int(c.GetMin()), s.Min)
	s.Max = cmp.Or(int(c.GetMax()), max(s.Max, s.Min))
	s.Initial = cmp.Or(int(c.GetInitial()), min(max(s.Initial, s.Min), s.Max))
	return s
}

func queueSettings(c *capguardv1.QueueConfig) queue.Settings {
	s := queue.Default()
	s.MaxWait = duration(c.GetMaxWait(), s.MaxWait)
	s.StandingWait = duration(c.GetStandingWait(), s.StandingWait)
	if c != nil && c.MaxLength != nil {
		s.MaxLength = int(c.GetMaxLength())
	}
	return s
}

// weights returns the weights of tenants by name; nil if there are none.
func weights(tenants []*capguardv1.TenantConfig) map[string]float64 {
	if len(tenants) == 0 {
		return nil
	}
	weights := make(map[string]float64, len(tenants))
	for _, t := range tenants {
		weights[t.GetName()] = cmp.Or(t.GetWeight(), 1)
	}
	return weights
}

func breakerSettings(c *capguardv1.BreakerConfig) breaker.Settings {
	s := breaker.Default()
	s.FailureRatio = cmp.Or(c.GetFailureRatio(), s.FailureRatio)
	s.SlowRatio = cmp.Or(c.GetSlowRatio(), s.SlowRatio)
	s.SlowAfter = duration(c.GetSlowAfter(), s.SlowAfter)
	s.MinCalls = cmp.Or(int(c.GetMinCalls()), s.MinCalls)
	s.Window = duration(c.GetWindow(), s.Window)
	s.OpenFor = duration(c.GetOpenFor(), s.OpenFor)
	s.Probes = cmp.Or(int(c.GetProbes()), s.Probes)
	s.ProbeTimeout = duration(c.GetProbeTimeout(), s.ProbeTimeout)
	return s
}

// duration returns d, or what is given if d is left out; zero is a value.
func duration(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.AsDuration()
}
