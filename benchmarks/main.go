// Command benchmarks measures what a call costs through this guard, and through the proxies that one could take instead: all on this
// machine, the callers in this process, the back-end and each rival in processes of their own.
//
// Figures go to standard output as Markdown, what is going on to standard error. docs/benchmarks.md says what is measured, and how.
//
// What this command does not do: it builds nothing (make bench-proxies does), and a missed bar does not make it fail.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/capguard/capguard/benchmarks/course"
	"github.com/capguard/capguard/benchmarks/report"
	"github.com/capguard/capguard/benchmarks/rival"
)

// settings are what the command line says.
type settings struct {
	guards       guards
	round        time.Duration
	rounds       int
	only, rivals pattern
	write        string
	programs     string
}

func main() {
	s := settings{round: 1500 * time.Millisecond, rounds: 5}
	flag.Var(&s.guards, "guard", "`name=path` of a guard's binary; repeat it to compare several (default guard=bin/capguard)")
	flag.DurationVar(&s.round, "round", s.round, "how long a round lasts")
	flag.IntVar(&s.rounds, "rounds", s.rounds, "rounds of each rival in each cell; best an odd number")
	flag.Var(&s.only, "only", "`regexp` of the cells to measure, as tcp/unary/64/16B or large")
	flag.Var(&s.rivals, "rivals", "`regexp` of the rivals to measure beside the direct way")
	quick := flag.Bool("quick", false, "one short round each: some three minutes altogether")
	flag.StringVar(&s.write, "write", "", "`file` that takes the figures between its marked lines")
	self, _ := os.Executable()
	flag.StringVar(&s.programs, "programs", filepath.Dir(self), "`folder` of backend, plainproxy and caddy")
	flag.Parse()
	if *quick {
		s.round, s.rounds = 700*time.Millisecond, 1
	}
	if len(s.guards) == 0 {
		s.guards = guards{{"guard", "bin/capguard"}}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

// run measures and reports.
func (s settings) run(ctx context.Context) error {
	ground, err := rival.NewGround(ctx, s.programs)
	if err != nil {
		return fmt.Errorf("start back-end: %w", err)
	}
	defer ground.Close()
	c := course.Course{Ground: ground, Rivals: s.takePart(), Round: s.round, Rounds: s.rounds, Told: os.Stderr}
	r := report.Report{Head: s.head(), Guards: s.guards.names()}
	cells := slices.DeleteFunc(course.Cells(), func(c course.Cell) bool { return !s.only.matches(c.String()) })
	if r.Rows, err = c.Run(ctx, cells); err != nil {
		return err
	}
	if s.only.matches("large") {
		row, err := c.Large(ctx)
		if err != nil {
			return err
		}
		r.Large = &row
	}
	fmt.Println(r)
	if s.write != "" {
		return r.Write(s.write)
	}
	return nil
}

// takePart returns the rivals that the command line wants. The direct way always has a part: the others are shares of it.
func (s settings) takePart() []rival.Rival {
	all := []rival.Rival{rival.Plain, rival.Nginx, rival.HAProxy, rival.Caddy, rival.Handler, rival.Tap}
	for _, g := range s.guards {
		all = append(all, rival.Guard(g.name, g.path))
	}
	all = slices.DeleteFunc(all, func(r rival.Rival) bool { return !s.rivals.matches(r.Name) })
	return append([]rival.Rival{rival.Direct}, all...)
}

// guards are the binaries to measure.
type guards []struct{ name, path string }

func (g guards) names() (names []string) {
	for _, one := range g {
		names = append(names, one.name)
	}
	return names
}

// String returns nothing: the default is in the usage.
func (g *guards) String() string { return "" }

// Set adds one.
func (g *guards) Set(s string) error {
	name, path, ok := strings.Cut(s, "=")
	if !ok || name == "" || slices.Contains(g.names(), name) {
		return errors.New("want name=path, and each name once")
	}
	*g = append(*g, struct{ name, path string }{name, path})
	return nil
}

// pattern is a regular expression; the zero value matches everything.
type pattern struct{ *regexp.Regexp }

// String returns the expression.
func (p *pattern) String() string {
	if p.Regexp == nil {
		return ""
	}
	return p.Regexp.String()
}

// Set compiles the expression.
func (p *pattern) Set(s string) (err error) {
	p.Regexp, err = regexp.Compile(s)
	return err
}

func (p pattern) matches(s string) bool { return p.Regexp == nil || p.MatchString(s) }
