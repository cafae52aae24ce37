// Package storetest checks that a featureflags.Store keeps its promises. Every store runs the same list, so that a registry behaves alike
// on each of them:
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) featureflags.Store { return featureflags.NewMemory() })
//	}
//
// Each check gets an empty store in a synctest bubble of its own, where an hour takes no time, and closes it.
//
// What it does not do: check what outlives Close, or what a store makes of a failing disk. There stores differ, and test themselves.
package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
)

// Run runs all checks. open returns an empty store.
func Run(t *testing.T, open func(t *testing.T) featureflags.Store) {
	checks := []struct {
		name  string
		check func(*testing.T, featureflags.Store)
	}{
		{"an empty store has no flags", empty},
		{"a change is loaded as it was committed", roundTrip},
		{"a later change replaces the flag", replace},
		{"a deleted flag is gone and its history stays", deleted},
		{"a revision out of order is refused and nothing of it is there", outOfOrder},
		{"history is paged from the newest", pages},
		{"names that begin alike do not mix", alike},
		{"history of one flag is bounded", bounded},
		{"a request gets its answer again", request},
		{"a request that changed nothing is remembered", idleRequest},
		{"a request is forgotten after a day", oldRequest},
		{"a refused change leaves no request behind", refusedRequest},
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t)
				c.check(t, s)
				if err := s.Close(); err != nil {
					t.Errorf("Close() = %v", err)
				}
			})
		})
	}
}

func empty(t *testing.T, s featureflags.Store) {
	flags, revision, err := s.Load(t.Context())
	if len(flags) != 0 || revision != 0 || err != nil {
		t.Errorf("Load() = %v, %d, %v; want nothing", flags, revision, err)
	}
	revs, err := s.Revisions(t.Context(), "recs", 0, 10)
	if len(revs) != 0 || err != nil {
		t.Errorf("Revisions() = %v, %v; want none", revs, err)
	}
	if _, found, err := s.Request(t.Context(), "id"); found || err != nil {
		t.Errorf("Request() = %t, %v; want none", found, err)
	}
}

func roundTrip(t *testing.T, s featureflags.Store) {
	want := full(1, "recs")
	commit(t, s, want, nil)
	flags, revision, err := s.Load(t.Context())
	if err != nil || revision != 1 || len(flags) != 1 || show(flags[0]) != show(want.Flag) {
		t.Errorf("Load() = %s, %d, %v\nwant %s, 1", show(flags), revision, err, show(want.Flag))
	}
	expectHistory(t, s, "recs", 0, 10, want)
}

func replace(t *testing.T, s featureflags.Store) {
	commit(t, s, full(1, "recs"), nil)
	second := plain(2, featureflags.Enable, "recs")
	commit(t, s, second, nil)
	expectFlags(t, s, second.Flag)
}

func deleted(t *testing.T, s featureflags.Store) {
	made, gone := full(1, "recs"), plain(2, featureflags.Delete, "recs")
	commit(t, s, made, nil)
	commit(t, s, gone, nil)
	expectFlags(t, s)
	expectHistory(t, s, "recs", 0, 10, gone, made)
}

func outOfOrder(t *testing.T, s featureflags.Store) {
	first := full(1, "recs")
	commit(t, s, first, nil)
	for _, number := range []int64{0, 1, 3} {
		if err := s.Commit(t.Context(), new(plain(number, featureflags.Enable, "recs")), nil); err == nil {
			t.Errorf("Commit(revision %d after 1) = nil, want an error", number)
		}
	}
	expectFlags(t, s, first.Flag)
	expectHistory(t, s, "recs", 0, 10, first)
	commit(t, s, plain(2, featureflags.Enable, "recs"), nil)
}

func pages(t *testing.T, s featureflags.Store) {
	var revs []featureflags.Revision
	for i := range int64(6) {
		revs = append(revs, plain(i+1, featureflags.Dim, []string{"recs", "other"}[i%2]))
		commit(t, s, revs[i], nil)
	}
	expectHistory(t, s, "recs", 0, 2, revs[4], revs[2])
	expectHistory(t, s, "recs", 3, 2, revs[0])
	expectHistory(t, s, "recs", 4, 2, revs[2], revs[0])
	expectHistory(t, s, "recs", 1, 2)
	expectHistory(t, s, "recs", 99, 10, revs[4], revs[2], revs[0])
	expectHistory(t, s, "recs", 0, 0)
}

