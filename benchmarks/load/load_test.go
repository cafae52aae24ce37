package load_test

import (
	"math"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/benchmarks/load"
	"github.com/capguard/capguard/benchmarks/raw"
)

// serve starts a back-end for the test, and returns its address.
func serve(t *testing.T, register func(*grpc.Server), more ...grpc.ServerOption) load.Endpoint {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(more, grpc.ForceServerCodecV2(raw.Codec{}), grpc.MaxRecvMsgSize(math.MaxInt32))...)
	register(s)
	go func() { _ = s.Serve(lis) }() // Ends with the test.
	t.Cleanup(s.Stop)
	return load.Endpoint{Target: "passthrough:///" + lis.Addr().String()}
}

func echo(s *grpc.Server) { s.RegisterService(&raw.Echo, nil) }

func refuse(code codes.Code) grpc.ServerOption {
	return grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(code, "no") })
}

func short() load.Round {
	free := func() (time.Duration, error) { return 0, nil }
	return load.Round{Length: 200 * time.Millisecond, Grace: 10 * time.Second, CPU: free}
}

func TestEachKindIsAnswered(t *testing.T) {
	answering := serve(t, echo)
	refusing := serve(t, func(*grpc.Server) {}, refuse(codes.FailedPrecondition))
	for _, c := range []struct {
		at    load.Endpoint
		shape load.Shape
	}{
		{answering, load.Shape{Kind: load.Unary, Callers: 17, Size: 16}},
		{answering, load.Shape{Kind: load.Unary, Callers: 2, Size: 1 << 20}},
		{answering, load.Shape{Kind: load.Chat, Callers: 3, Size: 1 << 10}},
		{answering, load.Shape{Kind: load.Download, Callers: 3, Size: 1 << 10}},
		{refusing, load.Shape{Kind: load.Refusal, Callers: 3, Size: 16}},
	} {
		r, err := load.Run(t.Context(), c.at, c.shape, short())
		if err != nil || r.Calls == 0 || r.Took < 200*time.Millisecond {
			t.Errorf("%+v: %d calls in %v, error %v", c.shape, r.Calls, r.Took, err)
		}
		if c.shape.Kind != load.Download && r.Latency.Count() != uint64(r.Calls) {
			t.Errorf("%+v: %d latencies of %d calls", c.shape, r.Latency.Count(), r.Calls)
		}
	}
}

func TestAnotherAnswerIsAnError(t *testing.T) {
	answering := serve(t, echo)
	failing := serve(t, func(*grpc.Server) {}, refuse(codes.Unavailable))
	for _, c := range []struct {
		at   load.Endpoint
		kind load.Kind
	}{
		{failing, load.Unary}, {failing, load.Chat}, {failing, load.Download}, {failing, load.Refusal},
		{answering, load.Refusal}, {answering, "?"},
	} {
		if r, err := load.Run(t.Context(), c.at, load.Shape{Kind: c.kind, Callers: 2, Size: 16}, short()); err == nil {
			t.Errorf("%s: no error after %d calls", c.kind, r.Calls)
		}
	}
}
