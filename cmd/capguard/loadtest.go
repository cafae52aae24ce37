package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/capguard/capguard/loadtest/scenario"
	"github.com/capguard/capguard/loadtest/scenario/live"
)

func runLoadtest(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var names, width, guard string
	var list bool
	o := live.Options{Out: stdout}
	fs := flag.NewFlagSet("capguard loadtest", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&names, "scenario", "", "`names` of the scenarios to play in real time, as S2/5,S10; S2 is all its cases, all is all there are")
	fs.BoolVar(&list, "list", false, "list the scenarios and what they want, and play none")
	fs.StringVar(&guard, "guard", "inprocess", "inprocess, or off to see what happens without a guard")
	fs.StringVar(&width, "width", "8", "workers of the back-end: 2, 8 or 32 of the same capacity in all, or 0 for 8 that do not collapse")
	fs.IntVar(&o.Seeds, "seeds", 5, "how many times each scenario is played, with other arrivals each")
	if err := parse(fs, args); err != nil {
		return err
	}
	if list {
		listScenarios(stdout)
		return nil
	}
	o.Unguarded = guard == "off"
	chosen, v, err := choose(names, width, guard, o.Seeds)
	if err != nil {
		fmt.Fprintf(stderr, "%v\n%q lists the flags.\n", err, fs.Name()+" -h")
		return errUsage
	}
	return playAll(ctx, chosen, v, o)
}

// choose reads what is to be played.
func choose(names, width, guard string, seeds int) (chosen []scenario.Scenario, v scenario.Variant, err error) {
	switch {
	case names == "":
		return nil, v, errors.New("--scenario is missing: name some, as S2/5,S10, or see them with --list")
	case guard != "inprocess" && guard != "off":
		return nil, v, fmt.Errorf("--guard is %q: use inprocess or off", guard)
	case seeds < 1:
		return nil, v, fmt.Errorf("--seeds is %d: use at least 1", seeds)
	}
	if v, err = scenario.ParseVariant(width); err != nil {
		return nil, v, fmt.Errorf("--width: %w", err)
	}
	if names == "all" {
		return everything(), v, nil
	}
	if chosen, err = scenario.Select(strings.Split(names, ",")...); err != nil {
		return nil, v, fmt.Errorf("%w; --list names them all", err)
	}
	return chosen, v, nil
}

// everything returns what there is: about admission, and about the whole product.
func everything() []scenario.Scenario { return slices.Concat(scenario.All(), scenario.Whole()) }

func playAll(ctx context.Context, chosen []scenario.Scenario, v scenario.Variant, o live.Options) error {
	for _, base := range chosen {
		s, ok := v.Apply(base)
		if !ok {
			fmt.Fprintf(o.Out, "%s: left out, it has a number of workers of its own\n\n", base.Name)
			continue
		}
		err := live.Run(ctx, s, v, o)
		if ctx.Err() != nil {
			fmt.Fprintln(o.Out, "stopped")
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func listScenarios(w io.Writer) {
	for _, s := range everything() {
		fmt.Fprintf(w, "%-7s %4.0fs  %s\n", s.Name, s.Duration.Seconds(), s.Story)
		for _, want := range s.Wants {
			fmt.Fprintf(w, "                 %v\n", want)
		}
	}
}
