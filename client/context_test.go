package client_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/client"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// TestIdentityReachesTheGuard compares what a context says with what the guard reads at the other end.
func TestIdentityReachesTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		ctx := metadata.AppendToOutgoingContext(t.Context(), "baggage", "capguard-tenant=other,user=1", "x", "1", "x", "2")
		ctx = client.WithTenant(client.WithCriticality(ctx, client.Sheddable), "acme")
		ctx = c.Feature("recs").Tag(ctx)
		if _, err := (Shop{c}).Recommend(ctx, new(Customer)); err != nil {
			t.Fatal(err)
		}
		md := s.received()[0]
		got := grpcguard.Identify(md, guard.Call{})
		if want := (guard.Call{Feature: "recs", Tenant: "acme", Criticality: guard.Sheddable}); got != want {
			t.Errorf("the guard reads %+v, want %+v", got, want)
		}
		if !slices.Equal(md.Get("baggage"), []string{"capguard-tenant=other,user=1"}) || !slices.Equal(md.Get("x"), []string{"1", "2"}) {
			t.Errorf("metadata of the application was changed: %v", md)
		}
	})
}

// The last one said counts, and the contexts it was made from stay as they were.
func TestTheLastWordCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := dialed(t)
		outer := c.Feature("recs").Tag(client.WithTenant(client.WithCriticality(t.Context(), client.Critical), "acme"))
		inner := c.Feature("search").Tag(client.WithTenant(client.WithCriticality(outer, client.SheddablePlus), "umbrella"))
		for _, test := range []struct {
			md   func() (metadata.MD, bool)
			want string
		}{
			{func() (metadata.MD, bool) { return metadata.FromOutgoingContext(outer) }, "recs CRITICAL acme"},
			{func() (metadata.MD, bool) { return metadata.FromOutgoingContext(inner) }, "search SHEDDABLE_PLUS umbrella"},
		} {
			md, _ := test.md()
			all := slices.Concat(md.Get("capguard-feature"), md.Get("capguard-criticality"), md.Get("capguard-tenant"))
			if got := strings.Join(all, " "); got != test.want {
				t.Errorf("context says %q, want %q", got, test.want)
			}
		}
	})
}

// All four criticalities are those of the guard.
func TestCriticalities(t *testing.T) {
	for c, want := range map[client.Criticality]guard.Criticality{
		client.CriticalPlus: guard.CriticalPlus, client.Critical: guard.Critical,
		client.SheddablePlus: guard.SheddablePlus, client.Sheddable: guard.Sheddable,
	} {
		md, _ := metadata.FromOutgoingContext(client.WithCriticality(t.Context(), c))
		if got := grpcguard.Identify(md, guard.Call{Criticality: 99}).Criticality; got != want {
			t.Errorf("%s is read as %v", c, got)
		}
	}
}

// What can not travel in a header must not break the call: it counts as not said.
func TestIdentityThatCanNotTravel(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, tenant := range []string{"", "ä", "a\nb", "a\x00", long, "\xff"} {
		md, _ := metadata.FromOutgoingContext(client.WithTenant(client.WithTenant(t.Context(), "acme"), tenant))
		if got := md.Get("capguard-tenant"); got != nil {
			t.Errorf("tenant %q became %q", tenant, got)
		}
	}
	for _, c := range []client.Criticality{"", "critical", "URGENT", client.Criticality(long)} {
		md, _ := metadata.FromOutgoingContext(client.WithCriticality(client.WithCriticality(t.Context(), client.Sheddable), c))
		if got := md.Get("capguard-criticality"); !slices.Equal(got, []string{"SHEDDABLE"}) {
			t.Errorf("criticality %q became %q", c, got)
		}
	}
}
