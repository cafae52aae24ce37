// Package server is the guard as a library: data port, admin port, flags, guards and telemetry of one process, wired from one
// configuration.
//
//	c := &capguardv1.Config{Backends: []*capguardv1.BackendConfig{{Targets: []string{"127.0.0.1:9000"}}}}
//	if err := config.Complete(c); err != nil { … }
//	s, err := server.New(ctx, c)
//	if err != nil { … }
//	err = s.Run(ctx) // until ctx ends; then it drains
//
// Invariants: when New has returned, both ports are bound, the flags are loaded and in force at every guard; nothing is served before. When
// Run has returned, every admitted call has ended (or the drain time-out has), every goroutine too, the store is closed, and what the guards
// have learned is in the data directory, for the next process. (docs/design/memory.md)
//
// What this package does not do: it decides nothing (internal/guard), moves no frames (server/relay, by way of server/proxy), serves no
// commands (server/admin); it reads no files but those the configuration names and those in the data directory, and watches none.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/featureflags/boltstore"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/tuning"
	"github.com/capguard/capguard/server/admin"
	"github.com/capguard/capguard/server/config"
	"github.com/capguard/capguard/server/proxy"
	"github.com/capguard/capguard/server/relay"
	"github.com/capguard/capguard/server/telemetry"
)

// Server is one guard process. Use it for one Run.
type Server struct {
	config    *capguardv1.Config
	wiring    wiring
	telemetry *telemetry.Telemetry
	store     featureflags.Store
	registry  *featureflags.Registry
	tuner     *tuning.Tuner
	backends  []*proxy.Backend
	memory    *memory      // nil if there is no data directory
	traffic   *relay.Stats // of the data port and of the connections to back-ends
	proxy     *proxy.Proxy
	admin     *admin.Server
	data      net.Listener
	operators net.Listener
	adminTLS  *tls.Config
	opened    []func() error // what New has opened, to be closed in reverse order
}

// New opens everything that c names, in an order in which the likeliest mistakes show first. c must be complete (see config.Complete).
// On an error everything is closed again.
func New(ctx context.Context, c *capguardv1.Config, options ...Option) (_ *Server, err error) {
	s := &Server{config: c, wiring: defaultWiring(), traffic: new(relay.Stats)}
	for _, o := range options {
		o(&s.wiring)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	steps := []func(context.Context) error{s.openPorts, s.openFlags, s.openTelemetry, s.openBackends, s.openMemory}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	s.tuner = tuning.New(s.registry, s.guards()...)
	if err := s.openProxy(); err != nil {
		return nil, err
	}
	s.admin = admin.New(admin.Options{
		Registry: s.registry, Tuner: s.tuner, Backends: s.backends, Metrics: s.telemetry.Metrics, Tracer: s.telemetry.Tracer,
		Log: s.wiring.log, Version: s.wiring.version,
	})
	return s, nil
}

func (s *Server) openPorts(ctx context.Context) (err error) {
	if s.adminTLS, err = config.ServerTLS("admin port", s.config.GetAdmin().GetTls()); err != nil {
		return err
	}
	if s.data, err = s.listen(ctx, s.wiring.data, s.config.GetListen(), "data port", "--listen"); err != nil {
		return err
	}
	s.operators, err = s.listen(ctx, s.wiring.admin, s.config.GetAdmin().GetListen(), "admin port", "--admin")
	return err
}

// listen opens a port unless one was given.
func (s *Server) listen(ctx context.Context, given net.Listener, address, what, flag string) (net.Listener, error) {
	if given != nil {
		s.opened = append(s.opened, ignoreClosed(given.Close))
		return given, nil
	}
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
		removeStaleSocket(path)
	}
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, network, address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("open %s: %s is in use by another program; choose another address with %s: %w", what, address, flag, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s, see %s: %w", what, flag, err)
	}
	s.opened = append(s.opened, ignoreClosed(lis.Close))
	return lis, nil
}

// removeStaleSocket removes the socket that a killed guard left behind. If somebody still answers there, it stays, and listening fails.
func removeStaleSocket(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return
	}
	_ = os.Remove(path)
}

