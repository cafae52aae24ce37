package guard

// classesLookBack is how many admissions the threshold of criticality looks back: few enough to follow a change within a tenth of a second
// at a thousand calls a second, enough that a class with a small share of the calls counts as passing while it passes.
const classesLookBack = 64

// classes follows which criticalities get through. It counts admissions, not time, so that it means the same at any rate.
type classes struct {
	admitted uint64
	last     [Sheddable - CriticalPlus + 1]uint64 // number of the last admission of each
}

// note counts an admission.
func (s *classes) note(c Criticality) {
	s.admitted++
	s.last[min(max(c, CriticalPlus), Sheddable)-CriticalPlus] = s.admitted
}

// threshold returns the least critical class among the last admissions.
func (s *classes) threshold() Criticality {
	c := Sheddable
	for c > CriticalPlus && s.admitted-s.last[c-CriticalPlus] >= classesLookBack {
		c--
	}
	return c
}

// outranks tells whether a less critical call than one of c was among the last admissions.
func (s *classes) outranks(c Criticality) bool {
	for lower := max(c, CriticalPlus) + 1; lower <= Sheddable; lower++ {
		if last := s.last[lower-CriticalPlus]; last > 0 && s.admitted-last < classesLookBack {
			return true
		}
	}
	return false
}
