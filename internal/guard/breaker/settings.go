package breaker

import (
	"errors"
	"fmt"
	"time"
)

// Bounds of settings.
const (
	leastCalls  = 10
	leastWindow = 100 * time.Millisecond
	leastTime   = time.Millisecond
	mostProbes  = 1000
)

// Settings of a breaker.
type Settings struct {
	FailureRatio float64       // opens at this share of failures in Window, (0,1]; default 0.5
	SlowAfter    time.Duration // a success or failure that took at least this is slow; default 0: none is
	SlowRatio    float64       // opens at this share of slow calls, (0,1]; default 0.9; the same share of slow probes opens again
	MinCalls     int           // never opens on fewer calls in Window; >= 10, default 20
	Window       time.Duration // what is remembered, to a tenth; >= 100ms, default 10s
	OpenFor      time.Duration // from open to half-open; >= 1ms, default 500ms
	Probes       int           // successes in half-open that close it, and the most probes at once; 1 to 1000, default 3
	ProbeTimeout time.Duration // a probe without a result for so long has failed; >= 1ms, default 2s
}

// Default returns the settings that fit any back-end.
func Default() Settings {
	return Settings{
		FailureRatio: 0.5,
		SlowRatio:    0.9,
		MinCalls:     20,
		Window:       10 * time.Second,
		OpenFor:      500 * time.Millisecond,
		Probes:       3,
		ProbeTimeout: 2 * time.Second,
	}
}

// Validate returns every fault of s, joined; each names its field as the configuration does (failure_ratio, ...).
func (s Settings) Validate() error {
	return errors.Join(
		checkRatio("failure_ratio", s.FailureRatio),
		checkLeast("slow_after", s.SlowAfter, 0),
		checkRatio("slow_ratio", s.SlowRatio),
		checkCount("min_calls", s.MinCalls, leastCalls, 0),
		checkLeast("window", s.Window, leastWindow),
		checkLeast("open_for", s.OpenFor, leastTime),
		checkCount("probes", s.Probes, 1, mostProbes),
		checkLeast("probe_timeout", s.ProbeTimeout, leastTime),
	)
}

// slow tells whether a call that took so long is slow.
func (s Settings) slow(took time.Duration) bool { return s.SlowAfter > 0 && took >= s.SlowAfter }

// checkRatio is written so that NaN is refused.
func checkRatio(field string, v float64) error {
	if v > 0 && v <= 1 {
		return nil
	}
	return fmt.Errorf("%s is %v: set it to more than 0 and at most 1", field, v)
}

func checkLeast(field string, v, least time.Duration) error {
	if v >= least {
		return nil
	}
	return fmt.Errorf("%s is %v: set it to at least %v", field, v, least)
}

// checkCount takes a most of 0 for none.
func checkCount(field string, v, least, most int) error {
	switch {
	case v < least:
		return fmt.Errorf("%s is %d: set it to at least %d", field, v, least)
	case most > 0 && v > most:
		return fmt.Errorf("%s is %d: set it to at most %d", field, v, most)
	}
	return nil
}
