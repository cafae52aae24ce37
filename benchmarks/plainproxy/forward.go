package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// anyStream describes every call: a transparent proxy does not know which methods stream.
var anyStream = grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// forward moves one call until it ends.
func forward(in grpc.ServerStream, conn *grpc.ClientConn) error {
	method, _ := grpc.MethodFromServerStream(in)
	md, _ := metadata.FromIncomingContext(in.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(in.Context(), md))
	defer cancel()
	out, err := conn.NewStream(ctx, &anyStream, method)
	if err != nil {
		return err
	}
	go func() { // Ends with the call: both streams end when the handler returns.
		if requests(in, out) != nil {
			cancel()
		}
	}()
	return answers(in, out)
}

// requests moves the messages of the request; its error is that the caller is gone.
func requests(in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var m mem.BufferSlice
		if err := in.RecvMsg(&m); errors.Is(err, io.EOF) {
			return out.CloseSend()
		} else if err != nil {
			return err
		}
		if out.SendMsg(&m) != nil {
			return nil // The answer says why.
		}
	}
}

// answers moves the answer, and returns its status.
func answers(in grpc.ServerStream, out grpc.ClientStream) error {
	if header, err := out.Header(); err == nil && header != nil {
		if err := in.SetHeader(header); err != nil { // Sent with the first message.
			return err
		}
	}
	for {
		var m mem.BufferSlice
		if err := out.RecvMsg(&m); err != nil {
			in.SetTrailer(out.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := in.SendMsg(&m); err != nil {
			return err
		}
	}
}
