package scenario

import (
	"fmt"
	"slices"
	"time"

	"github.com/capguard/capguard/loadtest/fragile"
)

// Variant is another back-end of the same capacity for the same scenario.
type Variant uint8

// The variants. The zero value is the scenario as it is.
const (
	Base   Variant = iota // 8 workers
	Narrow                // 2 fast workers
	Wide                  // 32 slow workers
	Steady                // no congestion collapse
)

// Variants are all of them.
var Variants = []Variant{Base, Narrow, Wide, Steady}

// String returns W=8, W=2, W=32 or kappa=0.
func (v Variant) String() string { return [...]string{"W=8", "W=2", "W=32", "kappa=0"}[v] }

// ParseVariant returns the variant of a number of workers, or of 0 for the one without collapse.
func ParseVariant(width string) (Variant, error) {
	names := []string{"8", "2", "32", "0"}
	if i := slices.Index(names, width); i >= 0 {
		return Variant(i), nil
	}
	return Base, fmt.Errorf("there is no variant %q: use 2, 8 or 32 workers, or 0 for no collapse", width)
}

// otherGoodput is what is wanted at least of the goodput on the variants: portability.
const otherGoodput = 0.92

// briefest is the shortest window that is judged on the variants: a few of their service times are no second of the base's.
const briefest = 3 * time.Second

// Apply returns s on the back-end of v, with the wants that are in force there; false if v would change what the scenario is about.
func (v Variant) Apply(s Scenario) (Scenario, bool) {
	if v == Base {
		return s, true
	}
	if slices.Contains(s.Without, v) {
		return s, false
	}
	s.Replicas = slices.Clone(s.Replicas)
	for i := range s.Replicas {
		v.change(&s.Replicas[i])
	}
	var wants []Want
	for _, w := range s.Wants {
		if w.Window != (Window{}) && w.Window.To-w.Window.From < briefest {
			continue
		}
		if w.Metric == Goodput && !w.AnyWidth {
			w.Least = min(w.Least, otherGoodput)
			w.AnyWidth = true
		}
		if w.AnyWidth || w.Metric == FalseRefusals {
			wants = append(wants, w)
		}
	}
	s.Wants = wants
	return s, true
}

func (v Variant) change(r *fragile.Settings) {
	switch v {
	case Narrow:
		of := fragile.Narrow()
		r.Workers, r.ServiceTime, r.Knee = of.Workers, of.ServiceTime, of.Knee
	case Wide:
		of := fragile.Wide()
		r.Workers, r.ServiceTime, r.Knee = of.Workers, of.ServiceTime, of.Knee
	case Steady:
		r.Collapse = 0
	}
}
