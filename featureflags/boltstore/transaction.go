package boltstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc64"
	"time"

	"github.com/capguard/capguard/featureflags"
	bolt "go.etcd.io/bbolt"
)

// The buckets. Their names are in the file.
const (
	bucketFlags       = "flags"
	bucketRevisions   = "revisions"
	bucketNumbers     = "numbers"
	bucketRequests    = "requests"
	bucketRequestAges = "request_ages"
	bucketMeta        = "meta"

	keyState = "state"
)

// recordBuckets are the buckets whose records are in state.Sum.
func recordBuckets() []string {
	return []string{bucketFlags, bucketRevisions, bucketNumbers, bucketRequests, bucketRequestAges}
}

// format is the version of what is in the file. A guard refuses a file with another one.
const format = 1

// state is the record about all others.
type state struct {
	Format   int    `json:"format"`
	Revision int64  `json:"revision"`
	Requests int    `json:"requests"`
	Sum      uint64 `json:"sum,string"` // XOR of the checksums of all records: none is missing, none is too many
}

// transaction is a bbolt transaction that seals what it writes, checks what it reads, and keeps state in step.
type transaction struct {
	tx    *bolt.Tx
	state state
}

func begin(tx *bolt.Tx) (*transaction, error) {
	t := &transaction{tx: tx}
	content, err := t.get(bucketMeta, []byte(keyState))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &t.state); err != nil {
		return nil, damaged("read state: %w", err)
	}
	if t.state.Format != format {
		return nil, fmt.Errorf("format %d of %s is not known to this version, which knows format %d", t.state.Format, fileName, format)
	}
	return t, nil
}

func (t *transaction) saveState() error {
	content, err := json.Marshal(t.state)
	if err != nil {
		return err
	}
	key := []byte(keyState)
	return t.tx.Bucket([]byte(bucketMeta)).Put(key, seal(bucketMeta, key, content))
}

// seal puts the checksum in front of a record's content.
func seal(bucket string, key, content []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, checksum(bucket, key, content)), content...)
}

// unseal returns the content and the checksum of a record, or an error if they do not fit.
func unseal(bucket string, key, record []byte) ([]byte, uint64, error) {
	if len(record) >= 8 {
		sum := binary.BigEndian.Uint64(record)
		if sum == checksum(bucket, key, record[8:]) {
			return record[8:], sum, nil
		}
	}
	return nil, 0, damaged("record %q in %s does not fit its checksum", key, bucket)
}

func checksum(bucket string, key, content []byte) uint64 {
	table := crc64.MakeTable(crc64.ECMA)
	sum := crc64.Update(0, table, append([]byte(bucket), 0))
	sum = crc64.Update(sum, table, key)
	return crc64.Update(sum, table, content)
}

func (t *transaction) bucket(name string) (*bolt.Bucket, error) {
	if b := t.tx.Bucket([]byte(name)); b != nil {
		return b, nil
	}
	return nil, damaged("bucket %s is missing", name)
}

// get returns the content of a record, nil if there is none.
func (t *transaction) get(bucket string, key []byte) ([]byte, error) {
	b, err := t.bucket(bucket)
	if err != nil {
		return nil, err
	}
	record := b.Get(key)
	if record == nil {
		return nil, nil
	}
	content, _, err := unseal(bucket, key, record)
	return content, err
}

// put writes a record.
func (t *transaction) put(bucket string, key, content []byte) error {
	if err := t.remove(bucket, key); err != nil {
		return err
	}
	record := seal(bucket, key, content)
	t.state.Sum ^= binary.BigEndian.Uint64(record)
	return t.tx.Bucket([]byte(bucket)).Put(key, record)
}

// remove deletes a record, if it is there.
func (t *transaction) remove(bucket string, key []byte) error {
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	record := b.Get(key)
	if record == nil {
		return nil
	}
	_, sum, err := unseal(bucket, key, record)
	if err != nil {
		return err
	}
	t.state.Sum ^= sum
	return b.Delete(key)
}

// each calls visit with all records of a bucket.
func (t *transaction) each(bucket string, visit func(key, content []byte) error) error {
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	return b.ForEach(func(key, record []byte) error {
		content, _, err := unseal(bucket, key, record)
		if err != nil {
			return err
		}
		return visit(key, content)
	})
}

