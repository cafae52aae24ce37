// Package h2spec runs h2spec against a middle with a plain HTTP/2 server of net/http behind it. So every answer to the suite's odd
// frames comes from the middle.
//
// What this package does not do: it does not try net/http itself, which fails some of the tests.
package h2spec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/capguard/capguard/conformance/backend"
	"github.com/capguard/capguard/conformance/child"
	"github.com/capguard/capguard/conformance/middle"
)

// tests is the number of tests in strict mode.
const tests = 146

const patience = 2 * time.Minute

// Suite is how to run the tests.
type Suite struct {
	Kind middle.Kind
	Bin  string // where the programs are
}

// Run runs the tests over h2c and over TLS and reports to w. It tells whether all is well.
func (s Suite) Run(ctx context.Context, w io.Writer) (ok bool, err error) {
	secure, err := middle.NewTLS()
	if err != nil {
		return false, err
	}
	plain, err := s.run(ctx, w, "h2c", nil)
	if err != nil {
		return false, err
	}
	ok, err = s.run(ctx, w, "TLS", secure)
	return ok && plain, err
}

func (s Suite) run(ctx context.Context, w io.Writer, name string, secure *middle.TLS) (bool, error) {
	address, stop, err := backend.Start(http.HandlerFunc(answer), secure)
	if err != nil {
		return false, err
	}
	defer stop()
	route := middle.Route{Target: address}
	var flags []string
	if secure != nil {
		route.Front, route.Back = secure, &middle.TLS{CA: secure.Cert}
		flags = []string{"--tls", "--insecure"}
	}
	m, err := middle.Start(ctx, s.Kind, s.Bin, route)
	if err != nil {
		return false, err
	}
	defer m.Stop()
	out, err := s.h2spec(ctx, m.Address, flags)
	if err != nil {
		return false, err
	}
	return report(w, name, out)
}

// answer reads a request to its end and then answers with a few bytes.
func answer(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "what the tests of the windows need: some data")
}

// h2spec runs the tests and returns what was printed; the exit code tells nothing that is not there.
func (s Suite) h2spec(ctx context.Context, address string, flags []string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	args := append([]string{"--strict", "--host", host, "--port", port}, flags...)
	out, err := child.Output(ctx, exec.Command(filepath.Join(s.Bin, "h2spec"), args...))
	if ctx.Err() != nil || out == "" {
		return "", fmt.Errorf("run h2spec: %w", errors.Join(err, ctx.Err()))
	}
	return out, nil
}

var (
	sumLine  = regexp.MustCompile(`(?m)^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`)
	failures = regexp.MustCompile(`(?s)\nFailures: .*`)
)

func report(w io.Writer, name string, out string) (bool, error) {
	sum := sumLine.FindStringSubmatch(out)
	if sum == nil {
		return false, fmt.Errorf("h2spec tells no result:\n%s", out)
	}
	fmt.Fprintf(w, "h2spec %s: %s of %s\n", name, sum[2], sum[1])
	want := fmt.Sprint(tests)
	if sum[1] == want && sum[2] == want {
		return true, nil
	}
	fmt.Fprintf(w, "%s\n", failures.FindString(out))
	return false, nil
}
