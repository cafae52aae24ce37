package fragile_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/loadtest/fragile"
)

func TestPresets(t *testing.T) {
	for name, s := range map[string]fragile.Settings{
		"default": fragile.Default(), "narrow": fragile.Narrow(), "wide": fragile.Wide(), "steady": fragile.Steady(), "brittle": fragile.Brittle(),
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c := s.Capacity(); c != 400 {
			t.Errorf("%s has the capacity %v, want 400", name, c)
		}
	}
}

func TestValidateNamesEachFault(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*fragile.Settings)
		want string
	}{
		{"no workers", func(s *fragile.Settings) { s.Workers = 0 }, "workers"},
		{"negative queue", func(s *fragile.Settings) { s.MaxQueue = -1 }, "max queue"},
		{"no service time", func(s *fragile.Settings) { s.ServiceTime = 0 }, "service time"},
		{"negative CV", func(s *fragile.Settings) { s.CV = -1 }, "CV"},
		{"CV not a number", func(s *fragile.Settings) { s.CV = math.NaN() }, "CV"},
		{"no knee", func(s *fragile.Settings) { s.Knee = 0 }, "knee"},
		{"infinite collapse", func(s *fragile.Settings) { s.Collapse = math.Inf(1) }, "collapse"},
		{"speed-up", func(s *fragile.Settings) { s.MaxSlowdown = 0.5 }, "max slowdown"},
		{"cold for ever", func(s *fragile.Settings) { s.Cold.Extra = 1 }, "cold calls"},
		{"negative crash", func(s *fragile.Settings) { s.Crash.Above = -1 }, "crash above"},
		{"crash in the past", func(s *fragile.Settings) { s.Crash.After = -1 }, "crash times"},
		{"phase backwards", func(s *fragile.Settings) { s.Slow = []fragile.Phase{{From: 2, To: 1, Factor: 1}} }, "slow phase 0"},
		{"phase without time", func(s *fragile.Settings) { s.Slow = []fragile.Phase{{To: 1}} }, "factor"},
		{"pauses without work between", func(s *fragile.Settings) { s.Pause = fragile.Pause{Every: 1, Length: time.Second} }, "pauses"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := fragile.Default()
			tc.edit(&s)
			if err := s.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the fault is told as %v", err)
			}
			if _, err := fragile.NewModel(s); err == nil {
				t.Error("a model was made of it")
			}
		})
	}
}

func TestValidateJoinsFaults(t *testing.T) {
	err := fragile.Settings{}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") < 3 {
		t.Errorf("the faults of the zero value: %v", err)
	}
}