func alike(t *testing.T, s featureflags.Store) {
	names := []string{"a", "a-b", "a.b", "a0", "aa", "b"}
	for i, name := range names {
		commit(t, s, plain(int64(i+1), featureflags.Disable, name), nil)
	}
	for i, name := range names {
		expectHistory(t, s, name, 0, 10, plain(int64(i+1), featureflags.Disable, name))
		expectHistory(t, s, name, int64(i+1), 10)
	}
	expectHistory(t, s, "", 0, 10)
}

func bounded(t *testing.T, s featureflags.Store) {
	const more = 3
	commit(t, s, plain(1, featureflags.Create, "other"), nil)
	for i := range int64(featureflags.HistoryPerFlag + more) {
		commit(t, s, plain(i+2, featureflags.Dim, "recs"), nil)
	}
	revs, err := s.Revisions(t.Context(), "recs", 0, 2*featureflags.HistoryPerFlag)
	if err != nil || len(revs) != featureflags.HistoryPerFlag {
		t.Fatalf("Revisions() = %d of them, %v; want %d", len(revs), err, featureflags.HistoryPerFlag)
	}
	if oldest := revs[len(revs)-1].Number; oldest != more+2 {
		t.Errorf("oldest revision %d, want %d", oldest, more+2)
	}
	expectHistory(t, s, "other", 0, 10, plain(1, featureflags.Create, "other"))
}

func request(t *testing.T, s featureflags.Store) {
	rev := full(1, "recs")
	want := featureflags.Request{
		ID: "id-1", Command: "print", Time: time.Now().UTC(),
		Result: featureflags.Result{Flag: rev.Flag, Previous: plain(1, featureflags.Create, "recs").Flag, Revision: 1, Changed: true},
	}
	commit(t, s, rev, &want)
	expectFlags(t, s, rev.Flag)
	for _, id := range []string{"id-1", "id-1 ", "id", ""} {
		got, found, err := s.Request(t.Context(), id)
		if err != nil || found != (id == want.ID) || found && show(got) != show(want) {
			t.Errorf("Request(%q) = %s, %t, %v\nwant %s for %q alone", id, show(got), found, err, show(want), want.ID)
		}
	}
}

func idleRequest(t *testing.T, s featureflags.Store) {
	commit(t, s, full(1, "recs"), nil)
	if err := s.Commit(t.Context(), nil, &featureflags.Request{ID: "id-1", Time: time.Now().UTC()}); err != nil {
		t.Fatalf("Commit(no revision) = %v", err)
	}
	expectRequest(t, s, "id-1", true)
	expectHistory(t, s, "recs", 0, 10, full(1, "recs"))
	commit(t, s, plain(2, featureflags.Enable, "recs"), nil)
}

func oldRequest(t *testing.T, s featureflags.Store) {
	remember := func(id string) {
		if err := s.Commit(t.Context(), nil, &featureflags.Request{ID: id, Time: time.Now().UTC()}); err != nil {
			t.Fatalf("Commit(%s) = %v", id, err)
		}
	}
	remember("first")
	time.Sleep(featureflags.RequestWindow - time.Second)
	expectRequest(t, s, "first", true)
	remember("second")
	time.Sleep(time.Second)
	expectRequest(t, s, "first", false)
	expectRequest(t, s, "second", true)
	remember("first")
	expectRequest(t, s, "first", true)
	time.Sleep(featureflags.RequestWindow - time.Second)
	expectRequest(t, s, "second", false)
	expectRequest(t, s, "first", true)
}

func refusedRequest(t *testing.T, s featureflags.Store) {
	err := s.Commit(t.Context(), new(full(7, "recs")), &featureflags.Request{ID: "id-1", Time: time.Now().UTC()})
	if err == nil {
		t.Fatal("Commit(revision 7 after 0) = nil, want an error")
	}
	expectRequest(t, s, "id-1", false)
	empty(t, s)
}

