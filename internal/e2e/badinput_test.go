package e2e_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// TestServeRefusesNonsense starts the guard with every mistake one can make before it runs: each ends it at once, with an exit code and
// a message that says what, where, and what to do.
func TestServeRefusesNonsense(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	plain := write("plain.txt", "no directory")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"no command", nil, 2, []string{"capguard serve --backend"}},
		{"an unknown command", []string{"server"}, 2, []string{`no command "server"`}},
		{"an unknown flag", []string{"serve", "--backends", "127.0.0.1:9000"}, 2, []string{"not defined: -backends", `"capguard serve -h" lists the flags`}},
		{"a word too many", []string{"serve", "127.0.0.1:9000"}, 2, []string{"takes only flags"}},
		{"no back-end", []string{"serve"}, 1, []string{"no back-end: give --backend"}},
		{"a target without a port", []string{"serve", "--backend", "localhost"}, 1, []string{"localhost"}},
		{"an unknown scheme", []string{"serve", "--backend", "http://localhost:9000"}, 1, []string{"http://localhost:9000"}},
		{"a bad mode", []string{"serve", "--backend", "127.0.0.1:1", "--mode", "on"}, 1, []string{`"on" is no mode: use enforce`}},
		{"a bad address", []string{"serve", "--backend", "127.0.0.1:1", "--listen", "7070"}, 1, []string{`"7070" is no address`}},
		{"an exposed admin port", []string{"serve", "--backend", "127.0.0.1:1", "--admin", "0.0.0.0:0"}, 1, []string{"not loopback", "--insecure-admin"}},
		{"a port in use", []string{"serve", "--backend", "127.0.0.1:1", "--listen", busy.Addr().String()}, 1, []string{"in use by another program", "--listen"}},
		{"an absent configuration", []string{"serve", "--config", filepath.Join(dir, "absent.yml")}, 1, []string{"absent.yml"}},
		{"an unknown field", []string{"serve", "--config", write("unknown.yml", "backend: [x]\n")}, 1, []string{"unknown.yml:1:1", `unknown field "backend"`}},
		{"absent TLS files", []string{"serve", "--backend", "127.0.0.1:1", "--tls-cert", "absent.pem", "--tls-key", "absent.key"}, 1,
			[]string{"data port", "absent.pem"}},
		{"half of TLS", []string{"serve", "--backend", "127.0.0.1:1", "--tls-cert", plain}, 1, []string{"both cert_file and key_file"}},
		{"a data directory that is a file", []string{"serve", "--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", plain}, 1,
			[]string{plain}},
		{"a data directory that is not writable", []string{"serve", "--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", "/proc/capguard"}, 1,
			[]string{"/proc/capguard"}},
		{"a bad OTLP endpoint", []string{"serve", "--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "otlp"),
			"--otlp-endpoint", "localhost"}, 1, []string{"use host:port, as localhost:4317"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			out, err := run(ctx, path, tt.args...)
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.ExitCode() != tt.code {
				t.Fatalf("ended with %v, want exit code %d:\n%s", err, tt.code, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("the message does not say %q:\n%s", want, out)
				}
			}
			if strings.Contains(out, "goroutine ") {
				t.Errorf("it panicked:\n%s", out)
			}
		})
	}
}

// Two guards on one data directory would each believe to be the authority.
func TestADataDirectoryHasOneGuard(t *testing.T) {
	dir := t.TempDir()
	serve(t, nil, "127.0.0.1:1", "--data-dir", dir)
	path, _ := binary()
	out, err := run(t.Context(), path, "serve", "--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", dir)
	if err == nil || !strings.Contains(out, "in use by another guard") || !strings.Contains(out, dir) {
		t.Errorf("a second guard on %s: %v\n%s", dir, err, out)
	}
}

// A corrupt store is refused and left as it is: to begin empty would switch everything on again.
func TestACorruptStoreIsRefusedAndKept(t *testing.T) {
	dir := t.TempDir()
	g := serve(t, nil, "127.0.0.1:1", "--data-dir", dir)
	if _, err := g.flags(t).DisableFlag(t.Context(), &capguardv1.DisableFlagRequest{Name: "recs", AllowMissing: true}); err != nil {
		t.Fatal(err)
	}
	if err := g.stop(t); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "flags.db")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 4; i < len(data)*3/4; i++ {
		data[i] ^= 0x5a
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	path, _ := binary()
	out, err := run(t.Context(), path, "serve", "--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", dir)
	if err == nil || !strings.Contains(out, file) || strings.Contains(out, "goroutine ") {
		t.Errorf("a corrupt store: %v\n%s", err, out)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(data) {
		t.Errorf("the corrupt file was changed: %v", err)
	}
}

// A back-end that is not there is said so at once, whatever patience the caller has; when it comes, calls pass.
func TestAnUnreachableBackend(t *testing.T) {
	address := freePort(t)
	g := serve(t, nil, address)
	stock := fragilev1.NewStockServiceClient(dial(t, g.data))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := stock.Check(ctx, &fragilev1.CheckRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "default") || ctx.Err() != nil {
		t.Errorf("Check = %v, want UNAVAILABLE naming the back-end", err)
	}
}

// Absurd metadata is refused or ignored; the guard goes on.
func TestAbsurdMetadata(t *testing.T) {
	g := serve(t, nil, fragileBackend(t))
	stock := fragilev1.NewStockServiceClient(dial(t, g.data))
	for name, pairs := range map[string][]string{
		"a megabyte":            {"x-note", strings.Repeat("x", 1<<20)},
		"an absurd feature":     {"capguard-feature", strings.Repeat("f", 10_000)},
		"a feature of nonsense": {"capguard-feature", "../../etc/passwd; DROP TABLE flags"},
		"absurd baggage":        {"baggage", strings.Repeat("capguard-feature=%00%ff,", 300)},
		"a criticality of none": {"capguard-criticality", "VERY"},
		"attempts without end":  {"grpc-previous-rpc-attempts", "99999999999999999999999"},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), pairs...)
		_, err := stock.Check(ctx, &fragilev1.CheckRequest{})
		t.Logf("%s: %.120v", name, err)
		if c := status.Code(err); c == codes.Unknown || c == codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := stock.Check(t.Context(), &fragilev1.CheckRequest{}); err != nil {
		t.Errorf("an ordinary call afterwards: %v", err)
	}
}

// SIGTERM and SIGINT end the guard cleanly; SIGHUP does not end it.
func TestSignals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "capguard.yml")
	text := "backends: [{targets: [\"127.0.0.1:1\"], mode: %s}]\n"
	put := func(mode string) {
		if err := os.WriteFile(file, []byte(strings.Replace(text, "%s", mode, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("enforce")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, path, "serve", "--config", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", t.TempDir())
	p.await(t, "admin port")
	put("observe")
	p.await(t, "configuration reloaded")
	put("nonsense")
	p.await(t, `the old one stays in force.*since=20.*is no mode`) // and says how old it is
	put("off")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.await(t, `to=off`)
	if err := p.stop(t); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	g := serve(t, nil, "127.0.0.1:1") // without a file
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	g.await(t, `nothing to reload`)
}
