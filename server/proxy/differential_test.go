package proxy_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// Whatever a caller and a back-end say to each other, each of them sees the same through the guard as without it, at the same time. The
// reference does, too, but for what its type owns up to.
func TestTheGuardEqualsADirectCall(t *testing.T) {
	const worlds, rounds, calls = 10, 5, 8
	for seed := range uint64(worlds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			d := dice{rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})}
			onStage(t, func(t *testing.T, st *stage) {
				for range rounds {
					st.compare(t, d.scripts(calls))
				}
			})
		})
	}
}

// FuzzDifferential does the same with the choices of a fuzzer.
func FuzzDifferential(f *testing.F) {
	for seed := range byte(8) {
		f.Add(random(int(seed)*100, int(seed)))
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		d := dice{bytes.NewReader(choices)}
		onStage(t, func(t *testing.T, st *stage) { st.compare(t, d.scripts(1+d.n(3))) })
	})
}

func (d dice) scripts(n int) (all []script) {
	for range n {
		all = append(all, d.script())
	}
	return all
}

// story is what somebody saw of a call, a line for each event with its time.
type story struct {
	began time.Time
	cut   time.Duration // when the caller's cancellation or deadline ends the call; 0 is never
	mu    sync.Mutex
	lines []string
}

func (s *story) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, time.Since(s.began).String()+" "+fmt.Sprintf(format, args...))
}

// past tells whether the call has been cut: what still comes off the wire is a matter of who comes first.
func (s *story) past() bool { return s.cut > 0 && time.Since(s.began) >= s.cut }

type storyKey struct{}

// storyOf returns the story that is told of the call with ctx.
func storyOf(ctx context.Context) *story { return ctx.Value(storyKey{}).(*story) }

// performance is one call on its way: its script, and the stories of its caller and of its back-end.
type performance struct {
	script
	caller, backend story
}

// stage is a world in which calls are made on three ways to the same back-end.
type stage struct {
	ways []way
	mu   sync.Mutex
	on   map[string]*performance // by method
}

// way is a connection of a caller. What is told of a call is made plain before it is compared: only the reference needs it.
type way struct {
	name  string
	conn  *grpc.ClientConn
	plain func(line string) string
}

// onStage runs act on a stage of its own.
func onStage(t *testing.T, act func(t *testing.T, st *stage)) {
	t.Helper()
	st := &stage{}
	caller := []grpc.DialOption{grpc.WithStatsHandler(witness{}), grpc.WithUserAgent("shop/1.2"), grpc.WithAuthority("stock.internal")}
	bubble(t, only(st.backend, func(p *plan) {
		p.settings.Mode, p.settings.Limit.Initial = guard.Enforce, 1000
		p.dial, p.server = caller, []grpc.ServerOption{grpc.StatsHandler(witness{st})}
	}), func(t *testing.T, w *world) {
		w.backend.Guard().ForceBreaker(breaker.Override{State: breaker.ForcedClosed}) // Many calls fail here.
		r := startReference(t, func(ctx context.Context, _ string) (net.Conn, error) { return w.net.dial(ctx, "10.0.0.1:80") })
		defer r.stop()
		direct, reference := dialVia(t, w.net.dial, caller), dialVia(t, r.dial, caller)
		defer direct.Close()
		defer reference.Close()
		same := func(line string) string { return line }
		st.ways = []way{{"direct", direct, same}, {"guard", w.client, same}, {"reference", reference, ofReference}}
		act(t, st)
	})
}

func dialVia(t *testing.T, dial dialer, options []grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///10.0.0.1:80", append(insecureVia(dial), options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// peculiar finds what is seen otherwise through the reference: the user agent, and an encoding that has a name without need.
var peculiar = regexp.MustCompile(`"user-agent":\["[^"]*"\]|encoding "identity"`)

func ofReference(line string) string {
	return peculiar.ReplaceAllStringFunc(line, func(s string) string {
		name, _, _ := strings.Cut(s, `"`)
		return name + `""`
	})
}

// compare fails the test unless scripts are played the same on every way.
func (st *stage) compare(t *testing.T, scripts []script) {
	t.Helper()
	direct := st.play(t.Context(), st.ways[0].conn, scripts)
	for _, w := range st.ways[1:] {
		for i, got := range st.play(t.Context(), w.conn, scripts) {
			want := direct[i]
			w.compare(t, fmt.Sprintf("call %d, its caller", i), got.caller.lines, want.caller.lines)
			w.compare(t, fmt.Sprintf("call %d, the back-end", i), got.backend.lines, want.backend.lines)
		}
	}
}

func (w way) compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || w.plain(got[i]) != w.plain(want[i]) {
			t.Errorf("%s, line %d through the %s:\n%.4000q\nwithout it:\n%.4000q", what, i, w.name,
				got[min(i, len(got)):], want[min(i, len(want)):])
			return
		}
	}
}

