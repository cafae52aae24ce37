package e2e_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/capguard/capguard/featureflags"
	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/server"
	"github.com/capguard/capguard/server/config"
)

const (
	checkMethod     = "/capguard.fragile.v1.StockService/Check"
	recommendMethod = "/capguard.fragile.v1.StockService/Recommend"
)

// wire is a network in memory.
type wire struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
}

func (w *wire) listen(address string) (net.Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lis := bufconn.Listen(64 << 10)
	w.listeners[address] = lis
	return lis, nil
}

func (w *wire) dial(ctx context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	lis := w.listeners[address]
	w.mu.Unlock()
	if lis == nil {
		return nil, errors.New("connection refused")
	}
	return lis.DialContext(ctx)
}

// town is a whole system in a bubble: a fragile back-end, the guard, and connections to it. Hours there take seconds here.
type town struct {
	t       *testing.T
	wire    *wire
	backend *fragile.Backend
	guard   *server.Server
	stop    func() // ends the guard as SIGTERM does
	data    *grpc.ClientConn
	admin   *grpc.ClientConn
}

// inTown runs f in a bubble with a back-end of settings s behind a guard with nothing but defaults.
func inTown(t *testing.T, s fragile.Settings, f func(*town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &town{t: t, wire: &wire{listeners: make(map[string]*bufconn.Listener)}}
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		w.build(ctx, s, &running)
		f(w)
		w.stop()
		for _, conn := range []*grpc.ClientConn{w.data, w.admin} {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
		cancel()
		running.Wait()
	})
}

