package featureflags_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
)

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		mustApply(t, reg, off("recs"))
		ctx, cancel := context.WithCancel(t.Context())
		var quick, slow []int64
		var wg sync.WaitGroup
		watch := func(seen *[]int64, pause time.Duration) {
			wg.Go(func() {
				for s := range reg.Watch(ctx) {
					*seen = append(*seen, s.Revision)
					time.Sleep(pause)
				}
			})
		}
		watch(&quick, 0)
		watch(&slow, 10*time.Second)
		for i := range 20 {
			synctest.Wait()
			mustApply(t, reg, dim("recs", float64(i+1)))
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		cancel()
		wg.Wait()
		if want := []int64{1, 11, 21}; !slices.Equal(slow, want) {
			t.Errorf("a watcher that takes 10 s a snapshot saw %v, want %v", slow, want)
		}
		if len(quick) != 21 || !slices.IsSorted(quick) {
			t.Errorf("a quick watcher saw %v, want 1 to 21", quick)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		for range reg.Watch(t.Context()) {
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range reg.Watch(ctx) {
			t.Error("a watch that had ended yielded a snapshot")
		}
	})
}

// Off means off from the moment the command has answered, for every reader, and a snapshot never changes.
func TestReadersAndWriters(t *testing.T) {
	reg := newRegistry(t, featureflags.NewMemory())
	mustApply(t, reg, on("recs"))
	ctx, cancel := context.WithCancel(t.Context())
	var answered atomic.Int64 // revision of the last answer that said off, while it is off
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				since := answered.Load()
				f, _ := reg.Snapshot().Flag("recs")
				if since != 0 && answered.Load() == since && f.Standing.Gate().Pass(rand.Uint32()) {
					t.Error("a call passed after the answer to disable")
				}
			}
		})
		readers.Go(func() {
			last := int64(0)
			for s := range reg.Watch(ctx) {
				if s.Revision <= last || s.Len() != len(slices.Collect(s.All())) {
					t.Errorf("revision %d after %d, %d flags", s.Revision, last, s.Len())
				}
				last = s.Revision
			}
		})
	}
	writers.Go(func() {
		for range 500 {
			answered.Store(mustApply(t, reg, off("recs")).Revision)
			answered.Store(0)
			mustApply(t, reg, on("recs"))
		}
	})
	for w := range 2 {
		writers.Go(func() {
			for i := range 500 {
				mustApply(t, reg, dim(fmt.Sprint("other-", w), float64(i%50)), del(fmt.Sprint("other-", w)))
			}
		})
	}
	writers.Wait()
	cancel()
	readers.Wait()
	if want := int64(1 + 2*500 + 2*2*500); reg.Snapshot().Revision != want {
		t.Errorf("revision %d after all, want %d: a change was lost", reg.Snapshot().Revision, want)
	}
}
