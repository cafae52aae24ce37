package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/capguard/capguard/client"
	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

func (d *demo) introduce() {
	d.say(`A shop asks a stock system, which others own and which can do %.0f units of work a second.
Two kinds of calls reach it:
  base   what the shop can not do without, %d calls a second of one unit each
  %s   a new, load-heavy feature, %d calls a second of %d units each
Together that is %d units a second: too much. An answer is in time within %v.`,
		settings().Capacity(), baseRate, feature, recsRate, recsWeight, baseRate+recsRate*recsWeight, objective)
}

// withoutGuard is the first act.
func (d *demo) withoutGuard(ctx context.Context, f *facts) (err error) {
	d.title("Act 1: without the guard")
	b, err := d.startPlant(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	cc, err := d.connect(b.address)
	if err != nil {
		return err
	}
	defer cc.Close()
	released := time.AfterFunc(d.script.calm1, d.release)
	defer released.Stop()
	f.bare, err = d.run(ctx, cc, b, plan(d.script.calm1, d.script.calm1+d.script.storm1), nil)
	if err == nil && ctx.Err() == nil {
		d.say("Without the guard %s base calls were answered in time, and the back-end crashed %s.",
			answered(&f.bare.base), times(f.bare.crashes))
	}
	return err
}

func (d *demo) release() {
	d.say("The new feature %s is released: %d calls a second, each %d times the work of a base call.", feature, recsRate, recsWeight)
}

// withGuard is the second act.
func (d *demo) withGuard(ctx context.Context, f *facts) (err error) {
	d.title("Act 2: the same load, through the guard")
	b, err := d.startPlant(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	p, err := d.startPost(ctx, b.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	d.present(p, b)
	o, err := d.newOperator(ctx, p.admin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.stop()) }()
	shop, err := client.Dial(p.data, client.WithAdmin(p.admin), client.WithDialer(d.options.Dial),
		client.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.Close()) }()
	return d.guarded(ctx, &stage{plant: b, post: p, operator: o, shop: shop}, f)
}

// present tells where the guard is.
func (d *demo) present(p *post, b *plant) {
	d.say(`The stock system was started anew, warm, and a guard with nothing but its defaults stands before it.
  data port   %s   where callers go; behind it the back-end at %s
  admin port  %s   where operators go; metrics: http://%[3]s/metrics`, p.data, b.address, p.admin)
	if p.moved {
		d.say("(The usual ports were taken by another program, so these are others.)")
	}
	if t := cmp.Or(d.options.OTLPEndpoint, os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")); t != "" {
		d.say("Traces go to %s: search for the tag capguard.decision=shed_flag later on.", t)
	}
}

// stage is what the second act plays on.
type stage struct {
	*plant
	*post
	*operator
	shop grpc.ClientConnInterface
}

// guarded runs the load beside the director until he is through.
func (d *demo) guarded(ctx context.Context, st *stage, f *facts) error {
	var directed error
	load, through := context.WithCancel(ctx)
	defer through()
	wait := background(ctx, func(context.Context) error {
		defer through()
		directed = d.direct(load, st, f)
		return nil
	})
	var err error
	f.guarded, err = d.run(load, st.shop, st.plant, plan(d.script.calm2, 0), func() string { return st.status(ctx) })
	through()
	return errors.Join(err, wait(), directed)
}

// direct walks through the second act.
func (d *demo) direct(ctx context.Context, st *stage, f *facts) error {
	pause(ctx, d.script.calm2)
	d.release()
	pause(ctx, d.script.storm2)
	flag, err := d.switchOff(ctx, st, f)
	if err != nil {
		return err
	}
	d.stayOff(ctx, st, flag, f)
	if err := d.awaitReturn(ctx, st); err != nil {
		return err
	}
	before := st.received()
	pause(ctx, d.script.back)
	f.back = st.received() - before
	return ctx.Err()
}

// switchOff lets somebody type the command, or after a while gives it itself, and returns the flag.
func (d *demo) switchOff(ctx context.Context, st *stage, f *facts) (*capguardv1.Flag, error) {
	d.say(`Now it is your turn: switch the feature off. Type this in another terminal:

%s

If you do not, the demo does the same in %v.`, command(st.admin, d.script.off), d.script.wait)
	waiting, cancel := context.WithTimeout(ctx, d.script.wait)
	defer cancel()
	if flag, err := st.await(waiting, false); err == nil {
		d.say("Somebody at the keyboard did it: %s", describe(flag))
		pause(ctx, settle)
		return flag, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.byDemo = true
	flag, err := st.disable(ctx, d.script.off)
	if err != nil {
		return nil, err
	}
	d.say("Nobody did, so the demo has sent that command: %s", describe(flag))
	return flag, nil
}

// settle is how long after the news of a flag its command has certainly been answered, and so is in force.
const settle = 2 * time.Second

// describe says what a flag is now.
func describe(f *capguardv1.Flag) string {
	text := fmt.Sprintf("%s is %s", feature, strings.TrimPrefix(f.GetState().String(), "STATE_"))
	if f.GetState() == capguardv1.Flag_STATE_DIMMED {
		text += fmt.Sprintf(" to %v %%", f.GetPercent())
	}
	if end := f.GetExpireTime(); end != nil {
		text += " until " + end.AsTime().Local().Format(time.TimeOnly)
	}
	return fmt.Sprintf("%s, by %s, because: %s.", text, f.GetActor(), cmp.Or(f.GetReason(), "(no reason given)"))
}

// stayOff counts until just before the end of the ttl, but no longer than the story allows, what of the feature reaches the back-end.
func (d *demo) stayOff(ctx context.Context, st *stage, flag *capguardv1.Flag, f *facts) {
	before, end := st.received(), time.Now().Add(d.script.off)
	if e := flag.GetExpireTime(); e != nil && e.AsTime().Before(end) {
		end = e.AsTime()
	}
	pause(ctx, time.Until(end)-time.Second/2)
	if flag.GetState() != capguardv1.Flag_STATE_OFF || ctx.Err() != nil {
		return
	}
	f.leaked = st.received() - before
	d.say("While %s was off, %d of its calls reached the back-end.", feature, f.leaked)
}

// awaitReturn waits for the feature to come back; if its ttl is longer than the story, it ends the matter.
func (d *demo) awaitReturn(ctx context.Context, st *stage) error {
	waiting, cancel := context.WithTimeout(ctx, 2*settle)
	defer cancel()
	if _, err := st.await(waiting, true); err == nil {
		d.say("%s is on again, by itself: its ttl has ended. Nobody had to get up for it.", feature)
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := st.enable(ctx); err != nil {
		return err
	}
	d.say("%s would stay as it is for longer than this story lasts, so the demo has switched it on.", feature)
	return nil
}

// received returns how many calls of the feature have reached the back-end.
func (st *stage) received() uint64 {
	return st.Received(fragilev1.StockService_Recommend_FullMethodName)
}

// conclude compares the two acts, as far as they went.
func (d *demo) conclude(f facts) {
	if f.bare.base.Offered == 0 || f.guarded.base.Offered == 0 {
		return
	}
	d.title("In the end")
	d.show(fmt.Sprintf("  %-38s %24s %24s", "", "without the guard", "with the guard"))
	compare := func(what string, of func(*summary) string) {
		d.show(fmt.Sprintf("  %-38s %24s %24s", what, of(&f.bare), of(&f.guarded)))
	}
	compare("base calls answered in time", func(s *summary) string { return answered(&s.base) })
	compare(feature+" calls answered in time", func(s *summary) string { return answered(&s.recs) })
	compare("crashes of the back-end", func(s *summary) string { return fmt.Sprint(s.crashes) })
	compare("of its work, done for nobody", func(s *summary) string { return percent(s.wasted.Seconds(), s.busy.Seconds()) })
	if late := max(f.bare.late, f.guarded.late); late > busy {
		d.say("This machine was busy with other things: calls began up to %v later than they should have. That, too, is in these figures.",
			late.Round(time.Millisecond))
	}
	d.say(`The guard for your own back-end:  capguard serve --backend HOST:PORT
The operator's evening:           docs/operations.md`)
}

// busy is the lateness of a machine that spoils a story of tens of milliseconds.
const busy = 50 * time.Millisecond

func times(n uint64) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}
