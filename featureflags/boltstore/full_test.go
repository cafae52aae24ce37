//go:build unix

package boltstore_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/capguard/capguard/featureflags"
)

// limitedEnv tells the test binary that its files may be limited.
const limitedEnv = "BOLTSTORE_TEST_LIMITED"

// limited runs the test in a process of its own, since a limit holds for all files of a process, also those of the test runner. It reports
// true in that process.
func limited(t *testing.T) bool {
	t.Helper()
	if os.Getenv(limitedEnv) != "" {
		return true
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), limitedEnv+"=1")
	out, err := child.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("with limited files: %v\n%s", err, out)
	}
	return false
}

// limitFiles lets no file of this process grow beyond size, as a full disk would, until the returned function is called.
func limitFiles(t *testing.T, size uint64) (restore func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	}
}

// TestFullDisk: the last good state stays in force, the status says since when, and it goes on when there is room again.
func TestFullDisk(t *testing.T) {
	if !limited(t) {
		return
	}
	dir := dataDir(t)
	s := open(t, dir)
	reg := registry(t, s)
	long := func() featureflags.Command {
		return featureflags.Command{Action: featureflags.Dim, Name: "recs", Percent: new(50.0), Reason: new(strings.Repeat("x", 1000))}
	}
	apply(t, reg, long())
	info, err := os.Stat(filepath.Join(dir, "flags.db"))
	if err != nil {
		t.Fatal(err)
	}
	restore := limitFiles(t, uint64(info.Size()))
	defer func() { restore() }()

	last, failure := fill(t, reg, long)
	if e, ok := errors.AsType[*featureflags.Error](failure); !ok || e.Kind != featureflags.StoreDown {
		t.Fatalf("on a full disk Apply() = %v, want StoreDown", failure)
	}
	if f, _ := reg.Snapshot().Flag("recs"); f.Standing.Actor != last.Flag.Standing.Actor || reg.Snapshot().Revision != last.Revision {
		t.Errorf("in force: revision %d by %s; want %d by %s", reg.Snapshot().Revision, f.Standing.Actor, last.Revision, last.Flag.Standing.Actor)
	}
	if since, err := reg.StoreError(); err == nil || since.IsZero() {
		t.Errorf("StoreError() = %v, %v; want the failure", since, err)
	}
	if revs, err := reg.Revisions(t.Context(), "recs", 0, 2); err != nil || revs[0].Number != last.Revision {
		t.Errorf("history = %v, %v; want it to end with revision %d", revs, err, last.Revision)
	}

	restore()
	apply(t, reg, featureflags.Command{Action: featureflags.Disable, Name: "recs"})
	if _, err := reg.StoreError(); err != nil {
		t.Errorf("StoreError() = %v after a change was stored", err)
	}
	shut(t, s)
	s = open(t, dir)
	defer shut(t, s)
	if f, _ := registry(t, s).Snapshot().Flag("recs"); f.Revision != last.Revision+1 || f.Standing.State() != featureflags.Off {
		t.Errorf("after reopening: %+v, want revision %d, off", f, last.Revision+1)
	}
}

// fill changes a flag until the store fails, and returns the last success and the failure.
func fill(t *testing.T, reg *featureflags.Registry, command func() featureflags.Command) (featureflags.Result, error) {
	t.Helper()
	last := featureflags.Result{Revision: reg.Snapshot().Revision}
	for i := range 1000 {
		c := command()
		c.Actor = strings.Repeat("actor ", 1+i%20)
		result, err := reg.Apply(t.Context(), c, nil)
		if err != nil {
			return last, err
		}
		last = result
	}
	t.Fatal("a limited file took 1000 changes")
	return last, nil
}
