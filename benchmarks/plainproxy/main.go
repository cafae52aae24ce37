// Command plainproxy is the plainest proxy that grpc-go allows: a handler for unknown services that moves messages as raw bytes in both
// directions. Told to refuse, it refuses every call in that handler, or in grpc-go's tap handle, the earliest place that grpc-go has.
//
// What this command does not do: it keeps no limits, no deadlines but those that gRPC keeps, and no counts.
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/capguard/capguard/benchmarks/raw"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "host:port or unix:/path")
	backend := flag.String("backend", "", "target of the back-end")
	refuse := flag.String("refuse", "", "refuse every call in the handler or in the tap (default forward)")
	cert := flag.String("tls-cert", "", "certificate, a PEM file (default plain text)")
	key := flag.String("tls-key", "", "its key, a PEM file")
	flag.Parse()
	if err := serve(*listen, *backend, *refuse, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, "plainproxy:", err)
		os.Exit(1)
	}
}

func serve(listen, backend, refuse, cert, key string) error {
	conn, err := grpc.NewClient(backend, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(
		grpc.ForceCodecV2(raw.Codec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		return err
	}
	options := []grpc.ServerOption{grpc.ForceServerCodecV2(raw.Codec{}), grpc.MaxRecvMsgSize(math.MaxInt32)}
	if cert != "" {
		creds, err := credentials.NewServerTLSFromFile(cert, key)
		if err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
		options = append(options, grpc.Creds(creds))
	}
	lis, err := net.Listen(socket(listen))
	if err != nil {
		return err
	}
	return grpc.NewServer(append(options, behaviour(refuse, conn)...)...).Serve(lis)
}

// socket returns the network and address that s means.
func socket(s string) (network, address string) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return "unix", path
	}
	return "tcp", s
}

var errRefused = status.Error(codes.FailedPrecondition, "refused")

// behaviour returns the options that make a server forward or refuse.
func behaviour(refuse string, conn *grpc.ClientConn) []grpc.ServerOption {
	handle := func(_ any, in grpc.ServerStream) error { return forward(in, conn) }
	switch refuse {
	case "handler":
		handle = func(any, grpc.ServerStream) error { return errRefused }
	case "tap":
		refusing := func(context.Context, *tap.Info) (context.Context, error) { return nil, errRefused }
		return []grpc.ServerOption{grpc.InTapHandle(refusing)}
	}
	return []grpc.ServerOption{grpc.UnknownServiceHandler(handle)}
}