// verify reads all records and compares them with the state.
func (t *transaction) verify() error {
	var sum uint64
	for _, name := range recordBuckets() {
		err := t.each(name, func(key, content []byte) error {
			sum ^= checksum(name, key, content)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if sum != t.state.Sum {
		return damaged("the records do not add up to the state of revision %d: some are missing", t.state.Revision)
	}
	return nil
}

// change writes a revision and the flag that it leaves, and drops history that is too long.
func (t *transaction) change(rev featureflags.Revision) error {
	if rev.Number != t.state.Revision+1 {
		return fmt.Errorf("store revision %d: the last one is %d", rev.Number, t.state.Revision)
	}
	t.state.Revision = rev.Number
	name := rev.Flag.Name
	if err := t.putFlag(rev); err != nil {
		return err
	}
	content, err := encodeRevision(rev)
	if err != nil {
		return err
	}
	if err := t.put(bucketRevisions, revisionKey(name, rev.Number), content); err != nil {
		return err
	}
	if err := t.put(bucketNumbers, number(rev.Number), []byte(name)); err != nil {
		return err
	}
	return t.forget(name)
}

func (t *transaction) putFlag(rev featureflags.Revision) error {
	key := []byte(rev.Flag.Name)
	if rev.Action == featureflags.Delete {
		return t.remove(bucketFlags, key)
	}
	content, err := encodeFlag(rev.Flag)
	if err != nil {
		return err
	}
	return t.put(bucketFlags, key, content)
}

// forget drops the oldest revisions of the flag beyond featureflags.HistoryPerFlag, and those of all beyond featureflags.HistoryTotal.
func (t *transaction) forget(name string) error {
	prefix := append([]byte(name), 0)
	var keys [][]byte
	c := t.tx.Bucket([]byte(bucketRevisions)).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys[:max(0, len(keys)-featureflags.HistoryPerFlag)] {
		if err := t.removeRevision(name, int64(binary.BigEndian.Uint64(k[len(prefix):]))); err != nil {
			return err
		}
	}
	return t.forgetOldest(t.state.Revision - featureflags.HistoryTotal)
}

// forgetOldest drops all revisions up to last.
func (t *transaction) forgetOldest(last int64) error {
	for {
		k, _ := t.tx.Bucket([]byte(bucketNumbers)).Cursor().First()
		if k == nil || int64(binary.BigEndian.Uint64(k)) > last {
			return nil
		}
		key := bytes.Clone(k)
		name, err := t.get(bucketNumbers, key)
		if err != nil {
			return err
		}
		if err := t.removeRevision(string(name), int64(binary.BigEndian.Uint64(key))); err != nil {
			return err
		}
	}
}

func (t *transaction) removeRevision(name string, n int64) error {
	if err := t.remove(bucketNumbers, number(n)); err != nil {
		return err
	}
	return t.remove(bucketRevisions, revisionKey(name, n))
}

// revisions returns the history of a flag, newest first.
func (t *transaction) revisions(name string, before int64, n int) ([]featureflags.Revision, error) {
	b, err := t.bucket(bucketRevisions)
	if err != nil {
		return nil, err
	}
	var found []featureflags.Revision
	prefix := append([]byte(name), 0)
	c := b.Cursor()
	for k, record := seekBefore(c, prefix, before); bytes.HasPrefix(k, prefix) && len(found) < n; k, record = c.Prev() {
		content, _, err := unseal(bucketRevisions, k, record)
		if err != nil {
			return nil, err
		}
		rev, err := decodeRevision(content)
		if err != nil {
			return nil, err
		}
		found = append(found, rev)
	}
	return found, nil
}

// seekBefore moves c to the last revision with prefix below before; 0 is the newest.
func seekBefore(c *bolt.Cursor, prefix []byte, before int64) (key, record []byte) {
	end := append(bytes.Clone(prefix), number(before)...)
	if before == 0 {
		end = append(bytes.Clone(prefix[:len(prefix)-1]), 1) // behind all that begins with prefix
	}
	if k, _ := c.Seek(end); k == nil {
		return c.Last()
	}
	return c.Prev()
}

// remember writes a request, and drops those that are too old or too many.
func (t *transaction) remember(req featureflags.Request) error {
	if err := t.removeRequest([]byte(req.ID)); err != nil {
		return err
	}
	content, err := encodeRequest(req)
	if err != nil {
		return err
	}
	if err := t.put(bucketRequests, []byte(req.ID), content); err != nil {
		return err
	}
	if err := t.put(bucketRequestAges, ageKey(req), nil); err != nil {
		return err
	}
	t.state.Requests++
	return t.forgetRequests(req.Time.Add(-featureflags.RequestWindow))
}

// forgetRequests drops the requests that are no younger than then, and more if there are too many.
func (t *transaction) forgetRequests(then time.Time) error {
	for {
		k, _ := t.tx.Bucket([]byte(bucketRequestAges)).Cursor().First()
		if len(k) <= 8 || t.state.Requests <= featureflags.MaxRequests && bytes.Compare(k[:8], number(then.UnixNano())) > 0 {
			return nil
		}
		if err := t.removeRequest(bytes.Clone(k[8:])); err != nil {
			return err
		}
	}
}

func (t *transaction) removeRequest(id []byte) error {
	content, err := t.get(bucketRequests, id)
	if err != nil || content == nil {
		return err
	}
	req, err := decodeRequest(content)
	if err != nil {
		return err
	}
	t.state.Requests--
	if err := t.remove(bucketRequestAges, ageKey(req)); err != nil {
		return err
	}
	return t.remove(bucketRequests, id)
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func revisionKey(name string, n int64) []byte {
	return append(append([]byte(name), 0), number(n)...)
}

func ageKey(req featureflags.Request) []byte {
	return append(number(req.Time.UnixNano()), req.ID...)
}
