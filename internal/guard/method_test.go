package guard_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// counted returns what is counted of one method under its name.
func counted(r rig, method string) guard.Totals {
	for _, m := range r.Methods() {
		if m.Method == method {
			return m.Totals
		}
	}
	return guard.Totals{}
}

// invent has the back-end turn down n calls, each of a method that it has not.
func (r rig) invent(n int) {
	r.Helper()
	for i := range n {
		r.run(1, guard.Call{Method: fmt.Sprint("/invented.Service/", i)}, 0, guard.Ignored)
	}
}

func TestMethodsAreBounded(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		for i := range 1500 {
			c := guard.Call{Method: fmt.Sprint("/invented.Service/", i)}
			p := r.pass(c)
			if i >= 1000 {
				p.MethodStreams() // teaches nothing of the others
			}
			p.Done(guard.Success)
		}
		got := r.Methods()
		if last := got[len(got)-1]; len(got) != 1001 || last.Method != "other" || last.Totals.Succeeded != 500 {
			t.Errorf("%d methods, the last is %+v", len(got), last)
		}
		r.pass(guard.Call{Method: "/late.Service/Unary"})
		r.inFlight(1, 0)
	})
}

// Names that can be no method's count together from the start.
func TestWhatIsNoNameCountsAsOther(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		r.run(1, guard.Call{Method: "/" + strings.Repeat("long", 10_000)}, 0, guard.Success)
		r.run(1, guard.Call{Method: "/not/text\xff"}, 0, guard.Success)
		want := []guard.MethodStatus{{Method: "other", Totals: guard.Totals{Admitted: 2, Succeeded: 2}}}
		if got := r.Methods(); !slices.Equal(got, want) {
			t.Errorf("methods are %+v", got)
		}
	})
}

// Story: 3,000 invented names filled the table within a second. Of 200 good calls of a real method none was counted by name, nothing was
// learned of it, and nobody could have it explained. Invented names give way, first to last, to whatever comes after them.
func TestInventedMethodsKeepNoRealOneOut(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		r.invent(3000)
		r.run(200, call, time.Millisecond, guard.Success)
		if got, want := counted(r, check), (guard.Totals{Admitted: 200, Succeeded: 200}); got != want {
			t.Errorf("the real method counts %+v", got)
		}
		if e, ok := r.Explain(call); !ok || e.Need == 0 {
			t.Errorf("explained: %v, with a median of %v", ok, e.Need)
		}
		if s := r.State(); len(s.Methods) != 1 || s.Methods[0].Name != check {
			t.Errorf("costs are learned of %+v", s.Methods)
		}
		if n := len(r.Methods()); n != 1001 {
			t.Errorf("%d methods are kept", n)
		}
	})
}

// Story: the other way round, a flood of invented names must not push out what is known of a method, be it idle for days.
func TestInventedMethodsPushNoRealOneOut(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		r.run(50, call, time.Millisecond, guard.Success)
		r.pass(guard.Call{Method: "/shop.Stock/Watch"}).MethodStreams()
		sleep(48 * time.Hour)
		r.invent(3000)
		if got := counted(r, check); got.Succeeded != 50 {
			t.Errorf("the real method counts %+v", got)
		}
		if got := r.State().Methods; len(got) != 2 || got[0].Cost.Samples != 50 || !got[1].Streams {
			t.Errorf("%+v is known", got)
		}
		want := guard.Totals{Admitted: 3051, Succeeded: 50, Ignored: 3000}
		if got := r.Status().Totals; got != want {
			t.Errorf("totals are %+v, want %+v", got, want)
		}
	})
}

