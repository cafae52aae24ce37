package grpcguard_test

import (
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

func TestIdentify(t *testing.T) {
	defaults := guard.Call{Method: "/a.B/C", Feature: "std", Criticality: guard.SheddablePlus, Stream: true}
	type said = map[string][]string
	for name, c := range map[string]struct {
		md   said
		want func(*guard.Call)
	}{
		"nothing said": {nil, func(*guard.Call) {}},
		"all said": {
			said{"capguard-feature": {"recs"}, "capguard-criticality": {"SHEDDABLE"}, "capguard-tenant": {"acme"},
				"grpc-previous-rpc-attempts": {"2"}},
			func(c *guard.Call) {
				c.Feature, c.Criticality, c.Tenant, c.Attempt = "recs", guard.Sheddable, "acme", 2
			},
		},
		"the default said": {said{"capguard-criticality": {"CRITICAL"}}, func(c *guard.Call) { c.Criticality = guard.Critical }},
		"by baggage": {
			said{"baggage": {"a=b, capguard-feature = recs ;p=1,capguard-tenant=caf%C3%A9+1"}},
			func(c *guard.Call) { c.Feature, c.Tenant = "recs", "café+1" },
		},
		"in a second header": {said{"baggage": {"a=b", "capguard-feature=recs"}}, func(c *guard.Call) { c.Feature = "recs" }},
		"metadata beats baggage": {
			said{"capguard-feature": {"meta"}, "baggage": {"capguard-feature=bag"}},
			func(c *guard.Call) { c.Feature = "meta" },
		},
		"nonsense beats nothing": {
			said{"capguard-feature": {"No Such"}, "baggage": {"capguard-feature=bag"}},
			func(c *guard.Call) { c.Feature = "bag" },
		},
		"first good value": {said{"capguard-feature": {"", "x", "y"}}, func(c *guard.Call) { c.Feature = "x" }},
		"all nonsense": {
			said{"capguard-feature": {strings.Repeat("x", 64)}, "capguard-criticality": {"critical"}, "capguard-tenant": {"a\nb"},
				"grpc-previous-rpc-attempts": {"-1"}},
			func(*guard.Call) {},
		},
		"broken percent": {
			said{"baggage": {"capguard-feature=%zz,capguard-feature=%4,capguard-feature=good"}},
			func(c *guard.Call) { c.Feature = "good" },
		},
		"longest feature": {
			said{"capguard-feature": {strings.Repeat("x", 63)}},
			func(c *guard.Call) { c.Feature = strings.Repeat("x", 63) },
		},
		"absurdly many attempts":   {said{"grpc-previous-rpc-attempts": {"999999999"}}, func(c *guard.Call) { c.Attempt = 100 }},
		"attempts no number":       {said{"grpc-previous-rpc-attempts": {"99999999999999999999"}}, func(*guard.Call) {}},
		"tenant too long":          {said{"capguard-tenant": {strings.Repeat("x", 129)}}, func(*guard.Call) {}},
		"feature begins with dash": {said{"capguard-feature": {"-x"}}, func(*guard.Call) {}},
		"upper case key":           {said{"baggage": {"Capguard-Feature=recs"}}, func(*guard.Call) {}},
	} {
		t.Run(name, func(t *testing.T) {
			want := defaults
			c.want(&want)
			if got := grpcguard.Identify(c.md, defaults); got != want {
				t.Errorf("Identify = %+v, want %+v", got, want)
			}
		})
	}
}

// Metadata of absurd size must cost no more than its bounds: what is beyond them is not read.
func TestAbsurdBaggageIsNotReadToItsEnd(t *testing.T) {
	many := strings.Repeat("a=b,", 200) + "capguard-feature=recs"
	long := "capguard-feature=recs,x=" + strings.Repeat("y", 20_000)
	for _, header := range []string{many, long} {
		if got := grpcguard.Identify(metadata.Pairs("baggage", header), guard.Call{}); got.Feature != "" {
			t.Errorf("Identify read the feature in baggage of %d bytes", len(header))
		}
	}
}

// FuzzIdentify compares with a naive reading of baggage and checks the bounds of what comes out.
func FuzzIdentify(f *testing.F) {
	f.Add("recs", "SHEDDABLE", "acme", "3", "capguard-feature=a%20b;c=d, capguard-tenant=x")
	f.Add("", "", "", "", "capguard-criticality=CRITICAL_PLUS,,=,%,capguard-tenant=%F0%9F%8E%84")
	f.Fuzz(func(t *testing.T, feature, criticality, tenant, attempts, baggage string) {
		md := metadata.Pairs("capguard-feature", feature, "capguard-criticality", criticality, "capguard-tenant", tenant,
			"grpc-previous-rpc-attempts", attempts, "baggage", baggage)
		got := grpcguard.Identify(md, guard.Call{})
		if want := naive(feature, "capguard-feature", baggage, naiveFeature); got.Feature != want {
			t.Errorf("feature = %q, want %q", got.Feature, want)
		}
		if want := naive(tenant, "capguard-tenant", baggage, naiveTenant); got.Tenant != want {
			t.Errorf("tenant = %q, want %q", got.Tenant, want)
		}
		if got.Attempt < 0 || got.Attempt > 100 || got.Criticality < guard.CriticalPlus || got.Criticality > guard.Sheddable {
			t.Errorf("out of bounds: %+v", got)
		}
	})
}

// naive returns the first good text: that of the metadata, else those of baggage.
func naive(said, name, baggage string, good func(string) bool) string {
	candidates := []string{said}
	if len(baggage) <= 16<<10 {
		for i, member := range strings.Split(baggage, ",") {
			pair := strings.Split(member, ";")[0]
			if k, v, ok := strings.Cut(pair, "="); ok && i < 180 && strings.Trim(k, " \t") == name {
				if v, err := url.PathUnescape(strings.Trim(v, " \t")); err == nil {
					candidates = append(candidates, v)
				}
			}
		}
	}
	for _, c := range candidates {
		if good(c) {
			return c
		}
	}
	return ""
}

func naiveFeature(s string) bool {
	ok := len(s) >= 1 && len(s) <= 63 && !strings.ContainsAny(s[:1], "-_.")
	return ok && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

func naiveTenant(s string) bool {
	return len(s) >= 1 && len(s) <= 128 && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func TestOutcome(t *testing.T) {
	want := map[codes.Code]guard.Outcome{
		codes.OK: guard.Success, codes.InvalidArgument: guard.Success, codes.NotFound: guard.Success, codes.AlreadyExists: guard.Success,
		codes.PermissionDenied: guard.Success, codes.Unauthenticated: guard.Success, codes.FailedPrecondition: guard.Success,
		codes.Aborted: guard.Success, codes.OutOfRange: guard.Success, codes.Unimplemented: guard.Missing,
		codes.DeadlineExceeded: guard.Overload, codes.Unavailable: guard.Overload, codes.ResourceExhausted: guard.Overload,
		codes.Internal: guard.Failure, codes.Unknown: guard.Failure, codes.DataLoss: guard.Failure, codes.Canceled: guard.Failure,
		99: guard.Failure,
	}
	for c := range codes.Unauthenticated + 1 {
		if _, ok := want[c]; !ok {
			t.Errorf("no expectation for %v", c)
		}
	}
	for c, o := range want {
		if got := grpcguard.Outcome(c, false); got != o {
			t.Errorf("Outcome(%v) = %v, want %v", c, got, o)
		}
		if got := grpcguard.Outcome(c, true); got != guard.Ignored {
			t.Errorf("Outcome(%v) of a call that its caller ended = %v, want Ignored", c, got)
		}
	}
}
