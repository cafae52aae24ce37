package undertest

import (
	"bytes"
	"testing"
)

func TestFieldsAreReplacedByNumber(t *testing.T) {
	var m message
	m = m.withBytes(1, []byte("127.0.0.1")).withVarint(2, 7070).withBytes(3, []byte("cert"))
	m = m.withVarint(2, 65535).withBytes(1, []byte("::1"))
	if string(m.bytes(1)) != "::1" || m.varint(2) != 65535 || string(m.bytes(3)) != "cert" {
		t.Errorf("got %q, %d, %q", m.bytes(1), m.varint(2), m.bytes(3))
	}
	if m = m.without(1); m.bytes(1) != nil || m.varint(2) != 65535 {
		t.Errorf("without the first: %q, %d", m.bytes(1), m.varint(2))
	}
	if n := len(m.without(2).without(3).without(9)); n != 0 {
		t.Errorf("%d bytes are left of nothing", n)
	}
}

func TestMessagesAreReadAsWritten(t *testing.T) {
	var b bytes.Buffer
	want := message(nil).withBytes(4, []byte("x"))
	if err := want.write(&b); err != nil {
		t.Fatal(err)
	}
	if got, err := readMessage(&b); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := readMessage(bytes.NewReader([]byte{255, 0, 0, 0})); err == nil {
		t.Error("a message without bound was read")
	}
}

func TestGarbageHasNoFields(t *testing.T) {
	for _, m := range []message{{0xff}, {0x0a, 200, 1}, {0, 0}, bytes.Repeat([]byte{0xff}, 20)} {
		if m.bytes(1) != nil || m.varint(2) != 0 || !bytes.Equal(m.without(1), m) {
			t.Errorf("%v has a field", []byte(m))
		}
	}
}
