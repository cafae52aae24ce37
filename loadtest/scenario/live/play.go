package live

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/loadtest/scenario"
)

// setting is where and how a run is played.
type setting struct {
	network
	mode string // of the guard; empty is no guard
	free bool   // calls cost no work
}

// stage is what one run happens on.
type stage struct {
	setting
	s      *scenario.Scenario
	note   *recorder
	plants []*plant
	post   *post // nil without a guard
	lines  []*line
	direct []*line // past the guard
}

// set builds a stage. Whatever was built is in it, also when it fails.
func (st *stage) set(ctx context.Context, seed uint64) (err error) {
	targets := make([]string, len(st.s.Replicas))
	for i, settings := range st.s.Replicas {
		settings.Seed = seed<<8 + uint64(i)
		p, err := startPlant(ctx, st.network, i, settings, st.note)
		if err != nil {
			return err
		}
		st.plants = append(st.plants, p)
		targets[i] = p.address
	}
	if st.mode == "" {
		st.lines, err = st.lay(targets)
		return err
	}
	if st.post, err = startPost(ctx, st.setting, targets, st.s.Clients > 0); err != nil {
		return err
	}
	if st.s.Clients == 0 {
		st.lines, err = st.lay([]string{st.post.data})
		return err
	}
	if st.lines, err = st.enroll(); err == nil && slices.ContainsFunc(st.s.Classes, func(c scenario.Class) bool { return c.Direct }) {
		st.direct, err = st.lay(targets)
	}
	return err
}

// strike takes the stage down.
func (st *stage) strike() error {
	var errs []error
	for _, l := range slices.Concat(st.lines, st.direct) {
		errs = append(errs, l.close())
	}
	if st.post != nil {
		errs = append(errs, st.post.end())
	}
	for _, p := range st.plants {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// play plays a scenario once.
func play(ctx context.Context, s *scenario.Scenario, r *scenario.Record, how setting) (c conduct, err error) {
	st := &stage{setting: how, s: s, note: newRecorder(r)}
	defer func() { err = errors.Join(err, st.strike()) }()
	if err := st.set(ctx, r.Seed); err != nil {
		return c, err
	}
	time.Sleep(settling)
	st.note.start = time.Now()
	for _, p := range st.plants {
		p.Begin()
	}
	before := spent()
	calls := &callers{s: s, note: st.note, lines: st.lines, direct: st.direct, free: how.free}
	for i := range s.Classes {
		calls.calls.Go(func() { calls.generate(ctx, i, r.Seed) })
	}
	err = st.run(ctx)
	calls.calls.Wait()
	c.share = float64(spent()-before) / float64(st.note.now()) / float64(runtime.NumCPU())
	c.lateness = st.note.lateness.Quantile(0.99)
	return c, errors.Join(err, ctx.Err())
}

// settling is how long connections have to stand up before a run.
const settling = 300 * time.Millisecond

// run takes samples, and lets happen what the scenario says, until its end or that of ctx.
func (st *stage) run(ctx context.Context) error {
	life, end := context.WithCancel(ctx)
	var people sync.WaitGroup
	defer people.Wait()
	defer end()
	if st.post != nil && st.s.Clients > 0 {
		people.Go(func() { st.operate(life) })
		people.Go(func() { st.watch(life) })
	}
	var last fragile.Stats
	agenda := st.agenda()
	for i := 1; time.Duration(i)*scenario.Bin <= st.s.Duration; i++ {
		at := time.Duration(i) * scenario.Bin
		if !st.note.sleepUntil(ctx, at) {
			return nil
		}
		for len(agenda) > 0 && agenda[0].at <= at {
			if err := agenda[0].happen(ctx); err != nil {
				return err
			}
			agenda = agenda[1:]
		}
		last = st.sample(ctx, i, last)
	}
	return nil
}

// sample notes the state at the end of a bin, and the work that was done in it.
func (st *stage) sample(ctx context.Context, bin int, last fragile.Stats) (sum fragile.Stats) {
	s := scenario.Sample{At: time.Duration(bin) * scenario.Bin}
	r := st.note.record
	for i, p := range st.plants {
		now := p.Stats()
		s.Work += now.Running + now.Queued
		sum.Busy, sum.Wasted, sum.Crashes = sum.Busy+now.Busy, sum.Wasted+now.Wasted, sum.Crashes+now.Crashes
		r.Coldness[i] = append(r.Coldness[i], p.Coldness())
	}
	r.Busy[bin-1], r.Wasted[bin-1] = (sum.Busy - last.Busy).Seconds(), (sum.Wasted - last.Wasted).Seconds()
	for range sum.Crashes - last.Crashes {
		r.Crashes = append(r.Crashes, s.At)
	}
	if st.post != nil {
		s.Limit = st.post.limit(ctx)
	}
	st.note.sample(s)
	return sum
}
