package client_test

import (
	"testing"

	"github.com/capguard/capguard/client"
	"github.com/capguard/capguard/internal/grpcguard"
)

// evaluated returns handles of a feature that is on, one that is off, one that is dimmed and one without a flag, among a hundred others.
func evaluated(b *testing.B) map[string]*client.Feature {
	s, c := dialed(b)
	s.set(on("on"))
	s.set(off("off"))
	s.set(dimmed("dimmed", 20))
	for i := range 100 {
		s.set(off("other" + string(rune('a'+i%26)) + string(rune('a'+i/26))))
	}
	if err := c.WaitForFlags(b.Context()); err != nil {
		b.Fatal(err)
	}
	for c.Health().Revision != 104 {
		_ = c.Health()
	}
	return map[string]*client.Feature{
		"on": c.Feature("on"), "off": c.Feature("off"), "dimmed": c.Feature("dimmed"), "without a flag": c.Feature("none"),
	}
}

// BenchmarkFeatureOn is one local evaluation, by one goroutine.
func BenchmarkFeatureOn(b *testing.B) {
	for name, f := range evaluated(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.On()
			}
		})
	}
}

// BenchmarkFeatureOnParallel is the same by all processors at once: nothing is written, so nothing is contended for.
func BenchmarkFeatureOnParallel(b *testing.B) {
	for name, f := range evaluated(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					f.On()
				}
			})
		})
	}
}

// BenchmarkMapLookup is what an evaluation would cost at least if every one looked its feature up by name.
func BenchmarkMapLookup(b *testing.B) {
	shares := map[string]uint64{}
	for i := range 104 {
		shares["other"+string(rune('a'+i%26))+string(rune('a'+i/26))] = uint64(i)
	}
	name := "otherkb"
	for b.Loop() {
		if shares[name] > 1<<31 {
			b.Fatal("impossible")
		}
	}
}

// BenchmarkTag is what tagging adds to a call.
func BenchmarkTag(b *testing.B) {
	f := evaluated(b)["on"]
	b.ReportAllocs()
	for b.Loop() {
		f.Tag(b.Context())
	}
}

// BenchmarkCall isolates the price of typed errors and retries: a call through a Conn in memory, and a refused one.
func BenchmarkCall(b *testing.B) {
	_, c := dialed(b, client.WithRetryRatio(0))
	shop, in := Shop{c}, new(Customer)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := shop.Recommend(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCallWithLease is the same when the client may go past the guard: what counting its calls, and asking now and then, adds.
func BenchmarkCallWithLease(b *testing.B) {
	s, c := dialed(b, client.WithRetryRatio(0), client.WithDirect("127.0.0.1:9000", 1))
	s.answers(granting("3"))
	shop, in := Shop{c}, new(Customer)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := shop.Recommend(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRejected is the recognition of a plain status as a refusal.
func BenchmarkRejected(b *testing.B) {
	err := refused(b, client.FeatureOff)
	b.ReportAllocs()
	for b.Loop() {
		if r, ok := client.Rejected(err); !ok || grpcguard.Domain == "" || r.RetryAfter >= 0 {
			b.Fatal("not recognised")
		}
	}
}
