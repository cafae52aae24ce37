package fragile_test

import (
	"math"
	"testing"
	"time"

	"github.com/capguard/capguard/loadtest/fragile"
)

func TestSupply(t *testing.T) {
	slow := fragile.Default()
	slow.Slow = []fragile.Phase{{From: time.Second, To: 1500 * time.Millisecond, Factor: 4}}
	paused := fragile.Default()
	paused.Pause = fragile.Pause{First: 800 * time.Millisecond, Every: 10 * time.Second, Length: 300 * time.Millisecond}
	brittle := fragile.Brittle()
	for _, tc := range []struct {
		name     string
		settings fragile.Settings
		kills    []time.Duration
		want     []float64 // jobs in each second
	}{
		{"calm", fragile.Wide(), nil, []float64{400, 400, 400}},
		{"slow for half a second", slow, nil, []float64{400, 250, 400}},
		{"a pause over the end of a second", paused, nil, []float64{320, 360, 400}},
		{"dead", brittle, []time.Duration{500 * time.Millisecond}, []float64{200, 0, 0, 0, 0, 200, 400}},
	} {
		for i, got := range tc.settings.Supply(time.Second, len(tc.want), time.Second, tc.kills...) {
			if math.Abs(got.Jobs-tc.want[i]) > 1 {
				t.Errorf("%s: second %d has %.1f jobs, want %.1f", tc.name, i, got.Jobs, tc.want[i])
			}
		}
	}
}

// TestTimelyAgainstDraws compares the share of jobs that are in time with that of jobs which were drawn.
func TestTimelyAgainstDraws(t *testing.T) {
	for _, tc := range []struct {
		settings fragile.Settings
		limit    time.Duration
	}{
		{fragile.Default(), 20 * time.Millisecond}, {fragile.Wide(), 100 * time.Millisecond}, {fragile.Narrow(), 4 * time.Millisecond},
	} {
		c, err := fragile.NewCore(tc.settings)
		if err != nil {
			t.Fatal(err)
		}
		const n = 20_000
		timely, now := 0, time.Duration(0)
		for range n {
			if _, err := c.Arrive(1, nil, now); err != nil {
				t.Fatal(err)
			}
			end, _ := c.Next()
			if c.Step(); end-now <= tc.limit {
				timely++
			}
			now = end
		}
		if got, want := tc.settings.Supply(time.Second, 1, tc.limit)[0].Timely, float64(timely)/n; math.Abs(got-want) > 0.015 {
			t.Errorf("%v of %v: %.3f are in time, of those drawn %.3f", tc.limit, tc.settings.ServiceTime, got, want)
		}
	}
	fixed := fragile.Default()
	fixed.CV = 0
	for limit, want := range map[time.Duration]float64{19 * time.Millisecond: 0, 20 * time.Millisecond: 1} {
		if got := fixed.Supply(time.Second, 1, limit)[0].Timely; got != want {
			t.Errorf("jobs of exactly 20ms: %v are done in %v, want %v", got, limit, want)
		}
	}
}

// TestColdAfterACrash: the first jobs of a new life take four times as long, whatever the cache held before.
func TestColdAfterACrash(t *testing.T) {
	c, err := fragile.NewCore(fragile.Brittle())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Coldness(); got != 1 {
		t.Errorf("with a full cache jobs take %v times as long", got)
	}
	c.Crash(time.Second)
	if got := c.Coldness(); got != 4 {
		t.Errorf("after a crash jobs take %v times as long, want 4", got)
	}
}
