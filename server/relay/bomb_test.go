package relay_test

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/capguard/capguard/server/relay"
)

// A block of few bytes that stands for megabytes is refused, and not again and again: nothing else costs so much for so little.
func TestBombsWithoutEnd(t *testing.T) {
	bomb := "\x40\x01b\x7f\x81\x17" + bytesOf(3072) + strings.Repeat("\xbe", 12_000)
	inRig(t, setup{}, func(r *rig, bystander, backend *peer) {
		client := r.join(habits{})
		client.encoded(1, true, plain+bomb)
		client.wantTrailers(1, "grpc-status: 8")
		client.encoded(3, true, plain+bomb)
		client.wantTrailers(3, "grpc-status: 8")
		client.wantGoAway(http2.ErrCodeEnhanceYourCalm)
		client.wantClosed()
		if large, resets := r.stats.Breaches(relay.LargeHeaders), r.stats.Breaches(relay.Resets); large != 2 || resets != 1 {
			t.Errorf("%d breaches of large headers and %d of resets, want 2 and 1", large, resets)
		}
		serve(bystander, 1, backend, nextCall(backend))
	})
}
