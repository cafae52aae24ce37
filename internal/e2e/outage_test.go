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

	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/capguard/capguard/client"
	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/server"
	"github.com/capguard/capguard/server/config"
)

// cables are all connections of one guard: cut, they are what is left of a process that was killed.
type cables struct {
	wire *wire

	mu    sync.Mutex
	ports []string
	conns []net.Conn
}

// port is a listener whose connections are cut with the others.
type port struct {
	net.Listener
	cables *cables
}

func (p port) Accept() (net.Conn, error) {
	nc, err := p.Listener.Accept()
	if err == nil {
		p.cables.keep(nc)
	}
	return nc, err
}

func (c *cables) keep(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, nc)
}

func (c *cables) listen(address string) net.Listener {
	lis, _ := c.wire.listen(address)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ports = append(c.ports, address)
	return port{lis, c}
}

func (c *cables) dial(ctx context.Context, address string) (net.Conn, error) {
	nc, err := c.wire.dial(ctx, address)
	if err == nil {
		c.keep(nc)
	}
	return nc, err
}

func (c *cables) cut() {
	c.wire.mu.Lock()
	for _, address := range c.ports {
		_ = c.wire.listeners[address].Close()
		delete(c.wire.listeners, address)
	}
	c.wire.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.conns {
		_ = nc.Close()
	}
}

// outage is a town whose guard is killed and started again, and whose clients go on meanwhile.
type outage struct {
	*town
	data    string // directory: what a guard has learned helps the next one
	cables  *cables
	clients []*client.Conn
	ctx     context.Context
}

// inOutage runs f in a bubble with n clients of one share each.
func inOutage(t *testing.T, s fragile.Settings, n int, share float64, f func(*outage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &outage{town: &town{t: t, wire: &wire{listeners: make(map[string]*bufconn.Listener)}}, data: t.TempDir()}
		var running sync.WaitGroup
		var cancel context.CancelFunc
		o.ctx, cancel = context.WithCancel(context.Background())
		var err error
		if o.backend, err = fragile.NewBackend(s); err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			_ = o.backend.Serve(o.ctx, func() (net.Listener, error) { return o.wire.listen("127.0.0.1:9000") })
		})
		synctest.Wait()
		o.start()
		for range n {
			o.clients = append(o.clients, o.client(share))
		}
		o.admin = o.connect("admin")
		f(o)
		for _, c := range o.clients {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		_ = o.admin.Close()
		o.stop()
		cancel()
		running.Wait()
	})
}

// start starts the guard.
func (o *outage) start() {
	c := &capguardv1.Config{DataDir: o.data, Backends: []*capguardv1.BackendConfig{{Targets: []string{"127.0.0.1:9000"}}}}
	if err := config.Complete(c); err != nil {
		o.t.Fatal(err)
	}
	o.cables = &cables{wire: o.wire}
	g, err := server.New(o.ctx, c, server.WithListeners(o.cables.listen("data"), o.cables.listen("admin")),
		server.WithBackendDialer(o.cables.dial), server.WithLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		o.t.Fatal(err)
	}
	life, end := context.WithCancel(o.ctx)
	ended := make(chan error)
	go func() { ended <- g.Run(life) }() // ends with stop
	o.stop = sync.OnceFunc(func() {
		end()
		<-ended // What a guard says whose listeners were taken away does not matter.
	})
	o.guard = g
}

// kill ends the guard as SIGKILL does.
func (o *outage) kill() {
	o.cables.cut()
	o.stop() // Nobody hears of what is left.
}

func (o *outage) client(share float64) *client.Conn {
	conn, err := client.Dial("passthrough:///data", client.WithAdmin("passthrough:///admin"), client.WithDialer(o.wire.dial),
		client.WithDirect("passthrough:///127.0.0.1:9000", share), client.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		o.t.Fatal(err)
	}
	return conn
}

// play puts rate on all clients together for d, lets during happen meanwhile, and returns what became of the calls by second.
func (o *outage) play(d time.Duration, rate float64, seed uint64, during func()) []loadtest.Tally {
	var mu sync.Mutex
	seconds := make([]loadtest.Tally, int(d/time.Second)+10)
	var all sync.WaitGroup
	all.Go(during)
	for i, conn := range o.clients {
		plan := loadtest.Plan{Classes: []loadtest.Class{base(rate / float64(len(o.clients)))}, Duration: d, Seed: seed<<8 + uint64(i)}
		all.Go(func() {
			_, err := loadtest.Run(o.ctx, conn, plan, func(s loadtest.Second) {
				mu.Lock()
				defer mu.Unlock()
				seconds[min(int(s.From.Round(time.Second)/time.Second), len(seconds)-1)].Merge(&s.Classes[0].Tally)
			})
			if err != nil {
				o.t.Error(err)
			}
		})
	}
	all.Wait()
	return seconds
}

