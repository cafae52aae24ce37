package relay_test

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/server/relay"
)

// Every client that stalls inside the handshake of TLS is given up and counted, by one clock.
func TestStalledTLSHandshakes(t *testing.T) {
	const clients = 30
	synctest.Test(t, func(t *testing.T) {
		cert, _ := certificate(t)
		front, stats := newSite(t, 1<<20), new(relay.Stats)
		r := relay.New(relay.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Stats: stats})
		go func() { _ = r.Serve(front.listener) }() // Until Close.
		defer r.Close()
		for i := range clients {
			conn, err := front.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if i%2 == 0 {
				_, _ = conn.Write([]byte("\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03")) // The guard reads it.
			}
		}
		time.Sleep(9 * time.Second)
		if n := stats.OpenConnections.Load(); n != clients {
			t.Errorf("%d connections are open before their time is over, want %d", n, clients)
		}
		time.Sleep(2 * time.Second)
		if n, open := stats.Breaches(relay.SlowHandshake), stats.OpenConnections.Load(); n != clients || open != 0 {
			t.Errorf("%d breaches and %d open connections, want %d and none", n, open, clients)
		}
	})
}
