package telemetry

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// What every call pays; the bar is 100 ns and no allocation on a quiet machine.
func BenchmarkCall(b *testing.B) {
	tel, err := New(b.Context(), Settings{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		tel.Call("stock", "/shop.Stock/Check", "admitted", codes.OK, 30*time.Millisecond, 20*time.Millisecond, 0)
	}
}

// Callers of one method share its histogram.
func BenchmarkCallParallel(b *testing.B) {
	tel := Discard()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tel.Call("stock", "/shop.Stock/Check", "admitted", codes.OK, 3*time.Millisecond, 2*time.Millisecond, 0)
		}
	})
}

// A call that had to wait pays for a third histogram.
func BenchmarkCallThatWaited(b *testing.B) {
	tel := Discard()
	b.ReportAllocs()
	for b.Loop() {
		tel.Call("stock", "/shop.Stock/Check", "admitted", codes.OK, 3*time.Millisecond, 2*time.Millisecond, time.Millisecond)
	}
}
