// Package stage plays scenarios that are written as text, for the tests of the leaves.
//
// A scenario is a file of testdata. A step is a line of "command arguments", then "----", then what it leads to, up to an empty line;
// comments stand between steps. With -update a test writes down what the code does; read the difference.
//
// What this package does not do: it knows no command; whoever plays does. Only tests import it.
package stage

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata with what the code does")

// Step carries out one command and tells what came of it, in one or more lines.
type Step func(t *testing.T, line string) string

// Play plays every testdata/*.txt, each with a Step of its own that begin returns.
func Play(t *testing.T, begin func() Step) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("find scenarios: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { play(t, file, begin()) })
	}
}

func play(t *testing.T, file string, step Step) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := perform(t, string(text), step)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != string(text) {
		t.Errorf("%s leads to\n%s\nRun go test -update . and read the difference.", file, got)
	}
}

// perform returns text with the results of its steps in place of those that it expects.
func perform(t *testing.T, text string, step Step) string {
	t.Helper()
	var out strings.Builder
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		out.WriteString(lines[i])
		if i < len(lines)-1 {
			out.WriteByte('\n')
		}
		if i+1 == len(lines) || lines[i+1] != "----" {
			continue
		}
		out.WriteString("----\n" + strings.TrimSuffix(step(t, lines[i]), "\n") + "\n")
		for i++; i+1 < len(lines) && lines[i+1] != ""; {
			i++
		}
	}
	return out.String()
}
