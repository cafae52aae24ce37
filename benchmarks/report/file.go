package report

import (
	"fmt"
	"os"
	"strings"
)

// The lines of a file between which a report goes.
const (
	Begin = "<!-- the figures begin here: make bench-proxies writes them -->"
	End   = "<!-- the figures end here -->"
)

// Write puts the report between the marked lines of a file.
func (r Report) Write(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	before, rest, begins := strings.Cut(string(old), Begin)
	_, after, ends := strings.Cut(rest, End)
	if !begins || !ends {
		return fmt.Errorf("write %s: it lacks the lines %q and %q", path, Begin, End)
	}
	text := before + Begin + "\n\n" + r.String() + "\n" + End + after
	return os.WriteFile(path, []byte(text), 0o644)
}
