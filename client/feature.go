package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/capguard/capguard/internal/grpcguard"
)

// Feature is the handle of one feature: make it once and keep it. It is safe for concurrent use.
type Feature struct {
	name       string
	flags      *flags
	offUnknown bool
	// cached is where the feature stood at the last evaluation. It counts only while it is of the current snapshot.
	cached atomic.Pointer[position]
}

// Feature returns a handle of the feature of that name: 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or a digit. A name
// that is none is logged; its handle is always on and tags nothing.
func (c *Conn) Feature(name string) *Feature {
	if !wellFormed(grpcguard.FeatureKey, name) {
		c.log.Error("this can not be the name of a feature, its calls will not be guarded as one", "feature", name)
		name = ""
	}
	return newFeature(name, c.flags, false)
}

func newFeature(name string, flags *flags, offUnknown bool) *Feature {
	f := &Feature{name: name, flags: flags, offUnknown: offUnknown}
	f.refresh()
	return f
}

// OffUntilKnown returns a handle of the same feature that is off, not on, as long as nothing was ever known of the flags: no stream spoke
// yet and no file was found. Afterwards a feature without a flag is on with either handle.
func (f *Feature) OffUntilKnown() *Feature { return newFeature(f.name, f.flags, true) }

// Name returns the feature's name; empty if the handle was made with a name that is none.
func (f *Feature) Name() string { return f.name }

// On tells whether the feature is on, by the last flags known here. For a dimmed feature it draws lots: true for its percentage of the
// evaluations. It takes nanoseconds and never blocks. For calls through the guard use Fallback or Tag instead, see the package
// documentation.
func (f *Feature) On() bool {
	p := f.cached.Load()
	if p.generation != f.flags.current.Load().generation {
		p = f.refresh()
	}
	return p.share == everyCall || p.share > 0 && uint64(rand.Uint32()) < p.share
}

// refresh looks the feature up and remembers where it stands. A slower twin may put an older position back; the next evaluation sees that
// by its generation and looks again.
func (f *Feature) refresh() *position {
	p := f.find()
	f.cached.Store(p)
	return p
}

// find looks the feature up in the current snapshot.
func (f *Feature) find() *position { return f.flags.current.Load().find(f.name, f.offUnknown) }

// Tag returns ctx for calls of this feature, unary or streaming. The last tag counts.
func (f *Feature) Tag(ctx context.Context) context.Context {
	if f.name == "" {
		return ctx
	}
	return withMetadata(ctx, grpcguard.FeatureKey, f.name)
}

// Fallback returns call as a part of feature f, with instead to answer in its place while the feature is off here (no call is made), when
// the guard refuses the call for any reason, and when the guard is unreachable; cause then is a *Rejection or an *UnreachableError. All
// other errors are the back-end's own answers and are returned as they are. What instead returns is final. call may be a method of a
// generated client.
func Fallback[Req, Resp any](
	f *Feature,
	call func(ctx context.Context, in *Req, opts ...grpc.CallOption) (*Resp, error),
	instead func(ctx context.Context, in *Req, cause error) (*Resp, error),
) func(ctx context.Context, in *Req, opts ...grpc.CallOption) (*Resp, error) {
	return func(ctx context.Context, in *Req, opts ...grpc.CallOption) (*Resp, error) {
		if p := f.find(); p.share == 0 {
			return instead(ctx, in, p.refusal(f.name))
		}
		out, err := call(f.Tag(ctx), in, opts...)
		if cause, ok := withoutAnswer(err); ok {
			return instead(ctx, in, cause)
		}
		return out, err
	}
}

// withoutAnswer returns the typed error of a call that did not reach the back-end's code, as far as anybody knows.
func withoutAnswer(err error) (error, bool) {
	if r, ok := Rejected(err); ok {
		return r, true
	}
	return errors.AsType[*UnreachableError](err)
}
