package proxy_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// A call that asks for a lease gets its answer in the headers, whoever answers it; what asks for nonsense gets none. The back-end never
// hears of it, and a call that does not ask gets nothing.
func TestLeases(t *testing.T) {
	seen := metadata.MD{}
	bubble(t, only(func(srv any, s grpc.ServerStream) error {
		seen = received(s)
		return upper(srv, s)
	}), func(t *testing.T, w *world) {
		p, _ := w.backend.Guard().Admit(t.Context(), guard.Call{Method: "/test.Service/Other"})
		defer p.Done(guard.Ignored)
		for demand, want := range map[string][]string{
			"": nil, "0": {"0"}, "0.5": {"25"}, "2": {"100"}, "999999": {"100"}, // There is one call beside it, and the limit is 100.
			"1e3": nil, "-1": nil, "1000000": nil, "much": nil,
		} {
			var header, trailer metadata.MD
			ctx := withHeader(withHeader(t.Context(), "capguard-lease", demand), "x-mine", "1")
			if _, err := w.call(ctx, "hello", grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
				t.Fatal(err)
			}
			if got := header.Get("capguard-lease"); !slices.Equal(got, want) || len(trailer.Get("capguard-lease")) > 0 {
				t.Errorf("a demand of %q is granted %q, want %q; trailers %v", demand, got, want, trailer)
			}
			if len(seen.Get("capguard-lease")) > 0 || !slices.Equal(seen.Get("x-mine"), []string{"1"}) {
				t.Errorf("the back-end got %v", seen)
			}
		}
		var header metadata.MD
		if _, err := w.call(t.Context(), "hello", grpc.Header(&header)); err != nil || len(header.Get("capguard-lease")) > 0 {
			t.Errorf("a call that asks for nothing: %v, %v", header, err)
		}
	})
}

// A refusal tells it, too: what is left of a limit that others fill, and nothing while the breaker is open.
func TestLeasesOfTheRefused(t *testing.T) {
	bubble(t, only(upper, small), func(t *testing.T, w *world) {
		p, _ := w.backend.Guard().Admit(t.Context(), guard.Call{Method: "/test.Service/Other"})
		var trailer metadata.MD
		ctx := withHeader(t.Context(), "capguard-lease", "0.5")
		_, err := w.call(ctx, "hello", grpc.Trailer(&trailer))
		if err == nil || !slices.Equal(trailer.Get("capguard-lease"), []string{"0.5"}) {
			t.Errorf("refused by the limit: %v, %v", trailer, err)
		}
		p.Done(guard.Ignored)
		w.backend.Guard().ForceBreaker(breaker.Override{State: breaker.ForcedOpen, Until: time.Now().Add(time.Minute)})
		_, err = w.call(ctx, "hello", grpc.Trailer(&trailer))
		if err == nil || !slices.Equal(trailer.Get("capguard-lease"), []string{"0"}) {
			t.Errorf("refused by the breaker: %v, %v", trailer, err)
		}
	})
}
