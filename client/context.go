package client

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// Criticality says who is shed last and first when the back-end is short. A call without one is Critical.
type Criticality string

// From the last to be shed to the first. The set is closed.
const (
	CriticalPlus  Criticality = "CRITICAL_PLUS"
	Critical      Criticality = "CRITICAL"
	SheddablePlus Criticality = "SHEDDABLE_PLUS"
	Sheddable     Criticality = "SHEDDABLE"
)

// WithCriticality returns ctx for calls of criticality c. The last one set counts; a text that is none of the four changes nothing.
func WithCriticality(ctx context.Context, c Criticality) context.Context {
	if !wellFormed(grpcguard.CriticalityKey, string(c)) {
		return ctx
	}
	return withMetadata(ctx, grpcguard.CriticalityKey, string(c))
}

// WithTenant returns ctx for calls of a tenant, for fairness between tenants: 1 to 128 printable ASCII characters. The last one set
// counts. A name that can not travel in a header counts as none: the calls are nobody's in particular.
func WithTenant(ctx context.Context, tenant string) context.Context {
	if !wellFormed(grpcguard.TenantKey, tenant) {
		return withMetadata(ctx, grpcguard.TenantKey)
	}
	return withMetadata(ctx, grpcguard.TenantKey, tenant)
}

// withMetadata replaces what ctx says under key and leaves everything else, baggage included, as it is.
func withMetadata(ctx context.Context, key string, values ...string) context.Context {
	md, ok := metadata.FromOutgoingContext(ctx) // a copy
	if !ok {
		md = make(metadata.MD, 1)
	}
	md.Delete(key)
	md.Append(key, values...)
	return metadata.NewOutgoingContext(ctx, md)
}

// wellFormed tells whether the guard will understand a value, by asking the guard's own reading, and gRPC carry it.
func wellFormed(key, value string) bool {
	for _, c := range []byte(value) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	const other = guard.Criticality(-128) // none of the four
	c := grpcguard.Identify(metadata.MD{key: {value}}, guard.Call{Criticality: other})
	return c.Feature != "" || c.Tenant != "" || c.Criticality != other
}
