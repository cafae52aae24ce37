package fragile

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Settings say what a back-end can bear and how it breaks. The zero value is not valid: begin with Default or another preset.
type Settings struct {
	// Workers is how many jobs run at once, at least 1.
	Workers int
	// MaxQueue is how many jobs may wait, 0 or more.
	MaxQueue int
	// ServiceTime is the mean time that a job of weight 1 takes when nothing is wrong.
	ServiceTime time.Duration
	// CV is the coefficient of variation of the service time, 0 (all alike) or more.
	CV float64
	// Knee is the number of jobs, running and waiting, up to which none disturbs another; at least 1.
	Knee int
	// Collapse is how much longer every job takes with twice as many jobs as Knee, as a share; 0 is no collapse.
	Collapse float64
	// MaxSlowdown bounds the collapse, at least 1.
	MaxSlowdown float64
	// Cold is the slowness after a start.
	Cold Cold
	// Crash says when the process dies; the zero value is never.
	Crash Crash
	// Slow are times of slowness that has causes elsewhere. Where two overlap, both count.
	Slow []Phase
	// Pause are stops of the whole process; the zero value is none.
	Pause Pause
	// HonorCancel stops the work on calls whose callers have gone, instead of finishing it for nobody.
	HonorCancel bool
	// Seed of the service times.
	Seed uint64
}

// Cold is a cache that fills as jobs are served.
type Cold struct {
	// Extra is the additional time of the first job after a start, as a multiple of the normal time, 0 or more.
	Extra float64
	// Calls is after how many jobs served Extra has shrunk to 37 %; above 0 unless Extra is 0.
	Calls float64
	// Warm starts with a full cache; it is empty after a crash all the same.
	Warm bool
}

// Crash says when the process dies and for how long.
type Crash struct {
	// Above is the number of jobs, running and waiting, that it does not bear for long; 0 bears any number.
	Above int
	// After is how long it bears more than Above.
	After time.Duration
	// Restart is how long nobody can connect afterwards.
	Restart time.Duration
}

// Phase is a time of slowness, counted from New.
type Phase struct {
	// From is its begin, To its end, not included.
	From, To time.Duration
	// Factor is how much longer jobs take that start in it, above 0.
	Factor float64
}

// Pause is a stop of everything that repeats, as of a garbage collector.
type Pause struct {
	// First is when the first one begins, counted from New.
	First time.Duration
	// Every is the time from one begin to the next, longer than Length.
	Every time.Duration
	// Length is how long each lasts; 0 is no pauses.
	Length time.Duration
}

// Default returns a back-end of 400 jobs a second that collapses under congestion and never crashes.
func Default() Settings {
	return Settings{
		Workers:     8,
		MaxQueue:    4000,
		ServiceTime: 20 * time.Millisecond,
		CV:          0.5,
		Knee:        16,
		Collapse:    0.5,
		MaxSlowdown: 8,
	}
}

// Narrow returns Default as two fast workers; the capacity is the same.
func Narrow() Settings {
	s := Default()
	s.Workers, s.ServiceTime, s.Knee = 2, 5*time.Millisecond, 4
	return s
}

// Wide returns Default as 32 slow workers; the capacity is the same.
func Wide() Settings {
	s := Default()
	s.Workers, s.ServiceTime, s.Knee = 32, 80*time.Millisecond, 64
	return s
}

// Steady returns Default without the collapse: overload costs only waiting.
func Steady() Settings {
	s := Default()
	s.Collapse = 0
	return s
}

// Brittle returns Default as a process that dies of 300 calls in flight, and is slow after each start until its cache is full.
func Brittle() Settings {
	s := Default()
	s.Cold = Cold{Extra: 3, Calls: 1000, Warm: true}
	s.Crash = Crash{Above: 300, After: time.Second, Restart: 5 * time.Second}
	return s
}

// Capacity returns how many jobs of weight 1 it can serve a second while nothing is wrong.
func (s Settings) Capacity() float64 { return float64(s.Workers) / s.ServiceTime.Seconds() }

// Validate returns every fault of s, joined.
func (s Settings) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("fragile: "+format, args...))
		}
	}
	check(s.Workers >= 1, "workers must be at least 1, not %d", s.Workers)
	check(s.MaxQueue >= 0, "max queue must not be negative, not %d", s.MaxQueue)
	check(s.ServiceTime > 0, "service time must be above 0, not %v", s.ServiceTime)
	check(finite(s.CV), "CV must be 0 or more, not %v", s.CV)
	check(s.Knee >= 1, "knee must be at least 1, not %d", s.Knee)
	check(finite(s.Collapse), "collapse must be 0 or more, not %v", s.Collapse)
	check(finite(s.MaxSlowdown) && s.MaxSlowdown >= 1, "max slowdown must be at least 1, not %v", s.MaxSlowdown)
	check(finite(s.Cold.Extra), "cold extra must be 0 or more, not %v", s.Cold.Extra)
	check(s.Cold.Extra == 0 || finite(s.Cold.Calls) && s.Cold.Calls > 0, "cold calls must be above 0, not %v", s.Cold.Calls)
	check(s.Crash.Above >= 0, "crash above must not be negative, not %d", s.Crash.Above)
	check(s.Crash.After >= 0 && s.Crash.Restart >= 0, "crash times must not be negative, not %v and %v", s.Crash.After, s.Crash.Restart)
	for i, p := range s.Slow {
		check(p.From < p.To, "slow phase %d must end after it begins, not run from %v to %v", i, p.From, p.To)
		check(finite(p.Factor) && p.Factor > 0, "slow phase %d must have a factor above 0, not %v", i, p.Factor)
	}
	check(s.Pause.Length >= 0 && s.Pause.First >= 0, "pause times must not be negative, not %v and %v", s.Pause.First, s.Pause.Length)
	check(s.Pause.Length == 0 || s.Pause.Every > s.Pause.Length, "pauses of %v must be further apart than %v", s.Pause.Length, s.Pause.Every)
	return errors.Join(faults...)
}

func finite(x float64) bool { return x >= 0 && !math.IsInf(x, 1) }

// collapse returns f(n).
func (s Settings) collapse(n int) float64 {
	return min(s.MaxSlowdown, 1+s.Collapse*float64(max(0, n-s.Knee))/float64(s.Knee))
}

// cold returns w(u) after u jobs served.
func (s Settings) cold(u uint64) float64 {
	if s.Cold.Extra == 0 {
		return 1
	}
	return 1 + s.Cold.Extra*math.Exp(-float64(u)/s.Cold.Calls)
}

// slow returns slow(t), t since New.
func (s Settings) slow(t time.Duration) float64 {
	f := 1.0
	for _, p := range s.Slow {
		if p.From <= t && t < p.To {
			f *= p.Factor
		}
	}
	return f
}

// stretch returns how long work of length d takes that starts at t since New, with the pauses that fall into it.
func (p Pause) stretch(t, d time.Duration) time.Duration {
	if p.Length == 0 {
		return d
	}
	end := t
	for left := d; ; {
		begin := p.next(end)
		if begin > end { // work until the pause
			if begin-end >= left {
				return end + left - t
			}
			left -= begin - end
		}
		end = begin + p.Length
	}
}

// next returns the begin of the pause that t is in, or else of the next one; never before t if t is in none.
func (p Pause) next(t time.Duration) time.Duration {
	if t < p.First {
		return p.First
	}
	begin := t - (t-p.First)%p.Every
	if t < begin+p.Length {
		return begin
	}
	return begin + p.Every
}
