package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/server/proxy"
)

// method is the one that tests call when any will do.
const method = "/test.Service/Call"

// anyStream describes calls of every kind.
var anyStream = grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// world is a client, a proxy with one back-end, and what stands at the back-end's addresses, all in memory.
type world struct {
	t       testing.TB
	net     network
	backend *proxy.Backend
	proxy   *proxy.Proxy
	through dialer // to the proxy
	client  *grpc.ClientConn
	leaks   bool // the test means to leave calls behind
}

// plan says what differs from the usual in a test.
type plan struct {
	cfg      *capguardv1.BackendConfig
	settings guard.Settings
	options  proxy.Options
	backend  proxy.BackendOptions
	dial     []grpc.DialOption
	serve    map[string]grpc.StreamHandler // by address; empty addresses are dead
	server   []grpc.ServerOption           // of what stands at the addresses
}

// only returns the plan of one back-end that does what handler says.
func only(handler grpc.StreamHandler, changes ...func(*plan)) plan {
	p := plan{
		cfg:      &capguardv1.BackendConfig{Name: "stock", Targets: []string{"10.0.0.1:80"}},
		settings: guard.Default(),
		serve:    map[string]grpc.StreamHandler{"10.0.0.1:80": handler},
	}
	p.settings.Limit = limit.Settings{Law: limit.Fixed, Initial: 100, Min: 1, Max: 1000}
	for _, change := range changes {
		change(&p)
	}
	return p
}

// bubble runs test in a world of its own, with a clock of its own. At the end the world must be empty: no permit out, none returned
// twice, no goroutine left.
func bubble(t *testing.T, p plan, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, p)
		defer w.stop()
		test(t, w)
	})
}

func start(t testing.TB, p plan) *world {
	t.Helper()
	w := &world{t: t, net: network{at: map[string]*node{}}}
	for address, handler := range p.serve {
		w.net.serve(address, handler, p.server...)
	}
	if p.backend.Dialer == nil {
		p.backend.Dialer = w.net.dial
	}
	p.backend.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	var err error
	if w.backend, err = proxy.NewBackend(p.cfg, p.settings, p.backend); err != nil {
		t.Fatal(err)
	}
	w.proxy = proxy.New(p.options, w.backend)
	lis := bufconn.Listen(1 << 16)
	go func() { _ = w.proxy.Serve(lis) }() // Until Drain.
	w.through = func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }
	if w.client, err = grpc.NewClient("passthrough:///guard", append(insecureVia(w.through), p.dial...)...); err != nil {
		t.Fatal(err)
	}
	return w
}

// dialer connects to an address.
type dialer = func(context.Context, string) (net.Conn, error)

func (w *world) stop() {
	w.t.Helper()
	if err := w.client.Close(); err != nil && !w.leaks {
		w.t.Errorf("close client: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.proxy.Drain(ctx); err != nil && !w.leaks {
		w.t.Errorf("drain: %v", err)
	}
	if s := w.backend.Guard().Status(); s.InFlight != 0 || s.OpenStreams != 0 || s.DoubleReturns != 0 {
		w.t.Errorf("permits: %d calls, %d streams still out, %d returned twice", s.InFlight, s.OpenStreams, s.DoubleReturns)
	}
	w.backend.Close()
	w.net.close()
}

// network is what stands at the addresses of back-ends.
type network struct {
	mu sync.Mutex
	at map[string]*node
}

type node struct {
	lis    *bufconn.Listener
	server *grpc.Server
}

func (n *network) serve(address string, handler grpc.StreamHandler, options ...grpc.ServerOption) {
	lis := bufconn.Listen(1 << 16)
	server := grpc.NewServer(append(options, grpc.UnknownServiceHandler(handler))...)
	go func() { _ = server.Serve(lis) }() // Until Stop.
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[address] = &node{lis, server}
}

func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	at := n.at[address]
	n.mu.Unlock()
	if at == nil {
		return nil, fmt.Errorf("dial %s: connection refused", address)
	}
	return at.lis.DialContext(ctx)
}

// kill stops what stands at address at once.
func (n *network) kill(address string) {
	n.mu.Lock()
	at := n.at[address]
	delete(n.at, address)
	n.mu.Unlock()
	at.server.Stop()
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, at := range n.at {
		at.server.Stop()
	}
}

// text is a message.
func text(s string) *wrapperspb.StringValue { return wrapperspb.String(s) }

// call makes a unary call and returns the answer.
func (w *world) call(ctx context.Context, message string, options ...grpc.CallOption) (string, error) {
	answer := &wrapperspb.StringValue{}
	err := w.client.Invoke(ctx, method, text(message), answer, options...)
	return answer.GetValue(), err
}

// open opens a stream.
func (w *world) open(ctx context.Context) grpc.ClientStream {
	w.t.Helper()
	s, err := w.client.NewStream(ctx, &anyStream, method)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// code fails the test unless err has code want.
func code(t *testing.T, err error, want codes.Code) *status.Status {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != want {
		t.Errorf("got %v: %q, want %v", st.Code(), st.Message(), want)
	}
	return st
}

// echo answers every message with itself.
func echo(_ any, s grpc.ServerStream) error {
	for {
		m := &wrapperspb.StringValue{}
		if err := s.RecvMsg(m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

// upper answers a unary call with its message in capitals.
func upper(_ any, s grpc.ServerStream) error {
	m := &wrapperspb.StringValue{}
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	return s.SendMsg(text(strings.ToUpper(m.GetValue())))
}

// fails answers every call with a status.
func fails(c codes.Code, message string) grpc.StreamHandler {
	return func(any, grpc.ServerStream) error { return status.Error(c, message) }
}

// hangs answers when its caller is gone or time is up.
func hangs(_ any, s grpc.ServerStream) error {
	<-s.Context().Done()
	return status.FromContextError(s.Context().Err()).Err()
}

// received returns the metadata that a handler sees.
func received(s grpc.ServerStream) metadata.MD {
	md, _ := metadata.FromIncomingContext(s.Context())
	return md
}

// insecureVia returns the options of a client that dials with dial.
func insecureVia(dial dialer) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial)}
}

func withHeader(ctx context.Context, key, value string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, key, value)
}

// sorted returns the keys of m in order.
func sorted[V any](m map[time.Duration]V) []time.Duration { return slices.Sorted(maps.Keys(m)) }
