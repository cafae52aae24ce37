package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/server/proxy"
)

const where = "127.0.0.1:9000"

// learned is what a guard may have learned by now.
func learned(n int) guard.State {
	now := time.Now().Round(0).UTC()
	cost := guard.LearnedCost{Mean: 20 * time.Millisecond, Samples: 1000, Learned: now}
	return guard.State{
		Calls:     cost,
		Methods:   []guard.LearnedMethod{{Name: "/shop.Stock/Check", Cost: cost}, {Name: "/shop.Stock/Watch", Streams: true, Cost: cost}},
		Endpoints: []guard.LearnedLimit{{Endpoint: where, Law: limit.Adaptive, Limit: n, Ramp: true, Learned: now}},
	}
}

// file returns the content of the file for some states.
func file(t testing.TB, of states) []byte {
	t.Helper()
	backends, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encode(backends, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// shelf is a memory under test, of a guard whose back-end nobody reaches.
type shelf struct {
	*memory
	t    *testing.T
	said *bytes.Buffer
}

// inShelf runs a test in a bubble with a guard that has just been started on a directory.
func inShelf(t *testing.T, dir string, test func(s shelf)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dead := func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }
		cfg := &capguardv1.BackendConfig{Name: "stock", Targets: []string{where}}
		b, err := proxy.NewBackend(cfg, guard.Default(), proxy.BackendOptions{Dialer: dead})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		said := new(bytes.Buffer)
		m := &memory{dir: dir, backends: []*proxy.Backend{b}, log: slog.New(slog.NewTextHandler(said, nil))}
		m.recall()
		test(shelf{memory: m, t: t, said: said})
	})
}

// knows checks the limit that the guard has learned, or not: 0.
func (s shelf) knows(want int) {
	s.t.Helper()
	got := 0
	for _, e := range s.backends[0].Guard().State().Endpoints {
		got = e.Limit
	}
	if got != want {
		s.t.Errorf("the guard knows the limit %d, want %d; it says %s", got, want, s.said)
	}
}

// says checks what was logged since the last look: nothing, or one line with some words in it.
func (s shelf) says(words string) {
	s.t.Helper()
	got := s.said.String()
	if words == "" && got != "" || words != "" && (strings.Count(got, "\n") != 1 || !strings.Contains(got, words)) {
		s.t.Errorf("it says %q, want one line with %q", got, words)
	}
	s.said.Reset()
}

