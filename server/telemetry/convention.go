package telemetry

import (
	"maps"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// CodeName returns the name of a status code as the protocol and the RPC conventions spell it, as UNAVAILABLE.
func CodeName(c codes.Code) string { return code.Code(c).String() }

// BlamesServer tells whether a server's span of that code is an error, by the RPC conventions of OpenTelemetry: the server failed, not the
// request.
func BlamesServer(c codes.Code) bool {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// Carrier lets a propagator read a trace context from metadata and write it there.
type Carrier metadata.MD

// Get returns the first value of key, or "".
func (c Carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set replaces all values of key.
func (c Carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

// Keys returns all keys.
func (c Carrier) Keys() []string { return slices.Collect(maps.Keys(c)) }
