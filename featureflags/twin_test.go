package featureflags_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/featureflags"
)

// twin is the naive form of a registry: what each flag says, without history, revisions, snapshots or stores.
type twin map[string]*twinFlag

type twinFlag struct {
	standing, override twinSetting
	end                time.Time // of override; zero if there is none
	description        string
}

type twinSetting struct {
	percent       float64
	actor, reason string
}

// expire drops what has ended, as time does.
func (w twin) expire(now time.Time) {
	for _, f := range w {
		if !f.end.IsZero() && !f.end.After(now) {
			f.override, f.end = twinSetting{}, time.Time{}
		}
	}
}

func (f *twinFlag) now() *twinSetting {
	if f.end.IsZero() {
		return &f.standing
	}
	return &f.override
}

// apply carries out a valid command on a flag that exists or may be made, and reports whether it changed anything.
func (w twin) apply(c featureflags.Command, now time.Time) bool {
	if c.Action == featureflags.Delete {
		_, was := w[c.Name]
		delete(w, c.Name)
		return was
	}
	f := w[c.Name]
	made := f == nil
	if made {
		f = &twinFlag{standing: twinSetting{percent: 100}}
		w[c.Name] = f
	}
	before := *f
	if c.Description != nil {
		f.description = *c.Description
	}
	percent := c.Percent
	switch c.Action {
	case featureflags.Disable:
		percent = new(0.0)
	case featureflags.Enable:
		percent = new(100.0)
	}
	if percent == nil && made {
		percent = new(100.0)
	}
	switch {
	case percent != nil:
		f.choose(twinSetting{*percent, c.Actor, f.reason(c, *percent)}, c.TTL, now)
	case c.Reason != nil:
		f.now().reason = *c.Reason
	}
	return made || *f != before
}

func (f *twinFlag) reason(c featureflags.Command, percent float64) string {
	switch {
	case c.Reason != nil && (*c.Reason != "" || c.Action == featureflags.Update):
		return *c.Reason
	case f.now().percent == percent:
		return f.now().reason
	}
	return ""
}

func (f *twinFlag) choose(s twinSetting, ttl time.Duration, now time.Time) {
	if ttl == 0 {
		f.standing, f.override, f.end = s, twinSetting{}, time.Time{}
		return
	}
	if late := now.Add(ttl).Sub(f.end); f.end.IsZero() || f.override != s || late >= time.Second || late <= -time.Second {
		f.override, f.end = s, now.Add(ttl)
	}
}

// FuzzCommands gives the same commands to a registry and to its naive twin. Three bytes are one step.
func FuzzCommands(f *testing.F) {
	f.Add([]byte{3, 0, 0, 3, 0, 0, 4, 0, 1})
	f.Add([]byte{3, 0, 0x21, 6, 3, 0, 3, 0, 0x21, 5, 7, 9, 2, 0, 0, 1, 0, 0})
	f.Add([]byte{0, 0, 0, 3, 0, 0x31, 7, 2, 0, 3, 0, 0x31, 1, 0xff, 0xff, 7, 5, 0, 4, 1, 0x11})
	f.Add([]byte("a longer walk through the commands, times, reasons and actors, as text of no meaning at all"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		synctest.Test(t, func(t *testing.T) { compare(t, steps[:min(len(steps), 150)]) })
	})
}

func compare(t *testing.T, steps []byte) {
	reg, err := featureflags.Open(t.Context(), featureflags.NewMemory())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go reg.Run(ctx) // ends with the bubble
	w := twin{}
	for ; len(steps) >= 3; steps = steps[3:] {
		if steps[0]%8 == 7 {
			time.Sleep([]time.Duration{1, 499 * time.Millisecond, time.Second, time.Minute, time.Hour, 2 * time.Hour}[steps[1]%6])
			synctest.Wait()
			w.expire(time.Now())
			continue
		}
		step(t, reg, w, commandOf(steps))
	}
}

// commandOf makes a command of three bytes.
func commandOf(b []byte) featureflags.Command {
	actions := []featureflags.Action{
		featureflags.Create, featureflags.Update, featureflags.Delete, featureflags.Disable, featureflags.Enable, featureflags.Dim,
		featureflags.Dim,
	}
	c := featureflags.Command{
		Action: actions[b[0]%8%7], Name: []string{"a", "b", "c"}[b[0]/8%3], AllowMissing: true, Actor: []string{"ann", "bob"}[b[1]%2],
		ValidateOnly: b[0] >= 240,
	}
	switch b[1] / 2 % 4 {
	case 1:
		c.Reason = new("INC-1")
	case 2:
		c.Reason = new("INC-2")
	case 3:
		c.Reason = new("")
	}
	if c.Action == featureflags.Dim || c.Action <= featureflags.Update && b[2]%2 == 1 {
		c.Percent = new([]float64{0, 20, 33.333, 100}[b[2]/2%4])
	}
	if c.Action <= featureflags.Update && b[2] >= 128 {
		c.Description = new([]string{"", "what it is"}[b[2]/8%2])
	}
	if c.Action >= featureflags.Disable {
		c.TTL = []time.Duration{0, 0, time.Second, time.Hour}[b[2]/16%4]
	}
	return c
}

func step(t *testing.T, reg *featureflags.Registry, w twin, c featureflags.Command) {
	t.Helper()
	before := reg.Snapshot()
	_, exists := before.Flag(c.Name)
	result, err := reg.Apply(t.Context(), c, nil)
	if c.Action == featureflags.Create && exists {
		if err == nil {
			t.Errorf("%v %s = nil, though there is one", c.Action, c.Name)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v %s = %v", c.Action, c.Name, err)
	}
	changed := false
	if !c.ValidateOnly {
		changed = w.apply(c, time.Now())
	}
	if result.Changed != changed || (reg.Snapshot().Revision > before.Revision) != changed {
		t.Errorf("%v %+v: changed %t, revision %d to %d; the twin: %t",
			c.Action, c, result.Changed, before.Revision, reg.Snapshot().Revision, changed)
	}
	for _, name := range []string{"a", "b", "c"} {
		f, exists := reg.Snapshot().Flag(name)
		if got, want := view(f, exists), w.view(name); got != want {
			t.Errorf("after %v %s, %s is %s\nits twin is %s", c.Action, c.Name, name, got, want)
		}
	}
}

func view(f featureflags.Flag, exists bool) string {
	if !exists {
		return "none"
	}
	s, until := f.Effective(time.Now())
	return fmt.Sprint(
		s.Percent, s.Actor, s.Reason, until.Unix(), f.Standing.Percent, f.Standing.Actor, f.Standing.Reason, f.Description)
}

func (w twin) view(name string) string {
	f, exists := w[name]
	if !exists {
		return "none"
	}
	s := f.now()
	return fmt.Sprint(
		s.percent, s.actor, s.reason, f.end.Unix(), f.standing.percent, f.standing.actor, f.standing.reason, f.description)
}
