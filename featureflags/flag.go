package featureflags

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// State is what happens to the calls of a feature.
type State uint8

// The states. The zero value is On: a feature without a flag passes.
const (
	On State = iota
	Off
	Dimmed
)

// String returns "on", "off" or "dimmed".
func (s State) String() string {
	switch s {
	case On:
		return "on"
	case Off:
		return "off"
	case Dimmed:
		return "dimmed"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}

// Setting is one position of a switch, with who chose it and why. The zero Setting is off: a feature that has no flag is not a zero
// Setting but none.
type Setting struct {
	Percent float64 // share of calls that pass, 0 to 100, steps of 0.001; 0 is off, 100 is on
	Reason  string  // at most 1,000 bytes; "" if none was given
	Actor   string  // "" for the standing setting of a flag that began with a time-limited one: nobody chose it
	Time    time.Time
	TraceID string // of the command, hex; "" if unknown
	SpanID  string // of the command, hex; "" if unknown
}

// State returns On, Off or Dimmed.
func (s Setting) State() State {
	switch {
	case s.Percent >= 100:
		return On
	case s.Percent > 0:
		return Dimmed
	default:
		return Off
	}
}

// Gate returns the setting in the form that is evaluated for every call.
func (s Setting) Gate() Gate { return GateOf(s.Percent) }

// same reports whether two settings say the same, whenever they were chosen.
func (s Setting) same(other Setting) bool {
	return s.Percent == other.Percent && s.Reason == other.Reason && s.Actor == other.Actor
}

// Flag is one version of a flag. Treat it as immutable.
type Flag struct {
	Name        string // bare id
	Description string
	Standing    Setting   // without an end
	Override    *Setting  // in force until Until, then Standing returns; nil is none
	Until       time.Time // zero without Override
	Revision    int64     // of the registry, at which it last changed
	Created     time.Time
	Updated     time.Time
}

// Effective returns the setting in force at now, and until when (zero: no end). An override is in force before Until and no longer at it.
func (f Flag) Effective(now time.Time) (Setting, time.Time) {
	if f.Override != nil && now.Before(f.Until) {
		return *f.Override, f.Until
	}
	return f.Standing, time.Time{}
}

// Gate returns the setting in force at now in the form that is evaluated for every call.
func (f Flag) Gate(now time.Time) Gate {
	s, _ := f.Effective(now)
	return s.Gate()
}

// Etag returns the fingerprint of this version: bare hex, 12 digits. It changes with every change of the flag, also with one that is undone
// later, and is not the same for two stores. The flag of a feature that has none (only Name set) has an etag too: sent with a command, it
// means "only if nobody made a flag meanwhile".
func (f Flag) Etag() string {
	version := fmt.Sprintf("%s\x00%d\x00%d.%d", f.Name, f.Revision, f.Updated.Unix(), f.Updated.Nanosecond())
	sum := sha256.Sum256([]byte(version))
	return hex.EncodeToString(sum[:6])
}

// ended reports whether f has an override whose time is over.
func (f Flag) ended(now time.Time) bool { return f.Override != nil && !now.Before(f.Until) }

// live returns f without an override that has ended.
func (f Flag) live(now time.Time) Flag {
	if f.ended(now) {
		f.Override, f.Until = nil, time.Time{}
	}
	return f
}

// same reports whether two versions say the same, whenever they were made.
func (f Flag) same(other Flag) bool {
	if f.Description != other.Description || !f.Standing.same(other.Standing) || !f.Until.Equal(other.Until) {
		return false
	}
	if f.Override == nil || other.Override == nil {
		return f.Override == other.Override
	}
	return f.Override.same(*other.Override)
}

// Action is the kind of a change. The set is append-only: it is stored.
type Action uint8

// The actions.
const (
	Create Action = iota + 1
	Update
	Delete
	Disable
	Enable
	Dim
	Rollback
	Expire
)

// String returns the action as a lower-case word.
func (a Action) String() string {
	words := [...]string{Create: "create", Update: "update", Delete: "delete", Disable: "disable", Enable: "enable", Dim: "dim",
		Rollback: "rollback", Expire: "expire"}
	if a < Create || a > Expire {
		return fmt.Sprintf("Action(%d)", uint8(a))
	}
	return words[a]
}

// Schedule is the actor of the changes that time makes: Expire.
const Schedule = "schedule"

// Revision is one entry of the history, written with the change itself.
type Revision struct {
	Number  int64
	Action  Action
	Flag    Flag // after the change; after Delete: as it was, with Number as its Revision
	Actor   string
	Time    time.Time
	TraceID string
	SpanID  string
}
