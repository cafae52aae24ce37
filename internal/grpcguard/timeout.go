package grpcguard

import (
	"math"
	"strconv"
	"time"
)

// mostTimeout is the largest number in a grpc-timeout: eight digits.
const mostTimeout = 99_999_999

// unit is a unit of a grpc-timeout.
type unit struct {
	name byte
	span time.Duration
}

// units are in ascending order. It is never written to.
var units = [...]unit{
	{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond}, {'S', time.Second}, {'M', time.Minute}, {'H', time.Hour},
}

// ParseTimeout reads a grpc-timeout: one to eight digits and a unit, H, M, S, m, u or n. It returns false for anything else. What is beyond
// the longest time.Duration is cut to that.
func ParseTimeout(s string) (time.Duration, bool) {
	last := len(s) - 1
	if last < 1 || last > 8 {
		return 0, false
	}
	n := time.Duration(0)
	for i := range last {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + time.Duration(s[i]-'0')
	}
	for _, u := range units {
		if u.name != s[last] {
			continue
		}
		if n > math.MaxInt64/u.span {
			return math.MaxInt64, true
		}
		return n * u.span, true
	}
	return 0, false
}

// FormatTimeout writes a grpc-timeout in the smallest unit that fits, rounded down: who gets it may not believe to have more time than is
// left. What is none or less is one nanosecond, the shortest that gRPC knows.
func FormatTimeout(d time.Duration) string {
	d = max(d, 1)
	for _, u := range units {
		if n := d / u.span; n <= mostTimeout {
			return strconv.FormatInt(int64(n), 10) + string(rune(u.name))
		}
	}
	return "" // No time.Duration has as many hours.
}
