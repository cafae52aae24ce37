package grpcguard_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// refused returns a decision for r with every figure set.
func refused(r guard.Reason) (guard.Decision, guard.Call) {
	d := guard.Decision{
		Reason: r, Wait: 85 * time.Millisecond, RetryAfter: 1500 * time.Millisecond, Limit: 8, InFlight: 7, Breaker: breaker.Open,
		Queued: 3, Threshold: guard.SheddablePlus,
		Feature: guard.Feature{
			Name: "recs", Percent: 12.5, Why: "stock DB at 95%", Who: "alice", Revision: 41,
			Until: time.Date(2026, 12, 24, 2, 30, 0, 0, time.FixedZone("CET", 3600)),
		},
	}
	return d, guard.Call{Method: "/shop.v1.Catalog/List", Feature: "recs", Attempt: 2, Criticality: guard.Sheddable}
}

func TestARefusalIsRecognisedAsWhatItIs(t *testing.T) {
	for r, want := range contract {
		t.Run(want.name, func(t *testing.T) {
			d, c := refused(r)
			st, trailer := grpcguard.Refusal(d, c, "stock")
			got, ok := grpcguard.Recognize(status.FromProto(st.Proto()))
			if !ok || got.Reason != r || got.Code != want.code || got.Message != st.Message() {
				t.Fatalf("Recognize = %+v, %v", got, ok)
			}
			if can := got.RetryAfter >= 0; can != want.retry {
				t.Errorf("RetryAfter = %v, want a retry: %v", got.RetryAfter, want.retry)
			}
			if got.Metadata["backend"] != "stock" || got.Metadata["method"] != "/shop.v1.Catalog/List" {
				t.Errorf("metadata = %v, want back-end and method", got.Metadata)
			}
			push, err := strconv.Atoi(strings.Join(trailer[grpcguard.PushbackKey], ","))
			if err != nil || push >= 0 != want.retry || want.retry && time.Duration(push)*time.Millisecond != got.RetryAfter {
				t.Errorf("push-back = %q, want it to match RetryAfter = %v", trailer[grpcguard.PushbackKey], got.RetryAfter)
			}
		})
	}
}

func TestTheDetailsOfARefusal(t *testing.T) {
	d, c := refused(guard.FeatureOff)
	st, trailer := grpcguard.Refusal(d, c, "stock")
	if n := len(st.Details()); n != 1 {
		t.Errorf("%d details, want no RetryInfo where a retry never helps", n)
	}
	info := st.Details()[0].(*errdetails.ErrorInfo)
	want := map[string]string{"flag": "recs", "feature": "recs", "why": "stock DB at 95%", "who": "alice", "until": "2026-12-24T01:30:00Z",
		"percent": "12.5", "revision": "41", "backend": "stock", "method": "/shop.v1.Catalog/List"}
	if info.GetDomain() != grpcguard.Domain || len(info.GetMetadata()) != len(want) {
		t.Errorf("ErrorInfo = %v", info)
	}
	for k, v := range want {
		if got := info.GetMetadata()[k]; got != v {
			t.Errorf("metadata[%q] = %q, want %q", k, got, v)
		}
	}
	if got := trailer[grpcguard.PushbackKey]; len(got) != 1 || got[0] != "-1" {
		t.Errorf("push-back = %q, want -1", got)
	}
}

func TestWhenToRetry(t *testing.T) {
	for name, c := range map[string]struct {
		reason guard.Reason
		after  time.Duration
		want   string
	}{
		"draining: at once, elsewhere":           {guard.Draining, 5 * time.Second, "0"},
		"breaker: when it is half-open":          {guard.BreakerOpen, 1200 * time.Millisecond, "1200"},
		"breaker held open by an operator":       {guard.BreakerOpen, -1, "-1"},
		"part of a millisecond counts as one":    {guard.LimitReached, 20*time.Millisecond + 1, "21"},
		"overload: never the same load at once":  {guard.QueueTimeout, 0, "10"},
		"off: never, whatever the decision says": {guard.FeatureOff, time.Second, "-1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, trailer := grpcguard.Refusal(guard.Decision{Reason: c.reason, RetryAfter: c.after}, guard.Call{}, "b")
			if got := trailer.Get(grpcguard.PushbackKey); len(got) != 1 || got[0] != c.want {
				t.Errorf("push-back = %q, want %q", got, c.want)
			}
		})
	}
}

// Every variable that a message mentions must be in the metadata, so that programs need not parse texts.
func TestEveryFigureOfTheMessageIsInTheMetadata(t *testing.T) {
	figure := regexp.MustCompile(`"[^"]+"|[0-9][0-9.]*(ms|s)?\b|[A-Z]{4}[A-Z_]+`)
	for r := range contract {
		d, c := refused(r)
		st, _ := grpcguard.Refusal(d, c, "stock")
		got, _ := grpcguard.Recognize(st)
		var values strings.Builder
		for _, v := range got.Metadata {
			values.WriteString(v + "\n")
		}
		for _, f := range figure.FindAllString(st.Message(), -1) {
			if !strings.Contains(values.String(), strings.Trim(f, `"`)) {
				t.Errorf("%s: %s of %q is not in the metadata %v", grpcguard.ReasonName(r), f, st.Message(), got.Metadata)
			}
		}
	}
}