func (w *town) build(ctx context.Context, s fragile.Settings, running *sync.WaitGroup) {
	var err error
	if w.backend, err = fragile.NewBackend(s); err != nil {
		w.t.Fatal(err)
	}
	running.Go(func() {
		if err := w.backend.Serve(ctx, func() (net.Listener, error) { return w.wire.listen("127.0.0.1:9000") }); err != nil {
			w.t.Error(err)
		}
	})
	synctest.Wait()
	c := &capguardv1.Config{Backends: []*capguardv1.BackendConfig{{Targets: []string{"127.0.0.1:9000"}}}}
	if err := config.Complete(c); err != nil {
		w.t.Fatal(err)
	}
	data, _ := w.wire.listen("data")
	admin, _ := w.wire.listen("admin")
	w.guard, err = server.New(ctx, c, server.WithListeners(data, admin), server.WithBackendDialer(w.wire.dial),
		server.WithStore(featureflags.NewMemory()), server.WithLog(slog.New(slog.NewTextHandler(w.t.Output(), nil))))
	if err != nil {
		w.t.Fatal(err)
	}
	life, end := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- w.guard.Run(life) }() // ends with stop
	w.stop = sync.OnceFunc(func() {
		end()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	w.data, w.admin = w.connect("data"), w.connect("admin")
}

func (w *town) connect(address string) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithContextDialer(w.wire.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

func (w *town) flags() capguardv1.FlagServiceClient { return capguardv1.NewFlagServiceClient(w.admin) }

func (w *town) stock() fragilev1.StockServiceClient { return fragilev1.NewStockServiceClient(w.data) }

func (w *town) backendNow() *capguardv1.Backend {
	resp, err := capguardv1.NewGuardServiceClient(w.admin).GetBackend(context.Background(), &capguardv1.GetBackendRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.GetBackend()
}

// load puts calls on the guard and returns what became of them, by class.
func (w *town) load(d time.Duration, classes ...loadtest.Class) map[string]loadtest.Tally {
	report, err := loadtest.Run(context.Background(), w.data, loadtest.Plan{Classes: classes, Duration: d, Seed: 1}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	tallies := make(map[string]loadtest.Tally)
	for _, c := range report.Classes {
		tallies[c.Name] = c.Tally
	}
	return tallies
}

// base is what the shop can not do without; recs is the load-heavy feature.
func base(rate float64) loadtest.Class {
	return loadtest.Class{Name: "base", Method: checkMethod, Request: &fragilev1.CheckRequest{Sku: "tree"}, Rate: loadtest.Steady(rate)}
}

func recs(rate float64) loadtest.Class {
	return loadtest.Class{Name: "recs", Method: recommendMethod, Request: &fragilev1.RecommendRequest{Sku: "tree", Weight: 5},
		Rate: loadtest.Steady(rate), Feature: "recs", Criticality: guard.Sheddable}
}

func share(part, whole uint64) float64 { return float64(part) / float64(max(1, whole)) }

// Two minutes of base load at half of the capacity, and a released feature that asks for as much again as the whole capacity: the back-end,
// which dies within seconds of it, lives, and the base load is served.
func TestTheBackendSurvivesTheRelease(t *testing.T) {
	s := fragile.Default()
	s.Crash = fragile.Crash{Above: 150, After: time.Second, Restart: 5 * time.Second}
	inTown(t, s, func(w *town) {
		got := w.load(2*time.Minute, base(200), recs(80))
		if n := w.backend.Stats().Crashes; n > 0 {
			t.Errorf("the back-end crashed %d times behind the guard", n)
		}
		b := got["base"]
		if ok := share(b.Good, b.Offered); ok < 0.995 { // 0.9999 and more, as goroutines happen to be scheduled
			t.Errorf("%.4f of the base calls were answered in time: %+v", ok, b.Refused)
		}
		w.settled()
	})
}

// settled checks that no permit is lost.
func (w *town) settled() {
	w.t.Helper()
	time.Sleep(5 * time.Second)
	if b := w.backendNow(); b.GetInFlight() != 0 || b.GetQueued() != 0 || b.GetOpenStreams() != 0 || b.GetDoubleReturns() != 0 {
		w.t.Errorf("permits are not all back: %v", b)
	}
}

// Half the capacity is no overload: not one call of five minutes is refused.
func TestNothingIsRefusedAtHalfTheCapacity(t *testing.T) {
	inTown(t, fragile.Default(), func(w *town) {
		got := w.load(5*time.Minute, base(200))["base"]
		if got.Good != got.Offered {
			t.Errorf("%d of %d calls were not answered in time: refused %v, failed %v, late %d", got.Offered-got.Good, got.Offered, got.Refused,
				got.Failed, got.Late)
		}
	})
}

// After a crash the guard finds its way back by itself: a minute later everything is as before.
func TestTheGuardRecoversFromACrash(t *testing.T) {
	s := fragile.Default()
	s.Crash = fragile.Crash{Above: 1 << 20, After: time.Hour, Restart: 5 * time.Second}
	inTown(t, s, func(w *town) {
		w.load(20*time.Second, base(200))
		w.backend.Crash()
		w.load(20*time.Second, base(200))
		got := w.load(20*time.Second, base(200))["base"]
		if ok := share(got.Good, got.Offered); ok < 0.99 {
			t.Errorf("twenty seconds after the crash only %.3f of the calls are answered: %v %v", ok, got.Refused, got.Failed)
		}
		if state := w.backendNow().GetBreaker(); state.GetState() != capguardv1.Breaker_STATE_CLOSED {
			t.Errorf("the breaker is still %v: %s", state.GetState(), state.GetReason())
		}
	})
}

// "Off for two hours, then back by itself": nobody has to get up for it.
func TestOffForTwoHoursThenBackByItself(t *testing.T) {
	inTown(t, fragile.Default(), func(w *town) {
		if got := w.load(10*time.Second, recs(10))["recs"]; got.Good+got.Late != got.Offered {
			t.Errorf("before: refused %v, failed %v", got.Refused, got.Failed)
		}
		reached := w.backend.Received(recommendMethod)
		_, err := w.flags().DisableFlag(context.Background(), &capguardv1.DisableFlagRequest{Name: "recs", Reason: "INC-4821",
			Ttl: durationpb.New(2 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		off := w.load(2*time.Hour-time.Minute, recs(1))["recs"]
		if off.Refused["FEATURE_OFF"] != off.Offered || w.backend.Received(recommendMethod) != reached {
			t.Errorf("off: %d offered, refused %v, %d reached the back-end", off.Offered, off.Refused, w.backend.Received(recommendMethod)-reached)
		}
		time.Sleep(time.Minute + time.Second)
		if got := w.load(10*time.Second, recs(10))["recs"]; got.Good+got.Late != got.Offered {
			t.Errorf("after: refused %v, failed %v", got.Refused, got.Failed)
		}
		w.history()
	})
}

// history checks that the return is on record as the schedule's doing.
func (w *town) history() {
	w.t.Helper()
	resp, err := w.flags().ListFlagRevisions(context.Background(), &capguardv1.ListFlagRevisionsRequest{Parent: "recs"})
	if err != nil {
		w.t.Fatal(err)
	}
	last := resp.GetRevisions()[0]
	if last.GetAction() != capguardv1.FlagRevision_ACTION_EXPIRE || last.GetActor() != "schedule" {
		w.t.Errorf("the last revision is %v by %s", last.GetAction(), last.GetActor())
	}
}

// No admitted call is cut by a stop, and who comes later is told to go elsewhere.
func TestDrainCutsNoCall(t *testing.T) {
	s := fragile.Default()
	s.ServiceTime, s.CV = 10*time.Second, 0
	inTown(t, s, func(w *town) {
		answered := make(chan error, 4)
		for range cap(answered) {
			go func() {
				_, err := w.stock().Check(context.Background(), &fragilev1.CheckRequest{Sku: "tree"})
				answered <- err
			}()
		}
		time.Sleep(time.Second)
		began := time.Now()
		w.stop()
		for range cap(answered) {
			if err := <-answered; err != nil {
				t.Errorf("an admitted call was cut: %v", err)
			}
		}
		if took := time.Since(began); took < 8*time.Second || took > 20*time.Second {
			t.Errorf("draining took %v for calls of 10 s", took)
		}
	})
}

// A reload with a lower limit cuts nothing; one that needs a restart changes nothing and says so.
func TestReload(t *testing.T) {
	inTown(t, fragile.Default(), func(w *town) {
		c := &capguardv1.Config{Backends: []*capguardv1.BackendConfig{{Targets: []string{"127.0.0.1:9000"}, Mode: "observe",
			Limit: &capguardv1.LimitConfig{Law: "fixed", Initial: 3}}}}
		if err := config.Complete(c); err != nil {
			t.Fatal(err)
		}
		if err := w.guard.Reload(c); err != nil {
			t.Fatal(err)
		}
		if b := w.backendNow(); b.GetMode() != capguardv1.Mode_MODE_OBSERVE || b.GetLimit().GetCurrent() != 3 {
			t.Errorf("after the reload: %v", b)
		}
		c.Listen = "127.0.0.1:9999"
		c.Backends[0].Mode = "off"
		if err := w.guard.Reload(c); err == nil || w.backendNow().GetMode() != capguardv1.Mode_MODE_OBSERVE {
			t.Errorf("a reload that needs a restart: %v, mode %v", err, w.backendNow().GetMode())
		}
	})
}
