package grpcguard

import (
	"math"
	"strconv"
	"strings"
)

// mostLease is the largest number of slots that a lease or a demand tells; what is above is told as this.
const mostLease = 990_000

// ParseLease reads the value of a LeaseKey: one to six digits, and perhaps a point with one to three more. It returns false for anything
// else, signs, exponents and spaces included.
func ParseLease(s string) (slots float64, ok bool) {
	whole, part, pointed := strings.Cut(s, ".")
	if !areDigits(whole, 6) || pointed && !areDigits(part, 3) {
		return 0, false
	}
	slots, err := strconv.ParseFloat(s, 64)
	return slots, err == nil
}

// areDigits tells whether s is one to most digits.
func areDigits(s string, most int) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= most
}

// FormatLease writes slots with two significant digits, down to thousandths: that is as good as the figure is, and values that come again
// are cheap to send. What is not above 0 is "0".
func FormatLease(slots float64) string {
	if !(slots > 0) {
		return "0"
	}
	n := int64(math.Round(min(slots, mostLease) * 1000))
	step := int64(1)
	for n/step >= 100 {
		step *= 10
	}
	n = (n + step/2) / step * step
	return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64)
}
