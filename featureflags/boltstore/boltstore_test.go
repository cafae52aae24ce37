package boltstore_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/featureflags/boltstore"
	"github.com/capguard/capguard/featureflags/storetest"
)

// dataDir returns an empty directory, in memory where the machine has such: what is tested is the store, not the disk.
func dataDir(t *testing.T) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "boltstore-*"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

func open(t *testing.T, dir string) featureflags.Store {
	t.Helper()
	s, err := boltstore.Open(dir)
	if err != nil {
		t.Fatalf("Open(%s) = %v", dir, err)
	}
	return s
}

func shut(t *testing.T, s featureflags.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
}

func TestStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) featureflags.Store { return open(t, dataDir(t)) })
}

func TestEverythingIsThereAfterReopening(t *testing.T) {
	dir := dataDir(t)
	s := open(t, dir)
	reg := registry(t, s)
	apply(t, reg, featureflags.Command{
		Action: featureflags.Disable, Name: "recs", Reason: new("stock DB"), TTL: time.Hour, Actor: "ann", RequestID: "id",
	})
	apply(t, reg, featureflags.Command{Action: featureflags.Dim, Name: "ads", Percent: new(12.5), Actor: "bob"})
	apply(t, reg, featureflags.Command{Action: featureflags.Delete, Name: "ads", Actor: "bob"})
	before, _ := reg.Snapshot().Flag("recs")
	shut(t, s)

	s = open(t, dir)
	defer shut(t, s)
	reg = registry(t, s)
	after, _ := reg.Snapshot().Flag("recs")
	if reg.Snapshot().Revision != 3 || reg.Snapshot().Len() != 1 || after.Etag() != before.Etag() || *after.Override != *before.Override {
		t.Errorf("after reopening: revision %d, %+v\nwant 3, %+v", reg.Snapshot().Revision, after, before)
	}
	if revs, err := reg.Revisions(t.Context(), "ads", 0, 10); err != nil || len(revs) != 2 || revs[0].Action != featureflags.Delete {
		t.Errorf("history of a deleted flag = %v, %v; want delete, dim", revs, err)
	}
	if _, found, err := s.Request(t.Context(), "id"); !found || err != nil {
		t.Errorf("Request() = %t, %v; want it remembered", found, err)
	}
}

func registry(t *testing.T, s featureflags.Store) *featureflags.Registry {
	t.Helper()
	reg, err := featureflags.Open(t.Context(), s)
	if err != nil {
		t.Fatalf("featureflags.Open() = %v", err)
	}
	return reg
}

func apply(t *testing.T, reg *featureflags.Registry, c featureflags.Command) featureflags.Result {
	t.Helper()
	c.AllowMissing = true
	result, err := reg.Apply(t.Context(), c, nil)
	if err != nil {
		t.Fatalf("Apply(%v %s) = %v", c.Action, c.Name, err)
	}
	return result
}

func TestOpenSaysWhyItCannot(t *testing.T) {
	used := dataDir(t)
	s := open(t, used)
	defer shut(t, s)
	occupied := filepath.Join(dataDir(t), "file")
	folder := dataDir(t)
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "flags.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, dir string
		want      []string
	}{
		{"in use by another guard", used, []string{used + " is in use by another guard", "flags.db is locked", "--data-dir"}},
		{"the directory is a file", occupied, []string{occupied, "not a directory", "--data-dir"}},
		{"below a file", filepath.Join(occupied, "data"), []string{occupied, "not a directory", "--data-dir"}},
		{"not writable", "/proc/capguard", []string{"create data directory /proc/capguard", "--data-dir"}},
		{"nothing can be created in it", "/proc/self", []string{"create /proc/self/flags.db", "writable", "--data-dir"}},
		{"flags.db is a directory", folder, []string{folder, "flags.db", "not a file"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := boltstore.Open(test.dir)
			if err == nil {
				t.Fatalf("Open(%s) = nil, want an error", test.dir)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Open(%s) = %q, want it to say %q", test.dir, err, want)
				}
			}
		})
	}
	if _, err := s.Revisions(t.Context(), "recs", 0, 1); err != nil {
		t.Errorf("the guard that had the store lost it: %v", err)
	}
}

func TestOfGuardsThatStartTogetherOneGetsTheStore(t *testing.T) {
	dir := dataDir(t)
	stores, refusals := make(chan featureflags.Store, 8), make(chan error, 8)
	var starting sync.WaitGroup
	for range 8 {
		starting.Go(func() {
			if s, err := boltstore.Open(dir); err != nil {
				refusals <- err
			} else {
				stores <- s
			}
		})
	}
	starting.Wait()
	if len(stores) != 1 {
		t.Fatalf("%d of 8 guards got the store", len(stores))
	}
	shut(t, <-stores)
	for range 7 {
		if err := <-refusals; !strings.Contains(err.Error(), "in use by another guard") {
			t.Errorf("Open() = %v, want it in use", err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v, %v; want flags.db alone", left, err)
	}
}
