package grpcguard

import (
	"strings"

	"github.com/capguard/capguard/internal/guard"
)

// Bounds of the baggage that is read; what is beyond them is not. They are above what W3C baggage asks every platform to carry.
const (
	maxBaggageBytes   = 16 << 10
	maxBaggageMembers = 180
)

// Said collects what a call says of itself, field by field in the order of their arrival, as Identify describes it. The zero Said has
// heard nothing. Fields that do not concern the guard cost next to nothing, and none allocates unless baggage is percent-encoded.
type Said struct {
	metadata, baggage identity
	attempts          int
	attempted         bool
	bytes, members    int // of baggage, so far
}

// identity is what one place says of a call: well-formed values or "".
type identity struct{ feature, criticality, tenant string }

// Field hears one field of the call's headers.
func (s *Said) Field(name, value string) {
	switch name {
	case FeatureKey, CriticalityKey, TenantKey:
		s.metadata.hear(name, value)
	case AttemptsKey:
		if !s.attempted {
			s.attempts, s.attempted = attempts(value), true
		}
	case BaggageKey:
		s.hearBaggage(value)
	}
}

// Call returns defaults overlaid with what was said; metadata beats baggage. Whoever claims to be more critical than most counts as most.
func (s *Said) Call(defaults guard.Call, most guard.Criticality) guard.Call {
	c := defaults
	c.Attempt = s.attempts
	s.baggage.overlay(&c, most)
	s.metadata.overlay(&c, most)
	return c
}

func (id *identity) overlay(c *guard.Call, most guard.Criticality) {
	if id.feature != "" {
		c.Feature = id.feature
	}
	if id.tenant != "" {
		c.Tenant = id.tenant
	}
	if id.criticality != "" {
		claim, _ := guard.ParseCriticality(id.criticality)
		c.Criticality = max(claim, most) // the higher number is the less critical
	}
}

// hear takes over a value if it is well formed and the first such of its name.
func (id *identity) hear(name, value string) {
	switch {
	case name == FeatureKey && id.feature == "" && IsFeature(value):
		id.feature = value
	case name == CriticalityKey && id.criticality == "" && isCriticality(value):
		id.criticality = value
	case name == TenantKey && id.tenant == "" && IsTenant(value):
		id.tenant = value
	}
}

// hearBaggage reads the members that concern the guard: a header is comma-separated members, each a name, '=', a percent-encoded value,
// and perhaps properties after ';', which nobody here needs. A member that is broken does not spoil the others.
func (s *Said) hearBaggage(header string) {
	if s.bytes += len(header); s.bytes > maxBaggageBytes || s.members >= maxBaggageMembers {
		return
	}
	if !strings.Contains(header, prefix) {
		s.members += strings.Count(header, ",") + 1
		return
	}
	for member := range strings.SplitSeq(header, ",") {
		if s.members++; s.members > maxBaggageMembers {
			return
		}
		s.baggage.hearMember(member)
	}
}

// prefix begins the names of all members that concern the guard.
const prefix = "capguard-"

func (id *identity) hearMember(member string) {
	pair, _, _ := strings.Cut(member, ";")
	name, raw, ok := strings.Cut(pair, "=")
	if name = strings.Trim(name, " \t"); !ok || !strings.HasPrefix(name, prefix) {
		return
	}
	if value, ok := percentDecoded(strings.Trim(raw, " \t")); ok {
		id.hear(name, value)
	}
}
