package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/client"
	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// resident returns the memory that g has in RAM, in bytes.
func (g guardProcess) resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// grew checks that g has not taken more than so much memory since it had before. The binary has the race detector in it, which multiplies
// what each goroutine and each word needs: the bounds are far above what is needed, and far below what the abuse asks for.
func (g guardProcess) grew(t *testing.T, before, most int) {
	t.Helper()
	now := g.resident(t)
	t.Logf("resident: %d MiB before, %d MiB now", before>>20, now>>20)
	if now-before > most {
		t.Errorf("the guard has grown from %d to %d MiB, want at most %d more", before>>20, now>>20, most>>20)
	}
}

// until waits for what must come true.
func until(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	limit := time.After(15 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !isTrue() {
		select {
		case <-limit:
			t.Fatalf("never came true: %s", what)
		case <-tick.C:
		}
	}
}

// settled checks that the guard has all permits back, and that nothing in it broke.
func (g guardProcess) settled(t *testing.T) {
	t.Helper()
	guards := capguardv1.NewGuardServiceClient(dial(t, g.admin))
	until(t, "all permits are back", func() bool {
		resp, err := guards.GetBackend(t.Context(), &capguardv1.GetBackendRequest{})
		b := resp.GetBackend()
		if b.GetDoubleReturns() != 0 {
			t.Fatalf("permits were given back twice: %v", b)
		}
		return err == nil && b.GetInFlight() == 0 && b.GetQueued() == 0 && b.GetOpenStreams() == 0
	})
	if out := g.output.String(); strings.Contains(out, "goroutine ") || strings.Contains(out, "panic") {
		t.Errorf("the guard panicked:\n%s", tail(out, 4000))
	}
}

// served checks that a well-behaved client gets an answer. A refusal is one, while others abuse the guard.
func (g guardProcess) served(t *testing.T) {
	t.Helper()
	stock := fragilev1.NewStockServiceClient(dial(t, g.data))
	until(t, "an ordinary call is answered", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := stock.Check(ctx, &fragilev1.CheckRequest{Sku: "tree"})
		return err == nil
	})
}

// serveOdd serves a back-end that answers Check, and every other method with handle.
func serveOdd(t *testing.T, handle grpc.StreamHandler) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(handle))
	fragilev1.RegisterStockServiceServer(s, quickStock{})
	go func() { _ = s.Serve(lis) }() // ends with Stop
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

var anyStream = grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// open opens a stream and asks for its answer.
func open(ctx context.Context, conn *grpc.ClientConn, method string) (grpc.ClientStream, error) {
	s, err := conn.NewStream(ctx, &anyStream, method)
	if err != nil {
		return nil, err
	}
	return s, errors.Join(s.SendMsg(&fragilev1.CheckRequest{}), s.CloseSend())
}

