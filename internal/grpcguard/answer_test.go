package grpcguard_test

import (
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
)

func TestParseCode(t *testing.T) {
	for text, want := range map[string]codes.Code{
		"0": codes.OK, "1": codes.Canceled, "14": codes.Unavailable, "16": codes.Unauthenticated, "008": codes.ResourceExhausted,
		"": codes.Unknown, "17": codes.Unknown, "-1": codes.Unknown, "+1": codes.Unknown, " 1": codes.Unknown, "OK": codes.Unknown,
		"4294967296": codes.Unknown, "99999999999999999999": codes.Unknown,
	} {
		if got := grpcguard.ParseCode(text); got != want {
			t.Errorf("ParseCode(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestHTTPCode(t *testing.T) {
	want := map[int]codes.Code{
		400: codes.Internal, 401: codes.Unauthenticated, 403: codes.PermissionDenied, 404: codes.Unimplemented, 429: codes.Unavailable,
		502: codes.Unavailable, 503: codes.Unavailable, 504: codes.Unavailable,
	}
	for n := range 1000 {
		w, ok := want[n]
		if !ok {
			w = codes.Unknown
		}
		if got := grpcguard.HTTPCode(strconv.Itoa(n)); got != w {
			t.Errorf("HTTPCode(%d) = %v, want %v", n, got, w)
		}
	}
}

func TestDecodeMessage(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "plain", "a%20b": "a b", "100%": "100%", "%zz%4": "%zz%4", "%E2%82%AC": "€", "%e2%82%ac": "€", "%25": "%",
		"%ff": "\uFFFD", "\xff": "\uFFFD", "a+b": "a+b", "%%41": "%A",
	} {
		if got := grpcguard.DecodeMessage(text); got != want {
			t.Errorf("DecodeMessage(%q) = %q, want %q", text, got, want)
		}
	}
}

var escape = regexp.MustCompile(`(?s)%[0-9a-fA-F]{2}`)

// FuzzMessage decodes anything, and encodes it so that it comes back.
func FuzzMessage(f *testing.F) {
	f.Add("a%20b%zz\xff%F0%9F%8E%84")
	f.Fuzz(func(t *testing.T, s string) {
		naive := escape.ReplaceAllStringFunc(s, func(e string) string {
			n, err := strconv.ParseUint(e[1:], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			return string([]byte{byte(n)})
		})
		naive = strings.ToValidUTF8(naive, "\uFFFD")
		got := grpcguard.DecodeMessage(s)
		if got != naive {
			t.Errorf("DecodeMessage(%q) = %q, want %q", s, got, naive)
		}
		for _, field := range grpcguard.AppendStatus(nil, status.New(codes.Aborted, got)) {
			if field.Name != "grpc-message" {
				continue
			}
			plain := !strings.ContainsFunc(field.Value, func(r rune) bool { return r < ' ' || r > '~' })
			if back := grpcguard.DecodeMessage(field.Value); back != got || !plain {
				t.Errorf("%q is encoded as %q, which is %q", got, field.Value, back)
			}
		}
	})
}

func TestTimeouts(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"100m": 100 * time.Millisecond, "5S": 5 * time.Second, "1H": time.Hour, "99999999n": 99999999, "0S": 0, "2M": 2 * time.Minute,
		"7u": 7 * time.Microsecond, "99999999H": math.MaxInt64, "00000001S": time.Second,
	} {
		if got, ok := grpcguard.ParseTimeout(text); got != want || !ok {
			t.Errorf("ParseTimeout(%q) = %v, %v, want %v", text, got, ok, want)
		}
	}
	bad := []string{"", "S", "1", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "1S ", "100000000n", "000000001S", "1e3m", "1SS", "１S"}
	for _, text := range bad {
		if got, ok := grpcguard.ParseTimeout(text); ok {
			t.Errorf("ParseTimeout(%q) = %v", text, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "1n", -time.Hour: "1n", 1: "1n", time.Second: "1000000u", 100*time.Millisecond - 1: "99999999n", 100 * time.Millisecond: "100000u",
		100*time.Second + 999: "100000m", math.MaxInt64: "2562047H",
	} {
		if got := grpcguard.FormatTimeout(d); got != want {
			t.Errorf("FormatTimeout(%d) = %q, want %q", d, got, want)
		}
	}
}

var (
	timeout = regexp.MustCompile(`^([0-9]{1,8})([HMSmun])$`)
	spans   = map[string]int64{"n": 1, "u": 1e3, "m": 1e6, "S": 1e9, "M": 60e9, "H": 3600e9}
)

// naiveTimeout reads a timeout, of any size, in nanoseconds.
func naiveTimeout(s string) (*big.Int, string) {
	m := timeout.FindStringSubmatch(s)
	if m == nil {
		return nil, ""
	}
	n, _ := new(big.Int).SetString(m[1], 10)
	return n.Mul(n, big.NewInt(spans[m[2]])), m[2]
}

func FuzzTimeout(f *testing.F) {
	f.Add("99999999H", int64(math.MaxInt64))
	f.Add("5S", int64(99_999_999_999))
	f.Fuzz(func(t *testing.T, s string, left int64) {
		naive, _ := naiveTimeout(s)
		got, ok := grpcguard.ParseTimeout(s)
		if most := big.NewInt(math.MaxInt64); naive != nil && naive.Cmp(most) > 0 {
			naive = most
		}
		if ok != (naive != nil) || ok && naive.Int64() != int64(got) {
			t.Errorf("ParseTimeout(%q) = %v, %v, want %v", s, got, ok, naive)
		}
		text := grpcguard.FormatTimeout(time.Duration(left))
		told, unit := naiveTimeout(text)
		left = max(left, 1)
		if told == nil || told.Int64() < 1 || told.Int64() > left || left-told.Int64() >= spans[unit] || left < 1e8 && unit != "n" {
			t.Errorf("FormatTimeout(%d) = %q", left, text)
		}
	})
}

// FuzzParseCode compares with arithmetic of any size.
func FuzzParseCode(f *testing.F) {
	f.Add("16")
	f.Add("0000000000000000000000000000001")
	f.Fuzz(func(t *testing.T, s string) {
		want := codes.Unknown
		n, ok := new(big.Int).SetString(s, 10)
		if ok && strings.Trim(s, "0123456789") == "" && n.Cmp(big.NewInt(16)) <= 0 {
			want = codes.Code(n.Int64())
		}
		if got := grpcguard.ParseCode(s); got != want {
			t.Errorf("ParseCode(%q) = %v, want %v", s, got, want)
		}
	})
}
