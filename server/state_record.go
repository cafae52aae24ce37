package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

const (
	// learnedFormat counts the shapes of the file that cannot be read by a guard that knows the one before.
	learnedFormat = 1
	// maxLearned bounds what is read and written: ten thousand methods or more, with the longest names there can be.
	maxLearned = 16 << 20 // bytes
)

// record is the content of the file.
type record struct {
	Format   int             `json:"capguard_learned"`
	Saved    time.Time       `json:"saved"`
	Sum      string          `json:"crc32c"` // of Backends, byte for byte
	Backends json.RawMessage `json:"backends"`
}

// states are what the guards of back-ends have learned, by name.
type states map[string]guard.State

// encode returns the content of the file for states that were encoded by themselves.
func encode(backends []byte, now time.Time) ([]byte, error) {
	data, err := json.Marshal(record{Format: learnedFormat, Saved: now.UTC(), Sum: sum(backends), Backends: backends})
	if err == nil && len(data) > maxLearned {
		err = fmt.Errorf("%d bytes are more than %d", len(data), maxLearned)
	}
	return append(data, '\n'), err
}

// decode returns the states in the content of the file.
func decode(data []byte) (s states, err error) {
	var r record
	switch err := json.Unmarshal(data, &r); {
	case err != nil:
		return nil, fmt.Errorf("it is damaged: %w", err)
	case r.Format == 0:
		return nil, errors.New("it is not of this program")
	case r.Format != learnedFormat:
		return nil, fmt.Errorf("it has format %d, of another version of this program; this one writes format %d", r.Format, learnedFormat)
	case r.Sum != sum(r.Backends):
		return nil, errors.New("it is damaged: the checksum is wrong")
	}
	if err := json.Unmarshal(r.Backends, &s); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return s, nil
}

func sum(b []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// readBounded reads a file, and nothing that would be without end or have it wait.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxLearned+1))
	if err == nil && len(data) > maxLearned {
		err = fmt.Errorf("it has more than %d bytes", maxLearned)
	}
	return data, errors.Join(err, f.Close())
}

// replace makes data the content of a file, all of it or, if this does not come to its end, none.
func replace(path string, data []byte) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
