// Package e2e_test tries the whole product as its users do: the real binary as a process of its own, the real grpcurl, the real Jaeger,
// gRPC's own interoperability suite, all over loopback. What can be tried in a synctest bubble is tried there too, in bubble_test.go.
//
// The tools are built by `make tools`; a test that lacks one fails and says so. Every process that a test starts is ended by that test.
package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// The guard is built at most twice: with the race detector, so that a race in the real process fails the test, and as it is delivered, for
// tests that measure it.
var (
	binary = sync.OnceValues(func() (string, error) { return build("capguard-race", "-race") })
	lean   = sync.OnceValues(func() (string, error) { return build("capguard") })
)

// builds is where the binaries are.
var builds string

func build(name string, flags ...string) (string, error) {
	path := filepath.Join(builds, name)
	args := append(append([]string{"build"}, flags...), "-o", path, "../../cmd/capguard")
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build capguard: %w\n%s", err, out)
	}
	return path, nil
}

func TestMain(m *testing.M) {
	var err error
	if builds, err = os.MkdirTemp("", "capguard-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the binaries:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(builds)
	printFigures(os.Stdout)
	os.Exit(code)
}

// tool returns the path of a real tool.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run `make tools` first", path)
	}
	return path
}

// process is a program that a test started.
type process struct {
	cmd    *exec.Cmd
	output *lockedBuffer // both streams
	done   chan struct{} // closed when it has ended
	err    error         // how; read after done
}

// lockedBuffer is a buffer that a process writes and a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start starts a program; it is killed at the end of the test if it still runs.
func start(t *testing.T, env []string, path string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(path, args...), output: new(lockedBuffer), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(path), tail(p.output.String(), 4000))
		}
		if strings.Contains(p.output.String(), "DATA RACE") {
			t.Errorf("%s has a data race:\n%s", filepath.Base(path), p.output)
		}
	})
	return p
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// kill9 ends p as a power cut would.
func (p *process) kill9() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks p to end, and returns how it did.
func (p *process) stop(t *testing.T) error {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return p.wait(t, 30*time.Second)
}

// wait returns how p ended.
func (p *process) wait(t *testing.T, limit time.Duration) error {
	t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		t.Fatalf("%s has not ended after %v", p.cmd.Path, limit)
		return nil
	}
}

// await waits until the output matches, and returns the groups of the match.
func (p *process) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if m := re.FindStringSubmatch(p.output.String()); m != nil {
			return m
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended (%v) before it printed %s:\n%s", p.cmd.Path, p.err, pattern, p.output)
		case <-limit:
			t.Fatalf("%s has not printed %s:\n%s", p.cmd.Path, pattern, p.output)
		case <-tick.C:
		}
	}
}

// guardProcess is a running `capguard serve`.
type guardProcess struct {
	*process
	data, admin string
}

// serve starts the guard in front of backend, with more flags, on free ports.
func serve(t *testing.T, env []string, backend string, flags ...string) guardProcess {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return serveBinary(t, path, env, backend, flags...)
}

// serveBinary is serve with a binary of the test's choice. Without a backend, a file that flags name has some.
func serveBinary(t *testing.T, path string, env []string, backend string, flags ...string) guardProcess {
	t.Helper()
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, flags...)
	if backend != "" {
		args = append(args, "--backend", backend)
	}
	if !strings.Contains(strings.Join(flags, " "), "--data-dir") {
		args = append(args, "--data-dir", t.TempDir())
	}
	p := start(t, env, path, args...)
	m := p.await(t, `data port\s+(\S+)[^\n]*\n\s+admin port\s+(\S+)`)
	return guardProcess{p, m[1], m[2]}
}

// dial connects to an address, in plain text unless options say otherwise; nothing is sent before the first call.
func dial(t *testing.T, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (g guardProcess) flags(t *testing.T) capguardv1.FlagServiceClient {
	t.Helper()
	return capguardv1.NewFlagServiceClient(dial(t, g.admin))
}

// freePort returns an address that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}

// run runs a command to its end and returns what it printed.
func run(ctx context.Context, path string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(out), err
}

// lines yields what is in s, line by line.
func lines(s io.Reader) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for sc := bufio.NewScanner(s); sc.Scan(); {
			if !yield(sc.Text()) {
				return
			}
		}
	}
}
