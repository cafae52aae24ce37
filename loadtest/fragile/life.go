package fragile

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
)

// Serve serves the model until ctx ends, and then returns nil. It has server make a gRPC server for each life of the process, whose
// handlers call Do. It asks listen for a listener at once, even if ctx has ended, so that one which was opened beforehand gets closed, and
// after every crash; while the process is dead nobody listens. It returns the error of listen or of the listener.
func (m *Model) Serve(ctx context.Context, listen func() (net.Listener, error), server func() *grpc.Server) error {
	for {
		if err := m.revive(ctx); err != nil {
			return nil
		}
		lis, err := listen()
		if err != nil {
			return fmt.Errorf("listen for the fragile back-end: %w", err)
		}
		if err := m.serveLife(ctx, lis, server); err != nil {
			return fmt.Errorf("serve the fragile back-end: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// revive waits until the process is alive; if ctx ends before that it returns its error.
func (m *Model) revive(ctx context.Context) error {
	for {
		down, changed := m.life()
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
func (m *Model) serveLife(ctx context.Context, lis net.Listener, server func() *grpc.Server) error {
	down, changed := m.life()
	if down { // it died before it could listen
		return lis.Close()
	}
	s := server()
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
