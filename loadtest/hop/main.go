// Command hop measures what a call through the guard costs, beside the same call without it.
//
// Three processes on this machine: a back-end that answers at once, the guard with everything on but tracing, and this one with the
// callers. Direct and guarded rounds alternate; each figure is the median of the rounds. CPU is that of the guard's process, divided by the
// calls. Callers, guard and back-end share the cores, so only the ratios mean something elsewhere.
//
// What this command does not do: it does not measure latency under open load (that is package loadtest), and asserts nothing.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

func main() {
	guard := flag.String("guard", "bin/capguard", "the guard's binary")
	round := flag.Duration("round", 2*time.Second, "how long one round lasts")
	rounds := flag.Int("rounds", 3, "rounds of each kind")
	backend := flag.Bool("backend", false, "be the back-end (the command starts itself so)")
	flag.Parse()
	var err error
	if *backend {
		err = serveBackend()
	} else {
		err = measure(*guard, *round, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hop:", err)
		os.Exit(1)
	}
}

// stock answers at once.
type stock struct {
	fragilev1.UnimplementedStockServiceServer
}

// Check answers at once.
func (stock) Check(_ context.Context, in *fragilev1.CheckRequest) (*fragilev1.CheckResponse, error) {
	return &fragilev1.CheckResponse{Sku: in.GetSku(), Quantity: 1}, nil
}

func serveBackend() error {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("listening", lis.Addr())
	s := grpc.NewServer()
	fragilev1.RegisterStockServiceServer(s, stock{})
	return s.Serve(lis)
}

// child is a process that this one started and ends.
type child struct {
	cmd     *exec.Cmd
	address []string // groups of what it printed
}

// start starts a program and waits until it prints what pattern matches.
func start(pattern, path string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(path, args...)}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	re, seen := regexp.MustCompile(pattern), ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		seen += lines.Text() + "\n"
		if m := re.FindStringSubmatch(seen); m != nil {
			c.address = m[1:]
			return c, nil
		}
	}
	c.stop()
	return nil, fmt.Errorf("%s ended before it said where it listens", path)
}

func (c *child) stop() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// cpu returns the time that the process has used so far.
func (c *child) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; the fields after it do not. Times are in ticks of 10 ms.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, err
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

func measure(path string, round time.Duration, rounds int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	back, err := start(`listening (\S+)`, self, "-backend")
	if err != nil {
		return err
	}
	defer back.stop()
	dir, err := os.MkdirTemp("", "capguard-hop-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	guard, err := start(`data port\s+(\S+).*\n\s+admin port\s+(\S+)`, path, "serve", "--backend", back.address[0], "--data-dir", dir,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "ERROR")
	if err != nil {
		return err
	}
	defer guard.stop()
	if err := prepare(guard.address[1]); err != nil {
		return err
	}
	return report(back, guard, round, rounds)
}

// prepare switches off one feature, whose calls are the refused ones, and sets a limit that never binds: the hop is measured, not the law.
func prepare(admin string) error {
	conn, err := grpc.NewClient("passthrough:///"+admin, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, off := capguardv1.NewFlagServiceClient(conn).DisableFlag(ctx, &capguardv1.DisableFlagRequest{Name: "off", AllowMissing: true})
	_, on := capguardv1.NewFlagServiceClient(conn).EnableFlag(ctx, &capguardv1.EnableFlagRequest{Name: "on", AllowMissing: true})
	_, limit := capguardv1.NewGuardServiceClient(conn).SetLimit(ctx, &capguardv1.SetLimitRequest{Min: new(int32(500)), Max: new(int32(500))})
	return errors.Join(off, on, limit)
}

// figures of one kind of round.
type figures struct {
	perSecond, micros []float64 // calls a second; CPU of the guard a call
}

func report(back, guard *child, round time.Duration, rounds int) error {
	fmt.Printf("%s   %d rounds of %v each, medians\n\n", time.Now().Format(time.DateOnly), rounds, round)
	fmt.Println("callers  direct calls/s  through the guard  share  guard CPU a call  refused calls/s  guard CPU a refusal")
	for _, callers := range []int{1, 16, 64} {
		var direct, through, refused figures
		for range rounds {
			for _, k := range []struct {
				f       *figures
				address string
				feature string
			}{{&direct, back.address[0], ""}, {&through, guard.address[0], "on"}, {&refused, guard.address[0], "off"}} {
				if err := k.f.add(k.address, k.feature, callers, round, guard); err != nil {
					return err
				}
			}
		}
		d, g, r := median(direct.perSecond), median(through.perSecond), median(refused.perSecond)
		fmt.Printf("%7d  %14.0f  %17.0f  %5.2f  %13.0f µs  %15.0f  %16.0f µs\n", callers, d, g, g/d, median(through.micros), r, median(refused.micros))
	}
	return nil
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// add runs one round.
func (f *figures) add(address, feature string, callers int, round time.Duration, guard *child) error {
	before, err := guard.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	calls, err := load(address, feature, callers, round)
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := guard.cpu()
	f.perSecond = append(f.perSecond, float64(calls)/took.Seconds())
	f.micros = append(f.micros, float64((after-before).Microseconds())/float64(calls))
	return err
}

// load calls from so many callers at once, on one connection for each sixteen of them, and returns how often.
func load(address, feature string, callers int, round time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), round)
	defer cancel()
	want := codes.OK
	if feature == "off" {
		want = codes.FailedPrecondition
	}
	call := metadata.AppendToOutgoingContext(context.Background(), "capguard-feature", feature)
	var calls atomic.Int64
	var wrong atomic.Pointer[error]
	var wg sync.WaitGroup
	for range (callers + 15) / 16 {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return 0, err
		}
		defer func() { _ = conn.Close() }()
		for range min(callers, 16) {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := fragilev1.NewStockServiceClient(conn).Check(call, &fragilev1.CheckRequest{Sku: "sixteen bytes 16"}); status.Code(err) != want {
						wrong.Store(&err)
						return
					}
					calls.Add(1)
				}
			})
		}
	}
	wg.Wait()
	if p := wrong.Load(); p != nil {
		return 0, fmt.Errorf("a call to %s: %w", address, *p)
	}
	return calls.Load(), nil
}
