package featureflags_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/featureflags/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) featureflags.Store { return featureflags.NewMemory() })
}

func TestMemoryForgetsTheOldestRevisionsOfAll(t *testing.T) {
	m := featureflags.NewMemory()
	for n := range int64(featureflags.HistoryTotal + 2) {
		rev := featureflags.Revision{Number: n + 1, Action: featureflags.Disable, Flag: featureflags.Flag{Name: fmt.Sprint("f", n)}}
		if err := m.Commit(t.Context(), &rev, nil); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range map[int64]int{0: 0, 1: 0, 2: 1, featureflags.HistoryTotal + 1: 1} {
		if revs, _ := m.Revisions(t.Context(), fmt.Sprint("f", n), 0, 10); len(revs) != want {
			t.Errorf("revision %d: %d kept, want %d", n+1, len(revs), want)
		}
	}
}

func TestMemoryForgetsTheOldestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := featureflags.NewMemory()
		for n := range featureflags.MaxRequests + 1 {
			if err := m.Commit(t.Context(), nil, &featureflags.Request{ID: fmt.Sprint(n), Time: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		for id, want := range map[string]bool{"0": false, "1": true, fmt.Sprint(featureflags.MaxRequests): true} {
			if _, found, _ := m.Request(t.Context(), id); found != want {
				t.Errorf("Request(%s) found %t, want %t", id, found, want)
			}
		}
	})
}
