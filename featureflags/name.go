package featureflags

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// maxName is the longest id, in bytes.
const maxName = 63

// ParseName returns the bare id of "id" or "flags/id", or an error of kind Invalid that says what an id may be.
func ParseName(name string) (string, error) {
	id := strings.TrimPrefix(name, "flags/")
	if !validID(id) {
		shown := clip(name, 80)
		return "", invalid(shown, "name",
			`%q is no flag id; an id is 1 to 63 of a-z, 0-9, "-", "_" and ".", and begins with a letter or a digit`, shown)
	}
	return id, nil
}

func validID(id string) bool {
	if id == "" || len(id) > maxName || strings.IndexByte("-_.", id[0]) >= 0 {
		return false
	}
	return strings.IndexFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}) < 0
}

// clip returns at most n bytes of s.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// Nearest returns the names among candidates that a typo of name may have meant, best first, at most three. A candidate counts if it is
// few edits away (insert, delete, replace a letter, swap two neighbours: one for a short name, up to three for a long one) or, from three
// letters on, if one of the two contains the other.
func Nearest(name string, candidates iter.Seq[string]) []string {
	type match struct {
		name     string
		distance int
	}
	var matches []match
	for c := range candidates {
		if d, ok := closeness(name, c); ok {
			matches = append(matches, match{c, d})
		}
	}
	slices.SortFunc(matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	matches = slices.Compact(matches)
	var names []string
	for _, m := range matches[:min(3, len(matches))] {
		names = append(names, m.name)
	}
	return names
}

// closeness returns how far candidate is from name, and whether that is near at all.
func closeness(name, candidate string) (int, bool) {
	allowed := min(3, 1+len(name)/4)
	longer, shorter := max(len(name), len(candidate)), min(len(name), len(candidate))
	if longer > maxName {
		return 0, false
	}
	if longer-shorter <= allowed {
		if d := edits(name, candidate); d <= allowed {
			return d, true
		}
	}
	const contained = 4 // after everything that is a plain typo
	if shorter >= 3 && (strings.Contains(candidate, name) || strings.Contains(name, candidate)) {
		return contained + longer - shorter, true
	}
	return 0, false
}

// edits is the optimal string alignment distance of two names: Levenshtein's, with a swap of neighbours as one edit.
func edits(a, b string) int {
	var before, above, row [maxName + 1]int
	for j := range len(b) + 1 {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := above[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(above[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
