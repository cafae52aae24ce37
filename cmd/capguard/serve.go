package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/server"
	"github.com/capguard/capguard/server/config"
)

// serveFlags is the command line of `capguard serve`. What is given outranks the configuration file.
type serveFlags struct {
	config        string
	backends      stringList
	listen        string
	admin         string
	dataDir       string
	mode          string
	otlpEndpoint  string
	drainTimeout  time.Duration
	insecureAdmin bool
	dataTLS       capguardv1.ServerTLS
	adminTLS      capguardv1.ServerTLS
	backendTLS    capguardv1.ClientTLS
	useBackendTLS bool
	logLevel      slog.Level
	logFormat     string
}

// stringList is a flag that may be given several times.
type stringList []string

func (l *stringList) String() string     { return fmt.Sprint([]string(*l)) }
func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

func (f *serveFlags) register(fs *flag.FlagSet) {
	fs.Var(&f.backends, "backend", "address of the back-end: `target` host:port, dns:///host:port or unix:/path; repeat it for several addresses")
	fs.StringVar(&f.listen, "listen", "", "data port, host:port or unix:/path (default "+config.DefaultListen+")")
	fs.StringVar(&f.admin, "admin", "", "admin port (default "+config.DefaultAdmin+")")
	fs.StringVar(&f.dataDir, "data-dir", "", "where flags and what was learned are kept (default "+config.DefaultDataDir+")")
	fs.StringVar(&f.mode, "mode", "", "enforce, observe or off (default enforce)")
	fs.StringVar(&f.otlpEndpoint, "otlp-endpoint", "", "host:port or URL of an OTLP collector; else the OTEL_* variables decide")
	fs.StringVar(&f.config, "config", "", "YAML `file` for everything else; reloaded when it changes and on SIGHUP")
	fs.DurationVar(&f.drainTimeout, "drain-timeout", 0, "how long calls in flight may take to end after SIGTERM (default 30s)")
	fs.BoolVar(&f.insecureAdmin, "insecure-admin", false, "allow plain text on an admin address that is not loopback")
	fs.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "DEBUG, INFO, WARN or ERROR")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	f.registerTLS(fs)
}

func (f *serveFlags) registerTLS(fs *flag.FlagSet) {
	for _, p := range []struct {
		prefix, port string
		tls          *capguardv1.ServerTLS
	}{{"tls", "data", &f.dataTLS}, {"admin-tls", "admin", &f.adminTLS}} {
		fs.StringVar(&p.tls.CertFile, p.prefix+"-cert", "", "certificate chain of the "+p.port+" port, a PEM `file`")
		fs.StringVar(&p.tls.KeyFile, p.prefix+"-key", "", "private key of the "+p.port+" port, a PEM `file`")
		fs.StringVar(&p.tls.ClientCaFile, p.prefix+"-client-ca", "", "authorities of client certificates, a PEM `file`; clients must then show one")
	}
	fs.BoolVar(&f.useBackendTLS, "backend-tls", false, "use TLS to the back-end; implied by the other --backend-tls flags")
	fs.StringVar(&f.backendTLS.CaFile, "backend-tls-ca", "", "authorities of the back-end's certificate, a PEM `file` (default the system's)")
	fs.StringVar(&f.backendTLS.CertFile, "backend-tls-cert", "", "certificate that the guard shows to the back-end, a PEM `file`")
	fs.StringVar(&f.backendTLS.KeyFile, "backend-tls-key", "", "private key of that certificate, a PEM `file`")
	fs.StringVar(&f.backendTLS.ServerName, "backend-tls-server-name", "", "`name` to verify in the back-end's certificate (default the target's host)")
}

// load reads the file, if any, puts the command line above it, and completes it.
func (f *serveFlags) load() (*capguardv1.Config, error) {
	c := new(capguardv1.Config)
	if f.config != "" {
		var err error
		if c, err = config.Load(f.config); err != nil {
			return nil, err
		}
	}
	f.overrule(c)
	if err := f.setBackends(c); err != nil {
		return nil, err
	}
	return c, config.Complete(c)
}

