package admin_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/tuning"
	"github.com/capguard/capguard/server/admin"
	"github.com/capguard/capguard/server/proxy"
)

// rig is an admin port with a real registry, real guards and a back-end that answers nothing but connects.
type rig struct {
	*testing.T
	registry *featureflags.Registry
	backends []*proxy.Backend
	guard    *guard.Guard // of the first back-end
	server   *admin.Server
	listener *bufconn.Listener
	conn     *grpc.ClientConn
	flags    capguardv1.FlagServiceClient
	guards   capguardv1.GuardServiceClient
	log      *journal
}

// parts are what a test wants to be different.
type parts struct {
	store    featureflags.Store
	tracer   trace.Tracer
	metrics  http.Handler
	backends []string
	dial     func(context.Context, string) (net.Conn, error)
}

// inBubble runs test with a rig that is ended afterwards; a goroutine that is left fails the test.
func inBubble(t *testing.T, p parts, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p)
		test(r)
	})
}

func newRig(t *testing.T, p parts) *rig {
	r := &rig{T: t, log: &journal{}, listener: bufconn.Listen(1 << 16)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })

	if p.store == nil {
		p.store = featureflags.NewMemory()
	}
	var err error
	if r.registry, err = featureflags.Open(ctx, p.store); err != nil {
		t.Fatal(err)
	}
	r.startBackends(p)
	var guards []*guard.Guard
	for _, b := range r.backends {
		guards = append(guards, b.Guard())
	}
	r.guard = guards[0]
	tuner := tuning.New(r.registry, guards...)
	running.Go(func() { tuner.Run(ctx) })
	running.Go(func() { r.registry.Run(ctx) })

	r.server = admin.New(admin.Options{
		Registry: r.registry, Tuner: tuner, Backends: r.backends, Metrics: p.metrics, Tracer: p.tracer,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test",
	})
	listener := r.listener // a test may put another in its place
	running.Go(func() {
		if err := r.server.Serve(listener, nil); err != nil {
			t.Error("serve:", err)
		}
	})
	t.Cleanup(func() { r.server.Shutdown(context.WithoutCancel(ctx)) })
	r.conn = r.dial(insecureCredentials())
	r.flags, r.guards = capguardv1.NewFlagServiceClient(r.conn), capguardv1.NewGuardServiceClient(r.conn)
	return r
}

func insecureCredentials() grpc.DialOption {
	return grpc.WithTransportCredentials(insecure.NewCredentials())
}

// startBackends makes the guarded back-ends, by default one named shop.
func (r *rig) startBackends(p parts) {
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	r.Cleanup(func() { s.Stop(); serving.Wait() })
	if p.dial == nil {
		p.dial = func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
	}
	if p.backends == nil {
		p.backends = []string{"shop"}
	}
	for _, name := range p.backends {
		cfg := &capguardv1.BackendConfig{Name: name, Targets: []string{"127.0.0.1:9"}}
		b, err := proxy.NewBackend(cfg, guard.Default(), proxy.BackendOptions{Dialer: p.dial})
		if err != nil {
			r.Fatal(err)
		}
		r.Cleanup(b.Close)
		r.backends = append(r.backends, b)
	}
	synctest.Wait()
}

func (r *rig) dial(o grpc.DialOption) *grpc.ClientConn {
	dialer := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return r.listener.DialContext(ctx) })
	conn, err := grpc.NewClient("passthrough:///admin", o, dialer)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { conn.Close() })
	return conn
}

// as returns a context of somebody who says who they are.
func (r *rig) as(name string) context.Context {
	return metadata.AppendToOutgoingContext(r.Context(), admin.ActorKey, name)
}

// call sends one call of a feature through the guard of the first back-end and tells whether it was admitted.
func (r *rig) call(feature string) bool {
	p, d := r.guard.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: feature})
	if d.Admitted {
		p.Answered()
		p.Done(guard.Success)
	}
	return d.Admitted
}

// disable switches a feature off and returns the flag.
func (r *rig) disable(name string, ttl time.Duration) *capguardv1.Flag {
	r.Helper()
	req := &capguardv1.DisableFlagRequest{Name: name, Reason: "incident 7", AllowMissing: true}
	if ttl > 0 {
		req.Ttl = durationpb.New(ttl)
	}
	resp, err := r.flags.DisableFlag(r.as("anna"), req)
	if err != nil {
		r.Fatal("disable:", err)
	}
	return resp.GetFlag()
}

func (r *rig) flag(name string) *capguardv1.Flag {
	r.Helper()
	resp, err := r.flags.GetFlag(r.Context(), &capguardv1.GetFlagRequest{Name: name})
	if err != nil {
		r.Fatal("get:", err)
	}
	return resp.GetFlag()
}

// want compares two figures or words.
func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// wantError checks code, reason and that the details are complete.
func wantError(t testing.TB, err error, code codes.Code, reason string) *status.Status {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("error is %v, want code %v", err, code)
	}
	info := detail[*errdetails.ErrorInfo](st)
	want(t, "reason", info.GetReason(), reason)
	want(t, "domain", info.GetDomain(), "capguard")
	return st
}

// detail returns the detail of that type, or its zero value.
func detail[D any](st *status.Status) (d D) {
	for _, v := range st.Details() {
		if found, ok := v.(D); ok {
			return found
		}
	}
	return d
}

// journal keeps log lines.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// line returns the last line that contains all words, or "".
func (j *journal) line(words ...string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	found := ""
	for line := range strings.Lines(j.text.String()) {
		ok := true
		for _, w := range words {
			ok = ok && strings.Contains(line, w)
		}
		if ok {
			found = line
		}
	}
	return found
}
