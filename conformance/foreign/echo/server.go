package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// server serves until SIGTERM.
func server(address string, files ...string) error {
	options := []grpc.ServerOption{grpc.ForceServerCodec(raw{}), grpc.MaxRecvMsgSize(math.MaxInt32)}
	if len(files) == 2 {
		secure, err := credentials.NewServerTLSFromFile(files[0], files[1])
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(secure))
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := grpc.NewServer(options...)
	s.RegisterService(description(), nil)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { // ends with the process
		<-stop
		s.Stop()
	}()
	return s.Serve(l)
}

var ended atomic.Int64 // calls of Hang that the client left

// description has all methods as streams, which unary calls are on the wire, too.
func description() *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil)}
	add := func(name string, handler func(grpc.ServerStream) error) {
		d.Streams = append(d.Streams, grpc.StreamDesc{StreamName: name, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, s grpc.ServerStream) error { return handler(s) }})
	}
	// one is a method that gets one message.
	one := func(name string, handler func(request []byte, s grpc.ServerStream) error) {
		add(name, func(s grpc.ServerStream) error {
			var request []byte
			if err := s.RecvMsg(&request); err != nil {
				return err
			}
			return handler(request, s)
		})
	}
	one("Unary", unary)
	add("Collect", collect)
	one("Spread", spread)
	add("Chat", chat)
	one("Fail", fail)
	one("Hang", hang)
	one("Ended", func(_ []byte, s grpc.ServerStream) error { return send(s, fmt.Append(nil, ended.Load())) })
	one("Remaining", remaining)
	return d
}

func send(s grpc.ServerStream, message []byte) error { return s.SendMsg(&message) }

func unary(request []byte, s grpc.ServerStream) error {
	got, _ := metadata.FromIncomingContext(s.Context())
	if err := s.SetHeader(metadata.MD{"x-echo": got["x-echo"]}); err != nil {
		return err
	}
	s.SetTrailer(metadata.MD{"x-echo-bin": got["x-echo-bin"]})
	return send(s, request)
}

func collect(s grpc.ServerStream) error {
	var all, part []byte
	for {
		switch err := s.RecvMsg(&part); {
		case errors.Is(err, io.EOF):
			return send(s, all)
		case err != nil:
			return err
		}
		all = append(all, part...)
	}
}

func spread(request []byte, s grpc.ServerStream) error {
	for i := range 5 {
		if err := send(s, fmt.Appendf(nil, "%s%d", request, i)); err != nil {
			return err
		}
	}
	return nil
}

func chat(s grpc.ServerStream) error {
	var message []byte
	for {
		switch err := s.RecvMsg(&message); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := send(s, message); err != nil {
			return err
		}
	}
}

// fail sends its own details: without a status in the error, grpc-go leaves the trailer alone.
func fail(request []byte, s grpc.ServerStream) error {
	s.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(request), "x-why", "because"))
	return status.Error(codes.FailedPrecondition, "nöt now: 100 %")
}

func hang(request []byte, s grpc.ServerStream) error {
	if err := send(s, request); err != nil {
		return err
	}
	<-s.Context().Done()
	ended.Add(1)
	return s.Context().Err()
}

func remaining(_ []byte, s grpc.ServerStream) error {
	deadline, _ := s.Context().Deadline()
	return send(s, fmt.Append(nil, time.Until(deadline).Milliseconds()))
}
