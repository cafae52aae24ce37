// Package demo tells what the guard is for, with everything real but the reason for the load: a fragile back-end, the guard and its
// callers speak gRPC over loopback TCP, all in this process.
//
// The story has two acts. In the first nothing stands between the callers and the back-end: a steady base load is fine, until a load-heavy
// feature is released and the back-end crashes, again and again. In the second the same load goes through the guard: the base load stays
// well and the feature gets what is left. Then the feature is switched off, by the operator at the keyboard who types the command that the
// demo prints, or else by the demo, which uses the same admin API; and it comes back by itself when its ttl ends.
//
// What is told is measured: every figure comes from the callers, the back-end or the guard.
//
// A director walks through the acts and waits; beside it the load runs and writes a line a second. The whole fits into a testing/synctest
// bubble when it is given a network in memory.
//
// What this package does not do: it measures no capacity and is no benchmark; its load is small enough for two busy cores.
package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Options say how long the story takes and where it plays.
type Options struct {
	// Duration of the whole story, at least MinDuration; 0 is DefaultDuration.
	Duration time.Duration
	// DataAddress and AdminAddress are the guard's ports; "" is the default port of `capguard serve` if it is free, else any other.
	DataAddress, AdminAddress string
	// OTLPEndpoint is where the guard sends its traces; "" leaves that to the OTEL_* variables.
	OTLPEndpoint string
	// Version of the program.
	Version string
	// Out takes the story.
	Out io.Writer
	// Listen and Dial are the network; nil is TCP.
	Listen func(address string) (net.Listener, error)
	Dial   func(ctx context.Context, address string) (net.Conn, error)
}

// Run tells the story. When ctx ends it stops early, cleans up and returns nil.
func Run(ctx context.Context, o Options) error {
	_, err := play(ctx, o)
	return err
}

// demo is one telling of the story.
type demo struct {
	options Options
	script  script

	mu     sync.Mutex // one line at a time
	out    io.Writer
	spaced bool // the last line was empty
}

// facts are what the story comes down to.
type facts struct {
	bare, guarded summary
	// leaked is how many calls of the feature reached the back-end while it was off.
	leaked uint64
	// back is how many calls of the feature reached the back-end after it was on again.
	back uint64
	// byDemo tells that nobody typed the command, so that the demo switched the feature off.
	byDemo bool
}

// play tells the story and returns what it came down to, as far as it went.
func play(ctx context.Context, o Options) (f facts, err error) {
	d := &demo{options: o.withDefaults(), out: o.Out}
	if d.script, err = write(d.options.Duration); err != nil {
		return f, err
	}
	d.introduce()
	for _, act := range []func(context.Context, *facts) error{d.withoutGuard, d.withGuard} {
		if err := act(ctx, &f); err != nil && ctx.Err() == nil {
			return f, err
		}
		if ctx.Err() != nil {
			d.say("Stopped.")
			break
		}
	}
	d.conclude(f)
	return f, nil
}

func (o Options) withDefaults() Options {
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Listen == nil {
		o.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		}
	}
	return o
}

// say writes a sentence of the story, set off by empty lines.
func (d *demo) say(format string, args ...any) { d.write(indent(fmt.Sprintf(format, args...)), true) }

// show writes a line of figures.
func (d *demo) show(line string) { d.write(strings.TrimRight(line, " "), false) }

// title opens an act.
func (d *demo) title(text string) { d.write(text+"\n"+strings.Repeat("=", len(text)), true) }

// write writes whole lines, with an empty one before and after if apart. Whoever reads may have gone; the story goes on for its facts.
func (d *demo) write(text string, apart bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if apart && !d.spaced {
		text = "\n" + text
	}
	if apart {
		text += "\n"
	}
	d.spaced = apart
	_, _ = io.WriteString(d.out, text+"\n")
}

// indent sets a sentence off from the figures.
func indent(text string) string {
	return strings.ReplaceAll("  "+strings.ReplaceAll(text, "\n", "\n  "), "\n  \n", "\n\n")
}
