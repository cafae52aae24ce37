package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
)

// fullStore takes no change while full is set.
type fullStore struct {
	*featureflags.Memory
	full atomic.Bool
}

func (s *fullStore) Commit(ctx context.Context, rev *featureflags.Revision, req *featureflags.Request) error {
	if s.full.Load() {
		return errors.New("no space left on device")
	}
	return s.Memory.Commit(ctx, rev, req)
}

// Lesson: when the flag store fails the last good state stays in force, and the status says how old it is.
func TestTheAgeOfTheFlagsIsExported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fullStore{Memory: featureflags.NewMemory()}
		flags, err := featureflags.Open(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		tel, err := New(t.Context(), Settings{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait() // Until the watch has ended.
		defer cancel()
		go tel.WatchFlags(ctx, flags)
		switchTo := func(a featureflags.Action) error {
			_, err := flags.Apply(t.Context(), featureflags.Command{Action: a, Name: "recs", AllowMissing: true}, nil)
			return err
		}
		if err := switchTo(featureflags.Disable); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wants(t, page(t, tel), "capguard_flag_revision 1", "capguard_flag_staleness_seconds 0")
		store.full.Store(true)
		if err := switchTo(featureflags.Enable); err == nil {
			t.Fatal("a full store took a change")
		}
		time.Sleep(time.Minute)
		wants(t, page(t, tel), "capguard_flag_revision 1", "capguard_flag_staleness_seconds 60")
		store.full.Store(false)
		if err := switchTo(featureflags.Enable); err != nil {
			t.Fatal(err)
		}
		wants(t, page(t, tel), "capguard_flag_revision 2", "capguard_flag_staleness_seconds 0")
	})
}
