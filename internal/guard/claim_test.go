package guard_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

// A call takes as many units of the limit as it costs; one that costs more than all of them passes alone.
func TestCostTakesUnits(t *testing.T) {
	inBubble(t, fixed(8), func(r rig) {
		heavy := guard.Call{Method: check, Cost: 5}
		p := r.pass(heavy)
		r.refuse(heavy, guard.LimitReached)
		light := []guard.Permit{r.pass(call), r.pass(call), r.pass(call)}
		r.refuse(call, guard.LimitReached)
		p.Done(guard.Success)
		r.pass(heavy).Done(guard.Success)
		for _, p := range light {
			p.Done(guard.Success)
		}
		p = r.pass(guard.Call{Method: check, Cost: 1000})
		r.refuse(call, guard.LimitReached)
		p.Done(guard.Success)
		r.pass(guard.Call{Method: check, Cost: -1000}).Done(guard.Success)
	})
}

// In line nobody passes a heavy call by: or light ones would take every unit that comes free, and it would never find enough.
func TestHeavyCallIsWaitedFor(t *testing.T) {
	inBubble(t, lined(4), func(r rig) {
		var out []guard.Permit
		for range 4 {
			out = append(out, r.pass(call))
		}
		heavy := r.ask(r.Context(), guard.Call{Method: check, Cost: 3})
		light := r.ask(r.Context(), call)
		for i := range 2 {
			out[i].Done(guard.Success)
			r.waiting(2)
		}
		out[2].Done(guard.Success)
		r.settled(heavy, guard.None, 0)
		r.waiting(1)
		out[3].Done(guard.Success)
		r.settled(light, guard.None, 0)
		heavy.p.Done(guard.Success)
		light.p.Done(guard.Success)
		r.inFlight(0, 0)
	})
}

// Those who wait are served in turn, by the weight of their tenants and what their calls cost, not by how many they are.
func TestTenantsTakeTurns(t *testing.T) {
	tests := []struct {
		name    string
		weights map[string]float64
		cost    int // of the calls of a
		want    string
	}{
		{"in turn", nil, 1, "ababaaaa"},
		{"by weight", map[string]float64{"a": 3}, 1, "abaaabaa"},
		{"by weight, the other", map[string]float64{"b": 2}, 1, "abbaaaaa"},
		{"by cost", nil, 2, "abbaaaaa"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := lined(1)
			s.Tenants = test.weights
			inBubble(t, s, func(r rig) {
				p := r.pass(call)
				var asked []*answer
				var who []string
				for tenant := range strings.SplitSeq("aaaaaabb", "") {
					c := guard.Call{Method: check, Tenant: tenant}
					if tenant == "a" {
						c.Cost = test.cost
					}
					asked, who = append(asked, r.ask(r.Context(), c)), append(who, tenant)
				}
				got := ""
				for range who {
					p.Done(guard.Success)
					synctest.Wait()
					for i, a := range asked {
						if !a.done && a.look().done {
							got, p = got+who[i], a.p
						}
					}
				}
				p.Done(guard.Success)
				if got != test.want {
					t.Errorf("served in the order %s, want %s", got, test.want)
				}
			})
		})
	}
}

func TestBadTenantsAreRefused(t *testing.T) {
	many := map[string]float64{}
	for i := range guard.MostTenants + 1 {
		many[fmt.Sprint(i)] = 1
	}
	tests := map[string]struct {
		tenants map[string]float64
		want    string
	}{
		"none":      {nil, ""},
		"extremes":  {map[string]float64{"a": guard.LeastWeight, "b": guard.MostWeight}, ""},
		"zero":      {map[string]float64{"a": 0}, `tenants: weight 0 of "a" is not between 0.01 and 100`},
		"negative":  {map[string]float64{"a": -1}, `weight -1 of "a"`},
		"too heavy": {map[string]float64{"a": 101}, `weight 101 of "a"`},
		"no number": {map[string]float64{"a": math.NaN()}, `weight NaN of "a"`},
		"too many":  {many, "tenants: 1001 are more than 1000"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := guard.Default()
			s.Tenants = test.tenants
			err := s.Validate()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Validate() = %v, want %q", err, test.want)
			}
		})
	}
}

// FuzzLies: whatever calls claim of themselves, each is answered once, the limit holds, and an honest call comes through: no lie
// closes the guard, or opens it.
func FuzzLies(f *testing.F) {
	f.Add([]byte{0, 255, 128, 7, 1, 2, 3, 4, 200, 100, 50, 25})
	f.Add([]byte("tenants without end, and each of them as critical as can be"))
	f.Fuzz(func(t *testing.T, lies []byte) {
		s := lined(3)
		s.Queue.MaxLength = 20
		s.Tenants = map[string]float64{"known": 2}
		inBubble(t, s, func(r rig) { r.hear(lies[:min(len(lies), 200)]) })
	})
}

// hear has liars ask, three bytes each, and then an honest one.
func (r rig) hear(lies []byte) {
	var asked []*answer
	served := 0
	for i := 0; i+2 < len(lies); i += 3 {
		a, b, c := lies[i], lies[i+1], lies[i+2]
		asked = append(asked, r.ask(r.Context(), guard.Call{
			Method:      check,
			Tenant:      []string{"", "known", fmt.Sprint("liar ", i, b)}[a%3],
			Criticality: guard.Criticality(b),
			Attempt:     int(int8(c)) << (a % 60),
			Cost:        int(int8(b)) << (c % 60),
		}))
		served += r.serve(asked, int(a%4))
		if s := r.Status(); s.InFlight > s.Limit.Limit || s.Queued > 20 {
			r.Fatalf("%d in flight of %d, %d in line", s.InFlight, s.Limit.Limit, s.Queued)
		}
	}
	honest := r.ask(r.Context(), guard.Call{Method: check, Tenant: "honest", Criticality: guard.CriticalPlus})
	for range len(asked) + 2 {
		served += r.serve(append(asked, honest), len(asked)+1)
	}
	if !honest.d.Admitted && honest.d.Reason != guard.LimitReached {
		r.Errorf("the honest call ended as %+v", honest.d)
	}
	sleep(2 * time.Second)
	synctest.Wait()
	totals := r.Status().Totals
	refused := uint64(0)
	for _, n := range totals.Refused {
		refused += n
	}
	if totals.Admitted+refused != uint64(len(asked)+1) || totals.Admitted != uint64(served) {
		r.Errorf("%d admitted (%d permits), %d refused of %d", totals.Admitted, served, refused, len(asked)+1)
	}
	r.inFlight(0, 0)
	r.waiting(0)
}

// serve ends up to n of the calls that were admitted, and returns how many.
func (r rig) serve(asked []*answer, n int) (served int) {
	synctest.Wait()
	for _, a := range asked {
		if served == n {
			return served
		}
		if a.look(); a.p != (guard.Permit{}) {
			a.p.Done(guard.Success)
			a.p = guard.Permit{}
			served++
		}
	}
	return served
}
