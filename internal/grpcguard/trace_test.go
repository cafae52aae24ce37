package grpcguard_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestTheTraceOfACall(t *testing.T) {
	for name, c := range map[string]struct {
		header        string
		good, sampled bool
	}{
		"sampled":                         {parent, true, true},
		"not sampled":                     {strings.TrimSuffix(parent, "1") + "0", true, false},
		"other flags":                     {strings.TrimSuffix(parent, "01") + "fe", true, false},
		"a later version with more":       {"cc" + parent[2:] + "-what-the-future-brings", true, true},
		"a later version, not so far on":  {"cc" + parent[2:], true, true},
		"the first version with more":     {parent + "-more", false, false},
		"a later version, joined wrongly": {"cc" + parent[2:] + ".more", false, false},
		"the forbidden version":           {"ff" + parent[2:], false, false},
		"upper case":                      {strings.ToUpper(parent), false, false},
		"no trace":                        {"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01", false, false},
		"no span":                         {"00-0af7651916cd43dd8448eb211c80319c-" + strings.Repeat("0", 16) + "-01", false, false},
		"no digits":                       {strings.Replace(parent, "0af7", "xyz!", 1), false, false},
		"a version of no digits":          {"0x" + parent[2:], false, false},
		"short":                           {parent[1:], false, false},
		"empty":                           {"", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := grpcguard.ParseTrace(c.header)
			if good := got != (guard.Trace{}); good != c.good || got.Sampled != c.sampled {
				t.Errorf("ParseTrace(%q) = %+v", c.header, got)
			}
			if id := fmt.Sprintf("%x", got.ID); c.good && id != "0af7651916cd43dd8448eb211c80319c" {
				t.Errorf("the trace is %s", id)
			}
		})
	}
}

// FuzzParseTrace compares with the parser of OpenTelemetry, which refuses flags that version 00 does not define, and nothing else.
func FuzzParseTrace(f *testing.F) {
	for _, s := range []string{parent, parent[1:], "cc" + parent[2:] + "-x", strings.ToUpper(parent), "00-" + strings.Repeat("0", 52)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": s})
		want := trace.SpanContextFromContext(ctx)
		got := grpcguard.ParseTrace(s)
		if want.IsValid() && got != (guard.Trace{ID: want.TraceID(), Sampled: want.IsSampled()}) {
			t.Errorf("ParseTrace(%q) = %+v, OpenTelemetry finds %v, sampled %v", s, got, want.TraceID(), want.IsSampled())
		}
		if !want.IsValid() && got != (guard.Trace{}) && !strings.HasPrefix(s, "00-") {
			t.Errorf("ParseTrace(%q) = %+v, OpenTelemetry finds none", s, got)
		}
	})
}

func BenchmarkParseTrace(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if grpcguard.ParseTrace(parent) == (guard.Trace{}) {
			b.Fatal("no trace")
		}
	}
}
