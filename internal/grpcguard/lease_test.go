package grpcguard_test

import (
	"math"
	"regexp"
	"strconv"
	"testing"

	"github.com/capguard/capguard/internal/grpcguard"
)

func TestLeaseText(t *testing.T) {
	for slots, want := range map[float64]string{
		0: "0", -1: "0", 0.0004: "0", 0.0005: "0.001", 0.0123: "0.012", 0.099: "0.099", 0.1: "0.1", 0.126: "0.13", 1: "1", 1.26: "1.3",
		9.96: "10", 12.4: "12", 126: "130", 99_499: "99000", 1e9: "990000", math.Inf(1): "990000", math.Inf(-1): "0",
	} {
		if got := grpcguard.FormatLease(slots); got != want {
			t.Errorf("FormatLease(%v) = %q, want %q", slots, got, want)
		}
	}
	if got := grpcguard.FormatLease(math.NaN()); got != "0" {
		t.Errorf("FormatLease(NaN) = %q", got)
	}
	for text, want := range map[string]float64{"0": 0, "0.001": 0.001, "8": 8, "000008": 8, "12.5": 12.5, "999999.999": 999_999.999} {
		if got, ok := grpcguard.ParseLease(text); got != want || !ok {
			t.Errorf("ParseLease(%q) = %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{
		"", ".", "1.", ".5", "-1", "+1", "1e3", "0x1", "NaN", "Inf", " 1", "1 ", "1_0", "1,5", "1.2.3", "1000000", "1.2345", "１",
	} {
		if got, ok := grpcguard.ParseLease(text); ok {
			t.Errorf("ParseLease(%q) = %v", text, got)
		}
	}
}

var leaseText = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,3})?$`)

// FuzzLease reads anything as an expression and a library would, and writes what comes back within a twentieth.
func FuzzLease(f *testing.F) {
	f.Add("12.5", 12.5)
	f.Add("1e9", 0.0005)
	f.Fuzz(func(t *testing.T, s string, slots float64) {
		want, _ := strconv.ParseFloat(s, 64)
		got, ok := grpcguard.ParseLease(s)
		if ok != leaseText.MatchString(s) || ok && got != want {
			t.Errorf("ParseLease(%q) = %v, %v", s, got, ok)
		}
		text := grpcguard.FormatLease(slots)
		back, ok := grpcguard.ParseLease(text)
		slots = min(max(slots, 0), 990_000)
		if math.IsNaN(slots) {
			slots = 0
		}
		if !ok || math.Abs(back-slots) > max(slots/19, 0.0006) || back > 990_000 {
			t.Errorf("%v is written %q, which is %v", slots, text, back)
		}
	})
}
