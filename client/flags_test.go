package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/client"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// settle lets a time pass and everything that it set in motion come to rest.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func wantOn(t *testing.T, f *client.Feature, want bool) {
	t.Helper()
	if got := f.On(); got != want {
		t.Errorf("feature %q On() = %v, want %v", f.Name(), got, want)
	}
}

func TestFlagsFollowTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		recs, early := c.Feature("recs"), c.Feature("search")
		wantOn(t, recs, true)
		s.set(off("search"))
		settle(0)
		wantOn(t, early, false)
		s.disable("recs", "INC-1")
		settle(0)
		wantOn(t, recs, false)
		wantOn(t, c.Feature("recs"), false)
		s.set(on("recs"))
		settle(0)
		wantOn(t, recs, true)
		s.disable("recs", "INC-2")
		s.unset("recs")
		settle(0)
		wantOn(t, recs, true)
		wantOn(t, early, false)
		if h := c.Health(); !h.Live || h.Source != client.FromStream || h.Revision != 6 || h.Flags != 1 || h.StreamError != nil {
			t.Errorf("Health() = %+v", h)
		}
	})
}

// A healthy stream is kept for as long as its heartbeats come.
func TestFlagsLiveOnHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		settle(time.Hour)
		if h := c.Health(); !h.Live || s.opened() != 1 {
			t.Errorf("after an hour: %d streams, %+v", s.opened(), h)
		}
	})
}

// A lost stream: the last good state stays in force, and the status says how old it is.
func TestFlagsKeepTheirLastValuesWithoutTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		recs := c.Feature("recs")
		s.disable("recs", "INC-1")
		settle(7 * time.Second)
		lastBeat := time.Now().Add(-2 * time.Second)
		s.close()
		settle(time.Hour)
		wantOn(t, recs, false)
		if h := c.Health(); h.Live || !h.StaleSince.Equal(lastBeat) || h.StreamError == nil || h.Source != client.FromStream {
			t.Errorf("Health() = %+v, want stale since %v", h, lastBeat)
		}
		s.revive()
		s.set(on("recs"))
		settle(6 * time.Second) // more than the longest delay of the connection and then of the stream
		wantOn(t, recs, true)
		if h := c.Health(); !h.Live || !h.StaleSince.IsZero() || h.StreamError != nil {
			t.Errorf("Health() after the return = %+v", h)
		}
	})
}

// The stream is up but nothing comes: a network box swallows it. Up is not fresh.
func TestFlagsSilentStreamIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		t.Cleanup(s.close)
		s.scripts(say(snapshot(1, off("recs"))))
		c := s.connect(t)
		recs, begun := c.Feature("recs"), time.Now()
		settle(14 * time.Second)
		if h := c.Health(); !h.Live {
			t.Errorf("one heartbeat late: %+v", h)
		}
		s.scripts(s.broadcast)
		settle(time.Second)
		if h := c.Health(); h.Live || !h.StaleSince.Equal(begun) || !strings.Contains(h.StreamError.Error(), "silent") {
			t.Errorf("three heartbeats late: %+v, want stale since %v", h, begun)
		}
		wantOn(t, recs, false)
		settle(time.Second)
		wantOn(t, recs, true)
		if h := c.Health(); !h.Live || s.opened() != 2 {
			t.Errorf("after %d streams: %+v", s.opened(), h)
		}
	})
}

// Whatever does not fit leads to a new stream and so to the whole truth; meanwhile the last flags stay.
func TestFlagsResubscribeOnMisfits(t *testing.T) {
	many := make([]*capguardv1.Flag, 10_001)
	for i := range many {
		many[i] = off(fmt.Sprint("f", i))
	}
	gone := delta(8)
	gone.Deleted = []string{"flags/recs"}
	for name, bad := range map[string][]*capguardv1.WatchFlagsResponse{
		"a heartbeat tells of a change that was missed": {snapshot(5, off("recs")), beat(6)},
		"a heartbeat tells of an older store":           {snapshot(5, off("recs")), beat(4)},
		"a delta goes back":                             {snapshot(5, off("recs")), delta(4, on("recs"))},
		"a delta comes first":                           {delta(8, on("recs"))},
		"a deletion comes first":                        {gone},
		"a heartbeat comes first":                       {beat(5)},
		"a set is too large":                            {snapshot(9, many...)},
		"a delta makes it too large":                    {snapshot(5, off("recs")), delta(6, many...)},
		"a message is empty":                            {{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := dialed(t)
				s.set(off("recs"))
				settle(0)
				s.close()
				s.scripts(say(bad...))
				s.revive()
				settle(3 * time.Second)
				wantOn(t, c.Feature("recs"), false)
				if got := s.opened(); got < 3 || got > 30 {
					t.Errorf("%d streams after 3 s of misfits", got)
				}
				s.scripts(s.broadcast)
				s.set(on("recs"))
				settle(5 * time.Second)
				wantOn(t, c.Feature("recs"), true)
				if !c.Health().Live {
					t.Errorf("not live: %+v", c.Health())
				}
			})
		})
	}
}

