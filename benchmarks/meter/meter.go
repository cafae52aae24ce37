// Package meter reads what a process and those that it started cost: processor time to the nanosecond, and memory.
//
// What this package does not do: it does not follow processes that are started after it has looked, nor does it work outside of Linux.
package meter

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Meter reads a family of processes. The zero value has none, and everything that it reads is 0.
type Meter struct{ pids []int }

// Of returns the meter of a process and of all its descendants.
func Of(pid int) (Meter, error) {
	m := Meter{pids: []int{pid}}
	for i := 0; i < len(m.pids); i++ { // The list grows while it is walked.
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", m.pids[i]))
		if err != nil {
			return Meter{}, fmt.Errorf("list threads: %w", err)
		}
		for _, t := range tasks {
			children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", m.pids[i], t.Name()))
			if err != nil {
				return Meter{}, fmt.Errorf("list children: %w", err)
			}
			for child := range strings.FieldsSeq(string(children)) {
				pid, _ := strconv.Atoi(child)
				m.pids = append(m.pids, pid)
			}
		}
	}
	return m, nil
}

// CPU returns the time, user and system, that the processes have used so far. It asks the clock that the kernel has for each process: the
// ticks in /proc are 10 ms long.
func (m Meter) CPU() (sum time.Duration, err error) {
	for _, pid := range m.pids {
		var t unix.Timespec
		const perProcess = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
		if err := unix.ClockGettime(int32(^pid<<3|perProcess), &t); err != nil {
			return 0, fmt.Errorf("read clock of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// ResetPeak makes Peak forget what was before.
func (m Meter) ResetPeak() error {
	for _, pid := range m.pids {
		const peak = "5" // see proc_pid_clear_refs(5)
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(peak), 0); err != nil {
			return fmt.Errorf("reset peak of process %d: %w", pid, err)
		}
	}
	return nil
}

// Peak returns the bytes of memory that the processes held at most, each at its own moment. What they share is counted for each.
func (m Meter) Peak() (sum int64, err error) {
	for _, pid := range m.pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, fmt.Errorf("read status: %w", err)
		}
		_, rest, _ := strings.Cut(string(status), "VmHWM:")
		var kib int64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			return 0, fmt.Errorf("read peak of process %d: %w", pid, err)
		}
		sum += kib << 10
	}
	return sum, nil
}