// Clients that stop reading stop the back-end after the windows of flow control are full; the guard keeps no more than those.
func TestClientsThatStopReading(t *testing.T) {
	const streams, message = 30, 32 << 10
	var sent atomic.Int64
	flood := func(_ any, s grpc.ServerStream) error {
		m := &fragilev1.CheckRequest{Sku: strings.Repeat("x", message)}
		for {
			if err := s.SendMsg(m); err != nil {
				return err
			}
			sent.Add(message)
		}
	}
	g := serve(t, nil, serveOdd(t, flood))
	g.served(t)
	before := g.resident(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn := dial(t, g.data, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(16<<20))
	for range streams {
		s, err := open(ctx, conn, "/shop.Stock/Flood")
		if err == nil {
			err = s.RecvMsg(new(fragilev1.CheckRequest))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	last, quiet := int64(-1), 0
	until(t, "the back-end stops", func() bool {
		now := sent.Load()
		if quiet++; now != last {
			quiet = 0
		}
		last = now
		return quiet == 25 // half a second without a byte
	})
	if most := int64(streams * 2 << 20); sent.Load() > most {
		t.Errorf("the back-end could send %d MiB to %d clients that do not read", sent.Load()>>20, streams)
	}
	g.grew(t, before, 200<<20)
	g.served(t)
	cancel()
	g.settled(t)
}

// Streams without end, over one connection and over many, are refused beyond the bounds; the others go on.
func TestStreamsWithoutEnd(t *testing.T) {
	g := serve(t, nil, serveOdd(t, func(_ any, s grpc.ServerStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}))
	g.served(t)
	before := g.resident(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var refused atomic.Int64
	var callers sync.WaitGroup
	for _, calls := range []int{2000, 100, 100, 100, 100, 100, 100} {
		conn := dial(t, g.data)
		for range calls {
			callers.Go(func() {
				if s, err := open(ctx, conn, "/shop.Stock/Watch"); err == nil && s.RecvMsg(new(fragilev1.CheckResponse)) != nil && ctx.Err() == nil {
					refused.Add(1)
				}
			})
		}
	}
	until(t, "what is beyond the bounds is refused", func() bool { return refused.Load() > 1000 })
	g.grew(t, before, 400<<20)
	cancel()
	callers.Wait()
	g.settled(t)
	g.served(t)
}

// Calls that are reset as soon as they are opened, without end and over ever new connections, pile up nothing.
func TestAFloodOfResets(t *testing.T) {
	g := serve(t, nil, fragileBackend(t))
	g.served(t)
	before := g.resident(t)
	var floods sync.WaitGroup
	for range 3 {
		floods.Go(func() {
			for range 10 {
				if err := reset(g.data, 1000); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.served(t)
	floods.Wait()
	g.grew(t, before, 500<<20)
	g.settled(t)
	g.served(t)
}

// reset opens and resets n calls on a connection of their own.
func reset(address string, n uint32) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with the connection
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	out := bufio.NewWriter(conn)
	fr := http2.NewFramer(out, nil)
	_, _ = out.WriteString(http2.ClientPreface)
	errs := []error{fr.WriteSettings()}
	for i := range n {
		block.Reset()
		for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", checkMethod}, {":authority", "x"},
			{"content-type", "application/grpc"}, {"te", "trailers"}} {
			errs = append(errs, e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
		}
		errs = append(errs, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block.Bytes(), EndHeaders: true}),
			fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	return errors.Join(append(errs, out.Flush())...)
}

// Names that clients invent, without end and of every kind, neither fill the memory nor spoil the metrics.
func TestInventedNamesWithoutEnd(t *testing.T) {
	g := serve(t, nil, fragileBackend(t))
	g.served(t)
	before := g.resident(t)
	var callers sync.WaitGroup
	for i := range 4 {
		conn := dial(t, g.data)
		callers.Go(func() {
			for j := range 1000 {
				name := fmt.Sprintf("%d-%d", i, j)
				ctx := metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", name, "capguard-tenant", name)
				method := "/shop.S" + name + "/" + strings.Repeat("m", 100)
				if j%100 == 0 {
					method = "/" + name + "\xff/" + strings.Repeat("long", 5000)
				}
				_ = conn.Invoke(ctx, method, &fragilev1.CheckRequest{}, new(fragilev1.CheckResponse))
			}
		})
	}
	callers.Wait()
	g.grew(t, before, 300<<20)
	g.served(t)
	if text := g.metrics(t); len(text) > 8<<20 || !strings.Contains(text, `rpc_method="`+checkMethod) {
		t.Errorf("the metrics have %d KiB:\n%s", len(text)>>10, text[:min(1000, len(text))])
	}
	if _, err := g.flags(t).DisableFlag(t.Context(), &capguardv1.DisableFlagRequest{Name: "3-999"}); err != nil {
		t.Errorf("the last of many features can not be switched: %v", err)
	}
	g.settled(t)
}

func (g guardProcess) metrics(t *testing.T) string {
	t.Helper()
	resp, err := http.Get("http://" + g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v\n%s", resp.Status, err, text)
	}
	return string(text)
}

// busyStock takes its time, and counts.
type busyStock struct {
	fragilev1.UnimplementedStockServiceServer
	took               time.Duration
	began, cut, inside atomic.Int64
	most               atomic.Int64
}

func (b *busyStock) Check(ctx context.Context, _ *fragilev1.CheckRequest) (*fragilev1.CheckResponse, error) {
	b.began.Add(1)
	if n := b.inside.Add(1); n > b.most.Load() {
		b.most.Store(n)
	}
	defer b.inside.Add(-1)
	select {
	case <-time.After(b.took):
		return &fragilev1.CheckResponse{Quantity: 7}, nil
	case <-ctx.Done():
		b.cut.Add(1)
		return nil, ctx.Err()
	}
}

// tallies counts the ends of calls.
type tallies struct {
	mu     sync.Mutex
	byCode map[codes.Code]int64
}

func (c *tallies) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byCode[status.Code(err)]++
}

func (c *tallies) of(code codes.Code) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byCode[code]
}

// crowd lets n callers call Check, one call after the other with a short pause, until ctx ends.
func crowd(ctx context.Context, t *testing.T, address string, n int) (*tallies, *sync.WaitGroup) {
	t.Helper()
	c, callers := &tallies{byCode: make(map[codes.Code]int64)}, new(sync.WaitGroup)
	conns := []*grpc.ClientConn{dial(t, address), dial(t, address), dial(t, address), dial(t, address)}
	for i := range n {
		stock := fragilev1.NewStockServiceClient(conns[i%len(conns)])
		callers.Go(func() {
			pause := time.NewTicker(20 * time.Millisecond)
			defer pause.Stop()
			for ctx.Err() == nil {
				// Its own time, not that of ctx: a call that the end of the test cuts would look like one that the guard cut.
				call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				_, err := stock.Check(call, &fragilev1.CheckRequest{Sku: "tree"})
				cancel()
				c.add(err)
				<-pause.C
			}
		})
	}
	return c, callers
}

// The operator is heard while the data path is as full as can be, and what is answered is in force.
func TestDisableFlagWhileTheDataPathIsSaturated(t *testing.T) {
	b := &busyStock{took: 50 * time.Millisecond}
	g := serve(t, nil, serveStock(t, b))
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs"))
	defer cancel()
	got, callers := crowd(ctx, t, g.data, 256)
	until(t, "calls are refused because the back-end is full", func() bool { return got.of(codes.ResourceExhausted) > 100 })
	flags := g.flags(t)
	var worst time.Duration
	for range 5 {
		began := time.Now()
		if _, err := flags.DisableFlag(t.Context(), &capguardv1.DisableFlagRequest{Name: "recs", Reason: "INC-4821"}); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(began))
		off := got.of(codes.FailedPrecondition)
		until(t, "calls are refused because the feature is off", func() bool { return got.of(codes.FailedPrecondition) > off })
		if _, err := flags.EnableFlag(t.Context(), &capguardv1.EnableFlagRequest{Name: "recs"}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("slowest DisableFlag: %v", worst)
	if worst > 5*time.Second { // the guard itself gives up waiting for the back-end after one
		t.Errorf("DisableFlag took %v", worst)
	}
	cancel()
	callers.Wait()
	g.settled(t)
}

// SIGTERM under load, even twice, ends the guard without cutting one admitted call: every call that reached the back-end was answered.
func TestSIGTERMUnderLoadCutsNoAdmittedCall(t *testing.T) {
	b := &busyStock{took: 200 * time.Millisecond}
	g := serve(t, nil, serveStock(t, b))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, callers := crowd(ctx, t, g.data, 64)
	until(t, "calls are answered", func() bool { return got.of(codes.OK) > 50 && b.inside.Load() > 0 })
	for range 2 {
		if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.wait(t, 20*time.Second); err != nil {
		t.Errorf("the guard ended with %v", err)
	}
	cancel()
	callers.Wait()
	if ok := got.of(codes.OK); ok != b.began.Load() || b.cut.Load() > 0 {
		t.Errorf("%d calls reached the back-end, %d were answered, %d were cut: %v", b.began.Load(), ok, b.cut.Load(), got.byCode)
	}
}

// A back-end that accepts connections and never says a word is unreachable, and is said to be: within bounds, to each of a crowd.
func TestABackendThatAcceptsAndNeverSpeaks(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() }) // its backlog accepts; nobody reads
	g := serve(t, nil, lis.Addr().String())
	before := g.resident(t)
	stock := fragilev1.NewStockServiceClient(dial(t, g.data))
	var callers sync.WaitGroup
	var unreachable atomic.Int64
	for range 200 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			_, err := stock.Check(ctx, &fragilev1.CheckRequest{Sku: "tree"})
			r, ok := client.Rejected(err)
			switch {
			case !ok:
				t.Errorf("Check = %v, want a refusal", err)
			case r.Reason == client.BackendUnreachable:
				unreachable.Add(1)
			}
		})
	}
	callers.Wait()
	if unreachable.Load() == 0 {
		t.Error("nobody was told that the back-end is unreachable")
	}
	g.grew(t, before, 100<<20)
	g.settled(t)
}

// A caller that takes its time to send its request speaks for itself alone: the limit of its method stays in force for the others.
func TestASlowCallerDoesNotLiftTheLimit(t *testing.T) {
	b := &busyStock{took: 100 * time.Millisecond}
	g := serve(t, nil, serveStock(t, b), "--config", limitedTo(t, 4))
	g.served(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := dial(t, g.data).NewStream(ctx, &anyStream, checkMethod); err != nil {
		t.Fatal(err)
	}
	guards := capguardv1.NewGuardServiceClient(dial(t, g.admin))
	until(t, "the slow call is taken for a stream", func() bool {
		resp, err := guards.GetBackend(t.Context(), &capguardv1.GetBackendRequest{})
		return err == nil && resp.GetBackend().GetOpenStreams() == 1
	})
	short, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	_, callers := crowd(short, t, g.data, 64)
	callers.Wait()
	if most := b.most.Load(); most > 4 {
		t.Errorf("%d calls were at the back-end at once, the limit is 4", most)
	}
	cancel()
	g.settled(t)
}

// limitedTo writes a configuration with a fixed limit and nothing else.
func limitedTo(t *testing.T, n int) string {
	t.Helper()
	file := t.TempDir() + "/capguard.yml"
	text := fmt.Sprintf("backends: [{targets: [\"127.0.0.1:1\"], limit: {law: fixed, initial: %d}}]\n", n)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
