package connect

import (
	"io"
	"strings"
	"testing"
)

const good = `Sending request for "Basic/a"...
Received response for "Basic/a"...
Received response for "Basic/b (grpc client impl)"...
FAILED: Basic/b (grpc client impl):
	expecting an error
	but received none

Total cases: 2
1 passed, 1 failed
`

func TestOutcomeIsRead(t *testing.T) {
	o, ok := parse(good)
	if !ok || o.total != 2 || !o.passed["Basic/a"] || len(o.passed) != 1 || !strings.Contains(o.failed["Basic/b (grpc client impl)"], "none") {
		t.Errorf("got %+v, %v", o, ok)
	}
}

// What this program reads must add up to what connectconformance counts itself; otherwise the format has changed.
func TestOutcomeThatDoesNotAddUp(t *testing.T) {
	for _, text := range []string{"", strings.Replace(good, "1 passed", "2 passed", 1), strings.Replace(good, "Received", "Got", 1)} {
		if o, ok := parse(text); ok {
			t.Errorf("read %+v of %q", o, text)
		}
	}
}

func TestRunsAreCompared(t *testing.T) {
	o := func(names ...string) outcome {
		passed := map[string]bool{}
		for _, name := range names {
			passed[name] = true
		}
		return outcome{total: 2, passed: passed}
	}
	none := outcome{}
	for _, x := range []struct {
		name      string
		want, got outcome
		same      bool
	}{
		{"the same", o("a", "b"), o("a", "b"), true},
		{"the same case fails", o("a"), o("a"), true},
		{"one more fails", o("a", "b"), o("a"), false},
		{"one fewer fails", o("a"), o("a", "b"), false},
		{"as many, but others", o("a"), o("b"), false},
		{"no case was run", none, none, false},
	} {
		if same := compare(io.Discard, x.name, 2, x.want, x.got); same != x.same {
			t.Errorf("%s: %v", x.name, same)
		}
	}
}
