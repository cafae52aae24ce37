package e2e_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/server"
	"github.com/capguard/capguard/server/config"
)

// inProcess runs the guard inside the test, on real ports, in front of backend.
func inProcess(t *testing.T, backend string) *server.Server {
	t.Helper()
	c := &capguardv1.Config{
		Listen: "127.0.0.1:0", Admin: &capguardv1.Admin{Listen: "127.0.0.1:0"}, DataDir: t.TempDir(),
		Backends: []*capguardv1.BackendConfig{{Targets: []string{backend}}},
	}
	if err := config.Complete(c); err != nil {
		t.Fatal(err)
	}
	s, err := server.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// serveStock serves a back-end of the test's own and returns its address.
func serveStock(t *testing.T, b fragilev1.StockServiceServer) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	fragilev1.RegisterStockServiceServer(s, b)
	reflection.Register(s)
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

// quickStock answers at once.
type quickStock struct {
	fragilev1.UnimplementedStockServiceServer
}

func (quickStock) Check(context.Context, *fragilev1.CheckRequest) (*fragilev1.CheckResponse, error) {
	return &fragilev1.CheckResponse{Quantity: 7}, nil
}

func (quickStock) Recommend(context.Context, *fragilev1.RecommendRequest) (*fragilev1.RecommendResponse, error) {
	return &fragilev1.RecommendResponse{Skus: []string{"tree", "star"}}, nil
}

// fragileBackend serves a back-end that is well.
func fragileBackend(t *testing.T) string {
	t.Helper()
	return serveStock(t, quickStock{})
}
