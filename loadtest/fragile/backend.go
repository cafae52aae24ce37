package fragile

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
)

// Backend serves a Model over gRPC. Safe for concurrent use.
type Backend struct {
	*Model

	mu       sync.Mutex
	received map[string]uint64
}

// NewBackend returns a back-end that is not served yet, or every fault of s.
func NewBackend(s Settings) (*Backend, error) {
	m, err := NewModel(s)
	if err != nil {
		return nil, err
	}
	return &Backend{Model: m, received: map[string]uint64{}}, nil
}

// Received returns how many calls of a full method name, as "/capguard.fragile.v1.StockService/Check", have come in since NewBackend.
func (b *Backend) Received(method string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received[method]
}

// Serve serves until ctx ends, as Model.Serve does.
func (b *Backend) Serve(ctx context.Context, listen func() (net.Listener, error)) error {
	return b.Model.Serve(ctx, listen, b.server)
}

func (b *Backend) server() *grpc.Server {
	s := grpc.NewServer(
		grpc.ChainUnaryInterceptor(b.countUnary),
		grpc.ChainStreamInterceptor(b.countStream),
		// A guard may watch over an idle connection.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
	fragilev1.RegisterStockServiceServer(s, &stock{model: b.Model})
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	return s
}

func (b *Backend) count(method string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received[method]++
}

func (b *Backend) countUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	b.count(info.FullMethod)
	return next(ctx, req)
}

func (b *Backend) countStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	b.count(info.FullMethod)
	return next(srv, ss)
}