func commit(t *testing.T, s featureflags.Store, rev featureflags.Revision, req *featureflags.Request) {
	t.Helper()
	if err := s.Commit(t.Context(), &rev, req); err != nil {
		t.Fatalf("Commit(revision %d) = %v", rev.Number, err)
	}
}

func expectFlags(t *testing.T, s featureflags.Store, want ...featureflags.Flag) {
	t.Helper()
	got, _, err := s.Load(t.Context())
	slices.SortFunc(got, func(a, b featureflags.Flag) int { return strings.Compare(a.Name, b.Name) })
	if err != nil || show(got) != show(want) {
		t.Errorf("Load() = %s, %v\nwant %s", show(got), err, show(want))
	}
}

func expectHistory(t *testing.T, s featureflags.Store, name string, before int64, n int, want ...featureflags.Revision) {
	t.Helper()
	got, err := s.Revisions(t.Context(), name, before, n)
	if err != nil || show(got) != show(want) {
		t.Errorf("Revisions(%q, %d, %d) = %s, %v\nwant %s", name, before, n, show(got), err, show(want))
	}
}

func expectRequest(t *testing.T, s featureflags.Store, id string, want bool) {
	t.Helper()
	if _, found, err := s.Request(t.Context(), id); found != want || err != nil {
		t.Errorf("Request(%q) = %t, %v; want %t", id, found, err, want)
	}
}

// epoch has a fraction that only a store that keeps nanoseconds returns.
func epoch() time.Time { return time.Date(2026, 12, 19, 1, 30, 0, 123456789, time.UTC) }

// full is a revision with something in every field.
func full(number int64, name string) featureflags.Revision {
	standing := featureflags.Setting{
		Percent: 33.333, Reason: "Schönwetter <&> \u2028", Actor: "ann", Time: epoch(),
		TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331",
	}
	override := featureflags.Setting{
		Percent: 0.001, Reason: "stock DB at 95%", Actor: "bob", Time: epoch().Add(time.Hour), TraceID: "1", SpanID: "2",
	}
	return featureflags.Revision{
		Number: number, Action: featureflags.Dim, Actor: "bob", Time: epoch().Add(time.Hour), TraceID: "1", SpanID: "2",
		Flag: featureflags.Flag{
			Name: name, Description: "recommendations", Standing: standing, Override: &override, Until: epoch().Add(3 * time.Hour),
			Revision: number, Created: epoch().Add(-time.Hour), Updated: epoch(),
		},
	}
}

// plain is a revision with little in it.
func plain(number int64, action featureflags.Action, name string) featureflags.Revision {
	return featureflags.Revision{
		Number: number, Action: action, Actor: "ann", Time: epoch(),
		Flag: featureflags.Flag{Name: name, Standing: featureflags.Setting{Percent: 100}, Revision: number, Created: epoch(), Updated: epoch()},
	}
}

// show prints all of v, also what its pointers point to.
func show(v any) string {
	switch v := v.(type) {
	case []featureflags.Flag:
		return list(v)
	case []featureflags.Revision:
		return list(v)
	case featureflags.Revision:
		return fmt.Sprintf("%d %v %s by %s at %v %s/%s", v.Number, v.Action, show(v.Flag), v.Actor, v.Time, v.TraceID, v.SpanID)
	case featureflags.Request:
		return fmt.Sprintf("%s %s %v -> %s was %s %d %t", v.ID, v.Command, v.Time, show(v.Result.Flag), show(v.Result.Previous),
			v.Result.Revision, v.Result.Changed)
	case featureflags.Flag:
		override := "none"
		if v.Override != nil {
			override = fmt.Sprintf("%+v", *v.Override)
		}
		v.Override = nil
		return fmt.Sprintf("%+v over %s", v, override)
	}
	return fmt.Sprint(v)
}

func list[T any](all []T) string {
	shown := make([]string, len(all))
	for i, v := range all {
		shown[i] = show(v)
	}
	return "[" + strings.Join(shown, "\n ") + "]"
}
