// Package boltstore keeps flags in one bbolt file, flags.db in the data directory of a guard.
//
// # What it promises
//
// A Commit that returned nil is on the disk (one transaction, synced) and is there after a crash or a kill -9; one that returned an error
// left nothing behind. A file that somebody has removed or replaced under the guard takes no more changes. One exception is outside of
// anybody's power: if the disk fails in the very last write, the transaction may be there or not. The store then refuses everything
// further, and says so; the next Open shows which it was.
//
// One process at a time uses a file; it is locked. A second one is told so after a second.
//
// # What is in the file
//
// Six buckets. Every record is a CRC-64 over bucket, key and content, then the content, in JSON with field names that never change their
// meaning: it can be read with bbolt's own tools, fields can be added, and a program that does not know them ignores them.
//
//	flags         name                 the flag
//	revisions     name, 0, number      one change, with the flag after it
//	numbers       number               the name of the flag that it changed
//	requests      request id           the answer that it got
//	request_ages  time, request id     nothing
//	meta          "state"              format version, last revision, number of requests, and the XOR of all the other records' checksums
//
// The file is bounded: history and requests are pruned in the transaction that adds to them, to the limits that package featureflags names.
// A bbolt file never shrinks, but reuses what was freed.
//
// # Damage
//
// bbolt trusts its pages: damage would show as a panic in a goroutine of its own, as a fault in mapped memory, as a record that is silently
// missing, or as the state before the last command. So Open first reads the file itself, page by page, before bbolt maps it, then reads
// all records and compares their checksums with their XOR. Either all of it is as it was written, or Open refuses and says what to do;
// it never repairs, never starts empty in place of a file it cannot read, and never touches such a file. Records are checked again
// whenever they are read.
//
// # What it does not do
//
// It shares nothing between guards, keeps no backup (copy the file while the guard is down), and does not compact.
package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/capguard/capguard/featureflags"
	bolt "go.etcd.io/bbolt"
)

// fileName is the file in the data directory.
const fileName = "flags.db"

type store struct {
	db   *bolt.DB
	file os.FileInfo // what db has open

	mu     sync.Mutex
	broken error // why nothing more is written; nil as long as all is well
}

// Load implements featureflags.Store.
func (s *store) Load(context.Context) (flags []featureflags.Flag, revision int64, err error) {
	err = s.view(func(t *transaction) error {
		revision = t.state.Revision
		return t.each(bucketFlags, func(_, content []byte) error {
			f, err := decodeFlag(content)
			flags = append(flags, f)
			return err
		})
	})
	return flags, revision, err
}

// Commit implements featureflags.Store.
func (s *store) Commit(_ context.Context, rev *featureflags.Revision, req *featureflags.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if err := s.inPlace(); err != nil {
		return err
	}
	return s.updateLocked(func(t *transaction) error {
		if rev != nil {
			if err := t.change(*rev); err != nil {
				return err
			}
		}
		if req != nil {
			return t.remember(*req)
		}
		return nil
	})
}

// inPlace returns an error if the next Open would not find the file that is written to: somebody has removed or replaced it.
func (s *store) inPlace() error {
	path := s.db.Path()
	now, err := os.Stat(path)
	if err == nil && os.SameFile(now, s.file) {
		return nil
	}
	return errors.Join(fmt.Errorf("%s was removed or replaced while the guard has it open; put it back, or restart the guard", path), err)
}

// Revisions implements featureflags.Store.
func (s *store) Revisions(_ context.Context, name string, before int64, n int) (found []featureflags.Revision, err error) {
	err = s.view(func(t *transaction) error {
		found, err = t.revisions(name, before, n)
		return err
	})
	return found, err
}

// Request implements featureflags.Store.
func (s *store) Request(_ context.Context, id string) (req featureflags.Request, ok bool, err error) {
	if id == "" {
		return req, false, nil
	}
	err = s.view(func(t *transaction) error {
		content, err := t.get(bucketRequests, []byte(id))
		if err != nil || content == nil {
			return err
		}
		req, err = decodeRequest(content)
		ok = time.Since(req.Time) < featureflags.RequestWindow
		return err
	})
	return req, ok && err == nil, err
}

// Close implements featureflags.Store.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, stuck := errors.AsType[*panicked](s.broken); stuck {
		return s.broken // bbolt may hold its locks for ever
	}
	return s.db.Close()
}

// panicked is what became of a panic in bbolt. It means that the file is damaged under way or that bbolt has a defect.
type panicked struct{ value any }

func (p *panicked) Error() string { return fmt.Sprintf("use %s: bbolt gave up: %v", fileName, p.value) }

// view runs read in a transaction, and makes an error of a panic.
func (s *store) view(read func(*transaction) error) (err error) {
	defer recovered(&err)
	return s.db.View(func(tx *bolt.Tx) error {
		t, err := begin(tx)
		if err != nil {
			return err
		}
		return read(t)
	})
}

// updateLocked runs change in a transaction that is on the disk when updateLocked returns nil, and makes an error of a panic.
func (s *store) updateLocked(change func(*transaction) error) (err error) {
	defer func() {
		if p, ok := errors.AsType[*panicked](err); ok {
			s.broken = p
		}
	}()
	defer recovered(&err)
	var committed state // zero until bbolt has to commit
	err = s.db.Update(func(tx *bolt.Tx) error {
		t, err := begin(tx)
		if err != nil {
			return err
		}
		if err := change(t); err != nil {
			return err
		}
		committed = t.state
		return t.saveState()
	})
	if err != nil && committed != (state{}) {
		s.broken = s.doubt(committed, err)
	}
	return err
}

// doubt returns why the store cannot go on after a failed commit, if it cannot: the transaction got through to the file, though perhaps
// not to the disk.
func (s *store) doubt(committed state, cause error) error {
	return s.view(func(t *transaction) error {
		if t.state == committed {
			return fmt.Errorf("revision %d may be on the disk or not; restart the guard to see: %w", committed.Revision, cause)
		}
		return nil
	})
}

func recovered(err *error) {
	if v := recover(); v != nil {
		*err = &panicked{v}
	}
}
