package grpcguard

import (
	"cmp"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/capguard/capguard/internal/guard"
)

// Bounds of the texts in a refusal, in characters.
const (
	maxText = 256 // why, method
	maxName = 128 // names of people, features, back-ends
)

// variable is one of what a refusal tells beside its reason.
type variable uint8

const (
	backend variable = iota
	method
	feature
	flag
	why
	who
	until
	percent
	revision
	limit
	inFlight
	queued
	threshold
	wait
	attempt
	breaker
	retryAfter
)

// names is the one place where the variables have the names under which callers find them. It is never written to.
var names = [...]string{
	backend: "backend", method: "method", feature: "feature", flag: "flag", why: "why", who: "who", until: "until", percent: "percent",
	revision: "revision", limit: "limit", inFlight: "in_flight", queued: "queued", threshold: "threshold", wait: "wait", attempt: "attempt", breaker: "breaker", retryAfter: "retry_after",
}

// variables are what a refusal tells; "" is not told.
type variables [len(names)]string

// fill sets what the message of a refusal mentions, and what every refusal tells.
func (v *variables) fill(d *guard.Decision, c *guard.Call, name string, after time.Duration) {
	v[backend], v[method], v[feature] = printable(name, maxName), printable(c.Method, maxText), printable(c.Feature, maxName)
	if after >= 0 {
		v[retryAfter] = after.Round(time.Millisecond).String()
	}
	switch d.Reason {
	case guard.FeatureOff, guard.FeatureDimmed:
		v.fillFlag(&d.Feature, c)
	case guard.LimitReached, guard.QueueTimeout, guard.RetryBudgetExhausted, guard.DeadlineUnreachable:
		v[limit], v[inFlight], v[queued] = strconv.Itoa(d.Limit), strconv.Itoa(d.InFlight), strconv.Itoa(d.Queued)
		v[threshold] = d.Threshold.String()
		v[wait] = d.Wait.Round(time.Microsecond).String()
		v[attempt] = strconv.Itoa(c.Attempt)
	case guard.BreakerOpen:
		v[breaker] = d.Breaker.String()
	}
}

// fillFlag adds what the flag says.
func (v *variables) fillFlag(f *guard.Feature, c *guard.Call) {
	v[flag] = printable(cmp.Or(f.Name, c.Feature), maxName)
	v[percent] = strconv.FormatFloat(f.Percent, 'f', -1, 64)
	v[revision] = strconv.FormatInt(f.Revision, 10)
	v[why], v[who] = printable(f.Why, maxText), printable(f.Who, maxName)
	if !f.Until.IsZero() {
		v[until] = f.Until.UTC().Format(time.RFC3339)
	}
}

// metadata is the same as the metadata of an ErrorInfo.
func (v *variables) metadata() map[string]string {
	m := make(map[string]string, len(v))
	for i, value := range v {
		if value != "" {
			m[names[i]] = value
		}
	}
	return m
}

// printable returns s without anything that a terminal or a log would stumble over, cut to n characters.
func printable(s string, n int) string {
	if len(s) <= n && isPlain(s) {
		return s
	}
	b := make([]byte, 0, min(len(s), utf8.UTFMax*n))
	for _, r := range s {
		if n--; n < 0 {
			break
		}
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

// isPlain tells whether s is printable ASCII.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
