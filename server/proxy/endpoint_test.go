package proxy_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/proxy"
)

// replicas is the plan of a back-end with these at its addresses, and the number of calls that each gets.
func replicas(handlers ...grpc.StreamHandler) (plan, []atomic.Int64) {
	calls := make([]atomic.Int64, len(handlers))
	p := only(nil)
	p.cfg.Targets, p.serve = nil, map[string]grpc.StreamHandler{}
	for i, h := range handlers {
		address := net.JoinHostPort("10.0.0."+string(rune('1'+i)), "80")
		p.cfg.Targets = append(p.cfg.Targets, address)
		p.serve[address] = func(srv any, s grpc.ServerStream) error {
			calls[i].Add(1)
			return h(srv, s)
		}
	}
	return p, calls
}

// takes answers after d.
func takes(d time.Duration) grpc.StreamHandler {
	return func(srv any, s grpc.ServerStream) error {
		time.Sleep(d)
		return upper(srv, s)
	}
}

// load makes n calls from each of workers callers and returns the number that failed.
func (w *world) load(workers, n int) (failed int64) {
	var count atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range n {
				if _, err := w.call(w.t.Context(), "x"); err != nil {
					count.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return count.Load()
}

func TestTheSlowReplicaGetsFewerCalls(t *testing.T) {
	p, calls := replicas(takes(10*time.Millisecond), takes(200*time.Millisecond))
	bubble(t, p, func(t *testing.T, w *world) {
		time.Sleep(time.Second) // Until both are connected.
		if failed := w.load(20, 20); failed > 0 {
			t.Errorf("%d calls failed", failed)
		}
		if fast, slow := calls[0].Load(), calls[1].Load(); fast < 3*slow || slow == 0 {
			t.Errorf("the fast replica got %d calls, the slow one %d", fast, slow)
		}
	})
}

// "A replica that refuses fast must not attract load" (linkerd2-proxy #4537): with nothing in flight it looks idle.
func TestAReplicaThatRefusesFastDoesNotAttractLoad(t *testing.T) {
	p, calls := replicas(takes(10*time.Millisecond), fails(codes.Unavailable, "no"), takes(10*time.Millisecond))
	bubble(t, p, func(t *testing.T, w *world) {
		time.Sleep(time.Second)
		failed := w.load(20, 50)
		if share := float64(failed) / 1000; share > 0.05 {
			t.Errorf("%d of 1000 calls failed: the refusing replica got %d", failed, calls[1].Load())
		}
	})
}

func TestAReplicaThatRecoversGetsItsShareAgain(t *testing.T) {
	var well atomic.Bool
	p, calls := replicas(takes(10*time.Millisecond), func(srv any, s grpc.ServerStream) error {
		if !well.Load() {
			return status.Error(codes.Unavailable, "no")
		}
		return takes(10*time.Millisecond)(srv, s)
	})
	bubble(t, p, func(t *testing.T, w *world) {
		time.Sleep(time.Second)
		w.load(4, 50)
		well.Store(true)
		time.Sleep(time.Minute)
		before := calls[1].Load()
		w.load(4, 50)
		if got := calls[1].Load() - before; got < 60 {
			t.Errorf("%d of 200 calls, want about half", got)
		}
	})
}

func TestADeadReplicaCostsNothing(t *testing.T) {
	p, _ := replicas(upper, upper)
	bubble(t, p, func(t *testing.T, w *world) {
		time.Sleep(time.Second)
		w.net.kill("10.0.0.1:80")
		time.Sleep(time.Second)
		if failed := w.load(4, 25); failed > 0 {
			t.Errorf("%d of 100 calls failed", failed)
		}
		want := []capguardv1.Endpoint_State{capguardv1.Endpoint_STATE_FAILED, capguardv1.Endpoint_STATE_READY}
		for i, e := range w.backend.Endpoints() {
			if e.GetState() != want[i] || e.GetInFlight() != 0 {
				t.Errorf("endpoint %v, want %v", e, want[i])
			}
		}
	})
}

// "One back-end only: no percentage-of-hosts rule, no panic mode": a single replica that fails still gets every call that the breaker
// lets pass, and when the breaker is open it gets none.
func TestASingleReplicaIsNeverEjected(t *testing.T) {
	p, calls := replicas(fails(codes.Internal, "x"))
	p.settings.Mode = guard.Off
	bubble(t, p, func(t *testing.T, w *world) {
		w.load(1, 100)
		if got := calls[0].Load(); got != 100 {
			t.Errorf("%d of 100 calls arrived", got)
		}
		s := w.backend.Guard().Settings()
		s.Mode = guard.Enforce
		w.backend.Guard().Configure(s, "test", "")
		w.load(1, 100)
		if got := calls[0].Load() - 100; got > 30 {
			t.Errorf("%d of 100 calls arrived through a breaker that should be open", got)
		}
	})
}

// A connection that is just being made is waited for, but not long; one that failed is not waited for at all.
func TestTheFirstConnectionIsWaitedForShortly(t *testing.T) {
	hole := func(ctx context.Context, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		w := start(t, only(upper, func(p *plan) { p.backend.Dialer = hole }))
		defer w.stop()
		for _, want := range []time.Duration{time.Second, time.Second} {
			began := time.Now()
			_, err := w.call(t.Context(), "x")
			r, _ := grpcguard.Recognize(code(t, err, codes.Unavailable))
			if took := time.Since(began); took != want || r.Reason != guard.BackendUnreachable {
				t.Errorf("refused for %s after %v, want %v", grpcguard.ReasonName(r.Reason), took, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := w.call(ctx, "x")
		code(t, err, codes.DeadlineExceeded)
		time.Sleep(10 * time.Second) // An attempt has failed.
		began := time.Now()
		_, err = w.call(t.Context(), "x")
		code(t, err, codes.Unavailable)
		if took := time.Since(began); took != 0 {
			t.Errorf("refused after %v, want at once", took)
		}
	})
}

func TestABackendThatComesLateIsFound(t *testing.T) {
	p := only(upper)
	serve := p.serve
	p.serve = nil
	bubble(t, p, func(t *testing.T, w *world) {
		_, err := w.call(t.Context(), "x")
		code(t, err, codes.Unavailable)
		w.net.serve("10.0.0.1:80", serve["10.0.0.1:80"])
		time.Sleep(3 * time.Second)
		if _, err := w.call(t.Context(), "x"); err != nil {
			t.Error(err)
		}
	})
}

func TestTheLogTellsWhyAnEndpointIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b, err := proxy.NewBackend(only(upper).cfg, guard.Default(), proxy.BackendOptions{
			Dialer: refuse, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b.Close()
		if s := log.String(); !strings.Contains(s, "endpoint unreachable") || !strings.Contains(s, "dial 10.0.0.1:80: refused") {
			t.Errorf("the log says %s", s)
		}
	})
}
