// Command capguard guards a fragile gRPC back-end. Run it without arguments for help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

const usage = `capguard stands in front of a fragile gRPC back-end and decides which calls it gets.

  capguard serve --backend HOST:PORT   guard a back-end
  capguard demo                        see it at work, all on this machine
  capguard loadtest --scenario NAME    play a scenario of overload, and see what the guard reaches of what is possible
  capguard fragile                     run a fragile back-end to try things with
  capguard version                     print the version

"capguard COMMAND -h" lists the flags of a command.
`

// errUsage marks errors of the command line; the message was printed.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(exitCode(run(ctx, os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

// exitCode prints err and returns 0 for success, 2 for wrong usage and 1 for everything else.
func exitCode(err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintln(stderr, "capguard:", err)
	return 1
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return errUsage
	}
	switch args[0] {
	case "serve":
		return serve(ctx, args[1:], stdout, stderr)
	case "demo":
		return runDemo(ctx, args[1:], stdout, stderr)
	case "loadtest":
		return runLoadtest(ctx, args[1:], stdout, stderr)
	case "fragile":
		return runFragile(ctx, args[1:], stdout, stderr)
	case "version":
		_, err := fmt.Fprintln(stdout, "capguard", version())
		return err
	case "help", "-h", "--help":
		_, err := fmt.Fprint(stdout, usage)
		return err
	}
	fmt.Fprintf(stderr, "capguard: there is no command %q\n\n%s", args[0], usage)
	return errUsage
}

// version returns the module's version, or the revision it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

// parse parses the flags of a command; everything must be a flag. Only who asks for help gets the whole list: below a typo it would bury
// the line that says what was wrong.
func parse(fs *flag.FlagSet, args []string) error {
	fs.Usage = func() {}
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(fs.Output(), "Flags of %s:\n", fs.Name())
		fs.PrintDefaults()
		return err
	}
	if err != nil { // the flag package has printed it
		fmt.Fprintf(fs.Output(), "%q lists the flags.\n", fs.Name()+" -h")
		return errUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(fs.Output(), "%s takes only flags, not %q\n", fs.Name(), fs.Arg(0))
		return errUsage
	}
	return nil
}
