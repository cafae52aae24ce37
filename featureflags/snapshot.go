package featureflags

import (
	"iter"
	"maps"
	"slices"
)

// Snapshot is all flags at one revision. Immutable, safe for concurrent use.
type Snapshot struct {
	Revision   int64
	flags      map[string]*Flag
	superseded chan struct{} // closed when the registry has published a later snapshot; nil outside of a registry
}

// NewSnapshot returns the snapshot of these flags at revision. Of two flags with one name the later counts.
func NewSnapshot(revision int64, flags ...Flag) *Snapshot {
	s := &Snapshot{Revision: revision, flags: make(map[string]*Flag, len(flags))}
	for _, f := range flags {
		s.flags[f.Name] = &f
	}
	return s
}

// Flag returns the flag of that name.
func (s *Snapshot) Flag(name string) (Flag, bool) {
	if f, ok := s.flags[name]; ok {
		return *f, true
	}
	return Flag{}, false
}

// All yields the flags by name.
func (s *Snapshot) All() iter.Seq[Flag] {
	return func(yield func(Flag) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.flags)) {
			if !yield(*s.flags[name]) {
				return
			}
		}
	}
}

// Len returns the number of flags.
func (s *Snapshot) Len() int { return len(s.flags) }

// with returns the snapshot that follows s when rev is carried out.
func (s *Snapshot) with(rev Revision) *Snapshot {
	next := &Snapshot{Revision: rev.Number, flags: maps.Clone(s.flags), superseded: make(chan struct{})}
	if rev.Action == Delete {
		delete(next.flags, rev.Flag.Name)
	} else {
		next.flags[rev.Flag.Name] = &rev.Flag
	}
	return next
}

// again returns the same snapshot to be published once more.
func (s *Snapshot) again() *Snapshot {
	return &Snapshot{Revision: s.Revision, flags: s.flags, superseded: make(chan struct{})}
}

// names yields the names of all flags, in no order.
func (s *Snapshot) names() iter.Seq[string] { return maps.Keys(s.flags) }
