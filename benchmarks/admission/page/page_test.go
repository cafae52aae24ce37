package page_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/capguard/capguard/benchmarks/admission/page"
)

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	const before = "# Head\n<!-- begin a -->\nold\n<!-- end a -->\nmiddle\n<!-- begin b -->\n<!-- end b -->\ntail\n"
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it replaces what the first wrote
		if err := page.Write(path, "a", "\nnew\n"); err != nil {
			t.Fatal(err)
		}
	}
	const want = "# Head\n<!-- begin a -->\n\nnew\n\n<!-- end a -->\nmiddle\n<!-- begin b -->\n<!-- end b -->\ntail\n"
	if got, _ := os.ReadFile(path); string(got) != want {
		t.Errorf("the page is %q, want %q", got, want)
	}
	if err := page.Write(path, "c", "x"); err == nil {
		t.Error("a part without marks was written")
	}
	if got, _ := os.ReadFile(path); string(got) != want {
		t.Error("a page without the marks was changed")
	}
}
