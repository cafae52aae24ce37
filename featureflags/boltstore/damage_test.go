package boltstore_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/featureflags/boltstore"
)

const pageSize = 4096 // of the files that these tests write; damage elsewhere in a page is damage, too

// goodFiles returns the bytes of a store with enough in it for trees of several levels, and those of the same store a few changes before.
func goodFiles(t testing.TB, dir string) (good, older []byte) {
	s, err := boltstore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := featureflags.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		c := featureflags.Command{
			Action: featureflags.Dim, Name: fmt.Sprint("feature-", i%9), Percent: new(float64(i) / 2), Reason: new(strings.Repeat("why ", 1+2*i)),
			AllowMissing: true, Actor: "ann", RequestID: fmt.Sprint("request-", i%20), TTL: time.Duration(i%2) * time.Hour,
		}
		if i >= 20 {
			c.RequestID = ""
		}
		if _, err := reg.Apply(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
		if i == 50 {
			older = readFile(t, dir)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return readFile(t, dir), older
}

func readFile(t testing.TB, dir string) []byte {
	data, err := os.ReadFile(filepath.Join(dir, "flags.db"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// contents is all that a store returns.
func contents(t testing.TB, s featureflags.Store) (string, error) {
	flags, revision, err := s.Load(t.Context())
	if err != nil {
		return "", err
	}
	all := []string{fmt.Sprint(revision)}
	for _, f := range flags {
		all = append(all, fmt.Sprintf("%+v %s", f.Standing, f.Etag()))
	}
	for i := range 9 {
		revs, err := s.Revisions(t.Context(), fmt.Sprint("feature-", i), 0, 1000)
		if err != nil {
			return "", err
		}
		for _, r := range revs {
			all = append(all, fmt.Sprint(r.Number, r.Action, r.Flag.Etag()))
		}
	}
	for i := range 20 {
		r, found, err := s.Request(t.Context(), fmt.Sprint("request-", i))
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprint(r.ID, r.Command, found))
	}
	return strings.Join(all, "\n"), nil
}

// checkDamaged opens a file and expects either exactly what was in it, ready for more, or an error that leaves the file alone.
func checkDamaged(t testing.TB, dir string, damaged []byte, want string) (refused bool) {
	t.Helper()
	path := filepath.Join(dir, "flags.db")
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := boltstore.Open(dir)
	if err != nil {
		if msg := err.Error(); !strings.Contains(msg, path) || !strings.Contains(msg, "damaged") || !strings.Contains(msg, "move it away") {
			t.Errorf("Open() = %q, which does not say which file, what is wrong and what to do", msg)
		}
		if !bytes.Equal(readFile(t, dir), damaged) {
			t.Error("Open() refused the file and changed it")
		}
		return true
	}
	defer s.Close()
	if got, err := contents(t, s); err != nil || got != want {
		t.Errorf("opened with other contents, %v:\n%s\nwant\n%s", err, got, want)
	}
	reg, err := featureflags.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	c := featureflags.Command{Action: featureflags.Disable, Name: "after", AllowMissing: true}
	if _, err := reg.Apply(t.Context(), c, nil); err != nil {
		t.Errorf("opened, then Apply() = %v", err)
	}
	return false
}

// TestDamagedFileIsRefusedOrHarmless: a corrupt flag store; the last good state is in force or a clear error says what to do.
func TestDamagedFileIsRefusedOrHarmless(t *testing.T) {
	dir := dataDir(t)
	good, older := goodFiles(t, dir)
	s := open(t, dir)
	want, err := contents(t, s)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	for _, k := range damages(good, older) {
		t.Run(k.name, func(t *testing.T) {
			refused := 0
			for seed := range k.times {
				r := rand.New(rand.NewPCG(7, uint64(seed)))
				if checkDamaged(t, dir, k.make(seed, r), want) {
					refused++
				}
				if t.Failed() {
					t.Fatalf("with seed %d", seed)
				}
			}
			if refused < k.refused {
				t.Errorf("%d of %d were refused, want at least %d", refused, k.times, k.refused)
			}
			t.Logf("%d of %d refused, the others harmless", refused, k.times)
		})
	}
}

// kind is a kind of damage.
type kind struct {
	name    string
	times   int
	refused int // at least
	make    func(seed int, r *rand.Rand) []byte
}

func damages(good, older []byte) []kind {
	pages := len(good) / pageSize
	change := func(do func(data []byte, seed int, r *rand.Rand) []byte) func(int, *rand.Rand) []byte {
		return func(seed int, r *rand.Rand) []byte { return do(slices.Clone(good), seed, r) }
	}
	page := func(data []byte, i int) []byte { return data[i*pageSize : (i+1)*pageSize] }
	return []kind{
		{"none", 1, 0, change(func(data []byte, _ int, _ *rand.Rand) []byte { return data })},
		{"a bit in the head of a page", 300, 30, change(func(data []byte, _ int, r *rand.Rand) []byte {
			page(data, r.IntN(pages))[r.IntN(64)] ^= 1 << r.IntN(8)
			return data
		})},
		{"a bit in the metas", 2 * 80, 2 * 60, change(func(data []byte, seed int, r *rand.Rand) []byte {
			page(data, seed/80)[seed%80] ^= 1 << r.IntN(8)
			return data
		})},
		{"a bit anywhere", 250, 30, change(func(data []byte, _ int, r *rand.Rand) []byte {
			data[r.IntN(len(data))] ^= 1 << r.IntN(8)
			return data
		})},
		{"a page of zeros", pages, pages / 10, change(func(data []byte, seed int, _ *rand.Rand) []byte {
			clear(page(data, seed))
			return data
		})},
		{"noise in a page", pages, pages / 10, change(func(data []byte, seed int, r *rand.Rand) []byte {
			for i := range page(data, seed) {
				page(data, seed)[i] = byte(r.Uint32())
			}
			return data
		})},
		{"a write that never reached the disk", min(pages, len(older)/pageSize), 3, change(func(data []byte, seed int, _ *rand.Rand) []byte {
			copy(page(data, seed), page(older, seed))
			return data
		})},
		{"a page written to another place", 100, 20, change(func(data []byte, _ int, r *rand.Rand) []byte {
			copy(page(data, r.IntN(pages)), page(good, r.IntN(pages)))
			return data
		})},
		{"cut off", 60, 20, change(func(data []byte, _ int, r *rand.Rand) []byte { return data[:r.IntN(len(data))] })},
		{"cut off at a page", pages, pages / 2, change(func(data []byte, seed int, _ *rand.Rand) []byte { return data[:seed*pageSize] })},
		{"something at the end", 20, 0, change(func(data []byte, _ int, r *rand.Rand) []byte {
			return append(data, make([]byte, 1+r.IntN(3*pageSize))...)
		})},
		{"another file", 1, 1, func(int, *rand.Rand) []byte { return bytes.Repeat([]byte("# not a store\n"), 2000) }},
		{"a short text", 1, 1, func(int, *rand.Rand) []byte { return []byte("flags") }},
	}
}

// FuzzDamagedFile puts three changes anywhere in a good file.
func FuzzDamagedFile(f *testing.F) {
	dir, err := os.MkdirTemp("", "boltstore-*")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	good, _ := goodFiles(f, dir)
	s, err := boltstore.Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	want, err := contents(f, s)
	if err != nil {
		f.Fatal(err)
	}
	s.Close()
	f.Add(uint32(0), uint32(pageSize+40), uint32(3*pageSize), byte(1), byte(0), byte(0))
	f.Add(uint32(2*pageSize+8), uint32(2*pageSize+10), uint32(2*pageSize+12), byte(3), byte(255), byte(1))
	f.Add(uint32(5*pageSize+16), uint32(5*pageSize+20), uint32(6*pageSize+24), byte(128), byte(64), byte(7))
	f.Fuzz(func(t *testing.T, a, b, c uint32, x, y, z byte) {
		data := slices.Clone(good)
		n := uint32(len(data))
		data[a%n] ^= x
		data[b%n] ^= y
		data[c%n] ^= z
		checkDamaged(t, t.TempDir(), data, want)
	})
}
