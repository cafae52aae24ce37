package rival

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/capguard/capguard/benchmarks/load"
)

// Link is how callers reach a rival.
type Link string

// The links. With Unix the rival also reaches its back-end by a unix socket; with the others by plain TCP.
const (
	TCP  Link = "tcp"
	TLS  Link = "tls"
	Unix Link = "unix"
)

// Ground is what all rivals stand on: the back-end, a certificate, and a folder that goes away with it.
type Ground struct {
	Workers int // of each rival that has to be told: one for each processor

	programs  string // folder of our own programs
	dir       string
	cert, key string
	roots     *x509.CertPool
	direct    map[Link]string // addresses of the back-end
	backend   *process
	sites     int
}

// NewGround starts the back-end. Our own programs are in the folder of that name.
func NewGround(ctx context.Context, programs string) (_ *Ground, err error) {
	g := &Ground{Workers: runtime.NumCPU(), programs: programs}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if g.dir, err = os.MkdirTemp("", "capguard-benchmarks-"); err != nil {
		return nil, err
	}
	if err := g.certify(); err != nil {
		return nil, err
	}
	tcp, err := freePort()
	secure, err2 := freePort()
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	g.direct = map[Link]string{TCP: tcp, TLS: secure, Unix: filepath.Join(g.dir, "backend.sock")}
	g.backend, err = start(filepath.Join(programs, "backend"),
		"-tcp", tcp, "-tls", secure, "-unix", g.direct[Unix], "-cert", g.cert, "-key", g.key)
	if err != nil {
		return nil, err
	}
	return g, g.backend.ready(ctx, Unix, g.direct[Unix])
}

// Close ends the back-end and removes the folder.
func (g *Ground) Close() {
	if g.backend != nil {
		g.backend.stop()
	}
	_ = os.RemoveAll(g.dir)
}

// endpoint returns how callers reach an address.
func (g *Ground) endpoint(l Link, address string) load.Endpoint {
	switch l {
	case TLS:
		return load.Endpoint{Target: "passthrough:///" + address, TLS: &tls.Config{RootCAs: g.roots}}
	case Unix:
		return load.Endpoint{Target: "unix:" + address}
	}
	return load.Endpoint{Target: "passthrough:///" + address}
}

// freePort returns an address on loopback where nobody listens now.
func freePort() (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return lis.Addr().String(), lis.Close()
}
