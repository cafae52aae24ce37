package config

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/server/proxy"
)

// targets checks the targets of one back-end.
func (v *violations) targets(of string, targets []string) {
	seen := make(map[string]int)
	for i, t := range targets {
		at := fmt.Sprintf("%s.targets[%d]", of, i)
		v.note(at, proxy.CheckTarget(t))
		if first, ok := seen[address(t)]; ok {
			v.add(at, "unique", "targets[%d] is the same address %q: name each once", first, targets[first])
		} else {
			seen[address(t)] = i
		}
	}
}

// routes checks that no two routes are alike: all calls would go to the first.
func (v *violations) routes(backends []*capguardv1.BackendConfig) {
	seen := make(map[string]string)
	for i, b := range backends {
		at := fmt.Sprintf("backends[%d]", i)
		if len(b.GetRoutes()) == 0 {
			v.route(at, "*", "without routes all calls are its, and ", seen)
		}
		for j, r := range b.GetRoutes() {
			v.note(fmt.Sprintf("%s.routes[%d]", at, j), proxy.CheckPattern(r))
			v.route(fmt.Sprintf("%s.routes[%d]", at, j), r, "", seen)
		}
	}
}

func (v *violations) route(at, route, because string, seen map[string]string) {
	if first, ok := seen[route]; ok {
		v.add(at, "unique", "%s%s has the route %q too and would get all of them: routes must differ", because, first, route)
		return
	}
	seen[route] = at
}

// loops checks that no target of a back-end is a port of the guard itself: its calls would come back to it without end.
func (v *violations) loops(of string, b *capguardv1.BackendConfig, c *capguardv1.Config) {
	for i, t := range b.GetTargets() {
		at := fmt.Sprintf("%s.targets[%d]", of, i)
		if reaches(address(t), address(c.GetListen())) {
			v.add(at, "loop", "%q is the data port of the guard itself (listen): name the address of the back-end", t)
		}
		if reaches(address(t), address(c.GetAdmin().GetListen())) {
			v.add(at, "loop", "%q is the admin port of the guard itself (admin.listen): name the address of the back-end", t)
		}
	}
}

// address returns an address in the one form that those that mean the same have in common, as far as the text tells.
func address(s string) string {
	if socket, ok := strings.CutPrefix(s, "unix:"); ok {
		return "unix:" + path.Clean(strings.TrimPrefix(socket, "//"))
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s, "dns:///"))
	if err != nil {
		return s
	}
	host = strings.ToLower(host)
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "", "::":
		host = "0.0.0.0"
	}
	return net.JoinHostPort(host, port)
}

// reaches tells whether who dials target comes to a port that listens on own. All addresses of a machine are those of its loopback, too.
func reaches(target, own string) bool {
	if target == own {
		return !strings.HasSuffix(own, ":0") && own != ""
	}
	host, port, _ := net.SplitHostPort(target)
	ours, at, _ := net.SplitHostPort(own)
	if port != at || port == "" {
		return false
	}
	ip, _ := netip.ParseAddr(host)
	return ours == "0.0.0.0" && ip.IsLoopback() || host == "0.0.0.0" && ours == "127.0.0.1"
}
