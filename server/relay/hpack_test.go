package relay_test

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// calls carries a few calls whose fields come again and again, and checks them on either side.
func calls(client, backend *peer, from, at uint32) {
	client.Helper()
	for i := range uint32(4) {
		field := "x-table: " + strings.Repeat("v", int(40+i%2))
		client.request(from+2*i, true, field, "y-table: "+bytesOf(30))
		backend.wantHeaders(at+2*i, field, "y-table: "+bytesOf(30))
		backend.response(at+2*i, field)
		backend.trailers(at+2*i, field)
		client.wantHeaders(from+2*i, field)
		client.wantTrailers(from+2*i, field)
	}
}

// The twin decodes with a table of exactly the size that its peer asked for.
func TestHeaderTablesOfAnySize(t *testing.T) {
	for _, size := range []uint32{0, 1, 100, 4095, 4096, 65536, 1<<32 - 1} {
		h := habits{settings: []http2.Setting{setting(http2.SettingHeaderTableSize, size)}}
		inRig(t, setup{client: h, backend: h}, func(r *rig, client, backend *peer) { calls(client, backend, 1, 1) })
	}
}

func TestHeaderTablesChangeInMidFlight(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		next := uint32(1)
		for _, sizes := range [][]uint32{{}, {0}, {4096}, {100, 4096}, {0, 4096}, {50}, {60, 20}, {4096, 0, 200}} {
			for _, p := range []*peer{client, backend} {
				var values []http2.Setting
				for _, size := range sizes {
					values = append(values, setting(http2.SettingHeaderTableSize, size))
				}
				p.settings(values...)
				p.wantSettled()
			}
			calls(client, backend, next, next)
			next += 8
		}
		for _, size := range []uint32{10, 4096} { // In two frames, without a block between them.
			client.settings(setting(http2.SettingHeaderTableSize, size))
			backend.settings(setting(http2.SettingHeaderTableSize, size))
		}
		calls(client, backend, next, next)
	})
}

// The sender of a block may change the size of its own table at the beginning, twice if it likes.
func TestSenderChangesItsTable(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		calls(client, backend, 1, 1)
		client.mu.Lock()
		client.encoder.SetMaxDynamicTableSize(0)
		client.encoder.SetMaxDynamicTableSize(4096) // Written as two changes.
		client.mu.Unlock()
		calls(client, backend, 9, 9)
		client.mu.Lock()
		client.encoder.SetMaxDynamicTableSize(100)
		client.mu.Unlock()
		calls(client, backend, 17, 17)
	})
}

// plain is the beginning of a header block that is a whole request, without a trace in the table.
const plain = "\x83\x86\x04\x02/a\x0f\x10\x10application/grpc" // content-type is static entry 31.

// wrongBlocks are blocks that cannot be decoded.
var wrongBlocks = map[string]string{
	"index 0":                           plain + "\x80",
	"an index beyond the table":         plain + "\xff\x7f",
	"an integer that overflows":         plain + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
	"an integer that is cut":            plain + "\xff\xff",
	"a name that is cut":                plain + "\x00\x05ab",
	"a value that is cut":               plain + "\x00\x01a\x05ab",
	"no value":                          plain + "\x00\x01a",
	"a string of 2^31":                  plain + "\x00\x7f\xff\xff\xff\xff\x07",
	"Huffman padding that is not ones":  plain + "\x00\x01a\x81\x18",
	"Huffman padding of more than 7":    plain + "\x00\x01a\x82\x1f\xff",
	"EOS in a string":                   plain + "\x00\x01a\x84\xff\xff\xff\xff",
	"a table beyond our limit":          "\x3f\xe2\x1f" + plain,
	"a table of 2^32":                   "\x3f\xff\xff\xff\xff\xff\x0f" + plain,
	"a change of size within the block": "\x40\x01a\x01b" + plain + "\x3f\x45",
	"a change of size at the end":       "\x40\x01a\x01b" + plain + "\x20",
}

func TestWrongBlocks(t *testing.T) {
	for name, block := range wrongBlocks {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.encoded(1, true, block)
				client.wantGoAway(http2.ErrCodeCompression)
				client.wantClosed()
				backend.wantQuiet()
				r.wantBreaches(relay.BadProtocol, 1)
				serve(r.join(habits{}), 1, backend, 1)
			})
		})
	}
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.encoded(1, true, plain)
		backend.wantHeaders(1, ":path: /a")
		client.encoded(3, true, "\x20\x3f\xe1\x1f"+plain)
		backend.wantHeaders(3, ":path: /a")
	})
}

// A block of few bytes that stands for a list of megabytes: the list is bounded, and the table stays in step.
func TestBombs(t *testing.T) {
	bomb := "\x40\x01b\x7f\x81\x17" + bytesOf(3072) + strings.Repeat("\xbe", 14_000)
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.encoded(1, true, plain+bomb)
		client.wantTrailers(1, "grpc-status: 8")
		r.wantBreaches(relay.LargeHeaders, 1)
		client.encoded(3, true, plain+"\xbe")
		backend.wantHeaders(1, "b: "+bytesOf(3072))
		backend.encoded(1, false, "\x88"+bomb)
		backend.wantReset(1, http2.ErrCodeProtocol)
		client.wantReset(3, http2.ErrCodeInternal)
		client.encoded(5, true, plain)
		backend.wantHeaders(3)
		backend.encoded(3, true, "\x88\xbe")
		client.wantTrailers(5, "b: "+bytesOf(3072))
	})
}

// One client's values are in no table that another one could look into.
func TestTablesAreOfOneConnection(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true, "authorization: of-the-first")
		backend.wantHeaders(1)
		thief := r.join(habits{})
		thief.encoded(1, true, plain+"\xbe")
		thief.wantGoAway(http2.ErrCodeCompression)
		thief.wantClosed()
		backend.wantQuiet()
	})
}
