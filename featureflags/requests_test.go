package featureflags_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
)

func requested(c command, id string) command { c.RequestID = id; return c }

func TestRequestIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		first := mustApply(t, reg, requested(off("recs"), "id-1"))
		mustApply(t, reg, on("recs"))

		again := mustApply(t, reg, by(requested(off("recs"), "id-1"), "ann from another address"))
		if again.Changed || again.Revision != first.Revision || again.Flag.Etag() != first.Flag.Etag() {
			t.Errorf("a repetition got %+v\nwant the answer of the first: %+v", again, first)
		}
		if f, _ := reg.Snapshot().Flag("recs"); f.Standing.State() != featureflags.On {
			t.Errorf("a late repetition changed the flag to %v", f.Standing.State())
		}
		_, err := reg.Apply(t.Context(), requested(on("recs"), "id-1"), nil)
		if e, ok := errors.AsType[*featureflags.Error](err); !ok || e.Kind != featureflags.Invalid || e.Field != "request_id" {
			t.Errorf("another command with the id: %v, want Invalid request_id", err)
		}
		time.Sleep(24 * time.Hour)
		if result := mustApply(t, reg, requested(off("recs"), "id-1")); !result.Changed {
			t.Error("the id is remembered for more than 24 hours")
		}
	})
}

// A command that changed nothing has been carried out as well: when its repetition comes late, it must not undo what happened since.
func TestRequestIDOfAnIdleCommandIsRemembered(t *testing.T) {
	reg := newRegistry(t, featureflags.NewMemory())
	mustApply(t, reg, off("recs"), requested(off("recs"), "id-1"), on("recs"), requested(off("recs"), "id-1"))
	if f, _ := reg.Snapshot().Flag("recs"); f.Standing.State() != featureflags.On {
		t.Errorf("a late repetition changed the flag to %v", f.Standing.State())
	}
}

func TestRefusedCommandMayKeepItsRequestID(t *testing.T) {
	reg := newRegistry(t, featureflags.NewMemory())
	if _, err := reg.Apply(t.Context(), requested(off("recs"), "id-1"), nil); err == nil {
		t.Fatal("an unknown name was switched")
	}
	if result := mustApply(t, reg, requested(off("recs"), "id-1")); !result.Changed {
		t.Error("the id of a refused command was remembered")
	}
}

func TestHistoryTellsWhoDidWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		traced := by(lasting(off("recs"), time.Hour), "bob")
		traced.TraceID, traced.SpanID = "0af7", "b7ad"
		start := time.Now()
		mustApply(t, reg, create("recs"), create("other"))
		time.Sleep(time.Minute)
		mustApply(t, reg, traced, off("recs"), del("recs"))
		revs, err := reg.Revisions(t.Context(), "flags/recs", 0, 10)
		if err != nil || len(revs) != 4 {
			t.Fatalf("Revisions() = %v, %v; want 4", revs, err)
		}
		for i, want := range []struct {
			number int64
			action featureflags.Action
			actor  string
		}{{5, featureflags.Delete, "ann"}, {4, featureflags.Disable, "ann"}, {3, featureflags.Disable, "bob"}, {1, featureflags.Create, "ann"}} {
			r := revs[i]
			if r.Number != want.number || r.Action != want.action || r.Actor != want.actor || r.Flag.Name != "recs" || r.Flag.Revision != r.Number {
				t.Errorf("revision %d: %+v\nwant %+v", i, r, want)
			}
		}
		if r := revs[2]; !r.Time.Equal(start.Add(time.Minute)) || r.TraceID != "0af7" || r.SpanID != "b7ad" || r.Flag.Override.TraceID != "0af7" {
			t.Errorf("revision of a traced command: %+v", r)
		}
		if revs, err := reg.Revisions(t.Context(), "never-seen", 0, 10); len(revs) != 0 || err != nil {
			t.Errorf("history of an unknown name = %v, %v", revs, err)
		}
		if _, err := reg.Revisions(t.Context(), "../etc", 0, 10); err == nil {
			t.Error("history of a bad name = nil error")
		}
	})
}
