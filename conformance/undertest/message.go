package undertest

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxMessage bounds what the suite may send or a server answer. The largest of today's test cases has some 200 KiB.
const maxMessage = 16 << 20

// message is an encoded message of the suite, whose own types are internal to its module: the few fields that are needed here are
// read and replaced by number, the others stay as they are.
type message []byte

// readMessage reads a message with its length before it, in four bytes.
func readMessage(r io.Reader) (message, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(prefix[:])
	if n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes is too large", n)
	}
	m := make(message, n)
	_, err := io.ReadFull(r, m)
	return m, err
}

func (m message) write(w io.Writer) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(m))), m...))
	return err
}

// bytes returns the value of a field of bytes, text or a message; nil if it is not there.
func (m message) bytes(number protowire.Number) []byte {
	_, raw := m.find(number)
	v, _ := protowire.ConsumeBytes(raw)
	return v
}

// varint returns the value of a number or truth value; 0 if it is not there.
func (m message) varint(number protowire.Number) uint64 {
	_, raw := m.find(number)
	v, _ := protowire.ConsumeVarint(raw)
	return v
}

// find returns the place of a field and its encoded value.
func (m message) find(number protowire.Number) (at int, value []byte) {
	for at < len(m) {
		n, typ, tag := protowire.ConsumeTag(m[at:])
		size := protowire.ConsumeFieldValue(n, typ, m[at+max(tag, 0):])
		if tag < 0 || size < 0 {
			return len(m), nil
		}
		if n == number {
			return at, m[at+tag : at+tag+size]
		}
		at += tag + size
	}
	return at, nil
}

// without returns m without a field.
func (m message) without(number protowire.Number) message {
	at, value := m.find(number)
	if value == nil {
		return m
	}
	end := at + protowire.SizeTag(number) + len(value)
	return append(append(message{}, m[:at]...), m[end:]...)
}

func (m message) withBytes(number protowire.Number, v []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m.without(number), number, protowire.BytesType), v)
}

func (m message) withVarint(number protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m.without(number), number, protowire.VarintType), v)
}
