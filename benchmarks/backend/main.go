// Command backend is the back-end of the benchmarks: a grpc-go server that echoes, on a TCP port, on another with TLS, and on a
// unix socket.
//
// What this command does not do: it spends nothing on what it is told, so that what stands before it is what is measured.
package main

import (
	"flag"
	"fmt"
	"math"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/capguard/capguard/benchmarks/raw"
)

func main() {
	tcp := flag.String("tcp", "", "host:port for plain text")
	secure := flag.String("tls", "", "host:port for TLS")
	unix := flag.String("unix", "", "path of the unix socket")
	cert := flag.String("cert", "", "certificate for TLS, a PEM file")
	key := flag.String("key", "", "its key, a PEM file")
	flag.Parse()
	if err := serve(*tcp, *secure, *unix, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

// serve serves until the first of the listeners fails.
func serve(tcp, secure, unix, cert, key string) error {
	creds, err := credentials.NewServerTLSFromFile(cert, key)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	plain := server()
	failed := make(chan error, 3)
	for _, l := range []struct {
		server           *grpc.Server
		network, address string
	}{{plain, "tcp", tcp}, {server(grpc.Creds(creds)), "tcp", secure}, {plain, "unix", unix}} {
		lis, err := net.Listen(l.network, l.address)
		if err != nil {
			return err
		}
		go func() { failed <- l.server.Serve(lis) }() // Ends with the process.
	}
	return <-failed
}

func server(more ...grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(append(more, grpc.ForceServerCodecV2(raw.Codec{}), grpc.MaxRecvMsgSize(math.MaxInt32))...)
	s.RegisterService(&raw.Echo, nil)
	return s
}
