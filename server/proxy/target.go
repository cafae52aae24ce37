package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/relay"
)

// place is what a target's text says.
type place struct {
	network    string // tcp or unix
	host, port string // of tcp
	path       string // of unix
	nameServer string // to ask for the host; "" is what the machine asks
}

// parseTarget reads `host:port`, `dns:///host:port`, `dns://name-server/host:port` or `unix:/path`.
func parseTarget(target string) (p place, err error) {
	const want = "want host:port, dns:///host:port or unix:/path"
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		if strings.Trim(path, "/") == "" {
			return p, fmt.Errorf("target %q has no path; %s", target, want)
		}
		return place{network: "unix", path: strings.TrimPrefix(path, "//")}, nil
	}
	address := target
	if scheme, rest, ok := strings.Cut(target, "://"); ok {
		if scheme != "dns" {
			return p, fmt.Errorf("target %q has the unknown scheme %q; %s", target, scheme, want)
		}
		p.nameServer, address, _ = strings.Cut(rest, "/")
	}
	if p.host, p.port, err = net.SplitHostPort(address); err != nil {
		return p, fmt.Errorf("target %q: %w; %s", target, err, want)
	}
	if n, err := strconv.Atoi(p.port); err != nil || n < 1 || n > 65535 || p.host == "" || strings.ContainsAny(p.host, "/ ") {
		return p, fmt.Errorf("target %q needs a host and a port from 1 to 65535; %s", target, want)
	}
	p.network = "tcp"
	return p, nil
}

// where returns what to dial when nothing is to be resolved.
func (p place) where() string {
	if p.network == "unix" {
		return p.path
	}
	return net.JoinHostPort(p.host, p.port)
}

// Times of names: addresses are asked for again after a while, and when a connection fails, but not more often than that.
const (
	resolveEvery  = 30 * time.Second
	resolveAtMost = 2 * time.Second
	resolveTime   = 5 * time.Second
)

// target is one target of a back-end: an address, or a name that stands for some.
type target struct {
	text  string
	place place
	o     BackendOptions
	guard *guard.Guard
	log   *slog.Logger
	tasks sync.WaitGroup
	stop  context.CancelFunc
	again chan struct{} // has something when a connection has failed

	list atomic.Pointer[[]*address]
}

func newTarget(text string, g *guard.Guard, o BackendOptions, log *slog.Logger) (*target, error) {
	p, err := parseTarget(text)
	if err != nil {
		return nil, err
	}
	t := &target{text: text, place: p, o: o, guard: g, log: log.With("target", text), again: make(chan struct{}, 1)}
	t.list.Store(new([]*address))
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	if p.network == "unix" || o.Dialer != nil || net.ParseIP(p.host) != nil {
		t.become([]string{p.where()})
		return t, nil
	}
	t.tasks.Go(func() { t.resolve(ctx) })
	return t, nil
}

func newEndpoints(targets []string, g *guard.Guard, o BackendOptions, log *slog.Logger) (*endpoints, error) {
	es := new(endpoints)
	for i, text := range targets {
		t, err := newTarget(text, g, o, log)
		if err != nil {
			es.close()
			return nil, fmt.Errorf("targets[%d]: %w", i, err)
		}
		es.targets = append(es.targets, t)
	}
	return es, nil
}

func (t *target) addresses() []*address { return *t.list.Load() }

func (t *target) close() {
	t.stop()
	t.tasks.Wait()
	for _, a := range t.addresses() {
		a.endpoint.Close()
	}
}

// resolve keeps the addresses what the name stands for, until ctx ends. A name that cannot be resolved for a while keeps those it had.
func (t *target) resolve(ctx context.Context) {
	for {
		switch found, err := t.lookup(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			t.log.WarnContext(ctx, "name not resolved", "error", err)
		default:
			t.become(found)
		}
		if !t.pause(ctx) {
			return
		}
	}
}

// pause waits until it is time to resolve again.
func (t *target) pause(ctx context.Context) bool {
	soonest, latest := time.After(resolveAtMost), time.After(resolveEvery)
	if len(t.addresses()) == 0 {
		latest = soonest
	}
	select {
	case <-latest:
		return true
	case <-t.again:
	case <-ctx.Done():
		return false
	}
	select {
	case <-soonest:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *target) lookup(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	hosts, err := t.resolver().LookupHost(ctx, t.place.host)
	for i := range hosts {
		hosts[i] = net.JoinHostPort(hosts[i], t.place.port)
	}
	return hosts, err
}

func (t *target) resolver() *net.Resolver {
	server := t.place.nameServer
	if server == "" {
		return net.DefaultResolver
	}
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "53")
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}}
}

