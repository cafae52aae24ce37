package client_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/client"
)

// remembered returns a flag file that a client of a guard with recs off wrote, and when.
func remembered(t *testing.T) (path string, written time.Time) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "flags")
	s, c := dialed(t, client.WithFlagFile(path))
	s.disable("recs", "INC-1")
	settle(0)
	written = time.Now()
	c.Close()
	s.close()
	return path, written
}

// orphan returns a client whose guard is not there.
func orphan(t *testing.T, path string) *client.Conn {
	t.Helper()
	s := newSite()
	s.close()
	return s.connect(t, client.WithFlagFile(path))
}

// The guard is dead and the client restarts: the last flags known are in force from the first moment, with their age.
func TestFileOutlivesGuardAndClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, written := remembered(t)
		settle(time.Hour)
		c := orphan(t, path)
		wantOn(t, c.Feature("recs"), false)
		wantOn(t, c.Feature("search").OffUntilKnown(), true) // Known: there is no flag.
		h := c.Health()
		if h.Live || h.Source != client.FromFile || h.Revision != 2 || h.Flags != 1 || !h.StaleSince.Equal(written) || h.DiskError != nil {
			t.Errorf("Health() = %+v, want stale since %v", h, written)
		}
	})
}

// Once the stream speaks the file counts for nothing, be its revision higher.
func TestStreamOverrulesFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, _ := remembered(t)
		_, c := dialed(t, client.WithFlagFile(path)) // A guard that knows no flags, at revision 1.
		wantOn(t, c.Feature("recs"), false)
		settle(time.Second)
		wantOn(t, c.Feature("recs"), true)
		if h := c.Health(); h.Source != client.FromStream || h.Revision != 1 || !h.Live {
			t.Errorf("Health() = %+v", h)
		}
		c.Close()
		wantOn(t, orphan(t, path).Feature("recs"), true)
	})
}

// A time-limited setting that ended while nobody ran has ended, one that did not ends on time.
func TestFileAndTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "flags")
		s, c := dialed(t, client.WithFlagFile(path))
		s.set(until(off("recs"), time.Hour))
		s.set(until(off("search"), 3*time.Hour))
		settle(0)
		c.Close()
		s.close()
		settle(2 * time.Hour)
		again := orphan(t, path)
		wantOn(t, again.Feature("recs"), true)
		wantOn(t, again.Feature("search"), false)
		settle(time.Hour)
		wantOn(t, again.Feature("search"), true)
	})
}

// A corrupt flag file: never a panic; the defaults are in force, Health tells, and the next flags replace it.
func TestFileDamaged(t *testing.T) {
	for name, damage := range map[string]func(path string, good []byte) error{
		"empty":               func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"cut off":             func(path string, good []byte) error { return os.WriteFile(path, good[:len(good)-1], 0o600) },
		"header only":         func(path string, good []byte) error { return os.WriteFile(path, good[:20], 0o600) },
		"one bit":             func(path string, good []byte) error { return os.WriteFile(path, flipped(good), 0o600) },
		"something else":      func(path string, _ []byte) error { return os.WriteFile(path, []byte("flags: {recs: off}\n"), 0o600) },
		"a later version":     func(path string, good []byte) error { return os.WriteFile(path, later(good), 0o600) },
		"absurdly long":       func(path string, _ []byte) error { return os.Truncate(path, 1<<40) },
		"a directory":         func(path string, _ []byte) error { os.Remove(path); return os.Mkdir(path, 0o700) },
		"a pipe nobody fills": func(path string, _ []byte) error { os.Remove(path); return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path, _ := remembered(t)
				good, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := damage(path, good); err != nil {
					t.Fatal(err)
				}
				c := orphan(t, path)
				wantOn(t, c.Feature("recs"), true)
				if h := c.Health(); h.Source != client.FromDefaults || h.DiskError == nil || !strings.Contains(h.DiskError.Error(), path) {
					t.Errorf("Health() = %+v", h)
				}
			})
		})
	}
}

func flipped(good []byte) []byte {
	bad := append([]byte(nil), good...)
	bad[len(bad)-3] ^= 0x10
	return bad
}

func later(good []byte) []byte { return append([]byte("capguard flags 2\n"), good[17:]...) }

func TestFileAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := orphan(t, filepath.Join(t.TempDir(), "flags"))
		if h := c.Health(); h.Source != client.FromDefaults || h.DiskError != nil {
			t.Errorf("Health() = %+v", h)
		}
	})
}

// A full disk (here: a directory that is not there): flags go on, Health tells, and the file comes as soon as it can.
func TestFileThatCanNotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "missing")
		path := filepath.Join(dir, "flags")
		s, c := dialed(t, client.WithFlagFile(path))
		s.disable("recs", "INC-1")
		settle(time.Second)
		wantOn(t, c.Feature("recs"), false)
		if h := c.Health(); h.DiskError == nil || !h.Live {
			t.Errorf("Health() = %+v", h)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		settle(30 * time.Second)
		if h := c.Health(); h.DiskError != nil {
			t.Errorf("Health() = %+v", h)
		}
		wantOn(t, orphan(t, path).Feature("recs"), false)
	})
}

// Nothing but the file itself is left behind, also where writing it fails.
func TestFileLeavesNothingBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, _ := remembered(t)
		os.Remove(path)
		if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		_, c := dialed(t, client.WithFlagFile(path))
		settle(time.Minute)
		if c.Health().DiskError == nil {
			t.Error("a directory was replaced")
		}
		beside, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(beside) != 1 {
			t.Errorf("directory holds %v, %v", beside, err)
		}
	})
}
