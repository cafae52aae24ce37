package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// Connections are tried again at least so often, and given so long to come up: longer would keep calls waiting for a dead guard. One that
// is silent while calls wait is asked for a sign of life; the guard lets clients ask every ten seconds.
const (
	maxRedial   = 500 * time.Millisecond
	dialTimeout = 3 * time.Second
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// Conn is a connection to a back-end through its guard. Hand it to generated clients. It is safe for concurrent use.
type Conn struct {
	address string
	data    *grpc.ClientConn
	flags   *flags
	log     *slog.Logger
	admin   *grpc.ClientConn // nil without WithAdmin
	direct  *direct          // nil without WithDirect
	stop    context.CancelFunc
	stopped <-chan struct{}
	owned   sync.WaitGroup // the goroutines that stop ends

	throttling throttling
	throttle   *throttle
	leave      func() // gives the throttle up
}

var _ grpc.ClientConnInterface = (*Conn)(nil)

// Option is one choice of how to connect.
type Option func(*options)

type options struct {
	admin     string
	withAdmin bool
	adminGRPC []grpc.DialOption
	dataGRPC  []grpc.DialOption
	bothGRPC  []grpc.DialOption
	file      string
	log       *slog.Logger
	faults    []error
	throttling

	direct     string
	withDirect bool
	share      float64
	directGRPC []grpc.DialOption
}

// WithAdmin names the guard's admin port, from which the flags are streamed. Without it features follow the flag file, if there is one,
// and else their defaults. The gRPC options, if any, are those of this port alone.
func WithAdmin(address string, only ...grpc.DialOption) Option {
	return func(o *options) { o.admin, o.adminGRPC, o.withAdmin = address, only, true }
}

// WithDirect lets unary calls go past a guard that is gone, to the back-end itself, within a lease; see the package documentation. target
// is the back-end's own address, for calls of all methods: a gRPC target or host:port. share is how many calls this Conn may have there at
// once when the lease has decayed: what the back-end can bear divided by the number of Conns, from 0, which is none, to 100,000. Less than
// one is one call at a time with rests between: after a call, 0.2 rests four times as long as that took. The connection has the options of
// the one to the guard, and then those given here: where only one of the two has TLS, name the credentials of the other.
func WithDirect(target string, share float64, only ...grpc.DialOption) Option {
	return func(o *options) {
		o.direct, o.share, o.directGRPC, o.withDirect = target, share, only, true
		if target == "" {
			o.faults = append(o.faults, errors.New("WithDirect: the target is empty; name the back-end's own address, as 10.0.0.7:9000"))
		}
		if !(share >= 0 && share <= maxShare) {
			o.faults = append(o.faults, fmt.Errorf("WithDirect: a share of %v calls at once is not between 0 and %d", share, maxShare))
		}
	}
}

// maxShare is the largest static share.
const maxShare = 100_000

// WithTLS protects both ports. The default is no TLS, right for a guard on the same machine.
func WithTLS(c *tls.Config) Option {
	return func(o *options) {
		if c == nil {
			o.faults = append(o.faults, errors.New("WithTLS: the configuration is nil; leave the option out for no TLS"))
			return
		}
		o.bothGRPC = append(o.bothGRPC, grpc.WithTransportCredentials(credentials.NewTLS(c)))
	}
}

// WithDialer makes the network connections to both ports, each by its address: for tests in memory, and for tunnels.
func WithDialer(dial func(ctx context.Context, address string) (net.Conn, error)) Option {
	return func(o *options) { o.bothGRPC = append(o.bothGRPC, grpc.WithContextDialer(dial)) }
}

// WithGRPC adds options to the connection for calls: stats handlers, interceptors, credentials. Interceptors see every attempt of a call.
func WithGRPC(opts ...grpc.DialOption) Option {
	return func(o *options) { o.dataGRPC = append(o.dataGRPC, opts...) }
}

// WithFlagFile keeps the last flags known in a file, for the next start: its directory must exist. Several processes may share it.
func WithFlagFile(path string) Option { return func(o *options) { o.file = path } }

// WithLogger says where a handful of lines go: flags live, stale, unreadable. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// WithRetryRatio bounds the retries of the connection to a share of its calls that succeed, 0 (none) to 1; the default is 0.1. A few
// retries beyond it are allowed after quiet times.
func WithRetryRatio(ratio float64) Option {
	return func(o *options) {
		if !(ratio >= 0 && ratio <= 1) {
			o.faults = append(o.faults, fmt.Errorf("WithRetryRatio: %v is not a share between 0 and 1", ratio))
		}
		o.TokenRatio = ratio
	}
}

// WithServiceConfig sets gRPC's service config, as JSON, which counts as long as the resolver brings none. It is
// grpc.WithDefaultServiceConfig whose retryThrottling counts, too: it replaces the ratio of WithRetryRatio, and the last of both counts.
// Policies of methods count however they come.
func WithServiceConfig(json string) Option {
	return func(o *options) {
		o.dataGRPC = append(o.dataGRPC, grpc.WithDefaultServiceConfig(json))
		t, err := retryThrottling(json)
		if err != nil {
			o.faults = append(o.faults, fmt.Errorf("WithServiceConfig: %w", err))
		}
		if t != nil {
			o.throttling = *t
		}
	}
}

// Dial connects to the guard's data port at address, which is a gRPC target or host:port. It does not wait for the guard: the connection
// is made and kept in the background, and is usable at once, also when the guard is not there yet. Close it in the end.
func Dial(address string, opts ...Option) (*Conn, error) {
	o := options{throttling: throttling{defaultMaxTokens, defaultRetryRatio}, log: slog.Default()}
	for _, apply := range opts {
		apply(&o)
	}
	if err := o.validate(address); err != nil {
		return nil, fmt.Errorf("dial guard: %w", err)
	}
	data, err := o.connect(address, o.dataGRPC)
	if err != nil {
		return nil, fmt.Errorf("dial guard at %s: %w", address, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Conn{
		address: address, data: data, flags: newFlags(o.withAdmin), log: o.log,
		stop: stop, stopped: ctx.Done(), throttling: o.throttling,
	}
	c.throttle, c.leave = joinThrottle(address, o.throttling)
	if o.withDirect {
		if c.direct, err = o.connectDirect(); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if o.withAdmin {
		bounded := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFlagsBytes))
		if c.admin, err = o.connect(o.admin, append([]grpc.DialOption{bounded}, o.adminGRPC...)); err != nil {
			return nil, errors.Join(fmt.Errorf("dial guard's admin port at %s: %w", o.admin, err), c.Close())
		}
	}
	c.start(ctx, o.file)
	return c, nil
}

func (o *options) validate(address string) error {
	errs := o.faults
	if address == "" {
		errs = append(errs, errors.New("the address is empty; name the guard's data port, as 127.0.0.1:7070"))
	}
	if o.withAdmin && o.admin == "" {
		errs = append(errs, errors.New("WithAdmin: the address is empty; name the guard's admin port, as 127.0.0.1:7071"))
	}
	if o.log == nil {
		errs = append(errs, errors.New("WithLogger: the logger is nil; to be silent use slog.DiscardHandler"))
	}
	return errors.Join(errs...)
}

// connect begins to connect to one port.
func (o *options) connect(address string, special []grpc.DialOption) (*grpc.ClientConn, error) {
	cc, err := o.prepare(address, special)
	if err == nil {
		cc.Connect()
	}
	return cc, err
}

// prepare makes a connection that begins to connect with its first call; what is special to it overrides what is common.
func (o *options) prepare(address string, special ...[]grpc.DialOption) (*grpc.ClientConn, error) {
	common := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxRedial},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithDisableRetry(), // Ours are the only retries; what never left the process gRPC still sends again.
		grpc.WithIdleTimeout(0), // A connection that sleeps makes the next call wait.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{}),
	}
	return grpc.NewClient(address, slices.Concat(common, o.bothGRPC, slices.Concat(special...))...)
}

// start reads the file and lets the goroutines of the connection run until Close.
func (c *Conn) start(ctx context.Context, path string) {
	if path != "" {
		d := &disk{path: path, flags: c.flags, log: c.log}
		d.restore()
		c.owned.Go(func() { d.run(ctx) })
	}
	if c.admin != nil {
		w := &watcher{
			conn: c.admin, service: capguardv1.NewFlagServiceClient(c.admin), flags: c.flags, log: c.log.With("guard", c.admin.Target()),
		}
		c.owned.Go(func() { w.run(ctx) })
	}
}

// Close ends all connections and waits for what the Conn runs, a last write of the flag file included. Calls in flight fail; flags keep
// their last values. Closing twice is harmless.
func (c *Conn) Close() error {
	c.stop()
	c.owned.Wait()
	c.flags.close()
	c.leave()
	err := closeConn(c.data)
	if c.admin != nil {
		err = errors.Join(err, closeConn(c.admin))
	}
	if c.direct != nil {
		err = errors.Join(err, closeConn(c.direct.conn))
	}
	return err
}

func closeConn(cc *grpc.ClientConn) error {
	err := cc.Close()
	if status.Code(err) == codes.Canceled { // It was closed before.
		return nil
	}
	return err
}
