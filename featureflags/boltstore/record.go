package boltstore

import (
	"encoding/json"
	"time"

	"github.com/capguard/capguard/featureflags"
)

// The records as they are in the file. Fields may be added; none changes its name or its meaning.
type (
	settingRecord struct {
		Percent float64   `json:"percent"`
		Reason  string    `json:"reason,omitempty"`
		Actor   string    `json:"actor,omitempty"`
		Time    time.Time `json:"time"`
		TraceID string    `json:"trace_id,omitempty"`
		SpanID  string    `json:"span_id,omitempty"`
	}

	flagRecord struct {
		Name        string         `json:"name"`
		Description string         `json:"description,omitempty"`
		Standing    settingRecord  `json:"standing"`
		Override    *settingRecord `json:"override,omitempty"`
		Until       time.Time      `json:"until,omitzero"`
		Revision    int64          `json:"revision"`
		Created     time.Time      `json:"created"`
		Updated     time.Time      `json:"updated"`
	}

	revisionRecord struct {
		Number  int64               `json:"number"`
		Action  featureflags.Action `json:"action"`
		Flag    flagRecord          `json:"flag"`
		Actor   string              `json:"actor,omitempty"`
		Time    time.Time           `json:"time"`
		TraceID string              `json:"trace_id,omitempty"`
		SpanID  string              `json:"span_id,omitempty"`
	}

	requestRecord struct {
		ID       string     `json:"id"`
		Command  string     `json:"command"`
		Time     time.Time  `json:"time"`
		Flag     flagRecord `json:"flag"`
		Previous flagRecord `json:"previous"`
		Revision int64      `json:"revision"`
		Changed  bool       `json:"changed"`
	}
)

func recordOfFlag(f featureflags.Flag) flagRecord {
	r := flagRecord{
		Name: f.Name, Description: f.Description, Standing: settingRecord(f.Standing), Until: f.Until,
		Revision: f.Revision, Created: f.Created, Updated: f.Updated,
	}
	if f.Override != nil {
		r.Override = new(settingRecord(*f.Override))
	}
	return r
}

func (r flagRecord) flag() featureflags.Flag {
	f := featureflags.Flag{
		Name: r.Name, Description: r.Description, Standing: featureflags.Setting(r.Standing), Until: r.Until,
		Revision: r.Revision, Created: r.Created, Updated: r.Updated,
	}
	if r.Override != nil {
		f.Override = new(featureflags.Setting(*r.Override))
	}
	return f
}

func encodeFlag(f featureflags.Flag) ([]byte, error) { return json.Marshal(recordOfFlag(f)) }

func decodeFlag(content []byte) (featureflags.Flag, error) {
	r, err := decode[flagRecord](content, "flag")
	return r.flag(), err
}

func encodeRevision(rev featureflags.Revision) ([]byte, error) {
	return json.Marshal(revisionRecord{
		Number: rev.Number, Action: rev.Action, Flag: recordOfFlag(rev.Flag), Actor: rev.Actor, Time: rev.Time,
		TraceID: rev.TraceID, SpanID: rev.SpanID,
	})
}

func decodeRevision(content []byte) (featureflags.Revision, error) {
	r, err := decode[revisionRecord](content, "revision")
	return featureflags.Revision{
		Number: r.Number, Action: r.Action, Flag: r.Flag.flag(), Actor: r.Actor, Time: r.Time, TraceID: r.TraceID, SpanID: r.SpanID,
	}, err
}

func encodeRequest(req featureflags.Request) ([]byte, error) {
	return json.Marshal(requestRecord{
		ID: req.ID, Command: req.Command, Time: req.Time, Flag: recordOfFlag(req.Result.Flag),
		Previous: recordOfFlag(req.Result.Previous), Revision: req.Result.Revision, Changed: req.Result.Changed,
	})
}

func decodeRequest(content []byte) (featureflags.Request, error) {
	r, err := decode[requestRecord](content, "request")
	return featureflags.Request{
		ID: r.ID, Command: r.Command, Time: r.Time,
		Result: featureflags.Result{Flag: r.Flag.flag(), Previous: r.Previous.flag(), Revision: r.Revision, Changed: r.Changed},
	}, err
}

func decode[T any](content []byte, what string) (T, error) {
	var record T
	if err := json.Unmarshal(content, &record); err != nil {
		return record, damaged("decode %s: %w", what, err)
	}
	return record, nil
}
