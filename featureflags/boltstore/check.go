package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// damage is what is wrong with a file.
type damage struct{ err error }

func (d *damage) Error() string { return d.err.Error() }

func (d *damage) Unwrap() error { return d.err }

func damaged(format string, args ...any) error { return &damage{fmt.Errorf(format, args...)} }

// The format of a bbolt file, version 2: pages of one size, numbers in the byte order of the machine. Pages 0 and 1 are metas, of which the
// one with the higher transaction is in force; from its root hangs a B+ tree of branches and leaves, whose elements may be buckets, each
// with a tree of its own, or, if small, with a leaf in its value. One page, with its overflow, lists all that are free.
const (
	fileMagic   = 0xED0CDAED
	fileVersion = 2

	headerSize  = 16
	elementSize = 16
	metaSize    = 64
	bucketSize  = 16

	branchFlag   = 0x01
	leafFlag     = 0x02
	metaFlag     = 0x04
	freelistFlag = 0x10

	maxPageSize = 1 << 24
)

// meta is what a meta page says.
type meta struct {
	pageSize uint32
	root     uint64
	freelist uint64
	pages    uint64 // number of pages in use or free; the file may be longer
	txid     uint64
}

// checker walks through all pages of a file that are in use.
type checker struct {
	meta
	file io.ReaderAt
	used []bool // by page
}

// page is one page with its overflow.
type page struct {
	id    uint64
	flags uint16
	count int
	data  []byte // header and all
}

// checkPages reads the whole file and returns a *damage if bbolt could not: if any page is out of place, names a wrong place, is used
// twice, or is lost, or if keys are out of order. What the records say is not checked here.
func checkPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	c := &checker{file: f}
	if err := c.check(); err != nil {
		return errors.Join(&damage{err}, f.Close())
	}
	return f.Close()
}

func (c *checker) check() error {
	if err := c.readMetas(); err != nil {
		return err
	}
	c.used = make([]bool, c.pages)
	c.used[0], c.used[1] = true, true
	if _, err := c.tree(c.root, nil, nil); err != nil {
		return err
	}
	if err := c.freePages(); err != nil {
		return err
	}
	for id, used := range c.used {
		if !used {
			return fmt.Errorf("page %d is neither used nor free", id)
		}
	}
	return nil
}

// readMetas takes the later of both metas, which are written in turns. Both must be well, and one transaction apart: otherwise nobody knows
// whether the last command is gone. (A meta lies within one sector of a disk, so a crash leaves it whole.)
func (c *checker) readMetas() error {
	first, err := c.readMeta(0, 0)
	if err != nil {
		return err
	}
	second, err := c.readMeta(1, int64(first.pageSize))
	if err != nil {
		return err
	}
	if first.pageSize != second.pageSize {
		return errors.New("the two metas differ in page size")
	}
	switch {
	case first.txid == second.txid+1:
		c.meta = first
	case second.txid == first.txid+1:
		c.meta = second
	default:
		return fmt.Errorf("the metas are of transactions %d and %d: the last one is lost", first.txid, second.txid)
	}
	return c.checkSize()
}

// checkSize makes sure that all pages are in the file.
func (c *checker) checkSize() error {
	if c.pages < 4 || c.pages > 1<<40 {
		return fmt.Errorf("it claims to have %d pages", c.pages)
	}
	end := int64(c.pages) * int64(c.pageSize)
	if n, err := c.file.ReadAt(make([]byte, 1), end-1); n != 1 {
		return fmt.Errorf("it is cut off before page %d, its last: %w", c.pages-1, err)
	}
	return nil
}

