package scenario_test

import (
	"math"
	"testing"
	"time"

	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/scenario"
)

// one returns what a record comes to in one measure.
func one(r *scenario.Record, w scenario.Want) float64 {
	r.Scenario.Wants = []scenario.Want{w}
	return scenario.Judge([]*scenario.Record{r}).Wants[0].Median
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6 && got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// TestWhatNobodyCanDoIsNotAskedFor: in its fifth second a call takes 200 ms. When the objective is shorter, nothing can be good then.
func TestWhatNobodyCanDoIsNotAskedFor(t *testing.T) {
	for objective, want := range map[time.Duration]float64{150 * time.Millisecond: 90.0 / 90, 250 * time.Millisecond: 90.0 / 95} {
		s := small()
		s.Objective = objective
		r := perSecond(s, 20, func(second, i int) bool { return second != 4 && i%2 == 0 })
		near(t, "goodput with an objective of "+objective.String(), one(r, scenario.Want{Metric: scenario.Goodput, Least: 1}), want)
	}
}

// TestOverloadedSecondsCountWhatSucceedsInThem: what was admitted in the first second and served in the second one is no success of the first.
func TestOverloadedSecondsCountWhatSucceedsInThem(t *testing.T) {
	r := perSecond(small(), 20, func(second, i int) bool { return second == 0 && i%2 == 0 })
	for i := range r.Requests {
		if r.Requests[i].Good {
			r.Requests[i].Done += time.Second
		}
	}
	for second, want := range []float64{0, 1, 0} {
		w := scenario.Window{From: time.Duration(second) * time.Second, To: time.Duration(second+1) * time.Second}
		near(t, "goodput of a second", one(r, scenario.Want{Metric: scenario.Goodput, Window: w, Least: 1}), want)
	}
}

// TestSettlingLasts: one good second is no convergence, three are.
func TestSettlingLasts(t *testing.T) {
	r := perSecond(small(), 4, func(second, _ int) bool { return second < 2 || second == 3 || second > 5 })
	near(t, "convergence", one(r, scenario.Want{Metric: scenario.Convergence}), 3.8) // the last bad call was at 5.75 s, the change at 2 s
	near(t, "recovery", one(r, scenario.Want{Metric: scenario.Recovery}), math.Inf(1))
	near(t, "return", one(r, scenario.Want{Metric: scenario.Return}), 0.8)
}

func TestLatencyIsThatOfWhatWasAdmitted(t *testing.T) {
	r := perSecond(small(), 4, func(int, int) bool { return false }) // 40 are refused at once
	for i := range 200 {
		at := time.Duration(i) * 10 * time.Millisecond
		r.Attempts = append(r.Attempts, scenario.Attempt{Made: at, Sent: at, Ended: at + time.Duration(i+1)*time.Millisecond})
	}
	for range 50 { // what failed at once is not fast
		r.Attempts = append(r.Attempts, scenario.Attempt{Sent: 0, Ended: time.Minute, Fate: scenario.Failed})
	}
	near(t, "the 99th percentile", one(r, scenario.Want{Metric: scenario.P99}), 0.199)
}

// TestRefusalsInOverloadAreNotFalse: in its fifth second the back-end can serve five calls, and eight are to be expected.
func TestRefusalsInOverloadAreNotFalse(t *testing.T) {
	overloaded := perSecond(small(), 8, func(second, i int) bool { return second != 4 || i < 4 })
	near(t, "the share of false refusals", one(overloaded, scenario.Want{Metric: scenario.FalseRefusals}), 0)
	calm := perSecond(small(), 8, func(second, i int) bool { return second != 5 || i < 4 })
	near(t, "the share of false refusals", one(calm, scenario.Want{Metric: scenario.FalseRefusals}), 4.0/72)
}

// TestMessagesGoFirst: what messages of streams take is not there for unary calls, and streams are no calls.
func TestMessagesGoFirst(t *testing.T) {
	s := small()
	s.Classes = append(s.Classes, scenario.Class{
		Name: "streams", Weight: 1, Rate: loadtest.Steady(1), Stream: &scenario.Stream{Lifetime: time.Minute, Every: time.Second, Weight: 0.5},
	})
	r := perSecond(s, 20, func(_, i int) bool { return i < 5 })
	for i := range 100 {
		at := time.Duration(i) * 100 * time.Millisecond
		r.Messages = append(r.Messages, scenario.Message{Class: 2, Sent: at, Answered: at + time.Duration(i)*time.Millisecond})
		r.Requests = append(r.Requests, scenario.Request{Class: 2, Due: at, Done: at, Refused: true})
		r.Attempts = append(r.Attempts, scenario.Attempt{Class: 2, Made: at, Sent: -1, Ended: at + 20*time.Millisecond, Fate: scenario.Shed})
	}
	r.Attempts = append(r.Attempts, scenario.Attempt{Class: 2, Sent: 0, Ended: time.Hour, Fate: scenario.Failed})
	second := scenario.Window{To: time.Second}
	near(t, "goodput", one(r, scenario.Want{Metric: scenario.Goodput, Window: second, Least: 1}), 1)
	near(t, "amplification", one(r, scenario.Want{Metric: scenario.Amplification, Window: second}), 0.25)
	near(t, "the 99th percentile of messages", one(r, scenario.Want{Metric: scenario.MessageP99}), 0.099)
	near(t, "refusal of streams", one(r, scenario.Want{Metric: scenario.OpenRefusal}), 0.02)
	near(t, "resets", one(r, scenario.Want{Metric: scenario.Resets}), 1)
}

func TestReadmission(t *testing.T) {
	s := small()
	s.Replicas = append(s.Replicas, s.Replicas[0])
	r := perSecond(s, 4, func(int, int) bool { return true })
	for i := range r.Attempts { // the first replica gets nothing until the eighth second, then every fourth call
		if a := &r.Attempts[i]; a.Made < 8*time.Second || i%4 > 0 {
			a.Replica = 1
		}
	}
	near(t, "re-admission", one(r, scenario.Want{Metric: scenario.Readmission}), 3.1) // the first window that holds the first call there
}

// TestWhatVariantsWant: goodput, but not what is written in terms of the service time.
func TestWhatVariantsWant(t *testing.T) {
	list, err := scenario.Select("S2/2", "S10")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"goodput >= 0.920", "goodput[72,120) >= 0.990"} {
		s, ok := scenario.Wide.Apply(list[i])
		if !ok || s.Wants[0].String() != want || len(s.Wants) != i+1 || s.Replicas[0].Workers != 32 {
			t.Errorf("%s with 32 workers wants %v", s.Name, s.Wants)
		}
	}
}
