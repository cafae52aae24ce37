package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/server"
	"github.com/capguard/capguard/server/config"
)

// anyPort lets the system choose.
const anyPort = "127.0.0.1:0"

// plant is a running fragile back-end.
type plant struct {
	*fragile.Backend
	address string
	// stop ends it and returns why it ended before, if it did.
	stop func() error
}

func (d *demo) startPlant(ctx context.Context) (*plant, error) {
	b, err := fragile.NewBackend(settings())
	if err != nil {
		return nil, err
	}
	lis, err := d.options.Listen(anyPort)
	if err != nil {
		return nil, fmt.Errorf("open a port for the fragile back-end: %w", err)
	}
	address := lis.Addr().String()
	listen := func() (net.Listener, error) {
		if first := lis; first != nil {
			lis = nil
			return first, nil
		}
		return d.options.Listen(address)
	}
	stop := background(ctx, func(ctx context.Context) error { return b.Serve(ctx, listen) })
	return &plant{Backend: b, address: address, stop: stop}, nil
}

// post is a running guard.
type post struct {
	data, admin string
	moved       bool // a port that was to be the default was taken
	stop        func() error
}

// startPost starts a guard of the back-end at target. Its flags live in a directory of its own until it stops.
func (d *demo) startPost(ctx context.Context, target string) (_ *post, err error) {
	dir, err := os.MkdirTemp("", "capguard-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the guard's flags: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	p := new(post)
	data, err := d.open(d.options.DataAddress, config.DefaultListen, &p.moved)
	if err != nil {
		return nil, err
	}
	admin, err := d.open(d.options.AdminAddress, config.DefaultAdmin, &p.moved)
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	p.data, p.admin = data.Addr().String(), admin.Addr().String()
	s, err := d.newServer(ctx, p.config(target, dir, d.options.OTLPEndpoint), data, admin)
	if err != nil {
		return nil, errors.Join(err, data.Close(), admin.Close())
	}
	stop := background(ctx, s.Run)
	p.stop = func() error { return errors.Join(stop(), os.RemoveAll(dir)) }
	return p, nil
}

// open listens on wanted, or on usual if it is free, or else anywhere.
func (d *demo) open(wanted, usual string, moved *bool) (net.Listener, error) {
	if wanted != "" {
		lis, err := d.options.Listen(wanted)
		if err != nil {
			return nil, fmt.Errorf("open %s for the guard: %w; leave the address out for a free one", wanted, err)
		}
		return lis, nil
	}
	lis, err := d.options.Listen(usual)
	if errors.Is(err, syscall.EADDRINUSE) {
		*moved = true
		lis, err = d.options.Listen(anyPort)
	}
	if err != nil {
		return nil, fmt.Errorf("open a port for the guard: %w", err)
	}
	return lis, nil
}

// config is what a newcomer's first guard has: a back-end, and for the rest the defaults.
func (p *post) config(target, dir, otlp string) *capguardv1.Config {
	return &capguardv1.Config{
		Listen:       p.data,
		Admin:        &capguardv1.Admin{Listen: p.admin},
		DataDir:      dir,
		Backends:     []*capguardv1.BackendConfig{{Name: "stock", Targets: []string{target}}},
		Telemetry:    &capguardv1.Telemetry{OtlpEndpoint: otlp},
		DrainTimeout: durationpb.New(2 * time.Second),
	}
}

func (d *demo) newServer(ctx context.Context, c *capguardv1.Config, data, admin net.Listener) (*server.Server, error) {
	if err := config.Complete(c); err != nil {
		return nil, err
	}
	return server.New(ctx, c, server.WithListeners(data, admin), server.WithBackendDialer(d.options.Dial), server.WithVersion(d.options.Version))
}

// background runs f until stop is called, which waits for it. f does not end with ctx: whoever calls stop decides on the order of things.
func background(ctx context.Context, f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }() // stop waits for it
	return func() error {
		cancel()
		return <-ended
	}
}
