// Package foreign lets clients and servers of several gRPC implementations talk through the middle, each client to each server:
// `@grpc/grpc-js` of npm, Debian's python3-grpcio, and grpc-go beside them. All speak one service of raw bytes,
// capguard.conformance.Echo, so that nothing is generated:
//
//	Unary      one message, and comes back; metadata x-echo comes back in the headers, x-echo-bin in the trailers
//	Collect    many messages; one comes back with all their bytes
//	Spread     one message; five come back, each with a digit more
//	Chat       many messages, each comes back at once
//	Fail       one message; FAILED_PRECONDITION comes back with it as status details, a text that must be escaped, and x-why
//	Hang       one message, comes back; then nothing, until the client has left
//	Ended      how many clients have left a Hang
//	Remaining  the milliseconds that the server sees until the deadline
//
// Two more checks send what no implementation has registered: a message encoding of its own must pass unread.
//
// What this package does not do: it has no cases for odd peers; those are connectconformance's.
package foreign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/capguard/capguard/conformance/child"
	"github.com/capguard/capguard/conformance/middle"
)

const patience = time.Minute // for the cases of one client

// cases are what every client must play.
var cases = []string{
	"unary", "empty", "client_stream", "server_stream", "bidi", "metadata", "status_details", "unimplemented", "deadline", "deadline_seen",
	"cancel", "gzip", "large", "many",
}

// Suite is how to run the clients and servers.
type Suite struct {
	Kind    middle.Kind
	Bin     string // where the programs are
	Scripts string // the folders js and python
}

// peer is an implementation: its commands, without the address and the files of TLS.
type peer struct {
	name           string
	server, client []string
}

func (s Suite) peers() []peer {
	echo, js, python := filepath.Join(s.Bin, "echo"), filepath.Join(s.Scripts, "js"), filepath.Join(s.Scripts, "python")
	const python3 = "/usr/bin/python3" // Debian's, which has Debian's grpcio
	return []peer{
		{"grpc-go", []string{echo, "server"}, []string{echo, "client"}},
		{"grpc-js", []string{"node", filepath.Join(js, "server.js")}, []string{"node", filepath.Join(js, "client.js")}},
		{"grpcio", []string{python3, filepath.Join(python, "server.py")}, []string{python3, filepath.Join(python, "client.py")}},
	}
}

// Run runs every client against every server over h2c and TLS and reports to w. It tells whether all is well.
func (s Suite) Run(ctx context.Context, w io.Writer) (ok bool, err error) {
	dir, err := os.MkdirTemp("", "capguard-foreign-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	own, err := middle.NewTLS()
	if err != nil {
		return false, err
	}
	ok = true
	for _, c := range []*credentials{{name: "h2c"}, {name: "TLS", own: own, dir: dir}} {
		for _, server := range s.peers() {
			good, err := s.serve(ctx, w, server, c)
			if err != nil {
				return false, fmt.Errorf("%s as server, %s: %w", server.name, c.name, err)
			}
			ok = ok && good
		}
		good, err := s.encoding(ctx, w, c)
		if err != nil {
			return false, fmt.Errorf("an unknown encoding, %s: %w", c.name, err)
		}
		ok = ok && good
	}
	return ok, nil
}

// credentials are h2c without, or TLS with a certificate that all servers and the middle share.
type credentials struct {
	name string
	own  *middle.TLS
	dir  string
}

// files are the arguments of a server and of a client.
func (c *credentials) files() (server, client []string, err error) {
	if c.own == nil {
		return nil, nil, nil
	}
	cert, key := filepath.Join(c.dir, "cert.pem"), filepath.Join(c.dir, "key.pem")
	err = errors.Join(os.WriteFile(cert, c.own.Cert, 0o600), os.WriteFile(key, c.own.Key, 0o600))
	return []string{cert, key}, []string{cert}, err
}

// open opens a route to a server.
func (s Suite) open(ctx context.Context, target string, c *credentials) (*middle.Middle, error) {
	route := middle.Route{Target: target}
	if c.own != nil {
		route.Front, route.Back = c.own, &middle.TLS{CA: c.own.Cert}
	}
	return middle.Start(ctx, s.Kind, s.Bin, route)
}

// serve starts one server, and all clients against it, one after the other.
func (s Suite) serve(ctx context.Context, w io.Writer, server peer, c *credentials) (ok bool, err error) {
	files, ca, err := c.files()
	if err != nil {
		return false, err
	}
	address, err := child.FreeAddress()
	if err != nil {
		return false, err
	}
	cmd := command(server.server, append([]string{address}, files...))
	cmd.Stderr = os.Stderr
	process, err := child.Start(ctx, cmd)
	if err != nil {
		return false, err
	}
	defer process.Stop()
	if err := process.AwaitListener(address); err != nil {
		return false, err
	}
	m, err := s.open(ctx, address, c)
	if err != nil {
		return false, err
	}
	defer m.Stop()
	ok = true
	for _, client := range s.peers() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		out, err := child.Output(ctx, command(client.client, append([]string{m.Address}, ca...)))
		cancel()
		good := report(w, fmt.Sprintf("%s, %s to %s", c.name, client.name, server.name), out)
		if err != nil {
			fmt.Fprintf(w, "  the client ended with: %v\n", err)
		}
		ok = ok && good && err == nil
	}
	return ok, nil
}

func command(program, args []string) *exec.Cmd {
	all := append(append([]string{}, program...), args...)
	return exec.Command(all[0], all[1:]...)
}

// report counts the cases that went well; what is not an "ok" of a case that is known is shown.
func report(w io.Writer, name, out string) bool {
	passed := 0
	for _, c := range cases {
		if strings.Contains("\n"+out, "\nok "+c+"\n") {
			passed++
		}
	}
	fmt.Fprintf(w, "foreign, %s: %d of %d\n", name, passed, len(cases))
	for line := range strings.Lines(out) {
		if passed < len(cases) && !strings.HasPrefix(line, "ok ") {
			fmt.Fprintf(w, "  %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return passed == len(cases)
}
