package featureflags_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/featureflags"
)

func TestStateFollowsPercent(t *testing.T) {
	for percent, want := range map[float64]featureflags.State{
		0: featureflags.Off, 0.001: featureflags.Dimmed, 50: featureflags.Dimmed, 99.999: featureflags.Dimmed, 100: featureflags.On,
	} {
		if got := (featureflags.Setting{Percent: percent}).State(); got != want {
			t.Errorf("at %v percent the state is %v, want %v", percent, got, want)
		}
	}
}

func TestEffective(t *testing.T) {
	end := time.Date(2026, 12, 19, 3, 30, 0, 0, time.UTC)
	f := featureflags.Flag{Standing: featureflags.Setting{Percent: 100}, Override: &featureflags.Setting{Percent: 0}, Until: end}
	tests := []struct {
		name    string
		now     time.Time
		percent float64
		until   time.Time
	}{
		{"before its end", end.Add(-time.Nanosecond), 0, end},
		{"at its end", end, 100, time.Time{}},
		{"after its end", end.Add(time.Hour), 100, time.Time{}},
	}
	for _, test := range tests {
		s, until := f.Effective(test.now)
		if s.Percent != test.percent || !until.Equal(test.until) || f.Gate(test.now) != featureflags.GateOf(test.percent) {
			t.Errorf("%s: %v percent until %v, gate %v; want %v until %v", test.name, s.Percent, until, f.Gate(test.now), test.percent, test.until)
		}
	}
}

func TestWordsOfStatesAndActions(t *testing.T) {
	var words []string
	for s := featureflags.On; s <= featureflags.Dimmed+1; s++ {
		words = append(words, s.String())
	}
	for a := featureflags.Action(0); a <= featureflags.Expire+1; a++ {
		words = append(words, a.String())
	}
	want := "on off dimmed State(3) Action(0) create update delete disable enable dim rollback expire Action(9)"
	if got := strings.Join(words, " "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// 0 % and off: not one call passes, and at 100 % every call does.
func TestGateAtItsEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	none, all := featureflags.GateOf(0), featureflags.GateOf(100)
	for i := range 1_000_000 {
		n := r.Uint32()
		if i < 2 {
			n = []uint32{0, math.MaxUint32}[i]
		}
		if none.Pass(n) || !all.Pass(n) || !featureflags.AllPass.Pass(n) {
			t.Fatalf("random number %d: passes at 0 percent %t, at 100 percent %t", n, none.Pass(n), all.Pass(n))
		}
	}
}

func TestGateLetsItsShareThrough(t *testing.T) {
	for _, percent := range []float64{0.001, 0.002, 1, 12.345, 50, 99.999} {
		passed := uint64(math.Ceil(percent / 100 * (1 << 32)))
		gate := featureflags.GateOf(percent)
		// The numbers that pass are those below one bound, so counting is finding it.
		low, high := uint64(0), uint64(1<<32)
		for low < high {
			if mid := (low + high) / 2; gate.Pass(uint32(mid)) {
				low = mid + 1
			} else {
				high = mid
			}
		}
		if low != passed {
			t.Errorf("at %v percent %d of 2^32 numbers pass, want %d", percent, low, passed)
		}
	}
}

func TestGateOfAnything(t *testing.T) {
	for percent, want := range map[float64]featureflags.Gate{
		math.Inf(-1): 0, -1: 0, 0: 0, 0.0004: 0, 0.0006: 1, 33.3333: 33_333, 99.9996: 100_000, 100: 100_000, 1e300: 100_000, math.Inf(1): 100_000,
	} {
		if got := featureflags.GateOf(percent); got != want {
			t.Errorf("GateOf(%v) = %d, want %d", percent, got, want)
		}
	}
	if got := featureflags.GateOf(math.NaN()); got != 0 {
		t.Errorf("GateOf(NaN) = %d, want 0", got)
	}
	for g := range featureflags.AllPass + 1 {
		if featureflags.GateOf(g.Percent()) != g {
			t.Fatalf("GateOf(%v) = %d, want %d", g.Percent(), featureflags.GateOf(g.Percent()), g)
		}
	}
}

func TestSnapshot(t *testing.T) {
	old, a, b := featureflags.Flag{Name: "b", Revision: 1}, featureflags.Flag{Name: "a"}, featureflags.Flag{Name: "b", Revision: 2}
	s := featureflags.NewSnapshot(7, old, a, b)
	var names []string
	for f := range s.All() {
		names = append(names, fmt.Sprint(f.Name, f.Revision))
	}
	if s.Revision != 7 || s.Len() != 2 || !slices.Equal(names, []string{"a0", "b2"}) {
		t.Errorf("revision %d, %d flags: %v", s.Revision, s.Len(), names)
	}
	for range s.All() {
		break
	}
	if f, ok := s.Flag("none"); ok || f.Name != "" {
		t.Errorf("Flag(none) = %+v, %t", f, ok)
	}
	if empty := featureflags.NewSnapshot(0); empty.Len() != 0 {
		t.Errorf("an empty snapshot has %d flags", empty.Len())
	}
}