// become connects to the addresses that are new, and leaves those that are gone.
func (t *target) become(wheres []string) {
	slices.Sort(wheres)
	wheres = slices.Compact(wheres)
	var next []*address
	for _, a := range t.addresses() {
		if slices.Contains(wheres, a.where) {
			next = append(next, a)
			continue
		}
		t.log.Info("address gone", "address", a.where)
		defer a.retire() // When nobody finds it any more.
	}
	for _, w := range wheres {
		if !slices.ContainsFunc(next, func(a *address) bool { return a.where == w }) {
			next = append(next, t.connect(w))
		}
	}
	t.list.Store(&next)
}

// connect begins to connect to one address.
func (t *target) connect(where string) *address {
	from := relay.Connecting
	a := &address{where: where, guarded: t.guard.AddEndpoint(where)}
	a.guarded.Value = a
	built := make(chan struct{})
	a.endpoint = relay.NewEndpoint(relay.EndpointOptions{
		Dial:   func(ctx context.Context) (net.Conn, error) { return t.dial(ctx, where) },
		TLS:    t.secure(),
		Limits: t.o.Limits,
		Stats:  t.o.Stats,
		Changed: func(s relay.State, err error) {
			<-built
			t.tell(where, from, s, err)
			from = s
			a.guarded.SetState(guardState(s))
		},
	})
	a.guarded.SetState(guard.Connecting)
	close(built)
	return a
}

// guardState is what a state of the connections is for the guard.
func guardState(s relay.State) guard.EndpointState {
	switch s {
	case relay.Connecting:
		return guard.Connecting
	case relay.Ready:
		return guard.Ready
	}
	return guard.Failed
}

// keepAlive notices a host that vanished, without a PING that its server might take offence at.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

func (t *target) dial(ctx context.Context, where string) (net.Conn, error) {
	if t.o.Dialer != nil {
		return t.o.Dialer(ctx, where)
	}
	return (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, t.place.network, where)
}

// secure returns the TLS of the connections, which verifies the host of the target unless another name was given.
func (t *target) secure() *tls.Config {
	c := t.o.TLS
	if c == nil || c.ServerName != "" {
		return c
	}
	c = c.Clone()
	if c.ServerName = t.place.host; c.ServerName == "" {
		c.ServerName = "localhost" // As gRPC has it for sockets of a machine.
	}
	return c
}

// tell logs a change of state, and has the name resolved again when an address has failed.
func (t *target) tell(where string, from, to relay.State, err error) {
	switch to {
	case relay.Closed:
	case relay.Failed:
		t.log.Warn("endpoint unreachable", "address", where, "from", stateName(from), "error", err)
	default:
		t.log.Info("endpoint changed", "address", where, "from", stateName(from), "to", stateName(to))
	}
	if to == relay.Failed || to == relay.Connecting {
		select {
		case t.again <- struct{}{}:
		default:
		}
	}
}

func stateName(s relay.State) string {
	return strings.TrimPrefix(stateOf(s).String(), "STATE_")
}

func stateOf(s relay.State) capguardv1.Endpoint_State {
	switch s {
	case relay.Connecting:
		return capguardv1.Endpoint_STATE_CONNECTING
	case relay.Ready:
		return capguardv1.Endpoint_STATE_READY
	}
	return capguardv1.Endpoint_STATE_FAILED
}

// describe returns the state of each of its addresses, or of itself while it has none.
func (t *target) describe() []*capguardv1.Endpoint {
	addresses := t.addresses()
	if len(addresses) == 0 {
		return []*capguardv1.Endpoint{{Target: t.text, State: capguardv1.Endpoint_STATE_CONNECTING}}
	}
	states := make([]*capguardv1.Endpoint, len(addresses))
	for i, a := range addresses {
		states[i] = a.describe(t.text)
	}
	return states
}

func (a *address) describe(target string) *capguardv1.Endpoint {
	s := a.guarded.Status()
	d := &capguardv1.Endpoint{
		Target: target, Address: a.where, State: stateOf(a.endpoint.State()),
		Limit: int32(s.Limit.Limit), LimitReason: s.Limit.Reason, Trust: s.Trust, Suspect: s.Suspect,
	}
	if s.Latency > 0 {
		d.Latency = durationpb.New(s.Latency)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d.InFlight = int64(a.calls)
	return d
}
