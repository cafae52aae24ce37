package client

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// answer is how one attempt of a call ended.
type answer struct {
	err             error // typed if it is a refusal or nobody was there
	header, trailer metadata.MD
}

// send makes a unary call once, on one of the two connections.
func (c *Conn) send(
	ctx context.Context, on *grpc.ClientConn, method string, args, reply any, opts []grpc.CallOption,
) (a answer) {
	var at peer.Peer
	opts = append(opts[:len(opts):len(opts)], grpc.Header(&a.header), grpc.Trailer(&a.trailer), grpc.Peer(&at))
	a.err = on.Invoke(ctx, method, args, reply, opts...)
	if a.err != nil {
		answered := len(a.header)+len(a.trailer) > 0
		a.err = c.typed(on, a.err, answered, at.Addr != nil)
	}
	return a
}

// NewStream opens a stream. It is never retried; its errors are typed like those of unary calls. Generated clients call it.
func (c *Conn) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s, err := c.data.NewStream(ctx, desc, method, opts...)
	if err != nil {
		return nil, c.typed(c.data, err, false, false)
	}
	return &stream{ClientStream: s, conn: c}, nil
}

// stream types the error that a stream ends with.
type stream struct {
	grpc.ClientStream
	conn *Conn
}

// RecvMsg receives the next message, or the typed error, or io.EOF.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || err == io.EOF {
		return err
	}
	header, _ := s.ClientStream.Header() // At the end of a stream it does not wait.
	return s.conn.typed(s.conn.data, err, len(header)+len(s.ClientStream.Trailer()) > 0, true)
}

// typed returns err as a *Rejection or an *UnreachableError if it is one. Whoever answers, answers with at least a content type.
func (c *Conn) typed(on *grpc.ClientConn, err error, answered, sent bool) error {
	if r, ok := Rejected(err); ok {
		return r
	}
	if answered {
		return err
	}
	code := status.Code(err)
	if code == codes.Unavailable || code == codes.DeadlineExceeded && !sent && on.GetState() != connectivity.Ready {
		return &UnreachableError{Address: c.address, Sent: sent, Err: err}
	}
	return err
}
