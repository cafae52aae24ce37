package featureflags

import (
	"fmt"
	"strings"
	"time"
)

// Kind classifies errors. The set is append-only.
type Kind uint8

// The kinds of errors.
const (
	Invalid Kind = iota + 1 // a field is wrong; Error.Field names it
	NotFound
	AlreadyExists
	EtagMismatch
	StoreDown // nothing was changed; reads go on
)

// Error is the error of every command.
type Error struct {
	Kind    Kind
	Name    string            // the flag
	Field   string            // for Invalid, as in the API: name, percent, ttl, reason, description, request_id, revision
	Message string            // what is wrong and what to do
	Details map[string]string // for EtagMismatch: sent, current; for NotFound: nearest, names with commas between, if there are any
	Err     error             // the cause, if any
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func invalid(name, field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Name: name, Field: field, Message: field + ": " + fmt.Sprintf(format, args...)}
}

func notFound(name string, nearest []string) *Error {
	e := &Error{Kind: NotFound, Name: name, Message: fmt.Sprintf("no flag and no feature seen in calls is named %q", name)}
	if len(nearest) == 0 {
		e.Message += "; list what there is, or allow_missing to create it"
		return e
	}
	e.Details = map[string]string{"nearest": strings.Join(nearest, ",")}
	e.Message += "; did you mean " + strings.Join(nearest, " or ") + "? allow_missing creates it"
	return e
}

func alreadyExists(f Flag) *Error {
	since := f.Created.Format(time.RFC3339)
	return &Error{Kind: AlreadyExists, Name: f.Name, Message: fmt.Sprintf("flag %q exists since %s; update it instead", f.Name, since)}
}

func etagMismatch(name, sent, current string) *Error {
	return &Error{
		Kind: EtagMismatch,
		Name: name,
		Message: fmt.Sprintf("flag %q was changed meanwhile: its etag is %s, not %s; look at it again, then repeat with the new etag",
			name, current, sent),
		Details: map[string]string{"sent": sent, "current": current},
	}
}

func storeDown(name string, cause error) *Error {
	return &Error{
		Kind:    StoreDown,
		Name:    name,
		Message: fmt.Sprintf("the flag store does not take changes (%v); nothing was changed, the flags in force stay in force", cause),
		Err:     cause,
	}
}