// play makes the calls of scripts, all at once, and returns them when they are over on both sides.
func (st *stage) play(ctx context.Context, conn *grpc.ClientConn, scripts []script) []*performance {
	all, now := make([]*performance, len(scripts)), time.Now()
	st.mu.Lock()
	st.on = map[string]*performance{}
	for i, s := range scripts {
		cut := cmp.Or(s.cancel, s.deadline)
		all[i] = &performance{script: s, caller: story{began: now, cut: cut}, backend: story{began: now, cut: cut}}
		st.on[methodOf(i)] = all[i]
	}
	st.mu.Unlock()
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() { p.call(ctx, conn, methodOf(i)) })
	}
	wg.Wait()
	time.Sleep(time.Second) // Whatever the back-end still does is over by then.
	synctest.Wait()
	return all
}

// fields returns all of md as text; by itself it keeps values to itself.
func fields(md metadata.MD) string { return fmt.Sprintf("%q", map[string][]string(md)) }

func methodOf(i int) string { return fmt.Sprintf("/test.Service/Call-%d", i) }

// call does the part of the caller.
func (p *performance) call(ctx context.Context, conn *grpc.ClientConn, method string) {
	ctx, cancel := context.WithCancel(context.WithValue(metadata.NewOutgoingContext(ctx, p.md), storyKey{}, &p.caller))
	defer cancel()
	if p.cancel > 0 {
		defer time.AfterFunc(p.cancel, cancel).Stop()
	}
	if p.deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, p.deadline)
		defer cancel()
	}
	s, err := conn.NewStream(ctx, &p.desc, method, p.options...)
	if err != nil {
		p.caller.tell("no call: %v", err)
		return
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { p.ask(s) })
	for err == nil {
		err = s.RecvMsg(&wrapperspb.BytesValue{})
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	st := status.Convert(err)
	if p.caller.past() {
		p.caller.tell("end %v", st.Code())
		return
	}
	p.caller.tell("end %v %q %v, trailers %s", st.Code(), st.Message(), st.Details(), fields(s.Trailer()))
}

// ask sends the messages of the caller.
func (p *performance) ask(s grpc.ClientStream) {
	for _, a := range p.asks {
		time.Sleep(a.pause)
		if s.SendMsg(wrapperspb.Bytes(a.message)) != nil {
			return // It is over; RecvMsg says how.
		}
	}
	if !p.open {
		_ = s.CloseSend() // It never fails, by its contract.
	}
}

func (st *stage) performance(method string) *performance {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.on[method]
}

// backend does the part of the back-end.
func (st *stage) backend(_ any, s grpc.ServerStream) error {
	ctx := s.Context()
	method, _ := grpc.MethodFromServerStream(s)
	p := st.performance(method)
	if d, ok := ctx.Deadline(); ok {
		p.backend.tell("deadline at %v", d.Sub(p.backend.began))
	}
	for i, a := range p.answers {
		if a.pause > 0 {
			select {
			case <-time.After(a.pause):
			case <-ctx.Done():
			}
		}
		var err error
		if ctx.Err() == nil {
			err = a.do(s)
		}
		switch {
		case ctx.Err() != nil:
			p.backend.tell("gone")
			time.Sleep(time.Millisecond) // Its answer must not meet the caller's clock.
			return status.FromContextError(ctx.Err()).Err()
		case err != nil:
			p.backend.tell("end after %d of %d steps: %v", i+1, len(p.answers), err)
			return err
		}
	}
	return nil
}

// witness tells what comes from the wire: on the side of the back-end if it has a stage, else on that of the caller.
type witness struct{ st *stage }

// TagRPC says whose story it is. A caller brings its own.
func (w witness) TagRPC(ctx context.Context, call *stats.RPCTagInfo) context.Context {
	if w.st == nil {
		return ctx
	}
	return context.WithValue(ctx, storyKey{}, &w.st.performance(call.FullMethodName).backend)
}

// HandleRPC tells of headers and messages, and of how many bytes a message was on the wire.
func (w witness) HandleRPC(ctx context.Context, s stats.RPCStats) {
	st := storyOf(ctx)
	if st.past() {
		return
	}
	switch e := s.(type) {
	case *stats.InHeader:
		st.tell("headers %s %s, encoding %q", e.FullMethod, fields(e.Header), e.Compression)
	case *stats.InPayload:
		h := fnv.New64a()
		_, _ = h.Write(e.Payload.(*wrapperspb.BytesValue).GetValue())
		st.tell("message of %d bytes, %d on the wire: %x", e.Length, e.CompressedLength, h.Sum64())
	}
}

// TagConn does nothing.
func (witness) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (witness) HandleConn(context.Context, stats.ConnStats) {}
