// Package middle starts what stands between a client and a server: the guard, or, to try the suites themselves, HAProxy or nothing.
// What passes without a middle and through HAProxy, and not through the guard, is the guard's fault and not that of a suite.
//
// The guard enforces here as it does in production: every call is decided on. But it has room for all of them and a breaker that
// never has seen enough, because the suites send errors in masses, and what they ask is whether calls pass unchanged.
//
// What this package does not do: it judges nothing, and starts no client or server.
package middle

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/capguard/capguard/conformance/child"
)

// Kind is what stands in the middle.
type Kind string

// The kinds.
const (
	None    Kind = "none" // the client talks to the server itself
	Guard   Kind = "guard"
	HAProxy Kind = "haproxy"
)

// Route is a way through the middle.
type Route struct {
	Target string // the address of the server
	Front  *TLS   // the middle as a server, CA verifies its clients if there is one; nil is h2c
	Back   *TLS   // the middle as a client, CA verifies the server, Cert is shown to it if there is one; nil is h2c
}

// Middle is a route that is open.
type Middle struct {
	Address string // where clients connect
	process *child.Child
	dir     string
}

// Start opens a route through a middle of the kind, whose binary is in bin if it is ours.
func Start(ctx context.Context, kind Kind, bin string, r Route) (*Middle, error) {
	if kind == None {
		return &Middle{Address: r.Target}, nil
	}
	dir, err := os.MkdirTemp("", "capguard-conformance-")
	if err != nil {
		return nil, err
	}
	m := &Middle{dir: dir}
	if err := m.start(ctx, kind, bin, r); err != nil {
		m.Stop()
		return nil, fmt.Errorf("start the %s: %w", kind, err)
	}
	return m, nil
}

func (m *Middle) start(ctx context.Context, kind Kind, bin string, r Route) (err error) {
	if m.Address, err = child.FreeAddress(); err != nil {
		return err
	}
	var cmd *exec.Cmd
	switch kind {
	case Guard:
		cmd, err = m.guard(bin, r)
	case HAProxy:
		cmd, err = m.haproxy(r)
	default:
		err = fmt.Errorf("nothing known stands in the middle by this name")
	}
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if m.process, err = child.Start(ctx, cmd); err != nil {
		return err
	}
	return m.process.AwaitListener(m.Address)
}

// Done is closed when the middle has ended by itself; nil without one.
func (m *Middle) Done() <-chan struct{} {
	if m.process == nil {
		return nil
	}
	return m.process.Done()
}

// Stop closes the route.
func (m *Middle) Stop() {
	if m.process != nil {
		m.process.Stop()
	}
	if m.dir != "" {
		_ = os.RemoveAll(m.dir)
	}
}

func (m *Middle) guard(bin string, r Route) (*exec.Cmd, error) {
	admin, err := child.FreeAddress()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(m.dir, "guard.yaml")
	text := fmt.Sprintf("listen: %s\nadmin: {listen: %s}\ndata_dir: %s\ndrain_timeout: 1s\n", m.Address, admin, filepath.Join(m.dir, "data"))
	if r.Front != nil {
		files, err := r.Front.write(m.dir, "front")
		if err != nil {
			return nil, err
		}
		text += files.yaml("tls", "client_ca_file", "")
	}
	text += "backends:\n- targets: [\"" + r.Target + "\"]\n"
	if r.Back != nil {
		files, err := r.Back.write(m.dir, "back")
		if err != nil {
			return nil, err
		}
		text += files.yaml("tls", "ca_file", "  ")
	}
	text += `  limit: {law: fixed, initial: 10000, max: 10000, max_streams: 10000}
  queue: {max_wait: 0s}
  breaker: {min_calls: 1000000}
`
	cmd := exec.Command(filepath.Join(bin, "capguard"), "serve", "--config", config, "--log-level", "ERROR")
	return cmd, os.WriteFile(config, []byte(text), 0o600)
}

func (m *Middle) haproxy(r Route) (*exec.Cmd, error) {
	bind, server := "bind "+m.Address, "server s "+r.Target
	if r.Front == nil {
		bind += " proto h2"
	} else if files, err := r.Front.write(m.dir, "front"); err != nil {
		return nil, err
	} else {
		bind += " ssl alpn h2 crt " + files.bundle + optional(" verify required ca-file ", files.ca)
	}
	if r.Back == nil {
		server += " proto h2"
	} else if files, err := r.Back.write(m.dir, "back"); err != nil {
		return nil, err
	} else {
		server += " ssl alpn h2 verify required ca-file " + files.ca + optional(" crt ", files.bundle)
	}
	config := filepath.Join(m.dir, "haproxy.cfg")
	text := strings.Join([]string{"defaults", " mode http", " timeout connect 5s", " timeout client 60s", " timeout server 60s",
		"frontend f", " " + bind, " default_backend b", "backend b", " " + server, ""}, "\n")
	path, err := exec.LookPath("haproxy")
	if err != nil {
		return nil, fmt.Errorf("install haproxy: %w", err)
	}
	return exec.Command(path, "-db", "-q", "-f", config), os.WriteFile(config, []byte(text), 0o600)
}

// optional is name and value, or nothing without a value.
func optional(name, value string) string {
	if value == "" {
		return ""
	}
	return name + value
}
