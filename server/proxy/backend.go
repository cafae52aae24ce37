package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/relay"
)

// BackendOptions are the wiring of a back-end.
type BackendOptions struct {
	// Dialer connects to a target of the back-end, as it stands in the configuration without its scheme; nil is package net, with the
	// names in targets resolved, and resolved again as time goes on.
	Dialer func(ctx context.Context, address string) (net.Conn, error)
	// TLS secures the connections; nil is plain text. Without a server name in it, that is the host of the target.
	TLS *tls.Config
	// Limits bound what the back-end may send.
	Limits relay.Limits
	// Stats takes the figures of the connections; nil is for nobody.
	Stats *relay.Stats
	// Log takes changes of the connections; nil discards them.
	Log *slog.Logger
}

// Backend is one guarded back-end: its guard, its routes, its endpoints. Safe for concurrent use.
type Backend struct {
	cfg       *capguardv1.BackendConfig // as it was at the start
	name      string
	guard     *guard.Guard
	refuser   *grpcguard.Refuser
	endpoints *endpoints
	log       *slog.Logger
	table     atomic.Pointer[table]
}

// NewBackend returns the back-end that cfg describes, guarded with settings s, and begins to connect to its targets; it does not wait for
// them. Its error names every fault by its field. Close it after use.
func NewBackend(cfg *capguardv1.BackendConfig, s guard.Settings, o BackendOptions) (*Backend, error) {
	b := &Backend{cfg: proto.CloneOf(cfg), name: cmp.Or(cfg.GetName(), "default"), log: logOr(o.Log)}
	b.log = b.log.With("backend", b.name)
	t, err := newTable(cfg)
	b.table.Store(t)
	if len(cfg.GetTargets()) == 0 {
		err = errors.Join(err, errors.New("targets: empty; name at least one address of the back-end, as host:port"))
	}
	if err := errors.Join(err, s.Validate()); err != nil {
		return nil, err
	}
	b.guard = guard.New(s)
	if b.endpoints, err = newEndpoints(cfg.GetTargets(), b.guard, o, b.log); err != nil {
		return nil, err
	}
	b.refuser = grpcguard.NewRefuser(b.name)
	return b, nil
}

func logOr(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// Name returns the id of the back-end.
func (b *Backend) Name() string { return b.name }

// Call returns what the guard takes a call of method for that says nothing of itself.
func (b *Backend) Call(method string) guard.Call {
	c := b.table.Load().lookup(method).defaults
	c.Method = method
	return c
}

// Guard returns the guard of the back-end.
func (b *Backend) Guard() *guard.Guard { return b.guard }

// Routes returns the patterns of the methods that lead to the back-end.
func (b *Backend) Routes() []string { return slices.Clone(b.table.Load().texts) }

// Endpoints returns the state of each address of its targets, in the order of the configuration. A target without an address is listed, too.
func (b *Backend) Endpoints() (states []*capguardv1.Endpoint) {
	for _, t := range b.endpoints.targets {
		states = append(states, t.describe()...)
	}
	return states
}

// Check tells whether Configure would take cfg and s. Targets and TLS can not change while the guard runs.
func (b *Backend) Check(cfg *capguardv1.BackendConfig, s guard.Settings) error {
	_, err := newTable(cfg)
	if !slices.Equal(cfg.GetTargets(), b.cfg.GetTargets()) {
		err = errors.Join(err, fmt.Errorf("targets: can not change from %q to %q while the guard runs; restart it",
			b.cfg.GetTargets(), cfg.GetTargets()))
	}
	if !proto.Equal(cfg.GetTls(), b.cfg.GetTls()) {
		err = errors.Join(err, errors.New("tls: can not change while the guard runs; restart it"))
	}
	return errors.Join(err, s.Validate())
}

// Configure puts the routes and methods of cfg and the settings s in force, without touching a call. On an error, which is that of Check,
// everything stays as it was.
func (b *Backend) Configure(cfg *capguardv1.BackendConfig, s guard.Settings) error {
	if err := b.Check(cfg, s); err != nil {
		return err
	}
	t, err := newTable(cfg)
	if err != nil {
		return err
	}
	b.table.Store(t)
	b.guard.Configure(s, "config", "configuration loaded")
	return nil
}

// Close ends the connections, and with them the calls that are still on them.
func (b *Backend) Close() { b.endpoints.close() }
