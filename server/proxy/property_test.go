package proxy_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// moody does one of the things that back-ends do.
func moody(rng *rand.Rand, mu *sync.Mutex) grpc.StreamHandler {
	return func(srv any, s grpc.ServerStream) error {
		mu.Lock()
		mood, pause, c := rng.IntN(7), time.Duration(rng.IntN(3000))*time.Millisecond, codes.Code(rng.IntN(17))
		mu.Unlock()
		switch mood {
		case 0:
			return status.Error(c, "mood")
		case 1:
			return hangs(srv, s)
		case 2:
			return chatter(srv, s)
		case 3:
			return takes(pause)(srv, s)
		case 4:
			return s.SendHeader(nil)
		}
		return echo(srv, s)
	}
}

// anyCall makes a call of some kind, and ends it in some way.
func (w *world) anyCall(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Duration(1+rng.IntN(5000))*time.Millisecond)
	defer cancel()
	if rng.IntN(3) == 0 {
		time.AfterFunc(time.Duration(rng.IntN(4000))*time.Millisecond, cancel)
	}
	if rng.IntN(2) == 0 {
		_, _ = w.call(ctx, "x")
		return
	}
	s, err := w.client.NewStream(ctx, &anyStream, method)
	if err != nil {
		return
	}
	for range rng.IntN(5) {
		_ = s.SendMsg(text("x"))
		time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
	}
	if rng.IntN(2) == 0 {
		_ = s.CloseSend()
	}
	for s.RecvMsg(&wrapperspb.StringValue{}) == nil && rng.IntN(4) > 0 {
	}
}

// Whatever callers and back-ends do, permits out equal calls in flight, and each admitted call has exactly one outcome. The world checks
// at its end that none is out, none was returned twice and no goroutine is left.
func TestNoPermitIsLostWhateverHappens(t *testing.T) {
	for seed := range uint64(5) {
		var mu sync.Mutex
		handler := moody(rand.New(rand.NewPCG(seed, 2)), &mu)
		bubble(t, only(handler, func(p *plan) { p.settings.Limit.Initial = 20 }), func(t *testing.T, w *world) {
			var wg sync.WaitGroup
			for i := range uint64(150) {
				wg.Go(func() { w.anyCall(seed<<32 | i) })
				time.Sleep(20 * time.Millisecond)
				switch {
				case i%60 == 40:
					w.net.kill("10.0.0.1:80")
				case i%60 == 50:
					w.net.serve("10.0.0.1:80", handler)
				case i%25 == 0:
					w.backend.Guard().ForceBreaker(breaker.Override{State: breaker.ForcedClosed})
				}
			}
			wg.Wait()
			time.Sleep(10 * time.Second) // grpc-go does not tell the server when a unary call is answered twice; deadlines end those.
			synctest.Wait()
			total := w.backend.Guard().Status().Totals
			if ended := total.Succeeded + total.Overloaded + total.Failed + total.Ignored; ended != total.Admitted || ended < 50 {
				t.Errorf("%d admitted, %d ended", total.Admitted, ended)
			}
		})
	}
}
