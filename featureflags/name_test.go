package featureflags_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/capguard/capguard/featureflags"
)

func TestParseName(t *testing.T) {
	longest := strings.Repeat("a", 63)
	for name, want := range map[string]string{
		"recs": "recs", "flags/recs": "recs", "7": "7", "a.b-c_d": "a.b-c_d", "flags": "flags", longest: longest, "flags/" + longest: longest,
		"": "", "flags/": "", "flags/flags/recs": "", "Recs": "", "-recs": "", ".recs": "", "_recs": "", "re cs": "", "récs": "", "recs\n": "",
		longest + "a": "", "../etc/passwd": "", "recs\x00": "", "recs/revisions/7": "",
	} {
		got, err := featureflags.ParseName(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseName(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestParseNameSaysWhatAnIDMayBe(t *testing.T) {
	_, err := featureflags.ParseName("Recs")
	want := `name: "Recs" is no flag id; an id is 1 to 63 of a-z, 0-9, "-", "_" and ".", and begins with a letter or a digit`
	if err == nil || err.Error() != want {
		t.Errorf("ParseName(Recs) = %v\nwant %s", err, want)
	}
	if _, err := featureflags.ParseName(strings.Repeat("x", 1<<20)); len(err.Error()) > 500 {
		t.Errorf("the error repeats %d bytes of an absurd name", len(err.Error()))
	}
}

func FuzzParseName(f *testing.F) {
	for _, seed := range []string{"recs", "flags/recs", "", "-x", "x\xff", strings.Repeat("a", 64), "flags/"} {
		f.Add(seed)
	}
	oracle := regexp.MustCompile(`\A(?:flags/)?([a-z0-9][a-z0-9._-]{0,62})\z`)
	f.Fuzz(func(t *testing.T, name string) {
		got, err := featureflags.ParseName(name)
		match := oracle.FindStringSubmatch(name)
		if (err == nil) != (match != nil) || match != nil && got != match[1] {
			t.Errorf("ParseName(%q) = %q, %v; oracle: %q", name, got, err, match)
		}
		if e, ok := errors.AsType[*featureflags.Error](err); err != nil && (!ok || e.Kind != featureflags.Invalid || e.Field != "name") {
			t.Errorf("ParseName(%q) = %#v, want kind Invalid, field name", name, err)
		}
	})
}

func TestNearest(t *testing.T) {
	all := []string{"recs", "recs-v2", "reviews", "recommendations", "search", "search-suggest", "ads", "ab", "checkout", "recs"}
	tests := []struct {
		name string
		want []string
	}{
		{"rcs", []string{"recs"}},
		{"resc", []string{"recs"}},
		{"recss", []string{"recs"}},
		{"recs", []string{"recs", "recs-v2"}},
		{"recomendation", []string{"recommendations"}},
		{"recommend", []string{"recommendations"}},
		{"serach", []string{"search"}},
		{"suggest", []string{"search-suggest"}},
		{"checkout-page", []string{"checkout"}},
		{"ac", []string{"ab"}},
		{"zebra", nil},
		{"", nil},
		{strings.Repeat("recs", 100), nil},
	}
	for _, test := range tests {
		if got := featureflags.Nearest(test.name, slices.Values(all)); !slices.Equal(got, test.want) {
			t.Errorf("Nearest(%q) = %v, want %v", test.name, got, test.want)
		}
	}
	four := []string{"aaad", "aaac", "aaab", "aaae", strings.Repeat("a", 64)}
	if got := featureflags.Nearest("aaaa", slices.Values(four)); !slices.Equal(got, []string{"aaab", "aaac", "aaad"}) {
		t.Errorf("of four as near as each other: %v, want the first three by name", got)
	}
}

// FuzzNearest compares the edit distance with the recursive definition, through what Nearest tells of it.
func FuzzNearest(f *testing.F) {
	f.Add("recs", "rcs")
	f.Add("recs", "esrc")
	f.Add("abcdef", "badcfe")
	f.Fuzz(func(t *testing.T, name, candidate string) {
		if len(name) > 7 || len(candidate) > 7 || len(name) < 1 || strings.Contains(name, candidate) || strings.Contains(candidate, name) {
			return // the oracle is slow, and containment is another rule
		}
		want := distance(name, candidate) <= min(3, 1+len(name)/4)
		if got := featureflags.Nearest(name, slices.Values([]string{candidate})); (len(got) == 1) != want {
			t.Errorf("Nearest(%q, %q) = %v; distance %d", name, candidate, got, distance(name, candidate))
		}
	})
}

func distance(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	x, y := a[1:], b[1:]
	if a[0] == b[0] {
		return distance(x, y)
	}
	d := 1 + min(distance(x, b), distance(a, y), distance(x, y))
	if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
		d = min(d, 1+distance(a[2:], b[2:]))
	}
	return d
}
