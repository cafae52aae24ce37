package boltstore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/capguard/capguard/featureflags"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockTimeout is how long Open waits for another process to let go of the file.
const lockTimeout = time.Second

// Open opens the store in dir, and creates both if need be. It fails clearly if another guard has it, if it cannot be written, or if it is
// corrupt, and leaves the file as it is then.
func Open(dir string) (featureflags.Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory %s: %w; choose another --data-dir", dir, err)
	}
	path := filepath.Join(dir, fileName)
	if err := ensure(path); err != nil {
		return nil, fmt.Errorf("create %s: %w; make the directory writable, free some space, or choose another --data-dir", path, err)
	}
	if err := inspect(path); err != nil {
		return nil, explain(path, err)
	}
	db, err := openFile(path, false)
	if err != nil {
		return nil, explain(path, err)
	}
	s := &store{db: db}
	if s.file, err = os.Stat(path); err != nil {
		return nil, explain(path, errors.Join(err, db.Close()))
	}
	if err := s.view((*transaction).verify); err != nil {
		return nil, explain(path, errors.Join(err, db.Close()))
	}
	return s, nil
}

// openFile opens an existing file with bbolt.
func openFile(path string, readOnly bool) (*bolt.DB, error) {
	return bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      lockTimeout,
		ReadOnly:     readOnly,
		NoStatistics: true,
		FreelistType: bolt.FreelistMapType,
	})
}

// inspect looks for damage in the file, under a shared lock, so that no guard writes meanwhile. bbolt itself reads only the two meta pages
// of a file that is opened for reading.
func inspect(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a file")
	}
	if info.Size() == 0 {
		return damaged("it is empty")
	}
	db, err := openFile(path, true)
	switch {
	case errors.Is(err, berrors.ErrTimeout), errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		return cmp.Or(checkPages(path), err)
	}
	return errors.Join(checkPages(path), db.Close())
}

// ensure makes a file with empty buckets if there is none. It appears under its name when it is complete and on the disk: a crash leaves
// no half file, and of two guards that start at the same time one makes it and both see it.
func ensure(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), fileName+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(f.Close(), initialize(f.Name())); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// initialize writes the buckets and the first state.
func initialize(path string) error {
	db, err := openFile(path, false)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range append(recordBuckets(), bucketMeta) {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		t := &transaction{tx: tx, state: state{Format: format}}
		return t.saveState()
	})
	return errors.Join(err, db.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// explain says what to do about a file that cannot be opened.
func explain(path string, err error) error {
	_, broken := errors.AsType[*damage](err)
	_, stuck := errors.AsType[*panicked](err)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("data directory %s is in use by another guard (%s is locked); stop it or choose another --data-dir",
			filepath.Dir(path), fileName)
	case broken || stuck:
		return fmt.Errorf("open %s: the file is damaged (%w); restore it from a backup, or move it away to start without flags; "+
			"it was left as it is", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open %s: %w; make it readable and writable for this user, or choose another --data-dir", path, err)
	}
	return fmt.Errorf("open %s: %w", path, err)
}
