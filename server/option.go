package server

import (
	"context"
	"log/slog"
	"net"

	"github.com/capguard/capguard/featureflags"
)

// Option wires a Server to something other than the machine's own ports, files and log.
type Option func(*wiring)

type wiring struct {
	log         *slog.Logger
	version     string
	data, admin net.Listener
	dialer      func(ctx context.Context, address string) (net.Conn, error)
	store       featureflags.Store
}

func defaultWiring() wiring {
	return wiring{log: slog.New(slog.DiscardHandler), version: "devel"}
}

// WithLog sends state changes and operators' commands to l; without it they are discarded.
func WithLog(l *slog.Logger) Option { return func(w *wiring) { w.log = l } }

// WithVersion names the program's version in traces, metrics and on the admin port's front page.
func WithVersion(v string) Option { return func(w *wiring) { w.version = v } }

// WithListeners serves on these instead of the configured addresses; nil leaves the configured one. The server closes them.
func WithListeners(data, admin net.Listener) Option {
	return func(w *wiring) { w.data, w.admin = data, admin }
}

// WithBackendDialer reaches the back-ends through d.
func WithBackendDialer(d func(ctx context.Context, address string) (net.Conn, error)) Option {
	return func(w *wiring) { w.dialer = d }
}

// WithStore keeps the flags in st instead of the data directory, which is not used then: what the guards learn ends with the server, too. The
// server closes st.
func WithStore(st featureflags.Store) Option { return func(w *wiring) { w.store = st } }
