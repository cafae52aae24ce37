package grpcguard

import "strings"

// Bounds of the baggage that is read; what is beyond them is not. They are above what W3C baggage asks every platform to carry.
const (
	maxBaggageBytes   = 16 << 10
	maxBaggageMembers = 180
)

// identity is what baggage says of a call: well-formed values or "".
type identity struct{ feature, criticality, tenant string }

// parseBaggage reads the members that concern the guard out of baggage headers: comma-separated members, each a name, '=', a
// percent-encoded value, and perhaps properties after ';', which nobody here needs. A member that is broken does not spoil the others.
func parseBaggage(headers []string) (id identity) {
	bytes, members := maxBaggageBytes, maxBaggageMembers
	for _, h := range headers {
		if bytes -= len(h); bytes < 0 {
			return id
		}
		for member := range strings.SplitSeq(h, ",") {
			if members--; members < 0 {
				return id
			}
			id.read(member)
		}
	}
	return id
}

// read takes over one member if it is ours, well formed, and the first of its name.
func (id *identity) read(member string) {
	pair, _, _ := strings.Cut(member, ";")
	name, raw, ok := strings.Cut(pair, "=")
	if name = strings.Trim(name, " \t"); !ok || !strings.HasPrefix(name, "capguard-") {
		return
	}
	value, ok := percentDecoded(strings.Trim(raw, " \t"))
	if !ok {
		return
	}
	switch {
	case name == FeatureKey && id.feature == "" && IsFeature(value):
		id.feature = value
	case name == CriticalityKey && id.criticality == "" && isCriticality(value):
		id.criticality = value
	case name == TenantKey && id.tenant == "" && isTenant(value):
		id.tenant = value
	}
}

// percentDecoded undoes percent-encoding. Unlike that of forms, '+' is a plus. A '%' without two hexadecimal digits is broken.
func percentDecoded(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, ok1 := hexDigit(s[i+1])
		lo, ok2 := hexDigit(s[i+2])
		if !ok1 || !ok2 {
			return "", false
		}
		b = append(b, hi<<4|lo)
		i += 2
	}
	return string(b), true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
