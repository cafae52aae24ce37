// Package rival starts what stands between callers and the back-end in the benchmarks, each as a process of its own: nothing at all, the
// plainest grpc-go proxy, nginx, HAProxy, Caddy, and guards.
//
// The others are tuned as their manuals advise for gRPC: as many workers as there are processors, connections to the back-end that stay, no
// logging, no limits that bind. Their configurations are the .tmpl files beside this one.
//
// What this package does not do: it does not build or install them, and sends no calls but the commands that prepare a guard.
package rival

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/capguard/capguard/benchmarks/load"
	"github.com/capguard/capguard/benchmarks/meter"
)

// Rival is one of those that are compared.
type Rival struct {
	Name    string
	Refuses bool                                      // it can refuse calls
	Passes  bool                                      // it can pass them on
	launch  func(g *Ground, s site) (*process, error) // nil if there is nothing to start
}

// site is where a rival is to listen, what is behind it, and which files it may write.
type site struct {
	Link    Link
	Listen  string // host:port, or the path of a unix socket
	Backend string // the same
	Dir     string // its own
	Cert    string // for TLS, PEM files
	Key     string
	Workers int
}

// Secure tells whether callers use TLS.
func (s site) Secure() bool { return s.Link == TLS }

// Root tells whether rivals run as root.
func (s site) Root() bool { return os.Geteuid() == 0 }

// Local tells whether both sides are unix sockets.
func (s site) Local() bool { return s.Link == Unix }

// listen and backend are the two addresses in the form that grpc-go and the guard take.
func (s site) listen() string  { return s.prefixed(s.Listen) }
func (s site) backend() string { return s.prefixed(s.Backend) }

func (s site) prefixed(address string) string {
	if s.Local() {
		return "unix:" + address
	}
	return address
}

// Running is a rival that takes calls.
type Running struct {
	Name     string
	Endpoint load.Endpoint
	Meter    meter.Meter // of its processes; that of no rival reads nothing

	process *process // nil if there is none
}

// Direct is no rival at all: callers talk to the back-end.
var Direct = Rival{Name: "direct", Passes: true}

// Start starts a rival whose callers use a link, and waits until it listens.
func (r Rival) Start(ctx context.Context, g *Ground, l Link) (*Running, error) {
	if r.launch == nil {
		return &Running{Name: r.Name, Endpoint: g.endpoint(l, g.direct[l])}, nil
	}
	s, err := g.site(l)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", r.Name, err)
	}
	p, err := r.launch(g, s)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", r.Name, err)
	}
	running := &Running{Name: r.Name, Endpoint: g.endpoint(l, s.Listen), process: p}
	err = p.ready(ctx, l, s.Listen)
	if err == nil {
		running.Meter, err = meter.Of(p.cmd.Process.Pid)
	}
	if err != nil {
		running.Stop()
		return nil, fmt.Errorf("start %s: %w", r.Name, err)
	}
	return running, nil
}

// Stop ends the rival's processes.
func (r *Running) Stop() {
	if r.process != nil {
		r.process.stop()
	}
}

// site picks an address and a folder for a rival.
func (g *Ground) site(l Link) (site, error) {
	g.sites++
	dir := filepath.Join(g.dir, strconv.Itoa(g.sites))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return site{}, err
	}
	s := site{Link: l, Dir: dir, Cert: g.cert, Key: g.key, Workers: g.Workers, Backend: g.direct[TCP]}
	if l == Unix {
		s.Listen, s.Backend = filepath.Join(dir, "listen.sock"), g.direct[Unix]
		return s, nil
	}
	var err error
	s.Listen, err = freePort()
	return s, err
}

// Plain is the plainest proxy of grpc-go.
var Plain = Rival{Name: "grpc-go", Passes: true, launch: plain("")}

// Tap and Handler are servers of grpc-go that refuse every call, at its earliest place and in a handler.
var (
	Tap     = Rival{Name: "grpc-go tap", Refuses: true, launch: plain("tap")}
	Handler = Rival{Name: "grpc-go handler", Refuses: true, launch: plain("handler")}
)

func plain(refuse string) func(*Ground, site) (*process, error) {
	return func(g *Ground, s site) (*process, error) {
		args := []string{"-listen", s.listen(), "-backend", s.backend(), "-refuse", refuse}
		if s.Secure() {
			args = append(args, "-tls-cert", s.Cert, "-tls-key", s.Key)
		}
		return start(filepath.Join(g.programs, "plainproxy"), args...)
	}
}