// A call that is still at the back-end when its method's name is pushed out brings it back by its success. What it counted counts as other.
func TestASuccessBringsItsMethodBack(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		p, q, lost := r.pass(call), r.pass(call), r.pass(guard.Call{Method: "/lost.Service/Call"})
		r.invent(1000)
		if got := counted(r, check); got != (guard.Totals{}) {
			t.Fatalf("the method did not make room: %+v", got)
		}
		lost.Done(guard.Failure)
		p.Done(guard.Success)
		r.invent(1000)
		if _, ok := r.Explain(call); !ok {
			t.Error("the method is not back")
		}
		r.run(1, call, 0, guard.Success)
		q.Done(guard.Success)
		if got, want := counted(r, check), (guard.Totals{Admitted: 1, Succeeded: 1}); got != want {
			t.Errorf("the method counts %+v, want %+v", got, want)
		}
		want := guard.Totals{Admitted: 2004, Succeeded: 3, Failed: 1, Ignored: 2000}
		if got := r.Status().Totals; got != want {
			t.Errorf("totals are %+v, want %+v", got, want)
		}
	})
}

// Where a thousand methods are proven, one more gets the place of one that is at rest; without such a one it stays where new ones come.
func TestProvenMethodsGiveWayToProvenOnes(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		for i := range 999 {
			r.run(1, guard.Call{Method: fmt.Sprint("/shop.Stock/", i)}, 0, guard.Success)
		}
		sleep(time.Minute)
		r.run(1, call, 0, guard.Success)
		r.invent(1)
		if counted(r, check).Admitted != 0 || counted(r, "/shop.Stock/0").Admitted != 1 {
			t.Error("a method that was called a minute ago had to go")
		}
		sleep(time.Second)
		r.run(1, guard.Call{Method: "/shop.Stock/0"}, 0, guard.Success)
		r.run(1, call, 0, guard.Success)
		r.invent(1)
		for method, want := range map[string]uint64{check: 1, "/shop.Stock/0": 2, "/shop.Stock/1": 0, "/shop.Stock/2": 1} {
			if got := counted(r, method).Admitted; got != want {
				t.Errorf("%s counts %d, want %d", method, got, want)
			}
		}
	})
}

// Each invented name is refused for the first time, and yet none of them is news: the refusal of a method that exists is on record.
func TestInventedMethodsAreNoNews(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.off("report")
		r.run(1, call, 0, guard.Success)
		r.flood(2000, 20*time.Second, func(i int) guard.Call {
			if i%2500 == 2499 {
				return report
			}
			return guard.Call{Method: fmt.Sprint("/invented.Service/", i), Feature: "report"}
		})
		if got := r.Refusals(guard.Filter{Method: check}, 99); len(got) < 15 {
			t.Errorf("%d of 16 refusals of the method are on record", len(got))
		}
	})
}

// What is counted of the names together only grows, whoever is pushed out: collectors take a counter that falls for a restart.
func TestOtherOnlyGrows(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		last := uint64(0)
		for range 50 {
			r.invent(1100)
			r.run(1, call, time.Second, guard.Success)
			now := counted(r, "other").Admitted
			if now < last {
				t.Fatalf("other fell from %d to %d", last, now)
			}
			last = now
		}
		if got := r.Status().Recent.Admitted; got < 9*1100 || got > 11*1101 {
			t.Errorf("%d calls within the last seconds", got)
		}
	})
}

// An answer that there is no such method is as good as any for breaker and limit, and tells nothing of the method.
func TestMissingMethods(t *testing.T) {
	s := guard.Default()
	inBubble(t, s, func(r rig) {
		r.halfOpen()
		r.run(s.Breaker.Probes, guard.Call{Method: "/x.Y/Invented"}, time.Millisecond, guard.Missing)
		r.state(breaker.Closed)
		if totals := r.Status().Totals; totals.Succeeded != uint64(s.Breaker.Probes) {
			t.Errorf("totals are %+v", totals)
		}
		r.run(100, guard.Call{Method: "/x.Y/Invented"}, 50*time.Millisecond, guard.Missing)
		r.pass(guard.Call{Method: "/x.Y/Invented", Deadline: time.Now().Add(time.Millisecond)}).Done(guard.Ignored)
	})
}
