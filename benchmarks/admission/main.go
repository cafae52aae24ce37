// Command admission measures what a decision costs: by this guard, and by the libraries that one could take instead, all in this process.
//
// Figures go to standard output as Markdown. Package core says what is measured, and how.
//
// What this command does not do: a missed bar does not make it fail. How well each decides is shown by the tests of scenarios.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/capguard/capguard/benchmarks/admission/core"
	"github.com/capguard/capguard/benchmarks/admission/page"
)

// crowds are the numbers of goroutines that call at once.
var crowds = []int{1, 2, 16}

func main() {
	turn := flag.Duration("turn", 30*time.Millisecond, "how long a contestant's turn lasts")
	rounds := flag.Int("rounds", 15, "turns of each contestant; best an odd number")
	write := flag.String("write", "", "`file` that takes the tables between its lines for decisions")
	flag.Parse()
	text, err := report(*rounds, *turn)
	if err == nil {
		fmt.Print(text)
		if *write != "" {
			err = page.Write(*write, "decisions", text)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "admission:", err)
		os.Exit(1)
	}
}

func report(rounds int, turn time.Duration) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores, %s, medians of %d rounds of %v. Go %s%s.\n", time.Now().Format(time.DateOnly), runtime.NumCPU(),
		runtime.GOARCH, rounds, turn, strings.TrimPrefix(runtime.Version(), "go"), versions())
	if err := table(&b, "Admitted, and given back with a success", core.Admitted, rounds, turn); err != nil {
		return "", err
	}
	err := table(&b, "Refused", core.Refused, rounds, turn)
	return b.String(), err
}

// table measures one kind of calls and writes a line for each contestant.
func table(b *strings.Builder, title string, kind core.Kind, rounds int, turn time.Duration) error {
	all := kind.Of(core.Contestants())
	lines := make([]string, len(all))
	fmt.Fprintf(b, "\n#### %s: ns, median / least · multiple of the floor · allocations\n\n| goroutines |", title)
	for _, n := range crowds {
		costs, err := kind.Rounds(all, n, rounds, turn)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, " %d |", n)
		for i, c := range costs {
			lines[i] += fmt.Sprintf(" %d / %d · %.1f · %.0f |", c.Time.Nanoseconds(), c.Least.Nanoseconds(), c.Floor, c.Allocs)
		}
	}
	b.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(crowds)) + "\n")
	for i, c := range all {
		fmt.Fprintf(b, "| %s |%s\n", c.Name, lines[i])
	}
	return nil
}

// versions lists the rivals' modules with their versions.
func versions() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var b strings.Builder
	for _, m := range info.Deps {
		for _, rival := range []string{"sony/gobreaker", "failsafe-go/", "zeromicro/go-zero", "go-kratos/aegis"} {
			if strings.HasPrefix(m.Path, "github.com/"+rival) {
				fmt.Fprintf(&b, ", %s %s", strings.TrimPrefix(m.Path, "github.com/"), strings.TrimPrefix(m.Version, "v"))
			}
		}
	}
	return b.String()
}
