package admin

import (
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// FuzzFilter: no text panics; what is accepted consists of known fields and operators, and written anew it means the same.
func FuzzFilter(f *testing.F) {
	for _, text := range []string{"", "state != STATE_ON", `actor = "anna" AND name=recs`, `name = "a`, "AND", "name == x", "state:STATE_ON"} {
		f.Add(text)
	}
	flag := &capguardv1.Flag{Name: "flags/recs", State: capguardv1.Flag_STATE_OFF, Actor: "anna"}
	f.Fuzz(func(t *testing.T, text string) {
		conditions, err := parseFilter(text)
		if err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := parseFilter(written(conditions))
		if err != nil || len(again) != len(conditions) {
			t.Fatalf("%q became %q: %v", text, written(conditions), err)
		}
		for i, c := range conditions {
			if c != again[i] || c.match(flag) != again[i].match(flag) {
				t.Errorf("%q: %+v became %+v", text, c, again[i])
			}
		}
	})
}

func written(conditions []condition) string {
	var parts []string
	for _, c := range conditions {
		operator := "!="
		if c.equal {
			operator = "="
		}
		parts = append(parts, c.field+operator+strconv.Quote(c.value))
	}
	return strings.Join(parts, " AND ")
}

// FuzzPageToken: no token panics, and only our own are accepted.
func FuzzPageToken(f *testing.F) {
	f.Add("", "recs")
	f.Add("YWJj", "")
	f.Add(page{scope: fingerprint("flags")}.token("recs"), "recs")
	f.Fuzz(func(t *testing.T, token, last string) {
		if p, err := parsePage(5, token, "flags"); err == nil && token != "" && p.token(p.after) != token {
			t.Errorf("%q was accepted as %q", token, p.token(p.after))
		}
		p, err := parsePage(5, page{scope: fingerprint("flags")}.token(last), "flags")
		if err != nil || p.after != last {
			t.Errorf("a token of %q gives %q, %v", last, p.after, err)
		}
	})
}
