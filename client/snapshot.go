package client

import (
	"math"
	"time"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// everyCall is the share of a feature that is on. Shares are of 2^32, so that a lot is one comparison with 32 random bits.
const everyCall = 1 << 32

// snapshot is where all features stand between two changes. It is immutable.
type snapshot struct {
	generation uint64 // of this Conn's snapshots; positions carry it so that a handle can tell an old one without keeping its snapshot
	flagged    map[string]*position
	on, off    position  // of features without a flag
	known      bool      // something was known: a stream spoke or there was a file
	ends       time.Time // when the first setting ends; zero if none does
}

// position is where one feature stands.
type position struct {
	generation uint64
	share      uint64 // of 2^32 evaluations that are on
	revision   int64
	why, who   string
	until      time.Time // zero: no end
}

// newSnapshot returns where features stand at now; all is nil if nothing was ever known.
func newSnapshot(generation uint64, all map[string]*capguardv1.Flag, now time.Time) *snapshot {
	s := &snapshot{
		generation: generation, known: all != nil,
		on: position{generation: generation, share: everyCall}, off: position{generation: generation},
	}
	s.flagged = make(map[string]*position, len(all))
	for name, flag := range all {
		p := place(flag, now)
		p.generation = generation
		s.flagged[name] = &p
		if !p.until.IsZero() && (s.ends.IsZero() || p.until.Before(s.ends)) {
			s.ends = p.until
		}
	}
	return s
}

// find returns where a feature stands.
func (s *snapshot) find(name string, offUnknown bool) *position {
	if p, ok := s.flagged[name]; ok {
		return p
	}
	if offUnknown && !s.known {
		return &s.off
	}
	return &s.on
}

// place returns where a flag puts its feature at now: its effective setting until that ends, then the standing one.
func place(flag *capguardv1.Flag, now time.Time) position {
	p := position{
		share: share(flag.GetState(), flag.GetPercent()), revision: flag.GetRevision(), why: flag.GetReason(), who: flag.GetActor(),
	}
	if flag.GetExpireTime() == nil {
		return p
	}
	if until := flag.GetExpireTime().AsTime(); now.Before(until) {
		p.until = until
		return p
	}
	standing := flag.GetStanding()
	return position{
		share: share(standing.GetState(), standing.GetPercent()), revision: flag.GetRevision(),
		why: standing.GetReason(), who: standing.GetActor(),
	}
}

// share turns a setting into a share of 2^32. A state that this version does not know is on: the guard decides on the calls anyway. A
// percentage that is none passes nothing, since a dimmer is there to relieve.
func share(state capguardv1.Flag_State, percent float64) uint64 {
	switch {
	case state == capguardv1.Flag_STATE_OFF:
		return 0
	case state != capguardv1.Flag_STATE_DIMMED || percent >= 100:
		return everyCall
	case percent > 0:
		return uint64(math.Ceil(percent / 100 * everyCall))
	}
	return 0
}
