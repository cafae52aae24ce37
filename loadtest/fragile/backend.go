package fragile

import (
	"context"
	"errors"
	"fmt"
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

// Serve serves until ctx ends, and then returns nil. It asks listen for a listener at once, even if ctx has ended, so that one which was
// opened beforehand gets closed, and after every crash; while the process is dead nobody listens. It returns the error of listen or of the
// listener.
func (b *Backend) Serve(ctx context.Context, listen func() (net.Listener, error)) error {
	for {
		if err := b.revive(ctx); err != nil {
			return nil
		}
		lis, err := listen()
		if err != nil {
			return fmt.Errorf("listen for the fragile back-end: %w", err)
		}
		if err := b.serveLife(ctx, lis); err != nil {
			return fmt.Errorf("serve the fragile back-end: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// revive waits until the process is alive; if ctx ends before that it returns its error.
func (b *Backend) revive(ctx context.Context) error {
	for {
		down, changed := b.life()
		if !down {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// serveLife serves one life of the process: until it crashes or ctx ends. Then every connection is cut.
func (b *Backend) serveLife(ctx context.Context, lis net.Listener) error {
	down, changed := b.life()
	if down { // it died before it could listen
		return lis.Close()
	}
	s := b.server()
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }() // ends with Stop, or by itself; either way it is waited for
	select {
	case err := <-served:
		s.Stop()
		return err
	case <-changed:
	case <-ctx.Done():
	}
	s.Stop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
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
