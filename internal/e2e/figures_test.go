package e2e_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// figures is one line of the table of attacks.
type figures struct {
	name          string
	frames        float64       // per second
	before, most  int           // memory
	cpu           float64       // of one processor
	calm, pressed time.Duration // p99 of honest calls
	direct        time.Duration // and of those past the guard, during the attack
	calls         int
}

// table is what printFigures prints.
var table struct {
	sync.Mutex
	rows []figures
}

func (f figures) report(t *testing.T) {
	t.Logf("%.0f frames/s, memory %d -> %d MiB, CPU %.2f, %d honest calls, p99 %v -> %v, past the guard %v",
		f.frames, f.before>>20, f.most>>20, f.cpu, f.calls, tenths(f.calm), tenths(f.pressed), tenths(f.direct))
	table.Lock()
	defer table.Unlock()
	table.rows = append(table.rows, f)
}

// printFigures prints what the attacks have shown, if there were any.
func printFigures(w io.Writer) {
	if !testing.Verbose() || len(table.rows) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "attack\tframes/s\tMiB before\tMiB most\tCPU\tp99 before\tp99 under attack\tpast the guard\t\n")
	for _, f := range table.rows {
		name := strings.TrimPrefix(f.name, "TestAbuse")
		fmt.Fprintf(tw, "%s\t%.0f\t%d\t%d\t%.2f\t%v\t%v\t%v\t\n",
			name, f.frames, f.before>>20, f.most>>20, f.cpu, tenths(f.calm), tenths(f.pressed), tenths(f.direct))
	}
	_ = tw.Flush() // Nobody could be told.
}

// tenths rounds to what can be read.
func tenths(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
