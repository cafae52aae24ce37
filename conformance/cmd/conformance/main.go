// Command conformance shows that calls pass the guard unchanged, whoever sends and serves them: it runs the suites of others through
// it and ends with 1 if anything differs from what passes without a guard. `make conformance` builds what it needs and runs it.
//
// What this program does not do: it tests no decision of the guard. All calls are admitted.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/capguard/capguard/conformance/connect"
	"github.com/capguard/capguard/conformance/foreign"
	"github.com/capguard/capguard/conformance/h2spec"
	"github.com/capguard/capguard/conformance/middle"
	"github.com/capguard/capguard/conformance/undertest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "undertest" {
		exit(play(ctx, os.Args[2:]))
	}
	exit(run(ctx, os.Args[1:]))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// suite is one part of the whole.
type suite interface {
	Run(ctx context.Context, w io.Writer) (ok bool, err error)
}

// run runs the parts that are named, or all. A part that cannot run is as bad as one that fails, but keeps no other from running.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("conformance", flag.ExitOnError)
	kind, bin := common(flags)
	scripts := flags.String("scripts", "foreign", "folder of the foreign clients and servers")
	_ = flags.Parse(args)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	failed := 0
	for _, part := range []struct {
		name  string
		suite suite
	}{
		{"connect", connect.Suite{Kind: *kind, Bin: *bin, Self: self}},
		{"h2spec", h2spec.Suite{Kind: *kind, Bin: *bin}},
		{"foreign", foreign.Suite{Kind: *kind, Bin: *bin, Scripts: *scripts}},
	} {
		if flags.NArg() > 0 && !slices.Contains(flags.Args(), part.name) {
			continue
		}
		ok, err := part.suite.Run(ctx, os.Stdout)
		if err != nil {
			fmt.Printf("%s: %v\n", part.name, err)
		}
		if !ok || err != nil {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d parts failed", failed)
	}
	return ctx.Err()
}

// play plays a server or client under test, for connectconformance.
func play(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("undertest", flag.ExitOnError)
	kind, bin := common(flags)
	_ = flags.Parse(args)
	if flags.NArg() < 2 {
		return fmt.Errorf("use as: conformance undertest [flags] server|client command [argument]")
	}
	p := undertest.Play{Kind: *kind, Bin: *bin, Command: flags.Args()[1:]}
	if flags.Arg(0) == "client" {
		return p.Client(ctx)
	}
	return p.Server(ctx)
}

// common are the flags of both.
func common(flags *flag.FlagSet) (kind *middle.Kind, bin *string) {
	kind, bin = new(middle.Guard), new(string)
	flags.Func("middle", "what stands between client and server: guard, haproxy or none (default guard)", func(v string) error {
		*kind = middle.Kind(v)
		return nil
	})
	flags.Func("bin", "folder of the tools (default bin)", func(v string) (err error) {
		*bin, err = filepath.Abs(v)
		return err
	})
	return kind, bin
}
