package boltstore

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
)

func openStore(t *testing.T) *store {
	t.Helper()
	opened, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	return opened.(*store)
}

// skip pretends that much happened in between, which would take too long to do.
func (s *store) skip(t *testing.T, change func(*state)) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.updateLocked(func(t *transaction) error {
		change(&t.state)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *store) mustCommit(t *testing.T, rev *featureflags.Revision, req *featureflags.Request) {
	t.Helper()
	if err := s.Commit(t.Context(), rev, req); err != nil {
		t.Fatal(err)
	}
}

func TestOldestRevisionsOfAllAreForgotten(t *testing.T) {
	s := openStore(t)
	change := func(n int64, name string) {
		s.mustCommit(t, &featureflags.Revision{Number: n, Action: featureflags.Create, Flag: featureflags.Flag{Name: name}}, nil)
	}
	change(1, "first")
	change(2, "second")
	s.skip(t, func(st *state) { st.Revision = featureflags.HistoryTotal })
	change(featureflags.HistoryTotal+1, "third")
	for name, want := range map[string]int{"first": 0, "second": 1, "third": 1} {
		if revs, err := s.Revisions(t.Context(), name, 0, 10); len(revs) != want || err != nil {
			t.Errorf("history of %s has %d revisions, %v; want %d", name, len(revs), err, want)
		}
	}
	if err := s.view((*transaction).verify); err != nil {
		t.Errorf("the store does not add up: %v", err)
	}
}

func TestOldestRequestsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		request := func(n int) { s.mustCommit(t, nil, &featureflags.Request{ID: fmt.Sprint(n), Time: time.Now()}) }
		for n := range 3 {
			request(n)
			time.Sleep(time.Second)
		}
		s.skip(t, func(st *state) { st.Requests += featureflags.MaxRequests - 3 })
		request(3)
		request(4)
		for n, want := range []bool{false, false, true, true, true} {
			if _, found, err := s.Request(t.Context(), fmt.Sprint(n)); found != want || err != nil {
				t.Errorf("request %d found %t, %v; want %t", n, found, err, want)
			}
		}
		if err := s.view((*transaction).verify); err != nil {
			t.Errorf("the store does not add up: %v", err)
		}
	})
}

func TestUnknownFormatIsNotDamage(t *testing.T) {
	dir := t.TempDir()
	opened, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	opened.(*store).skip(t, func(st *state) { st.Format = format + 1 })
	if err := opened.Close(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("open %s/flags.db: format 2 of flags.db is not known to this version, which knows format 1", dir)
	if _, err := Open(dir); err == nil || err.Error() != want {
		t.Errorf("Open() = %v\nwant %s", err, want)
	}
}

// TestDoubtStopsWriting: when the last write of a commit fails, nobody knows whether it is on the disk. Going on would stack changes on one
// that was reported as refused.
func TestDoubtStopsWriting(t *testing.T) {
	s := openStore(t)
	s.mustCommit(t, &featureflags.Revision{Number: 1, Action: featureflags.Create, Flag: featureflags.Flag{Name: "recs"}}, nil)
	var now state
	if err := s.view(func(t *transaction) error { now = t.state; return nil }); err != nil {
		t.Fatal(err)
	}
	if s.broken = s.doubt(now, fmt.Errorf("input/output error")); s.broken == nil {
		t.Fatal("doubt() = nil for a state that is in the file")
	}
	if err := s.Commit(t.Context(), nil, &featureflags.Request{ID: "id"}); err == nil || err != s.broken {
		t.Errorf("Commit() = %v, want %v", err, s.broken)
	}
	if revs, err := s.Revisions(t.Context(), "recs", 0, 10); len(revs) != 1 || err != nil {
		t.Errorf("reading stopped: %v, %v", revs, err)
	}
	now.Revision++
	if err := s.doubt(now, fmt.Errorf("input/output error")); err != nil {
		t.Errorf("doubt() = %v for a state that did not get into the file", err)
	}
}

func TestPanicInBboltIsAnError(t *testing.T) {
	s := openStore(t)
	if err := s.view(func(*transaction) error { panic("page 7: invalid") }); err == nil {
		t.Error("view() = nil after a panic")
	}
	s.mu.Lock()
	err := s.updateLocked(func(*transaction) error { panic("page 8: invalid") })
	s.mu.Unlock()
	if err == nil {
		t.Error("updateLocked() = nil after a panic")
	}
	want := "use flags.db: bbolt gave up: page 8: invalid"
	if err := s.Commit(t.Context(), nil, &featureflags.Request{ID: "id"}); err == nil || err.Error() != want {
		t.Errorf("Commit() = %v after a panic, want %q", err, want)
	}
	if err := s.Close(); err == nil {
		t.Error("Close() = nil after a panic")
	}
	if err := s.db.Close(); err != nil {
		t.Error(err)
	}
}

// A command was accepted although the data directory had been deleted: it was gone after the next start.
func TestARemovedFileTakesNoChanges(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
	} {
		s := openStore(t)
		path := s.db.Path()
		rev := &featureflags.Revision{Number: 1, Action: featureflags.Create, Flag: featureflags.Flag{Name: "recs"}}
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), rev, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s, moved away: %v", name, err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		s.mustCommit(t, rev, nil)
		if err := harm(path); err != nil {
			t.Fatal(err)
		}
		rev.Number++
		if err := s.Commit(t.Context(), rev, nil); err == nil || !strings.Contains(err.Error(), "restart the guard") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
