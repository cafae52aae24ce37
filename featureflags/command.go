package featureflags

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The bounds of a command's fields.
const (
	maxText      = 1_000 // bytes of a reason or a description
	maxRequestID = 100   // bytes
	maxActor     = 200   // bytes; what is longer is cut, since a strange identity must not keep anybody from switching off
	minTTL       = time.Second
	maxTTL       = 366 * 24 * time.Hour
	// sameEnd is how far the ends of two commands with a ttl may lie apart for the second to be a repetition of the first. A client that
	// got no answer repeats at once; a person who wants more time comes later.
	sameEnd = time.Second
)

// Command is one change wanted by an operator.
//
// Disable, Enable, Dim and an Update with Percent choose a setting. With a TTL it becomes the override, and the standing setting returns
// when it ends; without a TTL it becomes the standing setting, and an override there was is gone. Without a Reason the one in force stays
// if the percentage does. A setting that is as it was before (percentage, reason, actor, and an end less than a second away) is no change.
//
// Create makes a new flag, on unless Percent says otherwise. Update changes what is not nil; a Reason without Percent corrects the words of
// the setting in force, who chose it stays. Rollback restores description and settings as they were after an earlier revision, except an
// override that has ended since; the setting in force is then one that Actor has chosen, for the restored reason unless Reason says
// another.
type Command struct {
	Action       Action        // all but Expire
	Name         string        // bare id, or flags/{id}
	Percent      *float64      // Create, Update, Dim; required for Dim; rounded to steps of 0.001: 0.0004 is off
	Description  *string       // Create, Update; at most 1,000 bytes, no control characters
	Reason       *string       // at most 1,000 bytes, no control characters; "" is none, except for Update; Delete ignores it
	TTL          time.Duration // Disable, Enable, Dim: 1 second to 366 days; 0 is without end
	Etag         string        // "" matches always; quotes around it are accepted
	ValidateOnly bool
	RequestID    string // at most 100 bytes of visible ASCII
	AllowMissing bool   // create the flag if there is none; Delete: be content
	RollbackTo   int64  // Rollback: the revision to restore
	Actor        string
	TraceID      string
	SpanID       string
}

// Result is what a command did.
type Result struct {
	Flag     Flag  // as it is now; zero Name after Delete. Of ValidateOnly: as it would be, with the etag to send with the real command
	Previous Flag  // as it was; zero Name if there was none
	Revision int64 // of the registry after the command
	Changed  bool  // false for a second identical command, a repeated request id, validate only
}

// checked returns the command in its plain form, or what is wrong with it.
func (c Command) checked() (Command, error) {
	name, err := ParseName(c.Name)
	if err != nil {
		return c, err
	}
	c.Name = name
	c.Etag = strings.Trim(c.Etag, `"`)
	c.Actor = plainActor(c.Actor)
	if c.Reason != nil && *c.Reason == "" && c.Action != Update {
		c.Reason = nil
	}
	if err := cmp.Or(c.checkPercent(), c.checkTTL(), c.checkTexts(), c.checkRest()); err != nil {
		return c, err
	}
	if c.Percent != nil {
		c.Percent = new(GateOf(*c.Percent).Percent())
	}
	return c, nil
}

func (c Command) checkPercent() *Error {
	takes := c.Action == Create || c.Action == Update || c.Action == Dim
	switch {
	case c.Percent == nil && c.Action == Dim:
		return invalid(c.Name, "percent", "is missing; say how much of the calls passes, 0 to 100")
	case c.Percent == nil:
		return nil
	case !takes:
		return invalid(c.Name, "percent", "%s takes none; dim to a percentage instead", c.Action)
	case math.IsNaN(*c.Percent) || *c.Percent < 0 || *c.Percent > 100:
		return invalid(c.Name, "percent", "%v is not between 0 and 100", *c.Percent)
	}
	return nil
}

func (c Command) checkTTL() *Error {
	switch {
	case c.TTL == 0:
		return nil
	case c.Action != Disable && c.Action != Enable && c.Action != Dim:
		return invalid(c.Name, "ttl", "%s takes none; disable, enable or dim for a time instead", c.Action)
	case c.TTL < minTTL || c.TTL > maxTTL:
		return invalid(c.Name, "ttl", "%v is not between 1 second and 366 days", c.TTL)
	}
	return nil
}

func (c Command) checkTexts() *Error {
	if c.Description != nil && c.Action != Create && c.Action != Update {
		return invalid(c.Name, "description", "%s takes none; update it", c.Action)
	}
	return cmp.Or(c.checkText("reason", c.Reason), c.checkText("description", c.Description))
}

