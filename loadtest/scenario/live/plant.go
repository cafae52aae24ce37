package live

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/capguard/capguard/loadtest/fragile"
)

// The metadata by which a caller tells a back-end which attempt of the record a call is, and what it costs.
const (
	attemptKey = "scenario-attempt"
	weightKey  = "scenario-weight"
)

// plant is one running replica.
type plant struct {
	*fragile.Model
	replica int
	address string
	note    *recorder
	stop    func() error
}

// startPlant starts a replica that notes what reaches it.
func startPlant(ctx context.Context, n network, replica int, s fragile.Settings, note *recorder) (*plant, error) {
	m, err := fragile.NewModel(s)
	if err != nil {
		return nil, err
	}
	lis, err := n.listen(anyPort)
	if err != nil {
		return nil, fmt.Errorf("open a port for a back-end: %w", err)
	}
	p := &plant{Model: m, replica: replica, address: lis.Addr().String(), note: note}
	listen := func() (net.Listener, error) { // first the port that is open, and after a crash the same once more
		if first := lis; first != nil {
			lis = nil
			return first, nil
		}
		return n.listen(p.address)
	}
	p.stop = background(ctx, func(ctx context.Context) error { return m.Serve(ctx, listen, p.server) })
	return p, nil
}

func (p *plant) server() *grpc.Server {
	return grpc.NewServer(
		grpc.UnknownServiceHandler(p.handle),
		grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
}

// handle does the work of each message and answers it; a unary call has one.
func (p *plant) handle(_ any, ss grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(ss.Context())
	p.note.reached(number(md, attemptKey), p.replica)
	weight := number(md, weightKey)
	for {
		var m emptypb.Empty
		if err := ss.RecvMsg(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if weight > 0 {
			if err := fragile.Status(p.Do(ss.Context(), weight)); err != nil {
				return err
			}
		}
		if err := ss.SendMsg(&m); err != nil {
			return err
		}
	}
}

// number returns a number of the metadata; 0 if there is none.
func number(md metadata.MD, key string) (n float64) {
	if list := md.Get(key); len(list) > 0 {
		n, _ = strconv.ParseFloat(list[0], 64)
	}
	return n
}

// background runs f until stop is called, which waits for it and returns its error; later calls return the same. f does not end with ctx:
// whoever calls stop decides on the order of things.
func background(ctx context.Context, f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }() // stop waits for it
	return sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}
