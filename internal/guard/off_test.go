package guard_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/capguard/capguard/internal/guard"
)

// Lesson: 0 % and off: not one call passes, with many goroutines at once, from the moment the command has answered (kubernetes #134196:
// zero shares still admit). A million calls under 64 goroutines while the switch flips: real goroutines, no bubble.
func TestOffMeansOff(t *testing.T) {
	f := &flipped{Guard: guard.New(lined(8))} // so that calls wait, too
	f.left.Store(1_000_000)
	var clients sync.WaitGroup
	for range 64 {
		clients.Go(func() { f.client(t) })
	}
	for revision := int64(0); f.left.Load() > 0; revision++ {
		f.flip(t, revision)
	}
	clients.Wait()
	if f.leaked.Load() > 0 || f.arrived.Load() == 0 {
		t.Errorf("%d of %d calls arrived after the answer to the command", f.leaked.Load(), f.arrived.Load())
	}
	if got := f.Status(); got.InFlight != 0 || got.Queued != 0 || got.DoubleReturns != 0 {
		t.Errorf("at the end: %+v", got)
	}
}

// flipped is a guard whose switch flips under load.
type flipped struct {
	*guard.Guard
	off                   atomic.Bool // the command to switch off has answered
	left, arrived, leaked atomic.Int64
}

func (f *flipped) client(t *testing.T) {
	for f.left.Add(-1) >= 0 {
		p, d := f.Admit(t.Context(), report)
		runtime.Gosched() // on its way; or the next one's turn
		if d.Admitted {
			f.arrived.Add(1)
			if f.off.Load() {
				f.leaked.Add(1)
			}
		}
		p.Done(guard.Success)
	}
}

// flip switches off, watches that nothing arrives, and switches on again with another limit.
func (f *flipped) flip(t *testing.T, revision int64) {
	f.SetFeatures(map[string]guard.Feature{"report": {Percent: 0, Revision: revision}})
	f.Quiesce(t.Context())
	f.off.Store(true)
	before := f.arrived.Load()
	f.loiter(10)
	if after := f.arrived.Load(); after != before {
		t.Errorf("%d calls arrived while off", after-before)
	}
	f.off.Store(false)
	f.SetFeatures(map[string]guard.Feature{"report": {Percent: 100, Revision: revision}})
	f.Configure(lined(4+int(revision%2)*4), "", "")
	f.loiter(100)
}

// loiter gives the others time.
func (f *flipped) loiter(n int) {
	for range n {
		runtime.Gosched()
		f.Status()
	}
}
