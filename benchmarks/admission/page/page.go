// Package page puts generated parts into a Markdown file that people wrote.
//
// What this package does not do: it makes no text of its own, and no file.
package page

import (
	"fmt"
	"os"
	"strings"
)

// Write replaces what a file has between the marks of a part, two lines of their own:
//
//	<!-- begin NAME -->
//	<!-- end NAME -->
func Write(path, name, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write part %s: %w", name, err)
	}
	begin, end := "<!-- begin "+name+" -->", "<!-- end "+name+" -->"
	before, rest, begins := strings.Cut(string(old), begin)
	_, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		return fmt.Errorf("write part %s: %s lacks the lines %q and %q", name, path, begin, end)
	}
	return os.WriteFile(path, []byte(before+begin+"\n\n"+strings.TrimSpace(text)+"\n\n"+end+after), 0o644)
}