func ignoreClosed(closeIt func() error) func() error {
	return func() error {
		if err := closeIt(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

func (s *Server) openFlags(ctx context.Context) (err error) {
	s.store = s.wiring.store
	if s.store == nil {
		if s.store, err = boltstore.Open(s.config.GetDataDir()); err != nil {
			return err
		}
	}
	s.opened = append(s.opened, s.store.Close)
	if s.registry, err = featureflags.Open(ctx, s.store); err != nil {
		return fmt.Errorf("load flags from %s: %w", s.config.GetDataDir(), err)
	}
	return nil
}

func (s *Server) openTelemetry(ctx context.Context) (err error) {
	s.telemetry, err = telemetry.New(ctx, telemetry.Settings{
		OTLPEndpoint: s.config.GetTelemetry().GetOtlpEndpoint(), Version: s.wiring.version, Log: s.wiring.log,
	})
	if err != nil {
		return err
	}
	s.opened = append(s.opened, func() error { s.telemetry.Stop(telemetryGrace); return nil })
	return nil
}

func (s *Server) openBackends(context.Context) error {
	var errs []error
	for _, c := range s.config.GetBackends() {
		secure, err := config.ClientTLS("back-end "+c.GetName(), c.GetTls())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b, err := proxy.NewBackend(c, config.Settings(c), proxy.BackendOptions{
			Dialer: s.wiring.dialer, TLS: secure, Log: s.wiring.log, Limits: limits(s.config.GetBounds()), Stats: s.traffic,
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("back-end %s: %w", c.GetName(), err))
			continue
		}
		s.backends = append(s.backends, b)
		s.opened = append(s.opened, func() error { b.Close(); return nil })
	}
	return errors.Join(errs...)
}

// openMemory has the guards go on from what was learned before. The data directory is ours while the flags in it are open; a guard whose
// flags are elsewhere has none.
func (s *Server) openMemory(context.Context) error {
	if s.wiring.store == nil {
		s.memory = &memory{dir: s.config.GetDataDir(), backends: s.backends, log: s.wiring.log}
		s.memory.recall()
	}
	return nil
}

func (s *Server) openProxy() error {
	secure, err := config.ServerTLS("data port", s.config.GetTls())
	if err != nil {
		return err
	}
	s.proxy = proxy.New(proxy.Options{
		TLS: secure, Telemetry: s.telemetry, Limits: limits(s.config.GetBounds()), Stats: s.traffic,
	}, s.backends...)
	return s.telemetry.WatchRelay(s.traffic)
}

// limits returns the bounds of the configuration as the relay knows them; what is not said is left to it.
func limits(b *capguardv1.Bounds) relay.Limits {
	return relay.Limits{
		Connections: int(b.GetMaxConnections()), Streams: int(b.GetMaxConnectionStreams()), MessageBytes: int(b.GetMaxMessageBytes()),
		HeaderBytes: int(b.GetMaxHeaderBytes()), TableBytes: int(b.GetMaxTableBytes()), Continuations: int(b.GetMaxContinuationFrames()),
		Resets: int(b.GetMaxResets()), ResetsPerSecond: int(b.GetMaxResetsPerSecond()),
		ControlFrames: int(b.GetMaxControlFrames()), ControlPerSecond: int(b.GetMaxControlFramesPerSecond()),
		OutputBytes: int(b.GetMaxOutputBytes()), HeldBytes: int(b.GetMaxHeldBytes()), BufferedBytes: int(b.GetMaxBufferedBytes()),
		HandshakeTime: b.GetHandshakeTimeout().AsDuration(), FrameTime: b.GetFrameTimeout().AsDuration(),
		WriteTime: b.GetWriteTimeout().AsDuration(), IdleTime: b.GetIdleTimeout().AsDuration(),
		PingAfter: b.GetPingAfter().AsDuration(), PingTime: b.GetPingTimeout().AsDuration(),
	}
}

func (s *Server) guards() []*guard.Guard {
	var gs []*guard.Guard
	for _, b := range s.backends {
		gs = append(gs, b.Guard())
	}
	return gs
}

// close closes what was opened, last first.
func (s *Server) close() error {
	var errs []error
	for len(s.opened) > 0 {
		last := len(s.opened) - 1
		errs = append(errs, s.opened[last]())
		s.opened = s.opened[:last]
	}
	return errors.Join(errs...)
}

// Addr returns the address of the data port.
func (s *Server) Addr() string { return s.data.Addr().String() }

// AdminAddr returns the address of the admin port.
func (s *Server) AdminAddr() string { return s.operators.Addr().String() }

// telemetryGrace is how long the end waits for a collector that does not answer.
const telemetryGrace = 2 * time.Second

// Run serves until ctx ends; then it refuses new calls, lets those in flight end within the drain time-out, and closes everything. It
// returns early, with the error, if a port fails.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var tasks, ports sync.WaitGroup
	tasks.Go(func() { s.registry.Run(background) })
	tasks.Go(func() { s.tuner.Run(background) })
	tasks.Go(func() { s.telemetry.WatchFlags(background, s.registry) })
	if s.memory != nil {
		tasks.Go(func() { s.memory.run(background) })
	}
	for _, b := range s.backends {
		tasks.Go(func() { s.telemetry.Watch(background, b.Name(), b.Guard()) })
	}
	ports.Go(func() { cancel(portError("data", s.proxy.Serve(s.data))) })
	ports.Go(func() { cancel(portError("admin", s.admin.Serve(s.operators, s.adminTLS))) })
	<-ctx.Done()

	drained := s.drain(context.WithoutCancel(ctx))
	ports.Wait()
	stop()
	tasks.Wait()
	return errors.Join(failure(ctx), drained, s.close())
}

// portError is nil for a port that was closed because we stop.
func portError(port string, err error) error {
	if err == nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve %s port: %w", port, err)
}

// failure tells the end that was asked for from the end that was not.
func failure(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// drain lets the calls in flight end. The admin port goes last, so that an operator can watch.
func (s *Server) drain(ctx context.Context) error {
	limit := s.config.GetDrainTimeout().AsDuration()
	s.wiring.log.Info("draining", "timeout", limit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.proxy.Drain(ctx); err != nil {
		s.wiring.log.Warn("calls were cut at the end of the drain time-out", "timeout", limit, "error", err)
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.admin.Shutdown(ctx)
}