func TestTextsFromOutsideAreBoundedAndPrintable(t *testing.T) {
	junk := strings.Repeat("\x1b[31m\n\x00\xff", 10_000)
	for r := range contract {
		d, c := refused(r)
		d.Feature.Why, d.Feature.Who, d.Feature.Name, c.Method, c.Feature = junk, junk, junk, junk, junk
		st, _ := grpcguard.Refusal(d, c, junk)
		got, ok := grpcguard.Recognize(st)
		if !ok {
			t.Fatalf("%s is not recognised", grpcguard.ReasonName(r))
		}
		got.Metadata["message"] = strings.ReplaceAll(got.Message, `\`, "")
		for k, v := range got.Metadata {
			if len(v) > 4096 || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s: %s has %d bytes and is %.80q", grpcguard.ReasonName(r), k, len(v), v)
			}
		}
	}
}

func TestARefusalWithoutAReasonIsABug(t *testing.T) {
	st, trailer := grpcguard.Refusal(guard.Decision{}, guard.Call{}, "b")
	if st.Code() != codes.Internal || trailer.Get(grpcguard.PushbackKey)[0] != "-1" {
		t.Errorf("Refusal = %v, %v", st, trailer)
	}
}

func TestForeignStatusesAreNotRecognised(t *testing.T) {
	with := func(c codes.Code, reason, domain string) *status.Status {
		st, err := status.New(c, "x").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: domain})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	for name, st := range map[string]*status.Status{
		"nil":            nil,
		"no details":     status.New(codes.Unavailable, "x"),
		"other domain":   with(codes.Unavailable, "DRAINING", "example.com"),
		"unknown reason": with(codes.Unavailable, "TIRED", grpcguard.Domain),
		"other code":     with(codes.Internal, "DRAINING", grpcguard.Domain),
		"no reason":      with(codes.Unavailable, "", grpcguard.Domain),
	} {
		if got, ok := grpcguard.Recognize(st); ok {
			t.Errorf("%s: Recognize = %+v", name, got)
		}
	}
}

// FuzzRecognize feeds reasons, domains and codes from outside: nothing but what the contract says may be recognised.
func FuzzRecognize(f *testing.F) {
	f.Add(uint32(codes.Unavailable), "DRAINING", "capguard", "k", "v", int64(5))
	f.Fuzz(func(t *testing.T, code uint32, reason, domain, key, value string, retry int64) {
		info := &errdetails.ErrorInfo{Reason: reason, Domain: domain, Metadata: map[string]string{key: value}}
		st, err := status.New(codes.Code(code), "x").WithDetails(info)
		if err != nil {
			t.Skip()
		}
		got, ok := grpcguard.Recognize(st)
		naive := false
		for r, c := range contract {
			naive = naive || c.name == reason && domain == "capguard" && c.code == codes.Code(code) && (!ok || got.Reason == r)
		}
		if ok != naive {
			t.Errorf("Recognize(%q, %q, %d) = %+v, %v", domain, reason, code, got, ok)
		}
	})
}

func BenchmarkRefusal(b *testing.B) {
	d, c := refused(guard.LimitReached)
	var st *status.Status
	var trailer metadata.MD
	for b.Loop() {
		st, trailer = grpcguard.Refusal(d, c, "stock")
	}
	_, _ = st, trailer
}

// Story: an operator had set the limit to 0, and callers were told that the back-end was full and so was a line that there was not.
func TestARefusalAtLimit0(t *testing.T) {
	d, c := refused(guard.LimitReached)
	d.Limit, d.InFlight, d.Queued, d.RetryAfter = 0, 0, 0, grpcguard.Never
	st, _ := grpcguard.Refusal(d, c, "stock")
	if want := `back-end "stock" takes no such call: the limit is 0; do not retry`; st.Message() != want {
		t.Errorf("%q, want %q", st.Message(), want)
	}
	if got, _ := grpcguard.Recognize(st); got.Metadata["limit"] != "0" {
		t.Errorf("metadata are %v", got.Metadata)
	}
}

// Who is refused for want of capacity learns how full it is and how critical calls have to be, by program as well as by eye.
func TestARefusalForWantOfCapacityCarriesTheFiguresBehindIt(t *testing.T) {
	for _, r := range []guard.Reason{guard.LimitReached, guard.QueueTimeout, guard.RetryBudgetExhausted} {
		d, c := refused(r)
		st, _ := grpcguard.Refusal(d, c, "stock")
		got, _ := grpcguard.Recognize(st)
		for k, want := range map[string]string{
			"limit": "8", "in_flight": "7", "queued": "3", "wait": "85ms", "threshold": "SHEDDABLE_PLUS", "attempt": "2",
		} {
			if got.Metadata[k] != want {
				t.Errorf("%s: metadata[%q] = %q, want %q", grpcguard.ReasonName(r), k, got.Metadata[k], want)
			}
		}
		if want := "queued 3, down to SHEDDABLE_PLUS admitted)"; r != guard.RetryBudgetExhausted && !strings.Contains(st.Message(), want) {
			t.Errorf("%q does not say %q", st.Message(), want)
		}
	}
}
