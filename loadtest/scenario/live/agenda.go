package live

import (
	"cmp"
	"context"
	"slices"
	"time"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/loadtest/scenario"
)

// event is what happens to the stage at a moment.
type event struct {
	at     time.Duration
	happen func(context.Context) error
}

// agenda returns what happens to back-ends and guard, in its order. Without a guard nothing happens to it.
func (st *stage) agenda() (list []event) {
	for _, k := range st.s.Kills {
		list = append(list, event{k.At, func(context.Context) error { st.plants[k.Replica].Crash(); return nil }})
	}
	if st.post == nil {
		return list
	}
	if st.s.Restart > 0 {
		list = append(list, event{st.s.Restart, st.post.restart})
	}
	for _, o := range st.s.Outages {
		from, to := st.post.kill, st.post.start
		if o.Admin {
			from, to = st.post.lock, st.post.unlock
		}
		list = append(list, event{o.From, from}, event{o.To, to})
	}
	slices.SortStableFunc(list, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return list
}

// How long an operator waits for an answer, and before another try; and how often the flags of the clients are looked at.
const (
	patience = time.Second
	tryAgain = 100 * time.Millisecond
	glance   = 10 * time.Millisecond
)

// operate gives the commands of the scenario at the admin port, each until it is heard.
func (st *stage) operate(ctx context.Context) {
	for _, f := range st.s.Flips {
		for at := f.At; ; at = st.note.now() + tryAgain {
			if !st.note.sleepUntil(ctx, at) {
				return
			}
			if st.command(ctx, f) {
				break
			}
		}
	}
}

// command connects to the admin port and gives a command; it tells whether the guard has heard it.
func (st *stage) command(ctx context.Context, f scenario.Flip) (heard bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	st.note.commanded(f)
	defer func() { st.note.answered(heard) }()
	conn, err := connect(st.network, st.post.admin)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	flags := capguardv1.NewFlagServiceClient(conn)
	if f.Off {
		_, err = flags.DisableFlag(ctx, &capguardv1.DisableFlagRequest{Name: f.Feature, AllowMissing: true})
	} else {
		_, err = flags.EnableFlag(ctx, &capguardv1.EnableFlagRequest{Name: f.Feature, AllowMissing: true})
	}
	return err == nil
}

// watch sees which clients know the commands, until ctx ends.
func (st *stage) watch(ctx context.Context) {
	for st.note.sleepUntil(ctx, st.note.now()+glance) {
		st.note.look(func(client int, feature string) bool { return st.lines[client].features[feature].On() })
	}
}
