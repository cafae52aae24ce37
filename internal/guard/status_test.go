package guard_test

import (
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

func TestTotals(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		for _, o := range []guard.Outcome{guard.Success, guard.Overload, guard.Failure, guard.Ignored, guard.Success} {
			r.run(1, call, 0, o)
		}
		r.refuse(guard.Call{Method: check, Deadline: time.Now()}, guard.DeadlineUnreachable)
		want := guard.Totals{Admitted: 5, Succeeded: 2, Overloaded: 1, Failed: 1, Ignored: 1}
		want.Refused[guard.DeadlineUnreachable] = 1
		if s := r.Status(); s.Totals != want || s.Recent != want {
			t.Errorf("totals are %+v, recent ones %+v, want %+v", s.Totals, s.Recent, want)
		}
		if got := r.Methods(); len(got) != 1 || got[0] != (guard.MethodStatus{Method: check, Totals: want}) {
			t.Errorf("methods are %+v", got)
		}
	})
}

// Lesson: statistics right after an idle hour are right.
func TestRecentRollsAndSurvivesIdleness(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		for second := range 30 {
			r.run(10, call, 100*time.Millisecond, guard.Success)
			s := r.Status()
			want := min(10*(second+1), 90)
			if s.Recent.Admitted != uint64(want) || s.Span > 10*time.Second || s.Span < min(time.Duration(second+1), 9)*time.Second {
				t.Fatalf("second %d: %d recent calls over %v", second, s.Recent.Admitted, s.Span)
			}
		}
		sleep(time.Hour)
		r.run(1, call, 0, guard.Failure)
		if s := r.Status(); s.Recent != (guard.Totals{Admitted: 1, Failed: 1}) || s.Totals.Admitted != 301 {
			t.Errorf("after an idle hour: recent %+v, all %+v", s.Recent, s.Totals)
		}
	})
}

func TestEvents(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		none, more := r.Events()
		select {
		case <-more:
			t.Error("told of an event that was none")
		default:
		}
		observe := fixed(5)
		observe.Mode = guard.Observe
		r.Configure(observe, "alice", "trying out")
		r.Configure(observe, "alice", "again")
		r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen, Actor: "bob", Reason: "INC-1", Until: time.Now().Add(time.Minute)})
		<-more
		got, more := r.Events()
		if len(none) != 0 || len(got) != 3 {
			t.Fatalf("events are %+v, then %+v", none, got)
		}
		want := guard.Event{Time: time.Now(), Kind: guard.ModeChanged, From: "enforce", To: "observe", Reason: "trying out", Actor: "alice"}
		if got[0] != at(want, got[0].Time) {
			t.Errorf("first event is %+v", got[0])
		}
		if e := got[1]; e.Kind != guard.LimitChanged || e.From != "1" || e.To != "5" || e.Actor != "alice" {
			t.Errorf("second event is %+v", e)
		}
		if e := got[2]; e.Kind != guard.BreakerChanged || e.From != "closed" || e.To != "forced-open" || e.Actor != "bob" {
			t.Errorf("third event is %+v", e)
		}
		sleep(time.Minute)
		if s := r.Status(); s.Breaker.State != breaker.Closed || s.Mode != guard.Observe {
			t.Errorf("status is %+v", s)
		}
		<-more // the forced state is over
	})
}

// at returns e as it would be at another moment.
func at(e guard.Event, t time.Time) guard.Event {
	e.Time = t
	return e
}

// Nobody takes the events: memory stays bounded, and the newest are kept.
func TestEventsAreBounded(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		for i := range 1000 {
			r.Configure(fixed(1+i%2), "alice", "")
		}
		if got, _ := r.Events(); len(got) != 360 || got[359].To != "2" {
			t.Errorf("%d events", len(got))
		}
		if got, _ := r.Events(); len(got) != 0 {
			t.Errorf("%d events are told twice", len(got))
		}
	})
}

func TestSettings(t *testing.T) {
	g := guard.New(fixed(3))
	g.Configure(fixed(4), "alice", "")
	if got := g.Settings(); !reflect.DeepEqual(got, fixed(4)) {
		t.Errorf("settings are %+v", got)
	}
}

// A call that lives longer than the entry of its method, which made room for others, is counted all the same.
func TestACallThatOutlivesItsMethod(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		p := r.pass(call)
		for i := range 999 {
			r.run(1, guard.Call{Method: strconv.Itoa(i)}, 0, guard.Success)
		}
		sleep(2 * time.Minute)
		r.run(1, guard.Call{Method: "one more"}, 0, guard.Success)
		if got := counted(r, check); got != (guard.Totals{}) {
			t.Fatalf("the method did not make room: %+v", got)
		}
		p.Done(guard.Failure)
		if got := r.Status().Totals; got.Admitted != 1001 || got.Succeeded != 1000 || got.Failed != 1 {
			t.Errorf("totals are %+v", got)
		}
	})
}
