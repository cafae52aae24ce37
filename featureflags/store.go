package featureflags

import (
	"context"
	"time"
)

// What a registry and its store hold at most, so that both stay bounded.
const (
	MaxFlags       = 10_000         // flags
	HistoryPerFlag = 1_000          // latest revisions kept of one flag
	HistoryTotal   = 100_000        // latest revisions of the registry among which those of a flag are kept, also of deleted flags
	RequestWindow  = 24 * time.Hour // how long a request id is remembered
	MaxRequests    = 10_000         // latest request ids remembered
)

// Request is the memory of one request id: a repetition gets the same answer and changes nothing again.
type Request struct {
	ID      string
	Command string // fingerprint of the command, to tell a repetition from a second use of the id
	Time    time.Time
	Result  Result // the answer
}

// Store keeps flags and their history through crashes. Implementations: boltstore, and Memory; package storetest checks one.
//
// A Registry calls Load once, and Commit one at a time; the reads may come at any time.
type Store interface {
	// Load returns all flags and the last revision.
	Load(ctx context.Context) (flags []Flag, revision int64, err error)
	// Commit stores one change, all of it or nothing, durably before it returns: the revision with the flag it leaves, and the request that
	// made it. Either may be nil. The number of a revision is one more than that of the revision before. After an error nothing of it may be
	// in what the store returns.
	Commit(ctx context.Context, rev *Revision, req *Request) error
	// Revisions returns the history of one flag, newest first, below revision before (0: from the newest), at most n, within HistoryPerFlag
	// and HistoryTotal.
	Revisions(ctx context.Context, name string, before int64, n int) ([]Revision, error)
	// Request returns what was committed for a request id, if not longer ago than RequestWindow and among the latest MaxRequests.
	Request(ctx context.Context, id string) (Request, bool, error)
	// Close releases it.
	Close() error
}
