package live

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/loadtest/scenario"
)

// brief is a scenario of less than a second with all there is: retries, a stream, two replicas of which one is killed, a guard that
// restarts.
func brief() scenario.Scenario {
	b := fragile.Brittle()
	b.Crash.Restart = 100 * time.Millisecond
	return scenario.Scenario{
		Name: "brief", Story: "a bit of everything", Replicas: []fragile.Settings{b, b},
		Classes: []scenario.Class{
			{Name: "calls", Method: "/scenario.Service/Call", Tenant: "a", Weight: 0.2, Rate: loadtest.Steady(200)},
			{Name: "streams", Method: "/scenario.Service/Talk", Weight: 1, Rate: loadtest.Steady(20),
				Stream: &scenario.Stream{Lifetime: 200 * time.Millisecond, Every: 50 * time.Millisecond, Weight: 0.1}},
		},
		Duration: 800 * time.Millisecond, Measured: scenario.Window{To: 800 * time.Millisecond},
		Kills: []scenario.Kill{{At: 300 * time.Millisecond}}, Restart: 500 * time.Millisecond,
		Objective: time.Second, Timeout: 2 * time.Second,
		Retry: scenario.Retry{Most: 2, PauseMin: 10 * time.Millisecond, PauseMax: 20 * time.Millisecond},
		Wants: []scenario.Want{{Metric: scenario.Crashes, Most: 1}},
	}
}

// TestEverythingIsWrittenDown plays with and without the guard. It asserts nothing about how long anything took.
func TestEverythingIsWrittenDown(t *testing.T) {
	for _, mode := range []string{"", "enforce"} {
		s := brief()
		r := scenario.NewRecord(&s, scenario.Base, mode, 1)
		if _, err := play(t.Context(), &s, r, setting{network: loopback{}, mode: mode}); err != nil {
			t.Fatalf("mode %q: %v", mode, err)
		}
		good := 0
		for i, q := range r.Requests {
			if q.Done < q.Due {
				t.Errorf("mode %q: request %d did not end: %+v", mode, i, q)
			}
			if q.Good {
				good++
			}
		}
		sent := map[int]int{}
		for i, a := range r.Attempts {
			if a.Ended < a.Made || a.Fate == scenario.Served && a.Sent < 0 {
				t.Errorf("mode %q: attempt %d: %+v", mode, i, a)
			}
			if a.Sent >= 0 {
				sent[a.Replica]++
			}
		}
		if len(r.Requests) < 100 || good == 0 || sent[0] == 0 || sent[1] == 0 || len(r.Messages) == 0 {
			t.Errorf("mode %q: %d requests, %d good, sent %v, %d messages", mode, len(r.Requests), good, sent, len(r.Messages))
		}
		if len(r.Crashes) != 1 || len(r.Samples) != 8 || len(r.Coldness[1]) != 8 {
			t.Errorf("mode %q: %d crashes, %d samples", mode, len(r.Crashes), len(r.Samples))
		}
	}
}

// TestRunEndsWhenToldTo: Ctrl-C ends it in the middle, and nothing stays behind.
func TestRunEndsWhenToldTo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := brief()
	s.Duration, s.Measured.To = time.Hour, time.Hour
	r := scenario.NewRecord(&s, scenario.Base, "ours", 1)
	stop := time.AfterFunc(500*time.Millisecond, cancel)
	defer stop.Stop()
	if _, err := play(ctx, &s, r, setting{network: loopback{}, mode: "enforce"}); err == nil {
		t.Error("a run that was ended looks like one that ended")
	}
}

func TestVoid(t *testing.T) {
	for _, tc := range []struct {
		conduct conduct
		want    string
	}{
		{conduct{lateness: 2 * time.Millisecond, share: 0.85}, ""},
		{conduct{lateness: 3 * time.Millisecond, share: 0.5}, "late"},
		{conduct{share: 0.9}, "busy"},
	} {
		if got := tc.conduct.void(); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%+v is void because %q, want %q", tc.conduct, got, tc.want)
		}
	}
}

func TestPeak(t *testing.T) {
	list, err := scenario.Select("S4")
	if err != nil {
		t.Fatal(err)
	}
	if got := peak(&list[0]); got != 4000 {
		t.Errorf("the highest rate of S4 is %v, want 4000", got)
	}
	half := list[0].Halved()
	cost, before := half.Replicas[0].ServiceTime, list[0].Replicas[0].ServiceTime
	if got := peak(&half); got != 2000 || cost != 40*time.Millisecond || before != 20*time.Millisecond {
		t.Errorf("halved: %v a second of %v; before %v", got, cost, before)
	}
}

// TestReport plays a second, and looks for what has to be told.
func TestReport(t *testing.T) {
	if testing.Short() {
		return
	}
	s := brief()
	s.Kills, s.Restart = nil, 0
	var out bytes.Buffer
	if err := Run(t.Context(), s, scenario.Base, Options{Seeds: 2, Out: &out}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a bit of everything", "calls without work", "with hindsight", "seed 1:", "seed 2:"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
}
