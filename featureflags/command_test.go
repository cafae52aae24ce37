package featureflags_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
)

type command = featureflags.Command

func off(name string) command { return command{Action: featureflags.Disable, Name: name, Actor: "ann"} }
func on(name string) command  { return command{Action: featureflags.Enable, Name: name, Actor: "ann"} }
func del(name string) command { return command{Action: featureflags.Delete, Name: name, Actor: "ann"} }

func dim(name string, percent float64) command {
	return command{Action: featureflags.Dim, Name: name, Percent: &percent, Actor: "ann"}
}

func create(name string) command {
	return command{Action: featureflags.Create, Name: name, Actor: "ann"}
}

func update(name string) command {
	return command{Action: featureflags.Update, Name: name, Actor: "ann"}
}

func rollback(name string, to int64) command {
	return command{Action: featureflags.Rollback, Name: name, RollbackTo: to, Actor: "ann"}
}

// with changes a command for a table.
func with(c command, change func(*command)) command {
	change(&c)
	return c
}

func because(c command, reason string) command { c.Reason = &reason; return c }

func lasting(c command, ttl time.Duration) command { c.TTL = ttl; return c }

func by(c command, actor string) command { c.Actor = actor; return c }

func newRegistry(t *testing.T, s featureflags.Store) *featureflags.Registry {
	t.Helper()
	reg, err := featureflags.Open(t.Context(), s)
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	return reg
}

func mustApply(t *testing.T, reg *featureflags.Registry, commands ...command) (last featureflags.Result) {
	t.Helper()
	for _, c := range commands {
		c.AllowMissing = true
		result, err := reg.Apply(t.Context(), c, nil)
		if err != nil {
			t.Fatalf("Apply(%v %s) = %v", c.Action, c.Name, err)
		}
		last = result
	}
	return last
}

// brief prints what is in force, and what stands behind it.
func brief(f featureflags.Flag, now time.Time) string {
	if f.Name == "" {
		return "none"
	}
	setting := func(s featureflags.Setting) string {
		return strings.TrimSpace(fmt.Sprintf("%v %v by %s %s", s.State(), s.Percent, s.Actor, s.Reason))
	}
	s, until := f.Effective(now)
	if until.IsZero() {
		return setting(s)
	}
	return fmt.Sprintf("%s for %v, then %s", setting(s), until.Sub(now), setting(f.Standing))
}

