package featureflags_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/capguard/capguard/featureflags"
)

// BenchmarkGate is one decision by a reader that keeps the gate of its feature.
func BenchmarkGate(b *testing.B) {
	gate := featureflags.GateOf(20)
	passed := 0
	b.ReportAllocs()
	for b.Loop() {
		if gate.Pass(rand.Uint32()) {
			passed++
		}
	}
	_ = passed
}

// BenchmarkSnapshotFlag is one decision by a reader that looks its feature up for every call, among a hundred.
func BenchmarkSnapshotFlag(b *testing.B) {
	m := featureflags.NewMemory()
	reg, err := featureflags.Open(b.Context(), m)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 100 {
		c := featureflags.Command{Action: featureflags.Dim, Name: fmt.Sprint("feature-", i), Percent: new(20.0), AllowMissing: true}
		if _, err := reg.Apply(b.Context(), c, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		f, _ := reg.Snapshot().Flag("feature-50")
		f.Standing.Gate().Pass(rand.Uint32())
	}
}

// BenchmarkApply is one change among a thousand flags, without a disk.
func BenchmarkApply(b *testing.B) {
	reg, err := featureflags.Open(b.Context(), featureflags.NewMemory())
	if err != nil {
		b.Fatal(err)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		name := fmt.Sprint("feature-", i%1000)
		c := featureflags.Command{Action: featureflags.Dim, Name: name, Percent: new(float64(i%99 + 1)), AllowMissing: true}
		if _, err := reg.Apply(b.Context(), c, nil); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
