package featureflags_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/featureflags/boltstore"
)

// run lets settings end until the returned function is called.
func run(t *testing.T, reg *featureflags.Registry) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { reg.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

func stateOf(reg *featureflags.Registry, name string) featureflags.State {
	f, _ := reg.Snapshot().Flag(name)
	s, _ := f.Effective(time.Now())
	return s.State()
}

func TestSettingsEndOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		defer run(t, reg)()
		mustApply(t, reg, dim("recs", 20), lasting(off("recs"), time.Hour), lasting(off("ads"), 30*time.Minute))
		end := time.Now().Add(time.Hour)

		time.Sleep(time.Hour - time.Nanosecond)
		synctest.Wait()
		if got, revision := stateOf(reg, "recs"), reg.Snapshot().Revision; got != featureflags.Off || revision != 4 {
			t.Errorf("a nanosecond before its end: %v at revision %d, want off at 4 (ads ended before)", got, revision)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		f, _ := reg.Snapshot().Flag("recs")
		if got := brief(f, time.Now()); got != "dimmed 20 by ann" || f.Override != nil || !f.Until.IsZero() {
			t.Errorf("at its end: %s, override %v", got, f.Override)
		}
		revs, err := reg.Revisions(t.Context(), "recs", 0, 1)
		if err != nil || len(revs) != 1 {
			t.Fatalf("Revisions() = %v, %v", revs, err)
		}
		if r := revs[0]; r.Action != featureflags.Expire || r.Actor != "schedule" || r.Number != 5 || !r.Time.Equal(end) {
			t.Errorf("history of the end: %+v, want expire by schedule at %v", r, end)
		}
	})
}

func TestExtendedSettingEndsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		defer run(t, reg)()
		mustApply(t, reg, lasting(off("recs"), time.Hour))
		time.Sleep(500 * time.Millisecond)
		if mustApply(t, reg, lasting(off("recs"), time.Hour)).Changed {
			t.Error("a repetition within a second extended the time")
		}
		time.Sleep(30 * time.Minute)
		if !mustApply(t, reg, lasting(off("recs"), time.Hour)).Changed {
			t.Error("a repetition half an hour later did not extend the time")
		}
		time.Sleep(time.Hour - time.Second)
		if got := stateOf(reg, "recs"); got != featureflags.Off {
			t.Errorf("before the later end: %v", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := stateOf(reg, "recs"); got != featureflags.On || reg.Snapshot().Revision != 3 {
			t.Errorf("after the later end: %v at revision %d", got, reg.Snapshot().Revision)
		}
	})
}

// A restart across the end of a setting: the schedule fires even when nobody is there.
func TestSettingEndsWhileTheGuardIsDown(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		reopen := func() (*featureflags.Registry, featureflags.Store) {
			s, err := boltstore.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return newRegistry(t, s), s
		}
		reg, s := reopen()
		mustApply(t, reg, lasting(off("recs"), time.Hour), lasting(off("ads"), 3*time.Hour))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		reg, s = reopen()
		defer s.Close()
		if got := stateOf(reg, "recs"); got != featureflags.On || reg.Snapshot().Revision != 2 {
			t.Errorf("after the restart: %v at revision %d, want on, and Open to write nothing", got, reg.Snapshot().Revision)
		}
		defer run(t, reg)()
		synctest.Wait()
		revs, err := reg.Revisions(t.Context(), "recs", 0, 1)
		if err != nil || revs[0].Action != featureflags.Expire || revs[0].Number != 3 {
			t.Errorf("history after the restart: %+v, %v; want expire", revs, err)
		}
		if got := stateOf(reg, "ads"); got != featureflags.Off {
			t.Errorf("what has not ended is %v", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if f, _ := reg.Snapshot().Flag("ads"); f.Override != nil {
			t.Error("what was to end after the restart did not")
		}
	})
}

func TestRollbackDropsWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		defer run(t, reg)()
		mustApply(t, reg, dim("recs", 20), lasting(off("recs"), time.Hour), on("recs"))
		time.Sleep(30 * time.Minute)
		if got := brief(mustApply(t, reg, rollback("recs", 2)).Flag, time.Now()); got != "off 0 by ann for 30m0s, then dimmed 20 by ann" {
			t.Errorf("rolled back before its end: %s", got)
		}
		mustApply(t, reg, on("recs"))
		time.Sleep(time.Hour)
		if got := brief(mustApply(t, reg, by(rollback("recs", 2), "bob")).Flag, time.Now()); got != "dimmed 20 by bob" {
			t.Errorf("rolled back after its end: %s", got)
		}
	})
}

// A command on a flag whose setting has just ended comes after that end in the history, also when Run has not come round to it.
func TestCommandAfterAnEndThatIsNotWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		mustApply(t, reg, lasting(off("recs"), time.Hour))
		time.Sleep(time.Hour)
		result := mustApply(t, reg, dim("recs", 20))
		if got := brief(result.Previous, time.Now()); got != "on 100 by" || result.Revision != 3 {
			t.Errorf("before the command: %s, after it revision %d; want on by nobody, 3", got, result.Revision)
		}
	})
}

// brittle is a store that fails while down is set.
type brittle struct {
	featureflags.Store
	down atomic.Bool
}

var errDisk = errors.New("no space left on device")

func (b *brittle) Commit(ctx context.Context, rev *featureflags.Revision, req *featureflags.Request) error {
	if b.down.Load() {
		return errDisk
	}
	return b.Store.Commit(ctx, rev, req)
}

// A full disk: the last good state stays in force, and the status says how old it is.
func TestFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &brittle{Store: featureflags.NewMemory()}
		reg := newRegistry(t, store)
		mustApply(t, reg, off("recs"))
		before, failed := reg.Snapshot(), time.Now()
		store.down.Store(true)
		for range 2 {
			_, err := reg.Apply(t.Context(), requested(on("recs"), "id-1"), nil)
			if e, ok := errors.AsType[*featureflags.Error](err); !ok || e.Kind != featureflags.StoreDown || !errors.Is(err, errDisk) {
				t.Errorf("Apply() = %v, want StoreDown because of %v", err, errDisk)
			}
			time.Sleep(time.Minute)
		}
		if since, err := reg.StoreError(); !errors.Is(err, errDisk) || !since.Equal(failed) {
			t.Errorf("StoreError() = %v, %v; want since %v", since, err, failed)
		}
		if reg.Snapshot() != before {
			t.Error("a command that was not stored is in force")
		}
		if mustApply(t, reg, off("recs")).Changed {
			t.Error("what is in force already needs no store, but was a change")
		}
		store.down.Store(false)
		if result := mustApply(t, reg, requested(on("recs"), "id-1")); !result.Changed || result.Revision != 2 {
			t.Errorf("after the failure: %+v, want revision 2", result)
		}
		if since, err := reg.StoreError(); err != nil || !since.IsZero() {
			t.Errorf("StoreError() = %v, %v after a change was stored", since, err)
		}
	})
}

func TestSettingEndsAlsoWhenTheStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &brittle{Store: featureflags.NewMemory()}
		reg := newRegistry(t, store)
		defer run(t, reg)()
		mustApply(t, reg, lasting(off("recs"), time.Hour))
		var seen []featureflags.State
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for s := range reg.Watch(ctx) {
				f, _ := s.Flag("recs")
				now, _ := f.Effective(time.Now())
				seen = append(seen, now.State())
			}
		})
		synctest.Wait()
		store.down.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := stateOf(reg, "recs"); got != featureflags.On || reg.Snapshot().Revision != 1 {
			t.Errorf("at its end, with a failing store: %v at revision %d, want on at 1", got, reg.Snapshot().Revision)
		}
		cancel()
		wg.Wait()
		if len(seen) != 2 || seen[0] != featureflags.Off || seen[1] != featureflags.On {
			t.Errorf("a watcher saw %v, want off, on", seen)
		}
		store.down.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if revs, _ := reg.Revisions(t.Context(), "recs", 0, 1); revs[0].Action != featureflags.Expire {
			t.Errorf("after the failure the end is not written down: %+v", revs[0])
		}
	})
}
