package live

import (
	"context"
	"errors"
	"runtime"
	"time"

	"google.golang.org/grpc"

	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/loadtest/scenario"
)

// stage is what one run happens on.
type stage struct {
	s      *scenario.Scenario
	note   *recorder
	plants []*plant
	post   *post // nil without a guard
	conns  []*grpc.ClientConn
}

// set builds a stage. Whatever was built is in it, also when it fails.
func (st *stage) set(ctx context.Context, mode string, seed uint64) error {
	targets := make([]string, len(st.s.Replicas))
	for i, settings := range st.s.Replicas {
		settings.Seed = seed<<8 + uint64(i)
		p, err := startPlant(ctx, i, settings, st.note)
		if err != nil {
			return err
		}
		st.plants = append(st.plants, p)
		targets[i] = p.address
	}
	addresses := targets
	if mode != "" {
		p, err := startPost(ctx, mode, targets)
		if err != nil {
			return err
		}
		st.post, addresses = p, []string{p.data}
	}
	var err error
	st.conns, err = dial(addresses)
	return err
}

// strike takes the stage down.
func (st *stage) strike() error {
	var errs []error
	for _, c := range st.conns {
		errs = append(errs, c.Close())
	}
	if st.post != nil && st.post.stop != nil {
		errs = append(errs, st.post.stop())
	}
	for _, p := range st.plants {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// play plays a scenario once. mode is that of the guard; empty is no guard. With free nothing costs any work.
func play(ctx context.Context, s *scenario.Scenario, r *scenario.Record, mode string, free bool) (c conduct, err error) {
	st := &stage{s: s, note: newRecorder(r)}
	defer func() { err = errors.Join(err, st.strike()) }()
	if err := st.set(ctx, mode, r.Seed); err != nil {
		return c, err
	}
	time.Sleep(settling)
	st.note.start = time.Now()
	for _, p := range st.plants {
		p.Begin()
	}
	before := spent()
	calls := &callers{s: s, note: st.note, conns: st.conns, free: free}
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
	var last fragile.Stats
	kills, restart := st.s.Kills, st.s.Restart
	for i := 1; time.Duration(i)*scenario.Bin <= st.s.Duration; i++ {
		at := time.Duration(i) * scenario.Bin
		select {
		case <-time.After(time.Until(st.note.start.Add(at))):
		case <-ctx.Done():
			return nil
		}
		for len(kills) > 0 && kills[0].At <= at {
			st.plants[kills[0].Replica].Crash()
			kills = kills[1:]
		}
		if st.post != nil && restart > 0 && restart <= at {
			restart = 0
			if err := st.post.restart(ctx); err != nil {
				return err
			}
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
