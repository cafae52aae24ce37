package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// reference is the plainest transparent proxy that grpc-go allows, with no guard in it. It is here to be compared with: where it and the
// relay agree with a direct call, two quite different programs say so.
//
// It differs from a direct call in two things that grpc-go does not leave to it: the back-end sees the user agent of the reference, and
// compressed messages are unpacked and packed again.
type reference struct {
	server *grpc.Server
	out    *grpc.ClientConn
	lis    *bufconn.Listener
}

// startReference has a reference proxy stand before what dial reaches.
func startReference(t *testing.T, dial dialer) *reference {
	t.Helper()
	options := append(insecureVia(dial), grpc.WithStatsHandler(encodingWatch{}), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	out, err := grpc.NewClient("passthrough:///back-end", options...)
	if err != nil {
		t.Fatal(err)
	}
	r := &reference{out: out, lis: bufconn.Listen(1 << 16)}
	r.server = grpc.NewServer(grpc.UnknownServiceHandler(r.handle), grpc.ForceServerCodecV2(rawCodec{}), grpc.WaitForHandlers(true))
	go func() { _ = r.server.Serve(r.lis) }() // Until stop.
	return r
}

func (r *reference) stop() {
	r.server.Stop()
	_ = r.out.Close()
}

// dial connects to the reference.
func (r *reference) dial(ctx context.Context, _ string) (net.Conn, error) {
	return r.lis.DialContext(ctx)
}

// handle is the handler of every call.
func (r *reference) handle(_ any, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	md, options := readCall(in.Context())
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	encoded := make(chan string, 1)
	ctx = context.WithValue(metadata.NewOutgoingContext(ctx, md), encodingKey{}, encoded)
	out, err := r.out.NewStream(ctx, &anyStream, method, options...)
	if err != nil {
		return err
	}
	go func() { // Ends with the call: both streams end when the handler returns.
		if err := pumpRequests(in, out); err != nil {
			cancel()
		}
	}()
	return pumpAnswers(in, out, encoded)
}

// readCall returns what is needed to make the call anew whose handler has ctx.
func readCall(ctx context.Context) (metadata.MD, []grpc.CallOption) {
	md, _ := metadata.FromIncomingContext(ctx) // A copy.
	var options []grpc.CallOption
	if a := md[":authority"]; len(a) > 0 {
		options = append(options, grpc.CallAuthority(a[0]))
	}
	in := grpc.ServerTransportStreamFromContext(ctx).(interface{ RecvCompress() string })
	if e := in.RecvCompress(); e != "" && e != encoding.Identity {
		options = append(options, grpc.UseCompressor(e))
	}
	subtype := grpc.ServerTransportStreamFromContext(ctx).(interface{ ContentSubtype() string }).ContentSubtype()
	return withoutTransport(md), append(options, grpc.CallContentSubtype(subtype))
}

// withoutTransport takes out of md, which it changes, what each side of the reference makes anew.
func withoutTransport(md metadata.MD) metadata.MD {
	for _, h := range []string{":authority", "content-type", "grpc-accept-encoding", "grpc-encoding", "user-agent"} {
		delete(md, h)
	}
	return md
}

// pumpRequests moves the messages of the request until it is complete or the back-end wants no more; its error is that its caller is gone.
func pumpRequests(in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var message mem.BufferSlice
		if err := in.RecvMsg(&message); errors.Is(err, io.EOF) {
			return out.CloseSend()
		} else if err != nil {
			return err
		}
		err := out.SendMsg(&message)
		message.Free()
		if err != nil {
			return nil // The answer says why.
		}
	}
}

// pumpAnswers moves the answer: headers at once, messages as they come, trailers at the end.
func pumpAnswers(in grpc.ServerStream, out grpc.ClientStream, encoded <-chan string) error {
	if header, _ := out.Header(); header != nil { // Its errors come again from RecvMsg; for Trailers-Only there is no header.
		select {
		case e := <-encoded:
			answerIn(in.Context(), e)
		case <-out.Context().Done():
		}
		if err := in.SendHeader(withoutTransport(header)); err != nil {
			return err
		}
	}
	for {
		var message mem.BufferSlice
		if err := out.RecvMsg(&message); err != nil {
			in.SetTrailer(withoutTransport(out.Trailer()))
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		err := in.SendMsg(&message)
		message.Free()
		if err != nil {
			return err
		}
	}
}

// answerIn makes the answer to the caller use the encoding e of the back-end's.
func answerIn(ctx context.Context, e string) {
	if e != gzip.Name {
		e = encoding.Identity
	}
	_ = grpc.SetSendCompressor(ctx, e) // What can not be packed is sent as it is.
}

// rawCodec passes messages through without looking at them.
type rawCodec struct{}

// Marshal hands out the data of v, with a reference of its own that gRPC frees; the holder of v keeps its own.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(*mem.BufferSlice)
	if !ok {
		return nil, status.Error(codes.Internal, fmt.Sprintf("marshal %T: want buffers", v))
	}
	message.Ref()
	return *message, nil
}

// Unmarshal keeps data, with a reference of its own: gRPC frees its own after it.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(*mem.BufferSlice)
	if !ok {
		return status.Error(codes.Internal, fmt.Sprintf("unmarshal %T: want buffers", v))
	}
	data.Ref()
	*message = data
	return nil
}

// Name is empty: a call without content subtype stays one.
func (rawCodec) Name() string { return "" }

// encodingKey is the context key of the channel that takes the encoding of an answer.
type encodingKey struct{}

// encodingWatch tells handlers in what encoding an answer comes, which gRPC tells nobody else.
type encodingWatch struct{ witness }

// HandleRPC takes the encoding from the headers of an answer.
func (encodingWatch) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok {
		ctx.Value(encodingKey{}).(chan string) <- h.Compression
	}
}
