package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// The file is a magic text with the version of the format, a CRC-32C of all that follows, the time of writing in nanoseconds since 1970,
// and the snapshot message of the stream. Numbers are big-endian.
const (
	diskMagic  = "capguard flags 1\n"
	diskHeader = len(diskMagic) + 4 + 8
	diskRetry  = 30 * time.Second // after a write that went wrong
)

// disk keeps the last flags known in a file.
type disk struct {
	path  string
	flags *flags
	log   *slog.Logger
}

// restore puts what the file holds in force. No file is no fault: there is none at the first start.
func (d *disk) restore() {
	m, written, err := d.read()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		var all map[string]*capguardv1.Flag
		if all, err = index(m.GetFlags()); err == nil {
			d.flags.restore(all, m.GetRevision(), written)
		}
	}
	d.note("flag file ignored, it will be replaced", err)
}

// run writes the file after each change, the last one before ctx ends included, and again later if that went wrong.
func (d *disk) run(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-d.flags.changed:
		case <-again:
		case <-ctx.Done():
			select {
			case <-d.flags.changed:
				d.write()
			default:
			}
			return
		}
		again = nil
		if d.write() != nil {
			again = time.After(diskRetry)
		}
	}
}

// note logs what is news and shows it in Health.
func (d *disk) note(what string, err error) {
	if d.flags.stored(err) && err != nil {
		d.log.Error(what, "file", d.path, "error", err)
	}
}

func (d *disk) write() error {
	err := d.replace()
	if err != nil {
		err = fmt.Errorf("write flag file: %w", err)
	}
	d.note("flag file not written, flags go on without it", err)
	return err
}

// replace writes beside the file, makes that durable, and only then puts it in the file's place: whoever reads finds the old or the new.
func (d *disk) replace() (err error) {
	data, err := encode(d.flags.message(), time.Now())
	if err != nil {
		return err
	}
	dir := filepath.Dir(d.path)
	f, err := os.CreateTemp(dir, filepath.Base(d.path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // Nothing is left there after the rename.
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), d.path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// read returns what the file holds and when it was written.
func (d *disk) read() (*capguardv1.WatchFlagsResponse, time.Time, error) {
	info, err := os.Stat(d.path)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read flag file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, fmt.Errorf("read flag file: %s is no file", d.path)
	}
	f, err := os.Open(d.path)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read flag file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFlagsBytes+1))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read flag file: %w", err)
	}
	m, written, err := decode(data)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read flag file %s: %w", d.path, err)
	}
	return m, written, nil
}

// encode returns the content of the file. It is the inverse of decode.
func encode(m *capguardv1.WatchFlagsResponse, written time.Time) ([]byte, error) {
	data := make([]byte, 0, diskHeader+proto.Size(m))
	data = append(data, diskMagic...)
	data = append(data, 0, 0, 0, 0)
	data = binary.BigEndian.AppendUint64(data, uint64(written.UnixNano()))
	data, err := proto.MarshalOptions{}.MarshalAppend(data, m)
	if err != nil {
		return nil, err
	}
	if len(data) > maxFlagsBytes {
		return nil, fmt.Errorf("%d bytes are more than the %d that a flag file may have", len(data), maxFlagsBytes)
	}
	seal(data)
	return data, nil
}

// seal writes the checksum over all that follows it.
func seal(data []byte) { binary.BigEndian.PutUint32(data[len(diskMagic):], checksum(data)) }

func checksum(data []byte) uint32 {
	return crc32.Checksum(data[len(diskMagic)+4:], crc32.MakeTable(crc32.Castagnoli))
}

// decode returns what the content of a file says, or an error for anything that encode did not make.
func decode(data []byte) (*capguardv1.WatchFlagsResponse, time.Time, error) {
	switch {
	case len(data) > maxFlagsBytes:
		return nil, time.Time{}, fmt.Errorf("it is longer than the %d bytes that a flag file may have", maxFlagsBytes)
	case len(data) < diskHeader || !bytes.HasPrefix(data, []byte(diskMagic)):
		return nil, time.Time{}, errors.New("it is no flag file of this version, or cut off")
	case binary.BigEndian.Uint32(data[len(diskMagic):]) != checksum(data):
		return nil, time.Time{}, errors.New("its checksum is wrong")
	}
	m := new(capguardv1.WatchFlagsResponse)
	if err := proto.Unmarshal(data[diskHeader:], m); err != nil {
		return nil, time.Time{}, err
	}
	if m.GetKind() != capguardv1.WatchFlagsResponse_KIND_SNAPSHOT {
		return nil, time.Time{}, errors.New("it does not hold all flags")
	}
	return m, time.Unix(0, int64(binary.BigEndian.Uint64(data[diskHeader-8:]))), nil
}
