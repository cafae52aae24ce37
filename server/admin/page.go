package admin

import (
	"encoding/base64"
	"hash/fnv"
	"strconv"
	"strings"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// page is which part of a list is wanted.
type page struct {
	size  int
	after string // the last entry of the page before; "" is the beginning
	scope string // the list and its filter: a token is good for one only
}

func parsePage(size int32, token, scope string) (page, error) {
	p := page{size: min(int(size), maxPage), scope: fingerprint(scope)}
	if size < 0 {
		return p, invalid("page_size", "%d is negative; leave it out for %d", size, defaultPage)
	}
	if size == 0 {
		p.size = defaultPage
	}
	if token == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	_, after, _ := strings.Cut(string(raw), " ")
	if err != nil || p.token(after) != token {
		return p, invalid("page_token", "it is not the next_page_token of this list with this filter; begin without one")
	}
	p.after = after
	return p, nil
}

// token returns where the page after last begins.
func (p page) token(last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.scope + " " + last))
}

func fingerprint(s string) string {
	h := fnv.New64a()
	h.Write([]byte(s))
	return strconv.FormatUint(h.Sum64(), 36)
}

// cut returns the page of items, which are in order of their keys, and the token of the next page, "" at the end.
func cut[T any](p page, items []T, key func(T) string) ([]T, string) {
	from := 0
	for from < len(items) && p.after != "" && key(items[from]) <= p.after {
		from++
	}
	items = items[from:]
	if len(items) <= p.size {
		return items, ""
	}
	return items[:p.size], p.token(key(items[p.size-1]))
}