func TestWhatWasLearnedSurvives(t *testing.T) {
	dir := t.TempDir()
	inShelf(t, dir, func(s shelf) {
		s.knows(0)
		s.says("")
		s.backends[0].Guard().Restore(learned(20))
		s.save()
	})
	inShelf(t, dir, func(s shelf) {
		s.knows(20)
		s.says("backend=stock endpoints=1 methods=2")
	})
	info, err := os.Stat(filepath.Join(dir, learnedFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("there is more in the directory than the file: %v", entries)
	}
}

// While nothing is learned nothing is written; what is learned is on the disk within ten seconds, and once more at the end.
func TestWhenItIsWritten(t *testing.T) {
	dir := t.TempDir()
	inShelf(t, dir, func(s shelf) {
		g, path := s.backends[0].Guard(), s.path()
		inode := func() uint64 {
			info, err := os.Stat(path)
			if err != nil {
				return 0
			}
			return info.Sys().(*syscall.Stat_t).Ino
		}
		ctx, stop := context.WithCancel(s.t.Context())
		ended := make(chan struct{})
		go func() { // ends with stop
			defer close(ended)
			s.run(ctx)
		}()
		g.Restore(learned(20))
		time.Sleep(learnedEvery + time.Second)
		first := inode()
		time.Sleep(time.Hour)
		if got := inode(); got != first || first == 0 {
			t.Errorf("nothing was learned for an hour, and the file was written: %d, then %d", first, got)
		}
		g.Restore(learned(21))
		time.Sleep(learnedEvery)
		second := inode()
		g.Restore(learned(22))
		stop()
		<-ended
		if third := inode(); first == second || second == third {
			t.Errorf("not written when it should be: %d, %d, %d", first, second, third)
		}
		s.says("")
	})
	inShelf(t, dir, func(s shelf) { s.knows(22) })
}

// A guard that is killed while it writes leaves a part of the next file, or all of it, beside the last one.
func TestKilledInTheMiddleOfAWrite(t *testing.T) {
	dir := t.TempDir()
	inShelf(t, dir, func(s shelf) {
		s.backends[0].Guard().Restore(learned(20))
		s.save()
	})
	next := file(t, states{"stock": learned(30)})
	for n := range len(next) {
		torn := next[:n]
		if n == 0 {
			torn = bytes.Repeat(next, 2) // longer than what is written next
		}
		if err := os.WriteFile(filepath.Join(dir, learnedFile+".new"), torn, 0o600); err != nil {
			t.Fatal(err)
		}
		inShelf(t, dir, func(s shelf) {
			s.knows(20)
			if n%50 == 0 {
				s.backends[0].Guard().Restore(learned(20 + n))
				s.save()
				s.says("going on")
				s.backends[0].Guard().Restore(learned(20))
				s.save()
			}
		})
	}
}

func TestUnreadableFilesArePutAside(t *testing.T) {
	whole := file(t, states{"stock": learned(20)})
	later := bytes.Replace(whole, []byte(`"capguard_learned":1`), []byte(`"capguard_learned":2`), 1)
	for name, test := range map[string]struct {
		put  func(path string) error
		want string
	}{
		"empty":          {put: put(""), want: "damaged"},
		"half":           {put: put(string(whole[:len(whole)/2])), want: "damaged"},
		"not JSON":       {put: put("\x00\x01\x02"), want: "damaged"},
		"twice":          {put: put(string(whole) + string(whole)), want: "damaged"},
		"changed":        {put: put(strings.Replace(string(whole), `"limit":20`, `"limit":28`, 1)), want: "checksum"},
		"of others":      {put: put(`{"name": "package.json", "version": "1"}`), want: "not of this program"},
		"of the future":  {put: put(string(later)), want: "format 2"},
		"of wrong types": {put: put(string(wrong())), want: "damaged"},
		"huge":           {put: huge, want: "more than"},
		"a directory":    {put: func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) }, want: "not a file"},
		"a pipe":         {put: func(path string) error { return syscall.Mkfifo(path, 0o600) }, want: "not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, learnedFile)
			if err := test.put(path); err != nil {
				t.Fatal(err)
			}
			inShelf(t, dir, func(s shelf) {
				s.says(test.want)
				s.knows(0)
				s.backends[0].Guard().Restore(learned(20))
				s.save()
				s.says("")
			})
			if _, err := os.Lstat(path + ".unread"); err != nil {
				t.Errorf("it was not put aside: %v", err)
			}
			inShelf(t, dir, func(s shelf) { s.knows(20) })
		})
	}
}

func put(text string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
}

func huge(path string) error { return errors.Join(put("{")(path), os.Truncate(path, maxLearned+1)) }

// wrong is a file with a right checksum over something else.
func wrong() []byte {
	data, _ := encode([]byte(`{"stock":{"endpoints":[{"limit":"many"}]}}`), time.Now())
	return data
}

// A disk that is full, or a directory that is gone, is told once, and so is its end; the guard works on.
func TestDiskThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	inShelf(t, dir, func(s shelf) {
		s.save()
		s.says("cannot be kept")
		s.save()
		s.says("")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.save()
		s.says("kept for a restart again")
		s.save()
		s.says("")
	})
}

