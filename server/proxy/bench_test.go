package proxy_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// BenchmarkUnary isolates what the guard adds to a unary call, in memory: compare guarded with direct, and refused with guarded.
func BenchmarkUnary(b *testing.B) {
	w := start(b, only(upper))
	defer w.stop()
	direct, err := grpc.NewClient("passthrough:///10.0.0.1:80", insecureVia(w.net.dial)...)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = direct.Close() }()
	message, answer := text("hello"), &wrapperspb.StringValue{}
	for name, conn := range map[string]*grpc.ClientConn{"direct": direct, "guarded": w.client} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := conn.Invoke(b.Context(), method, message, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		switchOff(w, 0)
		ctx := withHeader(b.Context(), "capguard-feature", "recs")
		b.ReportAllocs()
		for b.Loop() {
			if err := w.client.Invoke(ctx, method, message, answer); err == nil {
				b.Fatal("the call passed")
			}
		}
	})
}
