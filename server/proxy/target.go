package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Windows of flow control, in bytes. They are fixed: windows that grow with the speed of a connection would let one caller that stops
// reading hold megabytes.
const (
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
)

// replayBuffer is how much of a call's request is kept, in bytes, until the back-end has shown that it took the call: a call that a
// closing connection never processed is sent again by itself.
const replayBuffer = 64 << 10

const (
	connectTimeout = 3 * time.Second // for one attempt to connect
	maxBackoff     = 2 * time.Second // between attempts: a back-end that comes back is to be seen soon
)

// balance spreads the calls of one target over the addresses behind its name, and keeps all of them connected.
const balance = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// checkTarget returns what is wrong with an address of a back-end.
func checkTarget(target string) error {
	const want = "want host:port, dns:///host:port or unix:/path"
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		if strings.Trim(path, "/") == "" {
			return fmt.Errorf("target %q has no path; %s", target, want)
		}
		return nil
	}
	address := target
	if scheme, rest, ok := strings.Cut(target, "://"); ok {
		if scheme != "dns" {
			return fmt.Errorf("target %q has the unknown scheme %q; %s", target, scheme, want)
		}
		_, address, _ = strings.Cut(rest, "/") // What is before the slash is the name server to ask.
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("target %q: %w; %s", target, err, want)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(host, "/ ") {
		return fmt.Errorf("target %q needs a host and a port from 1 to 65535; %s", target, want)
	}
	return nil
}

// dial makes a connection to target that identifies itself as userAgent, "" for that of gRPC.
func dial(target, userAgent string, o BackendOptions) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transportCredentials(o.TLS)),
		grpc.WithDefaultServiceConfig(balance),
		grpc.WithDisableServiceConfig(), // The guard's owner decides, not a TXT record.
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connectionWindow),
		grpc.WithStatsHandler(encodingWatch{}),
		grpc.WithNoProxy(), // What the environment says of proxies is not meant for the guard's neighbour.
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(rawCodec{}),
			grpc.MaxCallRecvMsgSize(o.MaxMessageBytes),
			grpc.MaxRetryRPCBufferSize(replayBuffer),
		),
	}
	if o.Dialer != nil {
		options = append(options, grpc.WithContextDialer(o.Dialer))
	}
	if userAgent != "" {
		options = append(options, grpc.WithUserAgent(userAgent))
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("dial target %q: %w", target, err)
	}
	return conn, nil
}

func transportCredentials(c *tls.Config) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return anyAuthority{credentials.NewTLS(c)}
}

// anyAuthority is TLS that lets a call carry the authority that its caller named. The connection is verified against the name in the
// configuration as ever; the authority of one call is no part of that, it is what the caller says to the back-end.
type anyAuthority struct {
	credentials.TransportCredentials
}

// ClientHandshake does the handshake of TLS.
func (a anyAuthority) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ClientHandshake(ctx, authority, c)
	if t, ok := info.(credentials.TLSInfo); ok {
		info = tlsInfo{t}
	}
	return conn, info, err
}

// Clone copies the credentials, as gRPC asks.
func (a anyAuthority) Clone() credentials.TransportCredentials {
	return anyAuthority{a.TransportCredentials.Clone()}
}

type tlsInfo struct{ credentials.TLSInfo }

// ValidateAuthority allows every authority.
func (tlsInfo) ValidateAuthority(string) error { return nil }
