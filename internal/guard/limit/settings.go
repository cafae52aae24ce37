package limit

import (
	"errors"
	"fmt"
	"slices"
)

// Law is how the limit is found.
type Law string

// The laws.
const (
	Adaptive Law = "adaptive" // by what the back-end shows it can bear
	AIMD     Law = "aimd"     // by overloads: time-outs and push-back
	Gradient Law = "gradient" // by latency, as it is now and was in the long run
	Fixed    Law = "fixed"    // by the settings alone
)

// Laws returns all laws, the default one first.
func Laws() []Law { return []Law{Adaptive, AIMD, Gradient, Fixed} }

// Settings of a limit.
type Settings struct {
	Law      Law // default Adaptive
	Initial  int // first limit, or the fixed one; default 8; taken into the bounds
	Min, Max int // bounds; default 1 and 1,000; Max 0 lets no call pass, whatever Min
}

// most is the largest bound: far more calls than one guard can carry.
const most = 1_000_000

// Default returns the settings that fit any back-end. Eight is low enough to hurt none, and the adaptive law leaves it within a few round
// trips where it is wrong.
func Default() Settings { return Settings{Law: Adaptive, Initial: 8, Min: 1, Max: 1_000} }

// Validate returns every fault of s, joined; each names its field as the configuration does (initial, min, max, law).
func (s Settings) Validate() error {
	var errs []error
	if !slices.Contains(Laws(), s.Law) {
		errs = append(errs, fmt.Errorf("law is %q: set it to one of %q", s.Law, Laws()))
	}
	if s.Initial < 1 || s.Initial > most {
		errs = append(errs, fmt.Errorf("initial is %d: set it from 1 to %d", s.Initial, most))
	}
	if s.Min < 1 || s.Min > most {
		errs = append(errs, fmt.Errorf("min is %d: set it from 1 to %d", s.Min, most))
	}
	if s.Max < 0 || s.Max > most {
		errs = append(errs, fmt.Errorf("max is %d: set it from 0 (no call passes) to %d", s.Max, most))
	}
	if s.Max > 0 && s.Max < s.Min {
		errs = append(errs, fmt.Errorf("max is %d, below min, which is %d: raise one or lower the other", s.Max, s.Min))
	}
	return errors.Join(errs...)
}

// bound returns n taken into the bounds.
func (s Settings) bound(n int) int { return min(max(n, s.Min), s.Max) }
