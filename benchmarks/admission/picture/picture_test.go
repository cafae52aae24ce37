package picture_test

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/benchmarks/admission/picture"
)

func run(gate string, limit float64) picture.Run {
	r := picture.Run{Gate: gate, Step: 100 * time.Millisecond}
	for i := range 900 {
		load := 200.0
		if i > 200 {
			load = 4000
		}
		r.Offered = append(r.Offered, load)
		r.Served = append(r.Served, min(load, 395))
		r.InFlight = append(r.InFlight, min(load/50, limit))
		r.Limit = append(r.Limit, limit)
	}
	return r
}

func TestDraw(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.svg")
	none := run("no guard", 0)
	none.InFlight[400] = 3000
	if err := picture.Draw(path, "S2/10", run("guard", 14), none); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 64<<10 {
		t.Errorf("the picture has %d bytes: too many for a repository", len(text))
	}
	wellFormed(t, string(text))
	for _, want := range []string{"S2/10: guard", "no guard", "offered", "served well", "in flight", "limit", "seconds"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
	if n := strings.Count(string(text), ">limit<"); n != 1 {
		t.Errorf("%d lines are called limit, want 1: a gate without one has no line", n)
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
	}
}
