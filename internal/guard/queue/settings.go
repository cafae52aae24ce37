package queue

import (
	"errors"
	"fmt"
	"time"
)

// Settings of a queue.
type Settings struct {
	// MaxWait is the longest wait of a call that names no patience of its own: 0 to a minute; default 100ms; 0 is no line at all.
	MaxWait time.Duration
	// StandingWait is the longest wait of a call that comes while the line of its tenant stands: 0 to a minute; default 50ms; 0, or more than
	// MaxWait, is MaxWait. A few slots should become free in it: a slot that becomes free while nobody waits stays empty.
	StandingWait time.Duration
	MaxLength    int // most in line, 0 to 1,000,000; default 1,000; 0 is no line
}

// The bounds of the settings. A minute is far beyond any use: a line is for bursts, and who waits longer is better told so at once.
const (
	mostWait   = time.Minute
	mostLength = 1_000_000
)

// Default returns the settings that fit any back-end: a wait that people hardly notice, half of it while the line stands, and as many as a
// busy guard sees in it.
func Default() Settings {
	return Settings{MaxWait: 100 * time.Millisecond, StandingWait: 50 * time.Millisecond, MaxLength: 1_000}
}

// Validate returns every fault of s, joined; each names its field as the configuration does (max_wait, standing_wait, max_length).
func (s Settings) Validate() error {
	var errs []error
	if s.MaxWait < 0 || s.MaxWait > mostWait {
		errs = append(errs, fmt.Errorf("max_wait is %v: set it from 0s (no line) to %v", s.MaxWait, mostWait))
	}
	if s.StandingWait < 0 || s.StandingWait > mostWait {
		errs = append(errs, fmt.Errorf("standing_wait is %v: set it from 0s (as max_wait) to %v", s.StandingWait, mostWait))
	}
	if s.MaxLength < 0 || s.MaxLength > mostLength {
		errs = append(errs, fmt.Errorf("max_length is %d: set it from 0 (no line) to %d", s.MaxLength, mostLength))
	}
	return errors.Join(errs...)
}

// wait is how long a call with so much patience, 0 for that of the settings, waits at most.
func (s Settings) wait(patience time.Duration, stands bool) time.Duration {
	if s.MaxWait == 0 || patience < 0 {
		return 0
	}
	if patience == 0 {
		patience = s.MaxWait
	}
	if stands && s.StandingWait > 0 && s.StandingWait < s.MaxWait {
		return time.Duration(float64(patience) * float64(s.StandingWait) / float64(s.MaxWait))
	}
	return patience
}
