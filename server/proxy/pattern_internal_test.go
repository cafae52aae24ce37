package proxy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
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
