package breaker_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*breaker.Settings)
		fault  string // "" for none
	}{
		{"default", func(*breaker.Settings) {}, ""},
		{"ratio 1", func(s *breaker.Settings) { s.FailureRatio, s.SlowRatio = 1, 1 }, ""},
		{"ratio 0", func(s *breaker.Settings) { s.FailureRatio = 0 }, "failure_ratio is 0: set it to more than 0 and at most 1"},
		{"ratio above 1", func(s *breaker.Settings) { s.FailureRatio = 1.01 }, "failure_ratio is 1.01"},
		{"ratio in percent", func(s *breaker.Settings) { s.SlowRatio = 90 }, "slow_ratio is 90"},
		{"negative ratio", func(s *breaker.Settings) { s.SlowRatio = -0.5 }, "slow_ratio is -0.5"},
		{"no number", func(s *breaker.Settings) { s.FailureRatio = math.NaN() }, "failure_ratio is NaN"},
		{"slow off", func(s *breaker.Settings) { s.SlowAfter = 0 }, ""},
		{"negative slow", func(s *breaker.Settings) { s.SlowAfter = -1 }, "slow_after is -1ns"},
		{"ten calls", func(s *breaker.Settings) { s.MinCalls = 10 }, ""},
		{"nine calls", func(s *breaker.Settings) { s.MinCalls = 9 }, "min_calls is 9: set it to at least 10"},
		{"short window", func(s *breaker.Settings) { s.Window = 99 * time.Millisecond }, "window is 99ms: set it to at least 100ms"},
		{"no open time", func(s *breaker.Settings) { s.OpenFor = 0 }, "open_for is 0s: set it to at least 1ms"},
		{"open for a nanosecond", func(s *breaker.Settings) { s.OpenFor = 1 }, "open_for is 1ns"},
		{"no probes", func(s *breaker.Settings) { s.Probes = 0 }, "probes is 0: set it to at least 1"},
		{"many probes", func(s *breaker.Settings) { s.Probes = 1001 }, "probes is 1001: set it to at most 1000"},
		{"no probe time", func(s *breaker.Settings) { s.ProbeTimeout = 0 }, "probe_timeout is 0s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := breaker.Default()
			test.change(&s)
			err := s.Validate()
			if test.fault == "" && err != nil || test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
				t.Errorf("Validate() = %v, want %q", err, test.fault)
			}
		})
	}
}

// All faults are told at once, one a line, in the order of the fields.
func TestValidateTellsAll(t *testing.T) {
	err := breaker.Settings{SlowAfter: -1}.Validate()
	var got []string
	for line := range strings.Lines(err.Error()) {
		field, _, _ := strings.Cut(line, " ")
		got = append(got, field)
	}
	want := "failure_ratio slow_after slow_ratio min_calls window open_for probes probe_timeout"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("faults of %q, want %q", s, want)
	}
}