func TestCommands(t *testing.T) {
	tests := []struct {
		name    string
		given   []command
		when    command
		want    string
		changed bool
	}{
		{"off makes a flag", nil, off("recs"), "off 0 by ann", true},
		{"off twice is one change", []command{off("recs")}, off("recs"), "off 0 by ann", false},
		{"off with a reason", nil, because(off("recs"), "INC-1"), "off 0 by ann INC-1", true},
		{"off again without a reason keeps it", []command{because(off("recs"), "INC-1")}, off("recs"), "off 0 by ann INC-1", false},
		{"off again for another reason", []command{because(off("recs"), "INC-1")}, because(off("recs"), "INC-2"), "off 0 by ann INC-2", true},
		{"off again by somebody else", []command{off("recs")}, by(off("recs"), "bob"), "off 0 by bob", true},
		{"off by nobody", nil, by(off("recs"), ""), "off 0 by unknown", true},
		{"on forgets why it was off", []command{because(off("recs"), "INC-1")}, on("recs"), "on 100 by ann", true},
		{"dim to 0 is off", []command{off("recs")}, dim("recs", 0), "off 0 by ann", false},
		{"dim to 100 is on", []command{on("recs")}, dim("recs", 100), "on 100 by ann", false},
		{"dim in the finest step", nil, dim("recs", 0.001), "dimmed 0.001 by ann", true},
		{"dim finer than the finest step", nil, dim("recs", 33.33349), "dimmed 33.333 by ann", true},
		{"off for a time", nil, lasting(off("recs"), 2*time.Hour), "off 0 by ann for 2h0m0s, then on 100 by", true},
		{"off for a time over dimmed", []command{dim("recs", 20)}, lasting(off("recs"), time.Hour),
			"off 0 by ann for 1h0m0s, then dimmed 20 by ann", true},
		{"off for a time twice at once", []command{lasting(off("recs"), time.Hour)}, lasting(off("recs"), time.Hour),
			"off 0 by ann for 1h0m0s, then on 100 by", false},
		{"off for longer", []command{lasting(off("recs"), time.Hour)}, lasting(off("recs"), 3*time.Hour),
			"off 0 by ann for 3h0m0s, then on 100 by", true},
		{"off for longer keeps the reason", []command{because(lasting(off("recs"), time.Hour), "INC")}, lasting(off("recs"), 2*time.Hour),
			"off 0 by ann INC for 2h0m0s, then on 100 by", true},
		{"without end in place of a time", []command{lasting(off("recs"), time.Hour)}, off("recs"), "off 0 by ann", true},
		{"on ends what had an end", []command{dim("recs", 20), lasting(off("recs"), time.Hour)}, on("recs"), "on 100 by ann", true},
		{"off for a time although it is off", []command{off("recs")}, lasting(off("recs"), time.Hour),
			"off 0 by ann for 1h0m0s, then off 0 by ann", true},
		{"create", nil, create("recs"), "on 100 by ann", true},
		{"create dimmed", nil, with(create("recs"), func(c *command) { c.Percent = new(5.0) }), "dimmed 5 by ann", true},
		{"update percent ends what had an end", []command{lasting(off("recs"), time.Hour)},
			with(update("recs"), func(c *command) { c.Percent = new(50.0) }), "dimmed 50 by ann", true},
		{"update nothing", []command{dim("recs", 5)}, by(update("recs"), "bob"), "dimmed 5 by ann", false},
		{"update the words", []command{because(dim("recs", 5), "INC")}, by(because(update("recs"), "INC-1"), "bob"),
			"dimmed 5 by ann INC-1", true},
		{"update the words of a time", []command{lasting(off("recs"), time.Hour)}, because(update("recs"), "INC"),
			"off 0 by ann INC for 1h0m0s, then on 100 by", true},
		{"update to no words", []command{because(off("recs"), "INC")}, because(update("recs"), ""), "off 0 by ann", true},
		{"update makes a flag", nil, because(update("recs"), "new"), "on 100 by ann new", true},
		{"delete", []command{off("recs")}, del("recs"), "none", true},
		{"delete what is not there", nil, del("recs"), "none", false},
		{"roll back", []command{because(dim("recs", 20), "INC"), off("recs")}, by(rollback("recs", 1), "bob"), "dimmed 20 by bob INC", true},
		{"roll back for a reason", []command{because(dim("recs", 20), "INC"), off("recs")}, because(rollback("recs", 1), "calm"),
			"dimmed 20 by ann calm", true},
		{"roll back to what had an end", []command{lasting(off("recs"), time.Hour), on("recs")}, by(rollback("recs", 1), "bob"),
			"off 0 by bob for 1h0m0s, then on 100 by", true},
		{"roll back twice is one change", []command{dim("recs", 20), off("recs"), rollback("recs", 1)}, rollback("recs", 1),
			"dimmed 20 by ann", false},
		{"roll back a deletion", []command{because(off("recs"), "INC"), del("recs")}, rollback("recs", 1), "off 0 by ann INC", true},
		{"a resource name", nil, off("flags/recs"), "off 0 by ann", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := newRegistry(t, featureflags.NewMemory())
				mustApply(t, reg, test.given...)
				before := reg.Snapshot()
				result := mustApply(t, reg, test.when)
				if got := brief(result.Flag, time.Now()); got != test.want || result.Changed != test.changed {
					t.Errorf("%s (changed %t)\nwant %s (changed %t)", got, result.Changed, test.want, test.changed)
				}
				checkPublished(t, reg, before, result)
			})
		})
	}
}

// checkPublished compares the answer of a command on recs with what everybody sees.
func checkPublished(t *testing.T, reg *featureflags.Registry, before *featureflags.Snapshot, result featureflags.Result) {
	t.Helper()
	after := reg.Snapshot()
	if changed := after.Revision == before.Revision+1; changed != result.Changed || after.Revision != result.Revision {
		t.Errorf("revision %d became %d; the answer says %d, changed %t", before.Revision, after.Revision, result.Revision, result.Changed)
	}
	was, _ := before.Flag("recs")
	is, _ := after.Flag("recs")
	now := time.Now()
	stale := is.Name != "" && is.Etag() != result.Flag.Etag()
	if brief(was, now) != brief(result.Previous, now) || brief(is, now) != brief(result.Flag, now) || stale {
		t.Errorf("was %s, is %s; the answer says %s, %s", brief(was, now), brief(is, now), brief(result.Previous, now), brief(result.Flag, now))
	}
	if result.Changed && is.Etag() == was.Etag() {
		t.Errorf("etag %s stayed through a change", is.Etag())
	}
}

