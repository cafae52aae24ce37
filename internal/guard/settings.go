package guard

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/internal/guard/queue"
)

// Mode tells what decisions do.
type Mode uint8

const (
	// Enforce refuses what should be refused.
	Enforce Mode = iota
	// Observe makes and counts every decision but refuses only what a flag switched off or dimmed, which is an operator's will.
	Observe
	// Off makes no decision but those of the flags.
	Off
)

// String returns enforce, observe or off; "" for a value that is none of them.
func (m Mode) String() string {
	switch m {
	case Enforce:
		return "enforce"
	case Observe:
		return "observe"
	case Off:
		return "off"
	}
	return ""
}

// Settings tune one guard. They are swapped whole by Configure; statistics, permits and features stay.
type Settings struct {
	Mode       Mode
	Limit      limit.Settings
	MaxStreams int // most open streams; 0 lets none be opened; default 1,000
	Queue      queue.Settings
	Breaker    breaker.Settings
	// RetryRatio bounds the retries that are let through while the limit binds, as a share of the first attempts that were admitted, of
	// all and of each tenant: 0 (none) to 1, default 0.1.
	RetryRatio float64
	// Tenants have shares of their own in the line, while calls wait: weights from 0.01 to 100, by name, of at most 1,000. All others
	// have 1 each, and 10 at most together. It is not changed any more.
	Tenants map[string]float64
}

// The bounds of Settings.Tenants. Ten thousand to one is beyond what is still fair to anybody.
const (
	LeastWeight = 0.01
	MostWeight  = 100
	MostTenants = 1000
)

// Default returns the settings that fit any back-end.
func Default() Settings {
	return Settings{
		Limit:      limit.Default(),
		MaxStreams: 1000,
		Queue:      queue.Default(),
		Breaker:    breaker.Default(),
		RetryRatio: 0.1,
	}
}

// Bounds returns those of the limit and of open streams, in words.
func (s Settings) Bounds() string {
	return fmt.Sprintf("min %d, max %d, max_streams %d", s.Limit.Min, s.Limit.Max, s.MaxStreams)
}

// Validate returns every fault of s, joined; each names its field as the configuration does (max_streams, limit.min, ...).
func (s Settings) Validate() error {
	var faults []error
	if s.Mode.String() == "" {
		faults = append(faults, fmt.Errorf("mode: %d is none of enforce, observe, off", s.Mode))
	}
	if s.MaxStreams < 0 {
		faults = append(faults, fmt.Errorf("max_streams: %d is negative; use 0 to let no stream be opened", s.MaxStreams))
	}
	if !(s.RetryRatio >= 0 && s.RetryRatio <= 1) { // so that not-a-number is a fault, too
		faults = append(faults, fmt.Errorf("retry_ratio: %v is not between 0 and 1", s.RetryRatio))
	}
	if len(s.Tenants) > MostTenants {
		faults = append(faults, fmt.Errorf("tenants: %d are more than %d", len(s.Tenants), MostTenants))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Tenants)) {
		if w := s.Tenants[name]; !(w >= LeastWeight && w <= MostWeight) {
			faults = append(faults, fmt.Errorf("tenants: weight %v of %q is not between %v and %v", w, name, LeastWeight, MostWeight))
		}
	}
	return errors.Join(append(faults,
		within("limit", s.Limit.Validate()),
		within("queue", s.Queue.Validate()),
		within("breaker", s.Breaker.Validate()))...)
}

// within names the part of the settings that err is about.
func within(part string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", part, err)
}

// Feature is the position of one feature's switch, as the flags have it at the moment.
type Feature struct {
	Name     string
	Percent  float64   // share of calls that pass, 0 (off) to 100 (on), in steps of 0.001; below half a step is off
	Why      string    // the operator's reason
	Who      string    // the operator
	Until    time.Time // when it changes back by itself; zero is never
	Revision int64     // of the flags
	TraceID  string    // of the operator's command, hex; "" if unknown
	SpanID   string    // of the operator's command, hex; "" if unknown
}