// through sums up what became of the calls of the seconds from, to.
func through(seconds []loadtest.Tally, from, to int) (sum loadtest.Tally) {
	for i := from; i < to; i++ {
		sum.Merge(&seconds[i])
	}
	return sum
}

// crowded watches how many jobs are at the back-end, until it is stopped, and returns the most.
func (o *outage) crowded() (most func() int) {
	highest, done, ended := 0, make(chan struct{}), make(chan struct{})
	go func() { // ends with most
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s := o.backend.Stats()
				highest = max(highest, s.Running+s.Queued)
			case <-done:
				return
			}
		}
	}()
	return func() int {
		close(done)
		<-ended
		return highest
	}
}

// seeds is how many towns a scenario is played in: the race detector takes ten times as long.
var seeds = map[bool]int{false: 2, true: 1}[raceEnabled]

// A guard is killed for five seconds, at 70 % and at twice of what the back-end can bear, with one client and with twenty.
func TestTheGuardIsKilled(t *testing.T) {
	for name, c := range map[string]struct {
		clients   int
		load      float64
		good, gap float64 // of the offered calls at 70 %, of the capacity at 2x, at least
	}{
		"one client at 70 %":      {1, 0.7, 0.99, 0.95},
		"twenty clients at 70 %":  {20, 0.7, 0.99, 0.95},
		"one client at twice":     {1, 2, 0, 0.8},
		"twenty clients at twice": {20, 2, 0, 0.8},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(seeds) {
				s := fragile.Default()
				s.Seed = seed
				inOutage(t, s, c.clients, 6/float64(c.clients), func(o *outage) {
					var most int
					seconds := o.play(30*time.Second, c.load*s.Capacity(), seed, func() {
						time.Sleep(15 * time.Second)
						crowded := o.crowded()
						o.kill()
						time.Sleep(5 * time.Second)
						o.start()
						most = crowded()
					})
					all, gap := through(seconds, 0, len(seconds)), through(seconds, 15, 20)
					before, after := through(seconds, 5, 15), through(seconds, 22, 30)
					whole := float64(min(gap.Offered, uint64(5*s.Capacity())))
					t.Logf("seed %d: all %.4f, before %.3f, gap %.4f (failed %v), after %.3f, at most %d jobs at once", seed,
						share(all.Good, all.Offered), float64(before.Good)/10/s.Capacity(), float64(gap.Good)/whole, gap.Failed,
						float64(after.Good)/8/s.Capacity(), most)
					if share(all.Good, all.Offered) < c.good || float64(gap.Good) < c.gap*whole {
						t.Errorf("seed %d: %.4f of all calls were good, %.4f of what was possible in the gap", seed,
							share(all.Good, all.Offered), float64(gap.Good)/whole)
					}
					if most > 3*s.Knee {
						t.Errorf("seed %d: %d jobs were at the back-end at once", seed, most)
					}
				})
			}
		})
	}
}

// A feature that is off stays off while the guard is gone, and once it is back calls go through it again.
func TestOffStaysOffWithoutTheGuard(t *testing.T) {
	inOutage(t, fragile.Default(), 1, 2, func(o *outage) {
		stock, recs := fragilev1.NewStockServiceClient(o.clients[0]), o.clients[0].Feature("recs")
		_, err := o.flags().DisableFlag(o.ctx, &capguardv1.DisableFlagRequest{Name: "recs", Reason: "INC-4821", AllowMissing: true,
			Ttl: durationpb.New(time.Hour)})
		if err != nil {
			o.t.Fatal(err)
		}
		time.Sleep(time.Second)
		o.kill()
		before := o.backend.Received(checkMethod)
		_, err = stock.Recommend(recs.Tag(o.ctx), &fragilev1.RecommendRequest{Sku: "tree"})
		if r, ok := client.Rejected(err); !ok || r.Reason != client.FeatureOff || r.Metadata["why"] != "INC-4821" {
			o.t.Errorf("a call of a feature that is off, past the guard: %v", err)
		}
		if _, err := stock.Check(o.ctx, &fragilev1.CheckRequest{Sku: "tree"}); err != nil {
			o.t.Errorf("a call past the guard: %v", err)
		}
		if n := o.backend.Received(checkMethod) - before; n != 1 {
			o.t.Errorf("%d calls reached the back-end", n)
		}
		o.start()
		time.Sleep(5 * time.Second)
		for range 10 {
			if _, err := stock.Check(o.ctx, &fragilev1.CheckRequest{Sku: "tree"}); err != nil {
				o.t.Errorf("a call after the return of the guard: %v", err)
			}
		}
		time.Sleep(time.Second)
		if r := o.backendNow().GetRates(); r.GetAdmitted() == 0 {
			o.t.Errorf("no call went through the guard after its return: %v", r)
		}
		_, err = stock.Recommend(recs.Tag(o.ctx), &fragilev1.RecommendRequest{Sku: "tree"})
		if !errors.Is(err, client.FeatureOff) {
			o.t.Errorf("a call of a feature that is off, after the return of the guard: %v", err)
		}
	})
}