func (f *serveFlags) overrule(c *capguardv1.Config) {
	c.Listen = cmp.Or(f.listen, c.GetListen())
	c.DataDir = cmp.Or(f.dataDir, c.GetDataDir())
	c.Mode = cmp.Or(f.mode, c.GetMode())
	if c.Admin == nil {
		c.Admin = new(capguardv1.Admin)
	}
	c.Admin.Listen = cmp.Or(f.admin, c.Admin.GetListen())
	c.Admin.Insecure = c.Admin.GetInsecure() || f.insecureAdmin
	if c.Telemetry == nil {
		c.Telemetry = new(capguardv1.Telemetry)
	}
	c.Telemetry.OtlpEndpoint = cmp.Or(f.otlpEndpoint, c.Telemetry.GetOtlpEndpoint())
	if f.drainTimeout != 0 {
		c.DrainTimeout = durationpb.New(f.drainTimeout)
	}
	if proto.Size(&f.dataTLS) > 0 {
		c.Tls = &f.dataTLS
	}
	if proto.Size(&f.adminTLS) > 0 {
		c.Admin.Tls = &f.adminTLS
	}
}

// setBackends lets --backend replace the targets of the file's only back-end, or be the only one.
func (f *serveFlags) setBackends(c *capguardv1.Config) error {
	useTLS := f.useBackendTLS || proto.Size(&f.backendTLS) > 0
	if len(f.backends) == 0 && !useTLS {
		return nil
	}
	if len(c.GetBackends()) > 1 {
		return fmt.Errorf("--backend and --backend-tls… fit one back-end, but %s has %d: say it there", f.config, len(c.GetBackends()))
	}
	if len(c.GetBackends()) == 0 {
		c.Backends = []*capguardv1.BackendConfig{{}}
	}
	b := c.GetBackends()[0]
	if len(f.backends) > 0 {
		b.Targets = f.backends
	}
	if useTLS {
		b.Tls = &f.backendTLS
	}
	return nil
}

// gcPercent is how much garbage may be there beside what is alive. That is little, and a call leaves two kilobytes behind: at the usual 100
// collecting them takes a quarter of the time of a call, for a dozen megabytes.
const gcPercent = 400

// tuneRuntime sets what the Go runtime takes of the machine, unless the environment says it. The guard's work is short, and mostly of the
// kernel's: on half of the cores, which it shares with back-end and callers, it needs less CPU for a call than on all of them, where its
// goroutines are handed from one idle core to the next (docs/benchmarks.md).
func tuneRuntime() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0)/2, 1))
	}
}

func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var f serveFlags
	fs := flag.NewFlagSet("capguard serve", flag.ContinueOnError)
	fs.SetOutput(stderr)
	f.register(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	tuneRuntime()
	log, err := newLog(stderr, f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	w := newFollower(&f, log)
	c, err := f.load()
	if err != nil {
		return err
	}
	s, err := server.New(ctx, c, server.WithLog(log), server.WithVersion(version()))
	if err != nil {
		return err
	}
	fmt.Fprint(stdout, greeting(s, c))
	go w.follow(ctx, s) // ends with ctx
	return s.Run(ctx)
}

func newLog(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}

// greeting tells where the guard is and what to try first.
func greeting(s *server.Server, c *capguardv1.Config) string {
	plain := "-plaintext "
	if c.GetAdmin().GetTls() != nil {
		plain = "-cacert CA.pem "
	}
	grpcurl := "  grpcurl " + plain
	return fmt.Sprintf(`capguard %s
  data port   %s   point your gRPC clients here
  admin port  %s   operators, client libraries, /metrics
  guarding    %s

Try:
%s%[3]s list
%[5]s%[3]s capguard.v1.GuardService/ListBackends
%[5]s%[3]s capguard.v1.FlagService/ListFlags
%[5]s-d '{"name":"FEATURE","reason":"why","ttl":"7200s"}' %[3]s capguard.v1.FlagService/DisableFlag

`, version(), s.Addr(), s.AdminAddr(), targets(c), grpcurl)
}

func targets(c *capguardv1.Config) string {
	var all []string
	for _, b := range c.GetBackends() {
		all = append(all, fmt.Sprintf("%s %v (mode %s)", b.GetName(), b.GetTargets(), b.GetMode()))
	}
	return strings.Join(all, ", ")
}
