package proxy

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip" // Registers the encoding, too.
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/metadata"
)

// connectionHeaders belong to one connection or to the transport; each side of the guard makes its own.
var connectionHeaders = [...]string{
	":authority", "connection", "content-length", "content-type", "grpc-accept-encoding", "grpc-encoding", "grpc-timeout", "host",
	"http2-settings", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "user-agent",
}

// forwarded takes out of md, which it changes, what does not pass the guard.
func forwarded(md metadata.MD) metadata.MD {
	for _, h := range connectionHeaders {
		delete(md, h)
	}
	return md
}

// incoming is what grpc-go's server streams know of a call beyond their interface.
type incoming interface {
	RecvCompress() string
	ContentSubtype() string
}

// request is what is needed to make a call anew.
type request struct {
	md        metadata.MD
	userAgent string
	options   []grpc.CallOption
}

// readRequest returns the request of the call whose handler has ctx.
func readRequest(ctx context.Context) request {
	md, _ := metadata.FromIncomingContext(ctx) // A copy.
	r := request{userAgent: strings.Join(md["user-agent"], " ")}
	if a := md[":authority"]; len(a) > 0 && a[0] != "" {
		r.options = append(r.options, grpc.CallAuthority(a[0]))
	}
	r.options = append(r.options, experimental.AcceptCompressors(accepted(md["grpc-accept-encoding"])...))
	if s, ok := grpc.ServerTransportStreamFromContext(ctx).(incoming); ok {
		r.options = append(r.options, grpc.CallContentSubtype(s.ContentSubtype()))
		if e := s.RecvCompress(); e != "" && e != encoding.Identity {
			r.options = append(r.options, grpc.UseCompressor(e))
		}
	}
	r.md = forwarded(md)
	return r
}

// accepted returns the encodings that both the caller and the guard know.
func accepted(headers []string) []string {
	for _, h := range headers {
		for e := range strings.SplitSeq(h, ",") {
			if strings.TrimSpace(e) == gzip.Name {
				return []string{gzip.Name}
			}
		}
	}
	return nil
}

// answerEncoding makes the answer to the caller use the encoding of the back-end's.
func answerEncoding(ctx context.Context, e string) {
	if e == "" {
		e = encoding.Identity
	}
	if known, err := grpc.ClientSupportedCompressors(ctx); e == encoding.Identity || err == nil && slices.Contains(known, e) {
		_ = grpc.SetSendCompressor(ctx, e) // What can not be packed is sent as it is.
	}
}
