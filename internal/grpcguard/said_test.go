package grpcguard_test

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// FuzzSaid hears fields, one a line, and compares with Identify and with a reading in the plainest way.
func FuzzSaid(f *testing.F) {
	f.Add(uint8(0), "capguard-feature: x\nbaggage: capguard-feature=y\ncapguard-feature: z\ngrpc-previous-rpc-attempts: 3")
	f.Add(uint8(1), "baggage: a=b"+strings.Repeat(",a=b", 178)+"\nbaggage: capguard-tenant=%41;p,capguard-feature=late")
	f.Add(uint8(2), "baggage: "+strings.Repeat("x", 16370)+"\nbaggage: capguard-x=1\nbaggage: capguard-feature=late")
	f.Add(uint8(3), "capguard-criticality: CRITICAL_PLUS")
	f.Add(uint8(2), "capguard-criticality: low\nbaggage: capguard-criticality=%zz, capguard-criticality = SHEDDABLE ;a\ngrpc-previous-rpc-attempts: x")
	defaults := guard.Call{Method: "/a.B/C", Feature: "std", Criticality: guard.SheddablePlus}
	f.Fuzz(func(t *testing.T, bound uint8, text string) {
		most := guard.CriticalPlus + guard.Criticality(bound%4)
		var s grpcguard.Said
		md := metadata.MD{}
		for line := range strings.SplitSeq(text, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			s.Field(name, value)
			md[name] = append(md[name], value)
		}
		got, want := s.Call(defaults, most), plainly(md, defaults, most)
		if got != want {
			t.Errorf("said %+v, want %+v", got, want)
		}
		want = plainly(md, defaults, guard.CriticalPlus)
		if got := grpcguard.Identify(md, defaults); got != want {
			t.Errorf("Identify = %+v, want %+v", got, want)
		}
	})
}

// plainly is what Identify and Said promise, put down in the plainest way.
func plainly(md metadata.MD, c guard.Call, most guard.Criticality) guard.Call {
	bag := baggage(md["baggage"])
	pick := func(name string, good func(string) bool) string {
		for _, v := range slices.Concat(md[name], bag[name]) {
			if good(v) {
				return v
			}
		}
		return ""
	}
	if v := pick("capguard-feature", naiveFeature); v != "" {
		c.Feature = v
	}
	if v := pick("capguard-tenant", naiveTenant); v != "" {
		c.Tenant = v
	}
	critical := func(s string) bool { _, ok := guard.ParseCriticality(s); return ok }
	if v := pick("capguard-criticality", critical); v != "" {
		if c.Criticality, _ = guard.ParseCriticality(v); c.Criticality < most {
			c.Criticality = most
		}
	}
	if v := md["grpc-previous-rpc-attempts"]; len(v) > 0 && len(v[0]) <= 10 {
		n, _ := strconv.ParseInt(v[0], 10, 64)
		c.Attempt = int(min(max(n, 0), 100))
	}
	return c
}

// baggage returns the values of all members within the bounds.
func baggage(headers []string) map[string][]string {
	values, bytes, members := map[string][]string{}, 0, 0
	for _, h := range headers {
		if bytes += len(h); bytes > 16<<10 {
			break
		}
		for member := range strings.SplitSeq(h, ",") {
			members++
			name, value, ok := strings.Cut(strings.Split(member, ";")[0], "=")
			value, err := url.PathUnescape(strings.Trim(value, " \t"))
			if name = strings.Trim(name, " \t"); ok && err == nil && members <= 180 {
				values[name] = append(values[name], value)
			}
		}
	}
	return values
}

// A bound holds for what is claimed, wherever, and for nothing else.
func TestClaimsAreBounded(t *testing.T) {
	plus := guard.Call{Criticality: guard.CriticalPlus}
	tests := []struct {
		name       string
		key, value string
		defaults   guard.Call
		most, want guard.Criticality
	}{
		{"no bound", "capguard-criticality", "CRITICAL_PLUS", guard.Call{}, guard.CriticalPlus, guard.CriticalPlus},
		{"above", "capguard-criticality", "CRITICAL_PLUS", guard.Call{}, guard.Critical, guard.Critical},
		{"far above", "capguard-criticality", "CRITICAL_PLUS", guard.Call{}, guard.Sheddable, guard.Sheddable},
		{"in baggage", "baggage", "capguard-criticality=CRITICAL_PLUS", guard.Call{}, guard.SheddablePlus, guard.SheddablePlus},
		{"at the bound", "capguard-criticality", "SHEDDABLE_PLUS", guard.Call{}, guard.SheddablePlus, guard.SheddablePlus},
		{"below", "capguard-criticality", "SHEDDABLE", guard.Call{}, guard.Critical, guard.Sheddable},
		{"says nothing", "capguard-tenant", "acme", plus, guard.Sheddable, guard.CriticalPlus},
		{"says nonsense", "capguard-criticality", "URGENT", plus, guard.Sheddable, guard.CriticalPlus},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s grpcguard.Said
			s.Field(test.key, test.value)
			if got := s.Call(test.defaults, test.most).Criticality; got != test.want {
				t.Errorf("criticality = %v, want %v", got, test.want)
			}
		})
	}
}

// Most calls say nothing, and must not pay for it; nor must those that say it plainly.
func TestHearingAllocatesNothing(t *testing.T) {
	quiet := [][2]string{
		{":path", "/shop.Stock/Check"}, {"content-type", "application/grpc"}, {"traceparent", "00-1-2-01"}, {"baggage", "a=b,c=%20d"},
	}
	loud := append(slices.Clone(quiet), [2]string{"capguard-feature", "recs"}, [2]string{"baggage", "capguard-tenant=acme"})
	for _, fields := range [][][2]string{quiet, loud} {
		n := testing.AllocsPerRun(100, func() {
			var s grpcguard.Said
			for _, f := range fields {
				s.Field(f[0], f[1])
			}
			if c := s.Call(guard.Call{}, guard.CriticalPlus); c.Tenant != "" && len(fields) == len(quiet) {
				t.Errorf("heard %+v", c)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations for %v", n, fields)
		}
	}
}

func BenchmarkSaid(b *testing.B) {
	names := []string{":method", ":scheme", ":path", ":authority", "content-type", "user-agent", "te", "grpc-timeout", "traceparent",
		"baggage", "capguard-feature"}
	b.ReportAllocs()
	for b.Loop() {
		var s grpcguard.Said
		for _, name := range names {
			s.Field(name, "recs")
		}
		s.Call(guard.Call{}, guard.CriticalPlus)
	}
}