// A sound file may hold what cannot be, or is worth nothing any more: the log tells what was taken, not what was there.
func TestOnlyWhatIsTakenIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *guard.State)
		says   string
		knows  int
	}{
		"nothing":       {change: func(s *guard.State) { *s = guard.State{} }, says: ""},
		"all":           {change: func(*guard.State) {}, says: "endpoints=1 methods=2 left_out=0", knows: 20},
		"costs alone":   {change: func(s *guard.State) { s.Endpoints[0].Limit = -1 }, says: "endpoints=0 methods=2 left_out=1"},
		"no such limit": {change: func(s *guard.State) { s.Endpoints[0].Limit = math.MaxInt }, says: "endpoints=0 methods=2 left_out=1"},
		"above all":     {change: func(s *guard.State) { s.Endpoints[0].Limit = 1_000_001 }, says: "endpoints=0 methods=2 left_out=1"},
		"largest":       {change: func(s *guard.State) { s.Endpoints[0].Limit = 1_000_000 }, says: "endpoints=1 methods=2 left_out=0", knows: 1000},
		"another law":   {change: func(s *guard.State) { s.Endpoints[0].Law = limit.AIMD }, says: "endpoints=0 methods=2 left_out=1", knows: 20},
		"limits alone": {change: func(s *guard.State) { s.Methods[0].Cost.Mean, s.Methods = -1, s.Methods[:1] },
			says: "endpoints=1 methods=0 left_out=1", knows: 20},
		"of the year 1":    {change: func(s *guard.State) { learnedAt(s, time.Time{}) }, says: "nothing that was learned before can be used"},
		"of a day to come": {change: func(s *guard.State) { learnedAt(s, time.Now().Add(48*time.Hour)) }, says: "left_out=3"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { // in the time of the guard
				s := learned(20)
				test.change(&s)
				if err := os.WriteFile(filepath.Join(dir, learnedFile), file(t, states{"stock": s}), 0o600); err != nil {
					t.Fatal(err)
				}
			})
			inShelf(t, dir, func(s shelf) {
				s.says(test.says)
				s.knows(test.knows)
			})
		})
	}
}

func learnedAt(s *guard.State, at time.Time) {
	s.Calls.Learned, s.Endpoints[0].Learned = at, at
	for i := range s.Methods {
		s.Methods[i].Cost.Learned = at
	}
}

// Whatever byte of the file is another one: it is refused, or means the same.
func TestDamageIsFound(t *testing.T) {
	want := states{"stock": learned(20), "other": learned(7)}
	whole := file(t, want)
	refused := 0
	for i := range whole {
		for _, mask := range []byte{1, 2, 0x10, 0x80} {
			damaged := bytes.Clone(whole)
			damaged[i] ^= mask
			got, err := decode(damaged)
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Fatalf("byte %d changed: %s", i, damaged)
			}
			if err != nil {
				refused++
			}
		}
	}
	if refused < 3*len(whole) {
		t.Errorf("only %d of %d changes are refused", refused, 4*len(whole))
	}
}

// FuzzDecode reads any file: it does not panic, and what it takes is taken again after it was written down.
func FuzzDecode(f *testing.F) {
	f.Add(file(f, states{"stock": learned(20)}), false)
	f.Add([]byte(`{"stock":{"calls":{"mean_ns":1},"endpoints":[{"endpoint":"a","limit":3,"learned":"2026-12-24T01:30:00Z"}]}}`), true)
	f.Add([]byte(`null`), true)
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		if sealed { // so that the checksum is right
			var err error
			if data, err = encode(data, time.Now()); err != nil {
				return
			}
		}
		got, err := decode(data)
		if err != nil {
			return
		}
		for _, s := range got {
			guard.New(guard.Default()).Restore(s)
		}
		again, err := decode(file(t, got))
		alike := func(a, b guard.State) bool {
			return len(a.Endpoints) == len(b.Endpoints) && len(a.Methods) == len(b.Methods)
		}
		if err != nil || !maps.EqualFunc(got, again, alike) {
			t.Fatalf("written down and read again %+v is %+v, %v", got, again, err)
		}
	})
}
