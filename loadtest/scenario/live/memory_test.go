package live

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/test/bufconn"
)

// ports are never given twice, for the client library has things that all its connections to an address share.
var ports atomic.Int32

// memory is a network in memory.
type memory struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
}

// socket is a listener that knows its address.
type socket struct {
	*bufconn.Listener
	address net.TCPAddr
}

func (s *socket) Addr() net.Addr { return &s.address }

// Accept fails as a listener of the machine does.
func (s *socket) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (m *memory) listen(address string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	if tcp.Port == 0 {
		tcp.Port = int(ports.Add(1))
	}
	s := &socket{bufconn.Listen(64 << 10), *tcp}
	m.listeners[tcp.String()] = s.Listener
	return s, nil
}

func (m *memory) dial(ctx context.Context, address string) (net.Conn, error) {
	m.mu.Lock()
	lis := m.listeners[address]
	m.mu.Unlock()
	if lis == nil {
		return nil, errors.New("connection refused")
	}
	return lis.DialContext(ctx)
}
