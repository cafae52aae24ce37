// Package grpcguard is where the guard meets gRPC: it reads from the metadata of a call what a decision needs, turns a decision into the
// status that its caller sees, recognises such a status again, and says what a status code from the back-end tells about the back-end.
// What goes over the wire it reads and writes in either of two forms: as grpc-go has it, metadata and status, or as header fields.
//
// # Refusals
//
// One closed table joins the reasons of package guard with their names on the wire, their codes and whether a retry can help. Whoever
// makes a refusal and whoever meets one uses it, so that the two can not drift apart. A refusal carries an ErrorInfo of domain
// "capguard" with every variable that its message mentions, a RetryInfo where a retry can help, and always the trailer
// grpc-retry-pushback-ms, negative where a retry never helps: gRPC clients with a retry policy obey it by themselves.
//
// Refusal and Refuser say the same in the two forms. The second costs a tenth, and by a flag less again, because refusing must stay
// cheap when most calls are refused.
//
// All texts that come from outside (names, reasons, methods) are made printable and cut to bounds before they go into a refusal.
//
// # Identity
//
// A call says of itself what feature it belongs to, how critical it is and whose it is, in metadata or, through services that know
// nothing of the guard, in W3C baggage. Nobody is trusted: what is not well formed counts as not said, and reading costs a bounded time.
//
// # Leases
//
// Clients that may go past a guard that is gone ask for a lease, and are granted one, under LeaseKey. The text of both is a number of
// calls.
//
// # What this package does not do
//
// It decides nothing, it sends nothing, and but for what a Refuser remembers it keeps no state. It knows no HTTP/2 beyond the fields that
// carry a status. All functions are safe for concurrent use; a Said is for one call.
package grpcguard

// Domain is the domain of every ErrorInfo that the guard makes.
const Domain = "capguard"

// The metadata keys that callers may set. W3C baggage members of the same names are read too; metadata wins.
const (
	FeatureKey     = "capguard-feature"
	CriticalityKey = "capguard-criticality"
	TenantKey      = "capguard-tenant"
	// BaggageKey is the header of W3C baggage.
	BaggageKey = "baggage"
	// PushbackKey tells gRPC clients when to retry, in milliseconds; negative is never.
	PushbackKey = "grpc-retry-pushback-ms"
	// AttemptsKey counts the attempts before this one.
	AttemptsKey = "grpc-previous-rpc-attempts"
)

// LeaseKey asks, in the metadata of a call, for a lease, and tells the demand of the client: how many of its calls were in flight or
// waiting lately, on average. In the headers of the answer it grants the lease: how many calls of that client may be at the back-end at
// once if the guard is gone. It goes no further than the guard. (docs/design/leases.md)
const LeaseKey = "capguard-lease"
