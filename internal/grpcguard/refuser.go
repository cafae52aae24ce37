package grpcguard

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/capguard/capguard/internal/guard"
)

// maxKept and maxKeptName bound what a Refuser keeps: the names come from callers. A full one begins anew.
const (
	maxKept     = 1000
	maxKeptName = 256 // bytes
)

// Refuser writes the refusals of one back-end. It keeps those by a flag, which say the same to every call of a method and a feature until
// the flag moves, and come in floods while it is off. Safe for concurrent use.
type Refuser struct {
	backend string

	mu   sync.RWMutex
	kept map[flagged]kept
}

// flagged is whom a flag refuses.
type flagged struct {
	reason          guard.Reason
	method, feature string
}

// kept is a refusal by a flag as it was set.
type kept struct {
	setting guard.Feature
	fields  []hpack.HeaderField
}

// NewRefuser returns the Refuser of a back-end.
func NewRefuser(backend string) *Refuser {
	return &Refuser{backend: backend, kept: map[flagged]kept{}}
}

// Append appends all fields of the Trailers-Only answer that Refusal describes. The values are shared: they are not to be changed.
func (r *Refuser) Append(dst []hpack.HeaderField, d guard.Decision, c guard.Call) []hpack.HeaderField {
	byFlag := d.Reason == guard.FeatureOff || d.Reason == guard.FeatureDimmed
	if !byFlag || len(c.Method)+len(c.Feature) > maxKeptName {
		return appendRefusal(dst, &d, &c, r.backend)
	}
	key := flagged{d.Reason, c.Method, c.Feature}
	r.mu.RLock()
	k := r.kept[key]
	r.mu.RUnlock()
	if k.fields == nil || k.setting != d.Feature {
		k = kept{d.Feature, slices.Clip(appendRefusal(nil, &d, &c, r.backend))}
		r.keep(key, k)
	}
	return append(dst, k.fields...)
}

func (r *Refuser) keep(key flagged, k kept) {
	key.method, key.feature = strings.Clone(key.method), strings.Clone(key.feature) // not to hold on to the headers that they are a part of
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) >= maxKept {
		clear(r.kept)
	}
	r.kept[key] = k
}