func TestRefusedCommands(t *testing.T) {
	text := func(n int) string { return strings.Repeat("é", n/2) }
	tests := []struct {
		name    string
		when    command
		kind    featureflags.Kind
		field   string
		message string // part of it
	}{
		{"no name", off(""), featureflags.Invalid, "name", "1 to 63 of a-z"},
		{"a bad name", off("Recs!"), featureflags.Invalid, "name", `"Recs!" is no flag id`},
		{"an unknown name", off("rcs"), featureflags.NotFound, "", `did you mean recs?`},
		{"an unknown name like no other", off("zebra"), featureflags.NotFound, "", "list what there is"},
		{"update an unknown name", update("rcs"), featureflags.NotFound, "", "recs"},
		{"delete an unknown name", del("rcs"), featureflags.NotFound, "", "recs"},
		{"create what is there", create("recs"), featureflags.AlreadyExists, "", `flag "recs" exists since`},
		{"dim without percent", command{Action: featureflags.Dim, Name: "recs"}, featureflags.Invalid, "percent", "is missing"},
		{"less than nothing", dim("recs", -0.001), featureflags.Invalid, "percent", "-0.001 is not between 0 and 100"},
		{"more than all", dim("recs", 100.001), featureflags.Invalid, "percent", "100.001 is not between"},
		{"no number", dim("recs", nan()), featureflags.Invalid, "percent", "NaN"},
		{"infinity", dim("recs", 1/zero()), featureflags.Invalid, "percent", "+Inf"},
		{"off with a percentage", with(off("recs"), func(c *command) { c.Percent = new(5.0) }),
			featureflags.Invalid, "percent", "disable takes none"},
		{"too short a time", lasting(off("recs"), time.Second-1), featureflags.Invalid, "ttl", "is not between 1 second"},
		{"too long a time", lasting(off("recs"), 366*24*time.Hour+1), featureflags.Invalid, "ttl", "366 days"},
		{"a negative time", lasting(off("recs"), -time.Hour), featureflags.Invalid, "ttl", "-1h0m0s"},
		{"a time for an update", lasting(update("recs"), time.Hour), featureflags.Invalid, "ttl", "update takes none"},
		{"too long a reason", because(off("recs"), text(1002)), featureflags.Invalid, "reason", "1002 bytes"},
		{"a reason that is not text", because(off("recs"), "a\xff"), featureflags.Invalid, "reason", "UTF-8"},
		{"a reason that turns the direction", because(off("recs"), "no \u202eesaeler"), featureflags.Invalid, "reason", "control characters"},
		{"a reason with a separator of lines", because(off("recs"), "a\u2028b"), featureflags.Invalid, "reason", "control characters"},
		{"a reason of two lines", because(off("recs"), "a\nb"), featureflags.Invalid, "reason", "control characters"},
		{"too long a description", with(update("recs"), func(c *command) { c.Description = new(text(1002)) }),
			featureflags.Invalid, "description", "1002"},
		{"off with a description", with(off("recs"), func(c *command) { c.Description = new("x") }),
			featureflags.Invalid, "description", "takes none"},
		{"too long a request id", with(off("recs"), func(c *command) { c.RequestID = text(102) }),
			featureflags.Invalid, "request_id", "100 bytes"},
		{"a request id with a space", with(off("recs"), func(c *command) { c.RequestID = "a b" }), featureflags.Invalid, "request_id", "UUID"},
		{"no action", command{Name: "recs"}, featureflags.Invalid, "action", "not a command"},
		{"expire", command{Action: featureflags.Expire, Name: "recs"}, featureflags.Invalid, "action", "expire"},
		{"roll back to nothing", rollback("recs", 0), featureflags.Invalid, "revision", "0 is not the number"},
		{"roll back to another flag's revision", rollback("recs", 2), featureflags.NotFound, "revision", `flag "recs" has no revision 2`},
		{"roll back to the future", rollback("recs", 99), featureflags.NotFound, "revision", "no revision 99"},
		{"roll back to a deletion", rollback("gone", 3), featureflags.Invalid, "revision", "3 deleted the flag"},
		{"roll back an unknown name", rollback("rcs", 1), featureflags.NotFound, "", "recs"},
		{"an old etag", with(off("recs"), func(c *command) { c.Etag = "a41f" }), featureflags.EtagMismatch, "", "not a41f"},
		{"an etag to delete with", with(del("recs"), func(c *command) { c.Etag = "a41f" }), featureflags.EtagMismatch, "", "not a41f"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reg := newRegistry(t, featureflags.NewMemory())
			mustApply(t, reg, create("recs"), create("gone"), del("gone"))
			before := reg.Snapshot()
			result, err := reg.Apply(t.Context(), test.when, nil)
			e, ok := errors.AsType[*featureflags.Error](err)
			if !ok || e.Kind != test.kind || e.Field != test.field || !strings.Contains(e.Message, test.message) {
				t.Errorf("Apply() = %+v\nwant kind %d, field %q, %q", err, test.kind, test.field, test.message)
			}
			if reg.Snapshot() != before || result.Changed {
				t.Error("a refused command changed something")
			}
		})
	}
}

func nan() float64  { return zero() / zero() }
func zero() float64 { return 0 }

func TestLongestTextsAreTaken(t *testing.T) {
	reg := newRegistry(t, featureflags.NewMemory())
	c := because(create(strings.Repeat("a", 63)), strings.Repeat("é", 500))
	c.Description, c.RequestID = new(strings.Repeat("x", 1000)), strings.Repeat("7", 100)
	mustApply(t, reg, c, lasting(off(c.Name), 366*24*time.Hour), lasting(off(c.Name), time.Second))
}

