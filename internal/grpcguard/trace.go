package grpcguard

import (
	"encoding/hex"
	"strings"

	"github.com/capguard/capguard/internal/guard"
)

// TraceparentKey is the header of W3C Trace Context that names a call's trace.
const TraceparentKey = "traceparent"

// The first version of a traceparent: version, trace, span and flags, joined by '-'.
const (
	traceAt, spanAt, flagsAt = len("00-"), len("00-") + 32 + 1, len("00-") + 32 + 1 + 16 + 1
	traceparentSize          = flagsAt + 2
)

// ParseTrace reads a traceparent header. Of later versions it reads what they have in common with the first. What is malformed is no
// trace.
func ParseTrace(s string) (t guard.Trace) {
	if len(s) < traceparentSize || s[:2] == "ff" || len(s) > traceparentSize && (s[:2] == "00" || s[traceparentSize] != '-') {
		return t
	}
	for i := range traceparentSize {
		joint := i == traceAt-1 || i == spanAt-1 || i == flagsAt-1
		if c := s[i]; joint != (c == '-') || !joint && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return t
		}
	}
	id := s[traceAt : spanAt-1]
	if strings.Trim(id, "0") == "" || strings.Trim(s[spanAt:flagsAt-1], "0") == "" {
		return t
	}
	_, _ = hex.Decode(t.ID[:], []byte(id)) // They are digits.
	low, _ := hexDigit(s[flagsAt+1])
	t.Sampled = low&1 != 0
	return t
}