func (c *checker) readMeta(id uint64, offset int64) (meta, error) {
	data := make([]byte, headerSize+metaSize)
	if _, err := c.file.ReadAt(data, offset); err != nil {
		return meta{}, fmt.Errorf("read meta %d: %w", id, err)
	}
	body, order := data[headerSize:], binary.NativeEndian
	hash := fnv.New64a()
	hash.Write(body[:metaSize-8])
	m := meta{
		pageSize: order.Uint32(body[8:]), root: order.Uint64(body[16:]), freelist: order.Uint64(body[32:]),
		pages: order.Uint64(body[40:]), txid: order.Uint64(body[48:]),
	}
	switch {
	case order.Uint32(body) != fileMagic || order.Uint32(body[4:]) != fileVersion:
		return m, fmt.Errorf("meta %d is not one of bbolt", id)
	case order.Uint64(body[56:]) != hash.Sum64():
		return m, fmt.Errorf("meta %d does not fit its checksum", id)
	case order.Uint64(data) != id || order.Uint16(data[8:]) != metaFlag:
		return m, fmt.Errorf("page %d is not a meta", id)
	case m.pageSize < 1024 || m.pageSize > maxPageSize:
		return m, fmt.Errorf("meta %d names a page size of %d", id, m.pageSize)
	}
	return m, nil
}

// read returns a page that nothing else uses.
func (c *checker) read(id uint64) (page, error) {
	header := make([]byte, headerSize)
	if id >= c.pages {
		return page{}, fmt.Errorf("page %d is used, but there are %d pages", id, c.pages)
	}
	if _, err := c.file.ReadAt(header, int64(id)*int64(c.pageSize)); err != nil {
		return page{}, fmt.Errorf("read page %d: %w", id, err)
	}
	order := binary.NativeEndian
	p := page{id: id, flags: order.Uint16(header[8:]), count: int(order.Uint16(header[10:]))}
	overflow := uint64(order.Uint32(header[12:]))
	if own := order.Uint64(header); own != id {
		return p, fmt.Errorf("page %d says it is page %d", id, own)
	}
	if id+overflow >= c.pages {
		return p, fmt.Errorf("page %d claims %d pages more, but there are %d pages", id, overflow, c.pages)
	}
	for i := id; i <= id+overflow; i++ {
		if err := c.use(i); err != nil {
			return p, err
		}
	}
	p.data = make([]byte, (overflow+1)*uint64(c.pageSize))
	_, err := c.file.ReadAt(p.data, int64(id)*int64(c.pageSize))
	return p, err
}

func (c *checker) use(id uint64) error {
	if id >= c.pages || c.used[id] {
		return fmt.Errorf("page %d is used twice, or is none", id)
	}
	c.used[id] = true
	return nil
}

// tree checks the page and all below it: its keys are not below low and, unless high is nil, below high. It returns the last key.
func (c *checker) tree(id uint64, low, high []byte) (last []byte, err error) {
	p, err := c.read(id)
	if err != nil {
		return nil, err
	}
	switch p.flags {
	case leafFlag:
		return c.leaf(p, low, high)
	case branchFlag:
		return c.branch(p, low, high)
	}
	return nil, fmt.Errorf("page %d is neither branch nor leaf", id)
}

func (c *checker) branch(p page, low, high []byte) (last []byte, err error) {
	if p.count == 0 {
		return nil, fmt.Errorf("branch %d is empty", p.id)
	}
	keys := make([][]byte, p.count+1)
	children := make([]uint64, p.count)
	for i := range p.count {
		e, err := p.element(i)
		if err != nil {
			return nil, err
		}
		children[i] = binary.NativeEndian.Uint64(e[8:])
		if keys[i], err = p.bytes(i, e, 0, 4); err != nil {
			return nil, err
		}
	}
	keys[p.count] = high
	last = low
	for i, child := range children {
		if err := inOrder(p.id, i, last, keys[i], keys[i+1]); err != nil {
			return nil, err
		}
		if last, err = c.tree(child, keys[i], keys[i+1]); err != nil {
			return nil, err
		}
	}
	return last, nil
}

