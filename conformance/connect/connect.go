// Package connect runs connectconformance's test cases for the gRPC protocol twice, with and without the middle, and compares what
// passed. With a server under test, the calls come from the suite's reference client and from grpc-go, and some are deliberately
// odd; with a client under test, some answers are.
//
// What this package does not do: it has no list of cases that may fail. A case that fails without the middle, too, is the program's
// under test; there are four in grpc-go, which the suite knows.
package connect

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/capguard/capguard/conformance/child"
	"github.com/capguard/capguard/conformance/middle"
)

// runs are the programs under test, each with the number of cases of v1.0.7, so that a run of fewer cannot pass for a good one.
// Only the reference programs speak TLS.
var runs = []struct {
	name, mode, program string
	config              string
	cases               int
}{
	{"h2c, server of grpc-go", "server", "grpcserver", h2c, 374},
	{"h2c, reference server", "server", "referenceserver", h2c, 374},
	{"h2c, client of grpc-go", "client", "grpcclient", h2c, 409},
	{"h2c, reference client", "client", "referenceclient", h2c, 409},
	{"TLS, reference server", "server", "referenceserver", overTLS, 196},
	{"TLS, reference client", "client", "referenceclient", overTLS, 237},
}

const (
	common = `features:
  versions: [HTTP_VERSION_2]
  protocols: [PROTOCOL_GRPC]
  codecs: [CODEC_PROTO]
  compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]
`
	h2c     = common + "  supportsTls: false\n"
	overTLS = common + "  supportsTls: true\n  supportsTlsClientCerts: true\n  supportsH2c: false\n"
)

const patience = 2 * time.Minute // for one run

// Suite is how to run the test cases.
type Suite struct {
	Kind middle.Kind
	Bin  string // where the programs are
	Self string // this program, which plays the one under test
}

// Run runs them all and reports to w. It tells whether all is well.
func (s Suite) Run(ctx context.Context, w io.Writer) (ok bool, err error) {
	dir, err := os.MkdirTemp("", "capguard-connect-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	ok = true
	for _, r := range runs {
		config := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(config, []byte(r.config), 0o600); err != nil {
			return false, err
		}
		program := filepath.Join(s.Bin, r.program)
		want, err := s.passed(ctx, config, r.mode, program)
		if err != nil {
			return false, fmt.Errorf("%s, direct: %w", r.name, err)
		}
		got, err := s.passed(ctx, config, r.mode, s.Self, "undertest", "-bin", s.Bin, "-middle", string(s.Kind), r.mode, program)
		if err != nil {
			return false, fmt.Errorf("%s, through the %s: %w", r.name, s.Kind, err)
		}
		ok = compare(w, r.name, r.cases, want, got) && ok
	}
	return ok, nil
}

// outcome is what a run told.
type outcome struct {
	total  int
	passed map[string]bool
	failed map[string]string // the reasons
}

var (
	totalLine    = regexp.MustCompile(`(?m)^Total cases: (\d+)\n(\d+) passed, (\d+) failed$`)
	receivedLine = regexp.MustCompile(`(?m)^Received response for "(.*)"\.\.\.$`)
	failedLine   = regexp.MustCompile(`(?m)^FAILED: (.*):\n((?:\t.*\n)*)`)
)

// passed runs connectconformance. That its exit code tells of failed cases is no error.
func (s Suite) passed(ctx context.Context, config, mode string, command ...string) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	args := append([]string{"--vv", "--conf", config, "--mode", mode, "--"}, command...)
	cmd := exec.Command(filepath.Join(s.Bin, "connectconformance"), args...)
	out, err := child.Output(ctx, cmd)
	o, ok := parse(out)
	if !ok {
		return o, fmt.Errorf("%s tells no result: %w\n%s", cmd, err, tail(out, 2000))
	}
	return o, nil
}

func parse(text string) (o outcome, ok bool) {
	sum := totalLine.FindStringSubmatch(text)
	if sum == nil {
		return o, false
	}
	o.passed, o.failed = map[string]bool{}, map[string]string{}
	for _, m := range failedLine.FindAllStringSubmatch(text, -1) {
		o.failed[m[1]] = m[2]
	}
	for _, m := range receivedLine.FindAllStringSubmatch(text, -1) {
		if _, failed := o.failed[m[1]]; !failed {
			o.passed[m[1]] = true
		}
	}
	_, err := fmt.Sscan(sum[1], &o.total)
	return o, err == nil && fmt.Sprint(len(o.passed)) == sum[2]
}

// compare reports one run, with the first few cases that make the difference.
func compare(w io.Writer, name string, cases int, want, got outcome) bool {
	fmt.Fprintf(w, "connectconformance, %s: %d of %d (direct: %d)\n", name, len(got.passed), got.total, len(want.passed))
	if want.total < cases || got.total < cases {
		fmt.Fprintf(w, "  too few cases: %d direct and %d through the middle of at least %d\n", want.total, got.total, cases)
		return false
	}
	shown := 0
	for _, c := range slices.Sorted(maps.Keys(want.passed)) {
		if !got.passed[c] && shown < 10 {
			shown++
			fmt.Fprintf(w, "  passes only direct: %s\n%s", c, indent(got.failed[c]))
		}
	}
	for _, c := range slices.Sorted(maps.Keys(got.passed)) {
		if !want.passed[c] {
			fmt.Fprintf(w, "  passes only through the middle: %s\n%s", c, indent(want.failed[c]))
		}
	}
	return maps.Equal(want.passed, got.passed)
}

func indent(text string) string {
	return strings.ReplaceAll(text, "\t", "    ")
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
