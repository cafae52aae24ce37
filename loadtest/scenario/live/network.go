package live

import (
	"context"
	"errors"
	"net"
	"sync"
)

// anyPort lets the network choose.
const anyPort = "127.0.0.1:0"

// network is what clients, guard and back-ends reach each other by: that of the machine, or in tests one in memory, where time is virtual.
type network interface {
	listen(address string) (net.Listener, error)
	dial(ctx context.Context, address string) (net.Conn, error)
}

// loopback is the network of the machine.
type loopback struct{}

func (loopback) listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }

func (loopback) dial(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// wires are connections that can all be cut at once.
type wires struct {
	mu  sync.Mutex
	cut bool
	all []net.Conn
}

// keep adds a connection; while the wires are cut it closes it and returns false.
func (w *wires) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		_ = c.Close()
		return false
	}
	w.all = append(w.all, c)
	return true
}

// sever cuts all, and those that come, until mend.
func (w *wires) sever() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, c := range w.all {
		_ = c.Close()
	}
	w.all = nil
}

func (w *wires) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// door is a listener with the connections that came through it.
type door struct {
	net.Listener
	wires
}

// Close may be called more than once: by the server, and by whoever kills it.
func (d *door) Close() error {
	if err := d.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Accept returns the next connection that is kept.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil || d.keep(c) {
			return c, err
		}
	}
}
