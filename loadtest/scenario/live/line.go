package live

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/capguard/capguard/client"
)

// conns is how many connections the callers share, as the instances of an application would, unless the scenario says it.
const conns = 4

// line is one connection of the callers: of gRPC alone, or of the client library, which knows the features.
type line struct {
	grpc.ClientConnInterface
	close    func() error
	features map[string]*client.Feature
}

// tag marks calls as those of a feature; none is empty.
func (l *line) tag(ctx context.Context, feature string) context.Context {
	if f := l.features[feature]; f != nil {
		return f.Tag(ctx)
	}
	return ctx
}

// connect returns a connection to an address with what all have in common.
func connect(n network, address string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	common := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(n.dial)}
	return grpc.NewClient(address, append(common, more...)...)
}

// lay connects to the addresses in turn, without the library.
func (st *stage) lay(addresses []string) (list []*line, err error) {
	again := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	for i := range max(cmp.Or(st.s.Clients, conns), len(addresses)) {
		c, err := connect(st.network, addresses[i%len(addresses)], grpc.WithDisableRetry(),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: time.Second}))
		if err != nil {
			return list, err
		}
		c.Connect()
		list = append(list, &line{ClientConnInterface: c, close: c.Close})
	}
	return list, nil
}

// enroll connects the clients of the scenario to the guard, as applications do. When it is gone each may have its part of the workers of
// the back-end, which is the first one.
func (st *stage) enroll() (list []*line, err error) {
	share := float64(st.s.Replicas[0].Workers) / float64(st.s.Clients)
	options := []client.Option{
		client.WithAdmin(st.post.admin), client.WithDirect(st.plants[0].address, share),
		client.WithDialer(st.dial), client.WithLogger(slog.New(slog.DiscardHandler)),
	}
	for range st.s.Clients {
		c, err := client.Dial(st.post.data, options...)
		if err != nil {
			return list, err
		}
		l := &line{ClientConnInterface: c, close: c.Close, features: make(map[string]*client.Feature)}
		for _, k := range st.s.Classes {
			if k.Feature != "" {
				l.features[k.Feature] = c.Feature(k.Feature)
			}
		}
		list = append(list, l)
	}
	return list, nil
}
