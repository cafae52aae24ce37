package fragile

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Options say where Run serves and what.
type Options struct {
	Settings Settings
	// Listen is the address, `host:port`.
	Listen string
	// Out takes what Run tells, a line each second while there is work.
	Out io.Writer
}

// Run serves a back-end on a real port until ctx ends, and tells each second what it does. It is the command `capguard fragile`.
func Run(ctx context.Context, o Options) error {
	b, err := NewBackend(o.Settings)
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen for the fragile back-end: %w; choose another address with --listen", err)
	}
	fmt.Fprintf(o.Out, "fragile back-end on %s: %.0f units of work a second, until it is asked for more; stop with Ctrl-C\n", lis.Addr(), o.Settings.Capacity())
	fmt.Fprintf(o.Out, "  try: grpcurl -plaintext -d '{\"sku\":\"kettle\"}' %s capguard.fragile.v1.StockService/Check\n", lis.Addr())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.tell(ctx, o.Out) })
	err = b.Serve(ctx, Relisten(lis))
	cancel()
	return err
}

// Relisten returns a source of listeners for Serve: first lis, then new ones on the same address.
func Relisten(lis net.Listener) func() (net.Listener, error) {
	addr := lis.Addr()
	return func() (net.Listener, error) {
		if first := lis; first != nil {
			lis = nil
			return first, nil
		}
		return net.Listen(addr.Network(), addr.String())
	}
}

// tell writes a line each second in which something was done or changed.
func (b *Backend) tell(ctx context.Context, w io.Writer) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := b.Stats()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := b.Stats()
		if line := now.since(last); line != "" {
			fmt.Fprintln(w, line)
		}
		last = now
	}
}

// since returns what happened between last and st in words; empty if nothing did.
func (st Stats) since(last Stats) string {
	switch {
	case st.Crashes > last.Crashes:
		return fmt.Sprintf("CRASHED (%d times by now); nobody can connect until it has restarted", st.Crashes)
	case last.Down && !st.Down:
		return "restarted, with a cold cache"
	case st.Arrived == last.Arrived && st.Running+st.Queued == 0:
		return ""
	default:
		return fmt.Sprintf("arrived %5d/s   served %5d/s   running %3d   queued %4d   refused %4d/s",
			st.Arrived-last.Arrived, st.Served-last.Served, st.Running, st.Queued, st.Full-last.Full)
	}
}
