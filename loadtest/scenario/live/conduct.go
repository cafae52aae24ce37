package live

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

// What makes a run void. A scenario's shortest times are some milliseconds: what the machine adds has to be well below that.
const (
	mostLateness = 2 * time.Millisecond // 99th percentile of how late requests were made
	mostBusy     = 0.85                 // of all processors
	mostAdded    = 3 * time.Millisecond // 99th percentile of calls that cost no work, at the highest rate of the scenario
)

// conduct tells how far the machine can be trusted in a run.
type conduct struct {
	lateness time.Duration // 99th percentile
	share    float64       // of the processors' time that this process took
}

// void returns why the run is void; empty if it is not.
func (c conduct) void() string {
	var why []string
	if c.lateness > mostLateness {
		why = append(why, fmt.Sprintf("requests were made %v late", c.lateness.Round(100*time.Microsecond)))
	}
	if c.share > mostBusy {
		why = append(why, fmt.Sprintf("the processors were busy to %.0f %%", 100*c.share))
	}
	return strings.Join(why, ", ")
}

// spent returns the processor time that this process has taken so far.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
