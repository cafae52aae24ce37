package guard_test

import (
	"testing"

	"github.com/capguard/capguard/internal/guard"
)

// What happens at every call, or while everything is refused, allocates nothing.
func TestAllocations(t *testing.T) {
	admitting, off, full := switched(100), switched(0), guard.New(fixed(1))
	full.Admit(t.Context(), tagged())
	watched, traced := switched(0), tagged()
	traced.Tenant, traced.Trace = "acme", trace(1, true)
	w, err := watched.Watch(guard.Filter{Tenant: "acme"}, guard.MaxWatchRate)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	tests := map[string]func(){
		"admit and done": func() {
			p, _ := admitting.Admit(t.Context(), tagged())
			p.Answered()
			p.Done(guard.Success)
		},
		"ask": func() {
			p, _, _ := admitting.Ask(tagged(), nil)
			p.Done(guard.Success)
		},
		"refusal by flag":         func() { off.Admit(t.Context(), tagged()) },
		"refusal by limit":        func() { full.Admit(t.Context(), tagged()) },
		"refusal that is watched": func() { watched.Admit(t.Context(), traced) },
	}
	for name, do := range tests {
		if n := testing.AllocsPerRun(100, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
