package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/featureflags/boltstore"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/loadtest/scenario"
	"github.com/capguard/capguard/server"
	"github.com/capguard/capguard/server/config"
)

// post is a guard, running or killed.
type post struct {
	setting
	targets     []string
	data, admin string // addresses
	dir         string // where the flags are; empty is nowhere, they end with the guard
	doors       [2]*door
	backends    *wires
	conn        *grpc.ClientConn // to the admin port
	stop        func() error     // nil while it is killed
}

// startPost starts a guard of the targets with the default configuration, whose flags outlive it if they are kept.
func startPost(ctx context.Context, how setting, targets []string, keep bool) (p *post, err error) {
	p = &post{setting: how, targets: targets, data: anyPort, admin: anyPort}
	if keep {
		if p.dir, err = os.MkdirTemp("", "capguard-scenario-"); err != nil {
			return nil, err
		}
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}

func (p *post) start(ctx context.Context) (err error) {
	p.backends = new(wires)
	for i, address := range []*string{&p.data, &p.admin} {
		lis, err := p.listen(*address)
		if err != nil {
			return errors.Join(fmt.Errorf("open a port for the guard: %w", err), p.shut(i))
		}
		if p.doors[i] = (&door{Listener: lis}); *address == anyPort {
			*address = lis.Addr().String()
		}
	}
	if p.conn, err = connect(p.network, p.admin); err != nil {
		return errors.Join(err, p.shut(2))
	}
	s, err := p.server(ctx)
	if err != nil {
		return errors.Join(err, p.conn.Close(), p.shut(2))
	}
	run := background(ctx, s.Run)
	p.stop = func() error { return errors.Join(p.conn.Close(), run()) }
	return nil
}

// server returns a guard that does not serve yet. It knows what is in the store, and nothing else of former ones.
func (p *post) server(ctx context.Context) (*server.Server, error) {
	c := p.config()
	if err := config.Complete(c); err != nil {
		return nil, err
	}
	var store featureflags.Store = featureflags.NewMemory()
	if p.dir != "" {
		var err error
		if store, err = boltstore.Open(p.dir); err != nil {
			return nil, err
		}
	}
	return server.New(ctx, c, server.WithListeners(p.doors[0], p.doors[1]), server.WithBackendDialer(p.reach), server.WithStore(store),
		server.WithLog(slog.New(slog.DiscardHandler)))
}

// reach connects the guard to a back-end.
func (p *post) reach(ctx context.Context, address string) (net.Conn, error) {
	c, err := p.setting.dial(ctx, address)
	if err == nil && !p.backends.keep(c) {
		return nil, net.ErrClosed
	}
	return c, err
}

// shut closes the first n doors.
func (p *post) shut(n int) error {
	var errs []error
	for _, d := range p.doors[:n] {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// kill ends the guard as kill -9 does: all its connections break at once.
func (p *post) kill(context.Context) error {
	p.backends.sever()
	for _, d := range p.doors {
		d.sever()
	}
	err := errors.Join(p.shut(2), p.stop())
	p.stop = nil
	return err
}

// lock makes the admin port unreachable: whoever is connected is cut off, and who comes is turned away.
func (p *post) lock(context.Context) error { p.doors[1].sever(); return nil }

func (p *post) unlock(context.Context) error { p.doors[1].mend(); return nil }

// end takes the guard away for good, with all it has kept.
func (p *post) end() (err error) {
	if p.stop != nil {
		err = p.stop()
	}
	if p.dir != "" {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return err
}

// config is the default, but that the end is short: nobody waits for what is in flight.
func (p *post) config() *capguardv1.Config {
	return &capguardv1.Config{
		Listen:       p.data,
		Admin:        &capguardv1.Admin{Listen: p.admin},
		Mode:         p.mode,
		Backends:     []*capguardv1.BackendConfig{{Name: "scenario", Targets: p.targets}},
		DrainTimeout: durationpb.New(time.Millisecond),
	}
}

// restart kills the guard and starts another on the same ports that knows nothing.
func (p *post) restart(ctx context.Context) error {
	if err := p.stop(); err != nil {
		return err
	}
	return p.start(ctx)
}

// limit asks the guard for its limit; 0 if it does not say.
func (p *post) limit(ctx context.Context) float64 {
	ctx, cancel := context.WithTimeout(ctx, scenario.Bin)
	defer cancel()
	answer, err := capguardv1.NewGuardServiceClient(p.conn).GetBackend(ctx, &capguardv1.GetBackendRequest{})
	if err != nil {
		return 0
	}
	return float64(answer.GetBackend().GetLimit().GetCurrent())
}
