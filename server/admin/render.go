package admin

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

const (
	flagPrefix    = "flags/"
	revisionInfix = "/revisions/"
	unflagged     = "no flag: calls pass" // the reason of a feature without a flag
)

// renderFlag returns f as it is at now, without its cost.
func renderFlag(f featureflags.Flag, now time.Time) *capguardv1.Flag {
	setting, until := f.Effective(now)
	return &capguardv1.Flag{
		Name:        flagPrefix + f.Name,
		Description: f.Description,
		State:       renderState(setting.State()),
		Percent:     new(setting.Percent),
		Reason:      setting.Reason,
		Actor:       setting.Actor,
		ExpireTime:  renderTime(until),
		Standing:    renderSetting(f.Standing),
		Etag:        f.Etag(),
		Revision:    f.Revision,
		CreateTime:  renderTime(f.Created),
		UpdateTime:  renderTime(f.Updated),
	}
}

// renderUnflagged returns a feature that has no flag.
func renderUnflagged(name string) *capguardv1.Flag {
	return &capguardv1.Flag{
		Name:    flagPrefix + name,
		State:   capguardv1.Flag_STATE_ON,
		Percent: new(100.0),
		Reason:  unflagged,
		Etag:    featureflags.Flag{Name: name}.Etag(),
	}
}

func renderSetting(s featureflags.Setting) *capguardv1.Flag_Setting {
	return &capguardv1.Flag_Setting{
		State: renderState(s.State()), Percent: s.Percent, Reason: s.Reason, Actor: s.Actor, SetTime: renderTime(s.Time),
	}
}

func renderState(s featureflags.State) capguardv1.Flag_State {
	switch s {
	case featureflags.Off:
		return capguardv1.Flag_STATE_OFF
	case featureflags.Dimmed:
		return capguardv1.Flag_STATE_DIMMED
	}
	return capguardv1.Flag_STATE_ON
}

// renderRevision returns one entry of the history, with the flag as it was then.
func renderRevision(r featureflags.Revision) *capguardv1.FlagRevision {
	return &capguardv1.FlagRevision{
		Name:       flagPrefix + r.Flag.Name + revisionInfix + strconv.FormatInt(r.Number, 10),
		Action:     capguardv1.FlagRevision_Action(r.Action), // same numbers on the wire and in the store
		Flag:       renderFlag(r.Flag, r.Time),
		Actor:      r.Actor,
		CreateTime: renderTime(r.Time),
		TraceId:    r.TraceID,
	}
}

// renderTime leaves the zero time out.
func renderTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// parseRevisionName reads `flags/{flag}/revisions/{revision}`.
func parseRevisionName(name string) (flag string, revision int64, err error) {
	flag, number, ok := strings.Cut(strings.TrimPrefix(name, flagPrefix), revisionInfix)
	revision, bad := strconv.ParseInt(number, 10, 64)
	if !ok || bad != nil || revision < 1 {
		return "", 0, invalid("name", "%q is not flags/{flag}/revisions/{revision}; ListFlagRevisions shows the names", name)
	}
	return flag, revision, nil
}
