// Command echo is the client and the server of the echo service in grpc-go: `echo server ADDRESS [CERT KEY]` and
// `echo client ADDRESS [CA]`, as the ones in Node.js and Python are. What each method does stands in ../foreign.go.
//
// What this program does not do: it knows nothing of what stands between the two.
package main

import (
	"fmt"
	"os"

	_ "google.golang.org/grpc/encoding/gzip" // so that both can speak it
)

const service = "capguard.conformance.Echo"

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: echo server ADDRESS [CERT KEY] | echo client ADDRESS [CA]")
		os.Exit(2)
	}
	play := client
	if os.Args[1] == "server" {
		play = server
	}
	if err := play(os.Args[2], os.Args[3:]...); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// raw is a codec of messages that are bytes already.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte{}, data...)
	return nil
}

func (raw) Name() string { return "proto" }