// Messages that are unusual but fit are taken.
func TestFlagsAcceptWhatFits(t *testing.T) {
	later := &capguardv1.WatchFlagsResponse{Kind: 17, Revision: 99}
	for name, good := range map[string][]*capguardv1.WatchFlagsResponse{
		"a delta skips revisions":           {snapshot(5), delta(50, off("recs")), beat(50)},
		"a delta of the same revision":      {snapshot(5, on("recs")), delta(5, off("recs")), beat(5)},
		"a second snapshot, older":          {snapshot(5), snapshot(2, off("recs")), beat(2)},
		"a kind of a later version":         {snapshot(5, off("recs")), later, beat(5)},
		"a bare name":                       {snapshot(5, &capguardv1.Flag{Name: "recs", State: capguardv1.Flag_STATE_OFF})},
		"a deletion of what is not there":   {snapshot(5, off("recs")), {Kind: capguardv1.WatchFlagsResponse_KIND_DELTA, Revision: 6, Deleted: []string{"x"}}},
		"off, whatever the percentage says": {snapshot(5, &capguardv1.Flag{Name: "recs", State: capguardv1.Flag_STATE_OFF, Percent: new(100.0)})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				t.Cleanup(s.close)
				s.scripts(say(good...))
				c := s.connect(t)
				settle(time.Second)
				wantOn(t, c.Feature("recs"), false)
				if !c.Health().Live || s.opened() != 1 {
					t.Errorf("%d streams, %+v", s.opened(), c.Health())
				}
			})
		})
	}
}

// A stream that breaks at once each time is tried ever more seldom.
func TestFlagsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		t.Cleanup(s.close)
		s.scripts(func(stream watchStream) error { return stream.Send(snapshot(1, off("recs"))) })
		c := s.connect(t)
		settle(10 * time.Minute)
		if got := s.opened(); got < 200 || got > 610 {
			t.Errorf("%d streams in ten minutes, want one every 1 to 3 s", got)
		}
		wantOn(t, c.Feature("recs"), false)
		if err := c.Health().StreamError; err == nil || !strings.Contains(err.Error(), "ended the stream") {
			t.Errorf("StreamError = %v", err)
		}
	})
}

func TestWaitForFlags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		s.close()
		c := s.connect(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := c.WaitForFlags(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("WaitForFlags = %v, want the deadline and why there is no stream", err)
		}
		s.revive()
		t.Cleanup(s.close)
		if err := c.WaitForFlags(t.Context()); err != nil {
			t.Errorf("WaitForFlags with a guard = %v", err)
		}
		s.close()
		settle(time.Second)
		if err := c.WaitForFlags(t.Context()); err != nil {
			t.Errorf("WaitForFlags once known = %v", err)
		}
	})
}

// Nobody waits for the flags of a connection that is closed.
func TestWaitForFlagsEndsWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		s.close()
		c := s.connect(t)
		time.AfterFunc(time.Second, func() { c.Close() })
		if err := c.WaitForFlags(t.Context()); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("WaitForFlags = %v", err)
		}
	})
}

// A setting ends on the client by its own timer, also when the guard is gone for good.
func TestTTLEndsWithoutTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		recs, search := c.Feature("recs"), c.Feature("search")
		s.set(until(off("recs"), 2*time.Hour))
		s.set(until(off("search"), 3*time.Hour))
		settle(0)
		s.close()
		settle(2*time.Hour - time.Nanosecond)
		wantOn(t, recs, false)
		settle(time.Nanosecond)
		wantOn(t, recs, true)
		wantOn(t, search, false)
		settle(time.Hour)
		wantOn(t, search, true)
	})
}

// A change that shortens, lengthens or drops the end of a setting moves the timer.
func TestTTLMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		recs := c.Feature("recs")
		s.set(until(off("recs"), time.Minute))
		settle(30 * time.Second)
		s.set(until(off("recs"), time.Minute))
		settle(45 * time.Second)
		wantOn(t, recs, false)
		s.set(until(off("recs"), time.Second))
		settle(time.Second)
		wantOn(t, recs, true)
		s.set(until(off("recs"), time.Second))
		s.set(off("recs"))
		settle(time.Hour)
		wantOn(t, recs, false)
		s.set(until(off("recs"), -time.Second)) // The setting had ended before it came.
		settle(0)
		wantOn(t, recs, true)
	})
}
