// Package admin is the port of operators and client libraries: flags, back-ends, health, reflection, channelz over gRPC, and metrics over
// HTTP, all on one address.
//
// One net/http server speaks HTTP/1 and HTTP/2, with and without TLS; what has a gRPC content type goes to grpc.Server.ServeHTTP, the
// rest to a small mux. That way needs no second port and no sniffing of connections of our own; net/http answers keep-alive pings without
// counting them, so a client library's long streams are never cut for pinging too often. Its price, more time a call than grpc's own
// transport, does not matter here. Two things net/http does not do for gRPC are done here: the body of a call is bounded (ServeHTTP reads
// it without flow control), and Shutdown ends the endless streams first.
//
// A command of an operator goes this way: who is it (see actor); a span, if tracing is on, whose identity is stored with the change; the
// registry stores the change; the tuner sets every guard and waits until no call that was admitted before can arrive at a back-end any
// more; only then is the operator answered, with the flag as it now is; one log line tells who did what.
//
// Invariants: after the answer to DisableFlag no call of the feature reaches a back-end, except when a warning in the log says how many
// calls were on their way to a back-end that gave no sign of life for a second. A watcher that does not read holds up nobody, costs no more than
// one waiting snapshot, and gets the latest state when it reads on. Every error carries google.rpc.ErrorInfo with the domain `capguard`
// and says what to do next.
//
// What this package does not do: it checks no rights (that is the TLS configuration's job: whoever may connect may command), keeps no
// state of its own but who set a limit, and never touches a call of the data port. What it tells of refused calls is the guards' to keep.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/tuning"
	"github.com/capguard/capguard/server/proxy"
)

// The bounds of the port. No client needs more, and none can take more memory than these allow.
const (
	maxMessage     = 64 << 10  // bytes of one message; the longest text of a command has a thousand
	maxBody        = 512 << 10 // bytes of all messages that one call sends
	maxHeader      = 64 << 10  // bytes of the header list
	maxStreams     = 250       // concurrent calls on one connection
	headerTimeout  = 10 * time.Second
	idleTimeout    = 5 * time.Minute
	pingAfter      = 15 * time.Second // of silence on a connection
	pingTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second // without one byte taken by the client's machine
	shutdownGrace  = 2 * time.Second  // for commands in progress, when streams have been ended
	healthInterval = time.Second
)

// Options wire a Server.
type Options struct {
	Registry *featureflags.Registry
	Tuner    *tuning.Tuner
	Backends []*proxy.Backend
	Metrics  http.Handler // serves /metrics; nil: not found
	Tracer   trace.Tracer // makes spans of commands; nil: none are made
	Log      *slog.Logger // nil discards
	Version  string       // of the program, for the front page
}

// Server serves the admin port. Safe for concurrent use.
type Server struct {
	grpc     *grpc.Server
	http     *http.Server
	health   *health.Server
	backends fleet
	desk     *desk

	stop     context.CancelFunc // ends the streams and the health loop
	stopped  context.Context
	watching sync.WaitGroup // the health loop
}

// New returns a server that is not listening. It follows the health of the back-ends until Shutdown.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{health: health.NewServer(), backends: newFleet(o.Backends), desk: newDesk(o.Log, o.Tracer)}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.UnaryInterceptor(s.desk.intercept),
		grpc.StreamInterceptor(s.untilStopped),
	)
	capguardv1.RegisterFlagServiceServer(s.grpc, &flagService{
		registry: o.Registry, tuner: o.Tuner, backends: s.backends, desk: s.desk,
	})
	capguardv1.RegisterGuardServiceServer(s.grpc, &guardService{backends: s.backends, desk: s.desk})
	healthgrpc.RegisterHealthServer(s.grpc, s.health)
	channelz.RegisterChannelzServiceToServer(s.grpc)
	registerReflection(s.grpc)
	s.http = newHTTP(s.dispatch(newMux(o)), o.Log)
	s.updateHealth()
	s.watching.Go(s.followHealth)
	return s
}

// newHTTP returns the server of the one address.
func newHTTP(h http.Handler, log *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      pingAfter,
			PingTimeout:          pingTimeout,
			WriteByteTimeout:     writeTimeout,
		},
	}
}

// dispatch sends gRPC to the services and everything else to pages.
func (s *Server) dispatch(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			pages.ServeHTTP(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		s.grpc.ServeHTTP(w, r)
	})
}

// Serve answers on l until Shutdown, and then returns nil; any other end is an error. With t it speaks TLS; if t verifies client
// certificates, they say who commands. It closes l.
func (s *Server) Serve(l net.Listener, t *tls.Config) error {
	var err error
	if t == nil {
		err = s.http.Serve(l)
	} else {
		t = t.Clone()
		t.NextProtos = []string{"h2", "http/1.1"}
		err = s.http.Serve(tls.NewListener(l, t))
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops listening, ends all streams at once, lets commands in progress be answered, and returns when all connections are closed.
// It gives up waiting when ctx ends or after two seconds, closes what is left, and then returns the reason.
func (s *Server) Shutdown(ctx context.Context) error {
	s.health.Shutdown()
	s.stop()
	ctx, cancel := context.WithTimeout(ctx, shutdownGrace)
	defer cancel()
	err := s.http.Shutdown(ctx)
	s.grpc.Stop()
	err = errors.Join(err, s.http.Close())
	s.watching.Wait()
	return err
}
