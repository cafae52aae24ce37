package e2e_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// memory returns what the status of p in /proc says under name, in bytes: VmRSS is what it has in RAM now, VmHWM the most it ever had.
func (p *process) memory(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %s", name, text)
	}
	kilobytes, _ := strconv.Atoi(string(m[1])) // It is digits.
	return kilobytes << 10
}

// clockTick is the unit of CPU time in /proc, which is the same on every Linux.
const clockTick = 10 * time.Millisecond

// cpu returns the CPU time that p has used.
func (p *process) cpu(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // The name of a process may have spaces in it.
	fields := strings.Fields(rest)
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	if errUser != nil || errSystem != nil {
		t.Fatalf("no CPU times in %s", text)
	}
	return time.Duration(user+system) * clockTick
}
