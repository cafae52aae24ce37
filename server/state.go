package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/proxy"
)

const (
	// learnedFile is the file in the data directory that keeps what the guards have learned.
	learnedFile = "learned.json"
	// learnedEvery is how often it is written if anything was learned. What a killed guard loses is at most so old; it costs two fsyncs.
	learnedEvery = 10 * time.Second
)

// memory keeps what the guards have learned on the disk, so that it survives a restart. Only a hint is at stake: nothing here keeps a guard
// from starting or working. Not safe for concurrent use.
type memory struct {
	dir      string
	backends []*proxy.Backend
	log      *slog.Logger

	written []byte // what the file says of the back-ends
	failing bool   // the last write failed, and somebody was told
}

func (m *memory) path() string { return filepath.Join(m.dir, learnedFile) }

// recall has the guards go on from what the file says. A file that cannot be read is put aside, where the next one is put, too, and the
// guards learn anew.
func (m *memory) recall() {
	data, err := readBounded(m.path())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var found states
	if err == nil {
		found, err = decode(data)
	}
	if err != nil {
		aside := m.path() + ".unread"
		err = errors.Join(err, os.Rename(m.path(), aside))
		m.log.Warn("what was learned before is left out: the guards learn anew", "file", m.path(), "kept_as", aside, "error", err)
		return
	}
	for _, b := range m.backends {
		if s, ok := found[b.Name()]; ok {
			m.restore(b, s)
		}
	}
}

// restore has the guard of a back-end go on from s, and tells what of it was still worth something. That nothing was learned is not told.
func (m *memory) restore(b *proxy.Backend, s guard.State) {
	methods, endpoints := b.Guard().Restore(s)
	leftOut := len(s.Endpoints) - endpoints + len(s.Methods) - methods
	switch {
	case endpoints+methods > 0:
		m.log.Info("going on from what was learned before", "backend", b.Name(), "endpoints", endpoints, "methods", methods, "left_out", leftOut)
	case leftOut > 0:
		m.log.Warn("nothing that was learned before can be used: it is too old, of a time to come, of another law, or impossible; "+
			"the guard learns anew", "backend", b.Name(), "left_out", leftOut)
	}
}

// run writes down what is learned until ctx ends, and then once more.
func (m *memory) run(ctx context.Context) {
	tick := time.NewTicker(learnedEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.save()
		case <-ctx.Done():
			m.save()
			return
		}
	}
}

// save writes down what was learned, if it is not what is there. The first of several failures is told, and the end of them.
func (m *memory) save() {
	err := m.write()
	switch {
	case err != nil && !m.failing:
		m.log.Warn("what was learned cannot be kept for a restart", "file", m.path(), "error", err, "again_in", learnedEvery)
	case err == nil && m.failing:
		m.log.Info("what was learned is kept for a restart again", "file", m.path())
	}
	m.failing = err != nil
}

func (m *memory) write() error {
	now := make(states)
	for _, b := range m.backends {
		now[b.Name()] = b.Guard().State()
	}
	backends, err := json.Marshal(now)
	if err != nil || bytes.Equal(backends, m.written) {
		return err
	}
	data, err := encode(backends, time.Now())
	if err != nil {
		return err
	}
	if err := replace(m.path(), data); err != nil {
		return err
	}
	m.written = backends
	return nil
}
