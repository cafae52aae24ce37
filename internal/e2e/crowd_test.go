package e2e_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// idlers are clients that have shaken hands and then do nothing; nobody reads for them.
type idlers struct {
	mu    sync.Mutex
	peers []*peer
}

// gather connects n clients, a few at a time, and has each do first.
func (c *idlers) gather(ctx context.Context, s *siege, n int, first func(p *peer) error) error {
	var workers sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, 8)
	for i := range errs {
		workers.Go(func() {
			for errs[i] == nil && next.Add(1) <= int64(n) {
				errs[i] = c.add(ctx, s, first)
				time.Sleep(breath)
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

func (c *idlers) add(ctx context.Context, s *siege, first func(p *peer) error) error {
	p, err := join(ctx, s.data)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.peers = append(c.peers, p)
	c.mu.Unlock()
	s.sent.Add(1)
	return errors.Join(first(p), p.out.Flush())
}

// scatter ends all connections at once, as a host that dies does.
func (c *idlers) scatter() {
	for _, p := range c.peers {
		_ = p.Conn.(*net.TCPConn).SetLinger(0)
		_ = p.Close()
	}
}

// Ten thousand clients are the bound, and cost some KiB each. What the limit of open files leaves is tried; go raises the soft one to the
// hard one by itself, here and in the guard.
func TestAbuseTenThousandConnections(t *testing.T) {
	const others = 100 // of files, in either process
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := int(min(10_000-others, files.Max-others))
	t.Logf("%d connections; %d files may be open", n, files.Max)
	if n < 4000 {
		t.Fatal("the limit of open files is too low to show anything")
	}
	besiege(t, attack{time: time.Minute, memory: 180, run: func(ctx context.Context, s *siege) {
		var crowd idlers
		if err := crowd.gather(ctx, s, n, func(*peer) error { return nil }); err != nil {
			t.Error(err)
		}
		until(t, "all are connected", func() bool { return s.metric(t, `capguard_relay_connections`) >= n })
		time.Sleep(attackTime)
		crowd.scatter()
	}, then: func(t *testing.T, s *siege) {
		until(t, "all are gone", func() bool { return s.metric(t, `capguard_relay_connections`) < others })
	}})
}

// Ten thousand calls that wait, over forty connections.
func TestAbuseTenThousandIdleStreams(t *testing.T) {
	const clients = 40
	besiege(t, attack{time: time.Minute, memory: 180, run: func(ctx context.Context, s *siege) {
		var crowd idlers
		if err := crowd.gather(ctx, s, clients, func(p *peer) error {
			return repeat(idlePerConn, func() error {
				_, err := p.request(waitMethod, false)
				return err
			})
		}); err != nil {
			t.Error(err)
		}
		until(t, "all calls are open", func() bool { return s.open(t) >= clients*idlePerConn })
		time.Sleep(attackTime)
		crowd.scatter()
	}})
}
