package featureflags

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Memory is a Store without a disk, for tests and for embedding where flags need not outlive the process. Safe for concurrent use. It
// survives Close, so that a test can open a second registry on it as if after a restart.
type Memory struct {
	mu       sync.Mutex
	revision int64
	flags    map[string]Flag
	history  map[string][]Revision // by flag, oldest first
	changed  map[int64]string      // revision number to flag, of the last HistoryTotal numbers
	requests map[string]Request    // by id
	ids      []string              // of requests, oldest first
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		flags: map[string]Flag{}, history: map[string][]Revision{}, changed: map[int64]string{}, requests: map[string]Request{},
	}
}

// Load implements Store.
func (m *Memory) Load(context.Context) ([]Flag, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.flags)), m.revision, nil
}

// Commit implements Store.
func (m *Memory) Commit(_ context.Context, rev *Revision, req *Request) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rev != nil {
		if rev.Number != m.revision+1 {
			return fmt.Errorf("store revision %d: the last one is %d", rev.Number, m.revision)
		}
		m.changeLocked(*rev)
	}
	if req != nil {
		m.rememberLocked(*req)
	}
	return nil
}

func (m *Memory) changeLocked(rev Revision) {
	m.revision = rev.Number
	name := rev.Flag.Name
	if rev.Action == Delete {
		delete(m.flags, name)
	} else {
		m.flags[name] = rev.Flag
	}
	history := append(m.history[name], rev)
	m.history[name] = history[max(0, len(history)-HistoryPerFlag):]
	m.changed[rev.Number] = name
	m.forgetLocked(rev.Number - HistoryTotal)
}

// forgetLocked drops the revision of that number, if it is still there.
func (m *Memory) forgetLocked(number int64) {
	name := m.changed[number]
	delete(m.changed, number)
	history := m.history[name]
	if len(history) > 0 && history[0].Number == number {
		history = history[1:]
		m.history[name] = history
	}
	if len(history) == 0 {
		delete(m.history, name)
	}
}

func (m *Memory) rememberLocked(req Request) {
	if _, again := m.requests[req.ID]; again {
		m.ids = slices.DeleteFunc(m.ids, func(id string) bool { return id == req.ID })
	}
	m.requests[req.ID] = req
	m.ids = append(m.ids, req.ID)
	for len(m.ids) > MaxRequests || req.Time.Sub(m.requests[m.ids[0]].Time) >= RequestWindow {
		delete(m.requests, m.ids[0])
		m.ids = m.ids[1:]
	}
}

// Revisions implements Store.
func (m *Memory) Revisions(_ context.Context, name string, before int64, n int) ([]Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []Revision
	for _, rev := range slices.Backward(m.history[name]) {
		if len(found) >= n {
			break
		}
		if before == 0 || rev.Number < before {
			found = append(found, rev)
		}
	}
	return found, nil
}

// Request implements Store.
func (m *Memory) Request(_ context.Context, id string) (Request, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	req, found := m.requests[id]
	if !found || time.Since(req.Time) >= RequestWindow {
		return Request{}, false, nil
	}
	return req, true, nil
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
