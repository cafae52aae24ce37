package admin

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// untilStopped ends every stream when the server stops, and tells its client that the reason is the server.
func (s *Server) untilStopped(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer s.desk.survive(stream.Context(), info.FullMethod, &err)
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stopped, cancel)()
	err = handle(srv, stoppable{stream, ctx})
	if s.stopped.Err() != nil {
		return status.Error(codes.Unavailable, "the guard is shutting down")
	}
	return err
}

// stoppable is a stream whose context ends with the server.
type stoppable struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stoppable) Context() context.Context { return s.ctx }
