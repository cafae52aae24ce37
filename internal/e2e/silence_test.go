package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// silence is how many connections stall in each way.
const silence = 200

// patience is far more than the guard has with the first words of a client, and with any frame that has begun.
const patience = time.Minute

// stall opens connections and has each say what it says at first, and then a byte of more every second, until the guard or ctx ends
// it.
func (s *siege) stall(ctx context.Context, first func(c net.Conn) error, more []byte) {
	var clients sync.WaitGroup
	for range silence {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.data)
		if err != nil {
			continue
		}
		clients.Go(func() {
			defer func() { _ = conn.Close() }()
			if first(conn) == nil {
				s.dribble(ctx, conn, more)
			}
		})
	}
	clients.Wait()
}

func (s *siege) dribble(ctx context.Context, conn net.Conn, text []byte) {
	ended := make(chan struct{})
	go func() { // Ends with the connection.
		_, _ = io.Copy(io.Discard, conn)
		close(ended)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			s.thrown.Add(1)
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			if n := min(len(text), 1); n > 0 {
				s.sent.Add(1)
				_, _ = conn.Write(text[:n]) // Whether it was in vain, the reader sees.
				text = text[n:]
			}
		}
	}
}

// together does several things at once.
func together(all ...func()) {
	var tasks sync.WaitGroup
	for _, do := range all {
		tasks.Go(do)
	}
	tasks.Wait()
}

// says writes text.
func says(text string) func(c net.Conn) error {
	return func(c net.Conn) error {
		_, err := c.Write([]byte(text))
		return err
	}
}

const (
	emptySettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	headersBegin  = "\x00\x00\x40\x01\x04\x00\x00\x00\x01"
	openBlock     = "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82"
)

// Clients that do not come to the end of what they begin are given up after a while, and cost little until then.
func TestAbuseSilence(t *testing.T) {
	t.Parallel()
	then := wantBreaches("slow_frame", 2*silence)
	besiege(t, attack{time: patience, breach: "slow_handshake", then: then, run: func(ctx context.Context, s *siege) {
		slowly := make([]byte, 60)
		together(
			func() { s.stall(ctx, says(""), nil) },
			func() { s.stall(ctx, says(""), []byte(http2.ClientPreface)) },
			func() { s.stall(ctx, says(http2.ClientPreface), nil) },
			func() { s.stall(ctx, says(http2.ClientPreface), []byte(emptySettings)[:8]) },
			func() { s.stall(ctx, says(http2.ClientPreface+emptySettings+headersBegin), slowly) },
			func() { s.stall(ctx, says(http2.ClientPreface+emptySettings+openBlock), nil) },
		)
	}})
}

// The same over TLS: nothing, half of a handshake, a handshake and nothing, frames that do not end.
func TestAbuseSilenceOverTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue(t, "localhost")
	pem, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	trust := &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2"}}
	besiege(t, attack{
		time: patience, flags: []string{"--tls-cert", cert, "--tls-key", key},
		breach: "slow_frame", then: wantBreaches("slow_handshake", 4*silence),
		dial: []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(trust))},
		run: func(ctx context.Context, s *siege) {
			over := func(text string) func(c net.Conn) error {
				return func(c net.Conn) error {
					_, err := tls.Client(c, trust).Write([]byte(text))
					return err
				}
			}
			hello := []byte("\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03")
			together(
				func() { s.stall(ctx, says(""), nil) },
				func() { s.stall(ctx, says(""), hello) },
				func() { s.stall(ctx, over(""), nil) },
				func() { s.stall(ctx, over(http2.ClientPreface), nil) },
				func() { s.stall(ctx, over(http2.ClientPreface+emptySettings+headersBegin), nil) },
			)
		},
	})
}

// wantBreaches is for attacks that the guard must have ended and counted that often.
func wantBreaches(name string, want int) func(*testing.T, *siege) {
	return func(t *testing.T, s *siege) {
		if n := s.breaches(t, name); n != want {
			t.Errorf("%d breaches of %s, want %d", n, name, want)
		}
	}
}
