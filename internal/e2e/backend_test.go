package e2e_test

import (
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
)

// What attackers call: a method whose back-end waits for the end of the call, and one whose back-end sends without end. All other methods
// are answered like Check.
const (
	waitMethod  = "/shop.Stock/Watch"
	floodMethod = "/shop.Stock/Flood"
)

// sturdy is a connection of a back-end that ten thousand calls cost next to nothing. It runs beside attackers and bystanders, and must not
// be what slows them down.
type sturdy struct {
	*peer
	method map[uint32]string // of open calls
	window map[uint32]int    // of calls that send without end
	line   []uint32          // of those that may send now
	total  int               // window of the connection
}

func sturdyBackend(t *testing.T) string {
	t.Helper()
	return serveFrames(t, func(p *peer) {
		s := &sturdy{peer: p, method: make(map[uint32]string), window: make(map[uint32]int), total: firstWindow}
		p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1 << 20})
		p.listen(s.take)
	})
}

// serveFrames has serve take each connection to a back-end of the test's own.
func serveFrames(t *testing.T, serve func(p *peer)) string {
	t.Helper()
	lis := listenTCP(t)
	go func() { // Ends with the listener, at the end of the test, and each connection with that to which it leads.
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go takePreface(conn, serve)
		}
	}()
	return lis.Addr().String()
}

func takePreface(conn net.Conn, serve func(p *peer)) {
	defer func() { _ = conn.Close() }()
	if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err == nil {
		serve(newPeer(conn))
	}
}

// greet sends the first SETTINGS of a back-end. An error shows with the next frame.
func (p *peer) greet(settings ...http2.Setting) {
	_ = p.WriteSettings(settings...)
	_ = p.out.Flush()
}

// take takes a frame; an error of what it writes ends the connection for whoever reads, too.
func (s *sturdy) take(f http2.Frame) {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = s.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = s.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		delete(s.method, id)
		delete(s.window, id)
	case *http2.WindowUpdateFrame:
		s.widen(id, int(f.Increment))
	case *http2.MetaHeadersFrame:
		s.begin(id, f.PseudoValue("path"))
		s.end(id, f.StreamEnded())
	case *http2.DataFrame:
		if n := uint32(f.Header().Length); n > 0 {
			_ = s.WriteWindowUpdate(0, n)
			if s.method[id] != "" && !f.StreamEnded() && s.method[id] != waitMethod {
				_ = s.WriteWindowUpdate(id, n)
			}
		}
		s.end(id, f.StreamEnded())
	}
	s.pump()
	if s.in.Buffered() == 0 {
		_ = s.out.Flush()
	}
}

func (s *sturdy) begin(id uint32, method string) {
	if method == "" {
		return // These are trailers.
	}
	s.method[id] = method
	if method == floodMethod {
		_ = s.headers(id, false, ":status", "200", "content-type", "application/grpc")
		s.window[id] = firstWindow
		s.line = append(s.line, id)
	}
}

// end takes the end of a request.
func (s *sturdy) end(id uint32, ended bool) {
	if m := s.method[id]; !ended || m == "" || m == waitMethod || m == floodMethod {
		return
	}
	delete(s.method, id)
	_ = s.headers(id, false, ":status", "200", "content-type", "application/grpc")
	_ = s.WriteData(id, false, answer)
	_ = s.headers(id, true, "grpc-status", "0")
}

func (s *sturdy) widen(id uint32, n int) {
	if id == 0 {
		s.total += n
		return
	}
	if had, ok := s.window[id]; ok {
		s.window[id] = had + n
		if had == 0 {
			s.line = append(s.line, id)
		}
	}
}

// pump sends what the windows allow, a frame of each call in turn.
func (s *sturdy) pump() {
	for len(s.line) > 0 && s.total > 0 {
		id := s.line[0]
		s.line = s.line[1:]
		n := min(s.window[id], s.total, len(nulls))
		if n == 0 {
			continue // It has ended.
		}
		_ = s.WriteData(id, false, nulls[:n])
		s.total -= n
		if s.window[id] -= n; s.window[id] > 0 {
			s.line = append(s.line, id)
		}
	}
}

var (
	answer = message(&fragilev1.CheckResponse{Quantity: 7})
	nulls  = make([]byte, 16<<10) // are gRPC messages without content, if there are five of them, or a multiple of five
)

// message returns m as it travels.
func message(m proto.Message) []byte {
	body, err := proto.Marshal(m)
	if err != nil {
		panic(err) // It is a constant.
	}
	return append([]byte{0, 0, 0, 0, byte(len(body))}, body...)
}
