package grpcguard

import "google.golang.org/grpc/codes"

// ParseCode returns the code of a grpc-status. One that is missing, malformed or not defined by gRPC is UNKNOWN.
func ParseCode(s string) codes.Code {
	n := codes.Code(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return codes.Unknown
		}
		if n = 10*n + codes.Code(s[i]-'0'); n > codes.Unauthenticated {
			return codes.Unknown
		}
	}
	if s == "" {
		return codes.Unknown
	}
	return n
}

// HTTPCode returns the code that the :status of an answer without a grpc-status stands for, as gRPC maps them. (grpc's
// doc/http-grpc-status-mapping.md)
func HTTPCode(status string) codes.Code {
	switch status {
	case "400":
		return codes.Internal
	case "401":
		return codes.Unauthenticated
	case "403":
		return codes.PermissionDenied
	case "404":
		return codes.Unimplemented
	case "429", "502", "503", "504":
		return codes.Unavailable
	}
	return codes.Unknown
}