func (c *checker) leaf(p page, low, high []byte) (last []byte, err error) {
	last = low
	for i := range p.count {
		e, err := p.element(i)
		if err != nil {
			return nil, err
		}
		key, err := p.bytes(i, e, 4, 8)
		if err != nil {
			return nil, err
		}
		if err := inOrder(p.id, i, last, key, high); err != nil {
			return nil, err
		}
		last = key
		if err := c.value(p, i, e); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// inOrder checks one key of a page. The first may equal the key by which the page is known above; the others come after the one before.
func inOrder(id uint64, i int, before, key, high []byte) error {
	if len(key) == 0 {
		return fmt.Errorf("key %d of page %d is empty", i, id)
	}
	if order := bytes.Compare(before, key); order > 0 || i > 0 && order == 0 || high != nil && bytes.Compare(key, high) >= 0 {
		return fmt.Errorf("key %d of page %d is out of order", i, id)
	}
	return nil
}

// value checks that the value of a leaf's element lies within the page, and follows it if it is a bucket.
func (c *checker) value(p page, i int, e []byte) error {
	ksize, vsize := uint64(binary.NativeEndian.Uint32(e[8:])), uint64(binary.NativeEndian.Uint32(e[12:]))
	start := uint64(headerSize+i*elementSize) + uint64(binary.NativeEndian.Uint32(e[4:])) + ksize
	if start+vsize > uint64(len(p.data)) {
		return fmt.Errorf("value %d of page %d lies outside of it", i, p.id)
	}
	value := p.data[start : start+vsize]
	switch flags := binary.NativeEndian.Uint32(e); flags {
	case 0:
		return nil
	case 1:
		return c.bucket(value)
	default:
		return fmt.Errorf("element %d of page %d has unknown flags %x", i, p.id, flags)
	}
}

// bucket checks a bucket: its tree, or the leaf that follows in its value.
func (c *checker) bucket(value []byte) error {
	if len(value) < bucketSize {
		return errors.New("a bucket is cut off")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		_, err := c.tree(root, nil, nil)
		return err
	}
	data := value[bucketSize:]
	if len(data) < headerSize || binary.NativeEndian.Uint16(data[8:]) != leafFlag {
		return errors.New("a small bucket is not a leaf")
	}
	_, err := c.leaf(page{flags: leafFlag, count: int(binary.NativeEndian.Uint16(data[10:])), data: data}, nil, nil)
	return err
}

// freePages marks what the freelist names.
func (c *checker) freePages() error {
	p, err := c.read(c.freelist)
	if err != nil {
		return err
	}
	if p.flags != freelistFlag {
		return fmt.Errorf("page %d is not the freelist", p.id)
	}
	ids, count := p.data[headerSize:], uint64(p.count)
	if count == 0xFFFF { // the count did not fit, and stands in front of the list
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("the freelist claims %d pages, more than it has place for", count)
	}
	for i := range count {
		if err := c.use(binary.NativeEndian.Uint64(ids[8*i:])); err != nil {
			return err
		}
	}
	return nil
}

// element returns the header of element i.
func (p page) element(i int) ([]byte, error) {
	start := headerSize + i*elementSize
	if start+elementSize > len(p.data) {
		return nil, fmt.Errorf("page %d claims %d elements, more than it has place for", p.id, p.count)
	}
	return p.data[start : start+elementSize], nil
}

// bytes returns the key of element i, whose header e holds its place at posAt, counted from the header, and its length at sizeAt.
func (p page) bytes(i int, e []byte, posAt, sizeAt int) ([]byte, error) {
	start := uint64(headerSize+i*elementSize) + uint64(binary.NativeEndian.Uint32(e[posAt:]))
	end := start + uint64(binary.NativeEndian.Uint32(e[sizeAt:]))
	if end > uint64(len(p.data)) {
		return nil, fmt.Errorf("key %d of page %d lies outside of it", i, p.id)
	}
	return p.data[start:end], nil
}
