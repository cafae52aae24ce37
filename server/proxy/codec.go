package proxy

import (
	"context"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"
)

// frame is one message as it is on the wire, uncompressed. Its holder owns one reference to the data.
type frame struct{ data mem.BufferSlice }

// free gives the data back.
func (f *frame) free() {
	f.data.Free()
	f.data = nil
}

// rawCodec passes messages through without looking at them.
type rawCodec struct{}

// Marshal hands out the data of a frame, with a reference of its own that gRPC frees; the frame keeps its own.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("marshal %T: want a frame", v)
	}
	f.data.Ref()
	return f.data, nil
}

// Unmarshal keeps data, with a reference of its own: gRPC frees its own after it.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("unmarshal %T: want a frame", v)
	}
	data.Ref()
	f.data = data
	return nil
}

// Name is empty: a call without content subtype stays one.
func (rawCodec) Name() string { return "" }

// encodingKey is the context key of the channel that takes the encoding of an answer.
type encodingKey struct{}

// encodingWatch tells handlers in what encoding an answer comes, which gRPC tells nobody else.
type encodingWatch struct{}

// withEncoding returns a context for a call to the back-end, and the channel that tells the encoding of its answer, once, soon after its
// headers have arrived. No headers, no encoding.
func withEncoding(ctx context.Context) (context.Context, <-chan string) {
	ch := make(chan string, 1)
	return context.WithValue(ctx, encodingKey{}, ch), ch
}

// HandleRPC takes the encoding from the headers of an answer.
func (encodingWatch) HandleRPC(ctx context.Context, s stats.RPCStats) {
	h, ok := s.(*stats.InHeader)
	if !ok {
		return
	}
	if ch, ok := ctx.Value(encodingKey{}).(chan string); ok {
		select {
		case ch <- h.Compression:
		default: // Told already.
		}
	}
}

// TagRPC does nothing.
func (encodingWatch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn does nothing.
func (encodingWatch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (encodingWatch) HandleConn(context.Context, stats.ConnStats) {}
