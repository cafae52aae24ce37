package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/loadtest/scenario"
	"github.com/capguard/capguard/server"
	"github.com/capguard/capguard/server/config"
)

// post is a running guard.
type post struct {
	data, admin string
	conn        *grpc.ClientConn // to the admin port
	mode        string
	targets     []string
	stop        func() error
}

// startPost starts a guard of the targets with the default configuration.
func startPost(ctx context.Context, mode string, targets []string) (*post, error) {
	p := &post{data: anyPort, admin: anyPort, mode: mode, targets: targets}
	return p, p.start(ctx)
}

func (p *post) start(ctx context.Context) error {
	data, err := net.Listen("tcp", p.data)
	if err != nil {
		return fmt.Errorf("open a port for the guard: %w", err)
	}
	admin, err := net.Listen("tcp", p.admin)
	if err != nil {
		return errors.Join(fmt.Errorf("open a port for the guard: %w", err), data.Close())
	}
	p.data, p.admin = data.Addr().String(), admin.Addr().String()
	if p.conn, err = grpc.NewClient(p.admin, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return errors.Join(err, data.Close(), admin.Close())
	}
	c := p.config()
	if err := config.Complete(c); err != nil {
		return errors.Join(err, p.conn.Close(), data.Close(), admin.Close())
	}
	s, err := server.New(ctx, c, server.WithListeners(data, admin), server.WithStore(featureflags.NewMemory()),
		server.WithLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return errors.Join(err, p.conn.Close())
	}
	run := background(ctx, s.Run)
	p.stop = func() error { return errors.Join(p.conn.Close(), run()) }
	return nil
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
