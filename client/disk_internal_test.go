package client

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// FuzzDecode feeds arbitrary files, as they are and with the checksum put right: no panic, nothing but what encode could have made, and
// flags that can be put in force.
func FuzzDecode(f *testing.F) {
	good, err := encode(&capguardv1.WatchFlagsResponse{
		Kind: capguardv1.WatchFlagsResponse_KIND_SNAPSHOT, Revision: 7,
		Flags: []*capguardv1.Flag{{Name: "flags/recs", State: capguardv1.Flag_STATE_DIMMED, Percent: new(20.0)}},
	}, time.Unix(1_700_000_000, 5))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:diskHeader])
	f.Add([]byte(diskMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, data)
		if sealed := bytes.Clone(data); len(sealed) >= diskHeader {
			copy(sealed, diskMagic)
			seal(sealed)
			check(t, sealed)
		}
	})
}

func check(t *testing.T, data []byte) {
	m, written, err := decode(data)
	if err != nil {
		return
	}
	again, err := encode(m, written)
	if err != nil {
		t.Fatalf("what was read can not be written: %v", err)
	}
	if twin, when, err := decode(again); err != nil || !when.Equal(written) || !proto.Equal(twin, m) {
		t.Fatalf("written and read again: %v, %v, %v", twin, when, err)
	}
	all, err := index(m.GetFlags())
	if err != nil {
		return
	}
	for name, p := range newSnapshot(1, all, time.Now()).flagged {
		if p.share > everyCall {
			t.Errorf("share of %q is %d", name, p.share)
		}
	}
}
