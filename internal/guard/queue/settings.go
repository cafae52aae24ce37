package queue

import (
	"errors"
	"fmt"
	"time"
)

// Settings of a queue.
type Settings struct {
	MaxWait   time.Duration // longest wait, 0 to a minute; default 100ms; 0 is no line
	MaxLength int           // most in line, 0 to 1,000,000; default 1,000; 0 is no line
}

// The bounds of the settings. A minute is far beyond any use: a line is for bursts, and who waits longer is better told so at once.
const (
	mostWait   = time.Minute
	mostLength = 1_000_000
)

// Default returns the settings that fit any back-end: a wait that people hardly notice, and as many as a busy guard sees in it.
func Default() Settings { return Settings{MaxWait: 100 * time.Millisecond, MaxLength: 1_000} }

// Validate returns every fault of s, joined; each names its field as the configuration does (max_wait, max_length).
func (s Settings) Validate() error {
	var errs []error
	if s.MaxWait < 0 || s.MaxWait > mostWait {
		errs = append(errs, fmt.Errorf("max_wait is %v: set it from 0s (no line) to %v", s.MaxWait, mostWait))
	}
	if s.MaxLength < 0 || s.MaxLength > mostLength {
		errs = append(errs, fmt.Errorf("max_length is %d: set it from 0 (no line) to %d", s.MaxLength, mostLength))
	}
	return errors.Join(errs...)
}
