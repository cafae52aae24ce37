package proxy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

func TestPatterns(t *testing.T) {
	for p, methods := range map[string][2][]string{ // matched, not matched
		"*":                 {{"/a.B/C", "/x/y"}, nil},
		"/shop.*":           {{"/shop.Cart/Add", "/shop.v1.Cart/Add"}, {"/shopping.Cart/Add", "/shop/Add", "/Shop.Cart/Add"}},
		"/shop.Cart/*":      {{"/shop.Cart/Add", "/shop.Cart/List"}, {"/shop.CartX/Add", "/shop.v1.Cart/Add"}},
		"/shop.Cart/List*":  {{"/shop.Cart/List", "/shop.Cart/ListAll"}, {"/shop.Cart/Lis", "/shop.Cart/GetList"}},
		"/shop.Cart/Add":    {{"/shop.Cart/Add"}, {"/shop.Cart/AddAll", "/shop.Cart/add"}},
		"/NoPackage/Method": {{"/NoPackage/Method"}, {"/NoPackage/Other"}},
	} {
		parsed, err := parsePattern(p)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		for i, want := range []bool{true, false} {
			for _, m := range methods[i] {
				if got := parsed.matches(m); got != want {
					t.Errorf("%s matches %s: %v", p, m, got)
				}
			}
		}
	}
}

func TestGoodTargets(t *testing.T) {
	for _, s := range []string{"localhost:80", "10.0.0.1:80", "[::1]:80", "dns:///stock.internal:443", "dns://10.0.0.53/stock:80",
		"unix:/run/stock.sock", "unix:///run/stock.sock", "unix:stock.sock"} {
		if _, err := parseTarget(s); err != nil {
			t.Error(err)
		}
	}
}

func TestTheFirstMatchCounts(t *testing.T) {
	table, err := newTable(&capguardv1.BackendConfig{Methods: []*capguardv1.MethodConfig{
		{Pattern: "/a.B/C", Feature: "one"}, {Pattern: "/a.B/*", Feature: "two"}, {Pattern: "/a.B/D", Feature: "never"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for m, want := range map[string]string{"/a.B/C": "one", "/a.B/D": "two", "/b.B/C": ""} {
		for range 2 { // From the rules, then from the cache.
			if got := table.lookup(m).defaults.Feature; got != want {
				t.Errorf("feature of %s = %q, want %q", m, got, want)
			}
		}
	}
}

// What callers may claim is the back-end's word, or the method's; the owner's own word stands, and nobody is worse off for saying it.
func TestBoundsOfClaims(t *testing.T) {
	tests := []struct {
		name                       string
		backend, bound, own        string // max_criticality of the back-end and of the method, criticality of the method
		silent, claimed, claimLess guard.Criticality
	}{
		{"no bound", "", "", "", guard.Critical, guard.CriticalPlus, guard.Sheddable},
		{"of the back-end", "CRITICAL", "", "", guard.Critical, guard.Critical, guard.Sheddable},
		{"of the method", "", "CRITICAL", "", guard.Critical, guard.Critical, guard.Sheddable},
		{"the method's counts", "SHEDDABLE", "CRITICAL", "", guard.Critical, guard.Critical, guard.Sheddable},
		{"silence is no way around", "SHEDDABLE_PLUS", "", "", guard.SheddablePlus, guard.SheddablePlus, guard.Sheddable},
		{"the owner's word is above", "SHEDDABLE", "", "CRITICAL_PLUS", guard.CriticalPlus, guard.CriticalPlus, guard.Sheddable},
		{"the owner's word is below", "CRITICAL", "", "SHEDDABLE", guard.Sheddable, guard.Critical, guard.Sheddable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			table, err := newTable(&capguardv1.BackendConfig{MaxCriticality: test.backend, Methods: []*capguardv1.MethodConfig{
				{Pattern: "/a.B/C", MaxCriticality: test.bound, Criticality: test.own, Cost: 3},
			}})
			if err != nil {
				t.Fatal(err)
			}
			r := table.lookup("/a.B/C")
			call := func(claim string) guard.Call {
				var s grpcguard.Said
				s.Field(grpcguard.CriticalityKey, claim)
				return s.Call(r.defaults, r.most)
			}
			got := []guard.Criticality{call("").Criticality, call("CRITICAL_PLUS").Criticality, call("SHEDDABLE").Criticality}
			if want := []guard.Criticality{test.silent, test.claimed, test.claimLess}; !slices.Equal(got, want) {
				t.Errorf("silent, most and least claimed = %v, want %v", got, want)
			}
			if got := call("").Cost; got != 3 {
				t.Errorf("cost = %d, want 3", got)
			}
		})
	}
}

func TestOtherMethodsAreBoundedToo(t *testing.T) {
	table, err := newTable(&capguardv1.BackendConfig{MaxCriticality: "SHEDDABLE"})
	if err != nil {
		t.Fatal(err)
	}
	if r := table.lookup("/a.B/C"); r.most != guard.Sheddable || r.defaults.Criticality != guard.Sheddable {
		t.Errorf("rules of a method that is not named = %+v", r)
	}
}

func TestBadBoundsOfClaims(t *testing.T) {
	_, err := newTable(&capguardv1.BackendConfig{MaxCriticality: "HIGH", Methods: []*capguardv1.MethodConfig{
		{Pattern: "*", MaxCriticality: "LOW"},
	}})
	for _, want := range []string{`max_criticality: "HIGH" is unknown`, `methods[0].max_criticality: "LOW" is unknown`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("newTable = %v, want %q", err, want)
		}
	}
}

// Method names are the callers' to invent.
func TestTheCacheOfMethodsIsBounded(t *testing.T) {
	table, err := newTable(&capguardv1.BackendConfig{Methods: []*capguardv1.MethodConfig{{Pattern: "/a.B/*", Feature: "f"}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxCachedMethods {
		if got := table.lookup(fmt.Sprintf("/a.B/%d", i)).defaults.Feature; got != "f" {
			t.Fatalf("feature = %q", got)
		}
	}
	if len(table.cache) != maxCachedMethods {
		t.Errorf("%d methods cached, want %d", len(table.cache), maxCachedMethods)
	}
}

// FuzzPattern compares with regular expressions.
func FuzzPattern(f *testing.F) {
	f.Add("/shop.Cart/List*", "/shop.Cart/ListAll")
	f.Add("*", "")
	f.Add("/shop.*", "/shop.")
	f.Fuzz(func(t *testing.T, s, method string) {
		if !utf8.ValidString(s + method) {
			t.Skip("neither YAML nor regular expressions can hold it")
		}
		p, err := parsePattern(s)
		if err != nil {
			if regexp.MustCompile(`^(\*|/[a-z.]+/[a-zA-Z]*\*|/[a-z.]+/[a-zA-Z]+|/[a-z.]+\.\*)$`).MatchString(s) {
				t.Errorf("%q was refused: %v", s, err)
			}
			return
		}
		want := regexp.MustCompile(`(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(s), `\*`, `.*`) + `\z`).MatchString(method)
		if got := p.matches(method); got != want {
			t.Errorf("%q matches %q: %v, want %v", s, method, got, want)
		}
	})
}