func TestStrangeActorsAreMadePlain(t *testing.T) {
	reg := newRegistry(t, featureflags.NewMemory())
	for actor, want := range map[string]string{
		"CN=ann\r\n\x1b[31m": "CN=ann[31m", "\xffann": "ann", strings.Repeat("é", 200): strings.Repeat("é", 100), "\x00": "unknown",
	} {
		if got := mustApply(t, reg, by(off("recs"), actor)).Flag.Standing.Actor; got != want {
			t.Errorf("actor %q is kept as %q, want %q", actor, got, want)
		}
	}
}

func TestEtags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, featureflags.NewMemory())
		tagged := func(c command, etag string) error {
			c.Etag, c.AllowMissing = etag, true
			_, err := reg.Apply(t.Context(), c, nil)
			return err
		}
		none := featureflags.Flag{Name: "recs"}.Etag()
		if err := tagged(off("recs"), none); err != nil {
			t.Errorf("the etag of no flag, while there is none: %v", err)
		}
		e, ok := errors.AsType[*featureflags.Error](tagged(on("recs"), none))
		f, _ := reg.Snapshot().Flag("recs")
		if !ok || e.Details["sent"] != none || e.Details["current"] != f.Etag() {
			t.Errorf("the etag of no flag, while there is one: %+v, want sent %s, current %s", e, none, f.Etag())
		}
		if err := tagged(on("recs"), `"`+f.Etag()+`"`); err != nil {
			t.Errorf("the etag in quotes: %v", err)
		}
		if err := tagged(on("recs"), f.Etag()); err == nil {
			t.Error("the etag of the version before was accepted")
		}
		mustApply(t, reg, off("recs"))
		if again, _ := reg.Snapshot().Flag("recs"); again.Etag() == f.Etag() {
			t.Error("the etag came back with the setting")
		}
	})
}

func TestValidateOnlyAnswersAsIf(t *testing.T) {
	reg := newRegistry(t, featureflags.NewMemory())
	mustApply(t, reg, dim("recs", 20))
	before := reg.Snapshot()
	was, _ := before.Flag("recs")
	try := because(off("recs"), "INC")
	try.ValidateOnly, try.RequestID = true, "id-1"
	result := mustApply(t, reg, try)
	if got := brief(result.Flag, time.Now()); got != "off 0 by ann INC" || result.Changed || result.Flag.Etag() != was.Etag() {
		t.Errorf("as if: %s, changed %t, etag %s; want off, unchanged, %s", got, result.Changed, result.Flag.Etag(), was.Etag())
	}
	if reg.Snapshot() != before {
		t.Error("validate only changed something")
	}
	try.ValidateOnly, try.Etag = false, result.Flag.Etag()
	if result := mustApply(t, reg, try); !result.Changed {
		t.Error("the command with the etag and request id of its trial changed nothing")
	}
	for _, c := range []command{off("new"), del("recs"), rollback("recs", 1)} {
		c.ValidateOnly = true
		before := reg.Snapshot()
		if result := mustApply(t, reg, c); result.Changed || reg.Snapshot() != before {
			t.Errorf("validate only: %v changed something", c.Action)
		}
	}
}

func TestKnownFeaturesNeedNoFlag(t *testing.T) {
	reg := newRegistry(t, featureflags.NewMemory())
	known := func(name string) bool { return name == "seen" }
	for _, c := range []command{del("seen"), off("seen")} {
		if _, err := reg.Apply(t.Context(), c, known); err != nil {
			t.Errorf("%v a feature seen in calls: %v", c.Action, err)
		}
	}
	if _, err := reg.Apply(t.Context(), off("unseen"), known); err == nil {
		t.Error("a feature that nobody saw was switched")
	}
}

func TestNumberOfFlagsIsBounded(t *testing.T) {
	flags := make([]featureflags.Flag, featureflags.MaxFlags)
	for i := range flags {
		flags[i].Name = fmt.Sprint("f", i)
	}
	reg := newRegistry(t, loaded{featureflags.NewMemory(), flags})
	_, err := reg.Apply(t.Context(), create("one-more"), nil)
	if e, ok := errors.AsType[*featureflags.Error](err); !ok || e.Kind != featureflags.Invalid || !strings.Contains(e.Message, "10000 flags") {
		t.Errorf("flag 10,001: %v, want Invalid", err)
	}
	mustApply(t, reg, off("f7"))
}

// loaded is a store that begins with flags.
type loaded struct {
	*featureflags.Memory
	flags []featureflags.Flag
}

func (l loaded) Load(context.Context) ([]featureflags.Flag, int64, error) { return l.flags, 0, nil }
