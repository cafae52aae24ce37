package grpcguard

import (
	"strconv"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/internal/guard"
)

// Bounds of what a call may say of itself.
const (
	maxFeature  = 63  // bytes, as flag ids
	maxTenant   = 128 // bytes
	maxAttempts = 100 // more is told as so many
)

// Identify returns defaults overlaid with what md says of a call: its feature, criticality, tenant and attempt. It never fails: a text
// that is not well formed counts as absent, and the next place that may say the same is asked. Of several values of one key, and of
// several baggage members of one name, the first that is well formed counts.
//
// A feature is a flag id: 1 to 63 of a-z, 0-9, '-', '_' and '.', the first of them a letter or a digit. A tenant is 1 to 128 bytes of
// printable text. Attempts beyond 100 count as 100. What a call claims is believed: Said can bound it.
func Identify(md metadata.MD, defaults guard.Call) guard.Call {
	var s Said
	for _, name := range [...]string{FeatureKey, CriticalityKey, TenantKey, AttemptsKey, BaggageKey} {
		for _, value := range md[name] {
			s.Field(name, value)
		}
	}
	return s.Call(defaults, guard.CriticalPlus)
}

// IsFeature tells whether s can be the name of a feature: a flag id, as Identify describes it.
func IsFeature(s string) bool {
	if s == "" || len(s) > maxFeature || !isAlphanumeric(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// IsTenant tells whether s can be the name of a tenant, as Identify describes it.
func IsTenant(s string) bool {
	if s == "" || len(s) > maxTenant || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func isCriticality(s string) bool {
	_, ok := guard.ParseCriticality(s)
	return ok
}

// attempts returns the number of earlier attempts that a value tells.
func attempts(value string) int {
	if len(value) > 10 {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0
	}
	return min(max(n, 0), maxAttempts)
}