func (c Command) checkText(field string, text *string) *Error {
	switch {
	case text == nil:
		return nil
	case len(*text) > maxText:
		return invalid(c.Name, field, "has %d bytes, at most 1,000 are kept; shorten it", len(*text))
	case !utf8.ValidString(*text):
		return invalid(c.Name, field, "is not valid UTF-8")
	case !OneLine(*text):
		return invalid(c.Name, field, "contains control characters; write it in one line")
	}
	return nil
}

// OneLine tells whether text, where a log or a terminal shows it, stays in its line and reads in the order in which it is written: it has
// no control characters, separators of lines or marks that turn the direction of writing.
func OneLine(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	})
}

func (c Command) checkRest() *Error {
	unprintable := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case c.Action < Create || c.Action >= Expire:
		return invalid(c.Name, "action", "%s is not a command", c.Action)
	case len(c.RequestID) > maxRequestID || strings.ContainsFunc(c.RequestID, unprintable):
		return invalid(c.Name, "request_id", "is no UUID; at most 100 bytes of visible ASCII, without spaces, are accepted")
	case c.Action == Rollback && c.RollbackTo < 1:
		return invalid(c.Name, "revision", "%d is not the number of a revision; list the revisions of %s", c.RollbackTo, c.Name)
	}
	return nil
}

// plainActor makes an actor fit to store and to show: valid UTF-8, no control characters, not too long, not empty.
func plainActor(actor string) string {
	plain := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(actor, ""))
	if len(plain) > maxActor {
		plain = strings.ToValidUTF8(plain[:maxActor], "")
	}
	return cmp.Or(plain, "unknown")
}

// fingerprint tells two commands apart that came with one request id. Who sent them, and in which trace, is not part of it: a repetition
// may come over another connection.
func (c Command) fingerprint() (string, error) {
	c.ValidateOnly, c.RequestID, c.Actor, c.TraceID, c.SpanID = false, "", "", "", ""
	plain, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(plain)
	return hex.EncodeToString(sum[:16]), nil
}

// blank is the flag of a feature that had none.
func blank(name string, now time.Time) Flag {
	return Flag{Name: name, Standing: Setting{Percent: 100, Time: now}, Created: now}
}

// changed returns f as the command leaves it; fresh says that there was no flag before. Not for Delete and Rollback.
func (c Command) changed(f Flag, fresh bool, now time.Time) Flag {
	if c.Description != nil {
		f.Description = *c.Description
	}
	switch {
	case c.Action == Disable:
		return c.turn(f, 0, now)
	case c.Action == Enable, c.Percent == nil && fresh:
		return c.turn(f, 100, now)
	case c.Percent != nil:
		return c.turn(f, *c.Percent, now)
	case c.Reason != nil:
		s, _ := f.Effective(now)
		s.Reason = *c.Reason
		return f.inForce(s)
	}
	return f
}

// turn returns f with a newly chosen setting, or f itself if it has that setting already.
func (c Command) turn(f Flag, percent float64, now time.Time) Flag {
	s := c.chosen(percent, now)
	if old, _ := f.Effective(now); c.Reason == nil && old.Percent == percent {
		s.Reason = old.Reason
	}
	if c.TTL == 0 {
		f.Standing, f.Override, f.Until = s, nil, time.Time{}
		return f
	}
	until := now.Add(c.TTL)
	if f.Override != nil && f.Override.same(s) && until.Sub(f.Until).Abs() < sameEnd {
		return f
	}
	f.Override, f.Until = &s, until
	return f
}

// chosen returns the setting that the command's actor chooses.
func (c Command) chosen(percent float64, now time.Time) Setting {
	s := Setting{Percent: percent, Actor: c.Actor, Time: now, TraceID: c.TraceID, SpanID: c.SpanID}
	if c.Reason != nil {
		s.Reason = *c.Reason
	}
	return s
}

// restored returns f with description and settings of old, whose override, if any, has not ended.
func (c Command) restored(f, old Flag, now time.Time) Flag {
	f.Description, f.Standing, f.Override, f.Until = old.Description, old.Standing, old.Override, old.Until
	before, _ := old.Effective(now)
	s := c.chosen(before.Percent, now)
	if c.Reason == nil {
		s.Reason = before.Reason
	}
	return f.inForce(s)
}

// inForce returns f, whose override has not ended, with s in the place of the setting in force.
func (f Flag) inForce(s Setting) Flag {
	if f.Override == nil {
		f.Standing = s
	} else {
		f.Override = &s
	}
	return f
}
