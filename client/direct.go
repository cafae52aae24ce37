package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

const (
	// guardPatience is how long a call waits for a guard that is being connected to before it goes past it.
	guardPatience = 100 * time.Millisecond
	// directIdle is after how long without calls the connection to the back-end is given up.
	directIdle = time.Minute
)

// direct is the way past the guard.
type direct struct {
	target string
	conn   *grpc.ClientConn
	lease  lease
}

// connectDirect prepares the way past the guard. Nothing is connected before the first call takes it.
func (o *options) connectDirect() (*direct, error) {
	idle := grpc.WithIdleTimeout(directIdle)
	conn, err := o.prepare(o.direct, o.dataGRPC, []grpc.DialOption{idle}, o.directGRPC)
	if err != nil {
		return nil, fmt.Errorf("dial back-end at %s: %w", o.direct, err)
	}
	return &direct{target: o.direct, conn: conn, lease: lease{share: o.share}}, nil
}

// attempt makes a unary call once, by way of the guard, or past it if the guard is gone.
func (c *Conn) attempt(ctx context.Context, method string, args, reply any, opts []grpc.CallOption) answer {
	if c.direct == nil {
		return c.send(ctx, c.data, method, args, reply, opts)
	}
	l := &c.direct.lease
	now := time.Now()
	l.count(now, 1)
	defer func() { l.count(time.Now(), -1) }()
	if !c.guardComes(ctx) {
		err := status.Error(codes.Unavailable, "it is still being connected to")
		return c.pass(ctx, &UnreachableError{Address: c.address, Err: err}, method, args, reply, opts)
	}
	asking := ctx
	if demand, ok := l.ask(now); ok {
		asking = metadata.AppendToOutgoingContext(ctx, grpcguard.LeaseKey, demand)
	}
	a := c.send(asking, c.data, method, args, reply, opts)
	l.hear(slices.Concat(a.header[grpcguard.LeaseKey], a.trailer[grpcguard.LeaseKey]), time.Now()) // A refusal has nothing but trailers.
	if gone, ok := errors.AsType[*UnreachableError](a.err); ok && !gone.Sent && ctx.Err() == nil {
		return c.pass(ctx, gone, method, args, reply, opts)
	}
	return a
}

// guardComes tells whether the guard is to be asked: it is there, or is known not to be, which a call finds out at once. While the guard
// is being connected to it waits, but not for long.
func (c *Conn) guardComes(ctx context.Context) bool {
	state := c.data.GetState()
	if state == connectivity.Ready {
		return true
	}
	patient, cancel := context.WithTimeout(ctx, guardPatience)
	defer cancel()
	for ; ; state = c.data.GetState() {
		switch state {
		case connectivity.Idle:
			c.data.Connect()
		case connectivity.Connecting:
		default:
			return true
		}
		if !c.data.WaitForStateChange(patient, state) {
			return ctx.Err() != nil
		}
	}
}

// pass makes a call past the guard, which is gone, as far as flags and lease let it.
func (c *Conn) pass(ctx context.Context, gone *UnreachableError, method string, args, reply any, opts []grpc.CallOption) answer {
	if err := c.barred(ctx, gone); err != nil {
		return answer{err: err}
	}
	d := c.direct
	s, ok := d.lease.enter(ctx)
	if !ok {
		gone.Direct = fmt.Errorf("the lease for calls to the back-end at %s is used up", d.target)
		return answer{err: gone}
	}
	defer d.lease.leave(s)
	a := c.send(ctx, d.conn, method, args, reply, opts)
	if lost, ok := errors.AsType[*UnreachableError](a.err); ok {
		gone.Sent, gone.Direct = lost.Sent, fmt.Errorf("the back-end at %s %s", d.target, lost.what())
		a.err = gone
	}
	return a
}

// barred returns why a call of a feature may not go past the guard, by the last flags known: it is off, or dimmed and does not draw this
// one. What nothing was ever heard of may be off, and the guard is not there to say so.
func (c *Conn) barred(ctx context.Context, gone *UnreachableError) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	feature := grpcguard.Identify(md, guard.Call{}).Feature
	if feature == "" {
		return nil
	}
	flags := c.flags.current.Load()
	if !flags.known {
		gone.Direct = fmt.Errorf("nothing is known here of the flag of %q, so its calls do not go past the guard", feature)
		return gone
	}
	p := flags.find(feature, false)
	if p.share == everyCall || uint64(rand.Uint32()) < p.share {
		return nil
	}
	return p.refusal(feature)
}
