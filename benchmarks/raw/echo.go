package raw

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// The methods of Echo, by their paths.
const (
	Unary    = "/benchmarks.Echo/Unary"    // answers with the request
	Chat     = "/benchmarks.Echo/Chat"     // answers each message of a stream with itself
	Download = "/benchmarks.Echo/Download" // answers with the request again and again, until the caller has had enough
)

// Echo describes the service whose back-end spends as little as it can. It needs no implementation: register it with nil.
var Echo = grpc.ServiceDesc{
	ServiceName: "benchmarks.Echo",
	Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Chat", Handler: chat, ServerStreams: true, ClientStreams: true},
		{StreamName: "Download", Handler: download, ServerStreams: true},
	},
}

func unary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var m mem.BufferSlice
	if err := decode(&m); err != nil {
		return nil, err
	}
	return &m, nil
}

func chat(_ any, s grpc.ServerStream) error {
	for {
		var m mem.BufferSlice
		if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(&m); err != nil {
			return err
		}
	}
}

func download(_ any, s grpc.ServerStream) error {
	var m mem.BufferSlice
	if err := s.RecvMsg(&m); err != nil {
		return err
	}
	again := Message(m.Len())
	m.Free()
	for {
		if err := s.SendMsg(&again); err != nil {
			return err
		}
	}
}
