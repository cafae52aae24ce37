package relay_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/server/relay"
)

// Over real sockets, where writes happen in place: what bubbles cannot show.
func TestSocketsPassCalls(t *testing.T) {
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for {
			m := &wrapperspb.BytesValue{}
			if s.RecvMsg(m) != nil {
				return nil
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}))
	go func() { _ = s.Serve(back) }() // Until Stop.
	defer s.Stop()
	e := relay.NewEndpoint(relay.EndpointOptions{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", back.Addr().String())
	}})
	defer e.Close()
	r := relay.New(relay.Options{Decide: func(c *relay.Call) {
		if c.Path() == "/a.B/Refused" {
			c.Answer([]relay.Field{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}, {Name: "grpc-status", Value: "9"}})
			return
		}
		c.Forward(e)
	}})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.Serve(lis) }() // Until Drain.
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		in, out := wrapperspb.Bytes(make([]byte, i*i*300)), &wrapperspb.BytesValue{}
		if err := conn.Invoke(t.Context(), "/a.B/C", in, out); err != nil || len(out.Value) != i*i*300 {
			t.Fatal(i, err, len(out.Value))
		}
	}
	if err := conn.Invoke(t.Context(), "/a.B/Refused", wrapperspb.Bytes(nil), &wrapperspb.BytesValue{}); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	_ = conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		t.Error(err)
	}
}
