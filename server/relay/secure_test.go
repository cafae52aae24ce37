package relay_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/server/relay"
)

// certificate returns one for stock, and a pool that trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"stock"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// Both hops are secured; a back-end that cannot be, or speaks something else, is as good as none.
func TestTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, pool := certificate(t)
		at := newSite(t, 1<<20)
		e := relay.NewEndpoint(relay.EndpointOptions{Dial: at.dial, TLS: &tls.Config{RootCAs: pool, ServerName: "stock"}})
		defer e.Close()
		for _, protocols := range [][]string{nil, {"http/1.1"}, {"h2"}} {
			conn, err := at.listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			over := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols})
			if protocols == nil {
				_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) // The relay has left.
				_ = conn.Close()
			} else if err := over.Handshake(); err == nil && protocols[0] == "h2" {
				behindTLS(t, e, over, cert, pool)
				return
			}
			synctest.Wait()
			if s := e.State(); s != relay.Failed {
				t.Errorf("the state is %v, want Failed", s)
			}
		}
	})
}

// behindTLS passes a call through a relay whose back-end has shaken hands.
func behindTLS(t *testing.T, e *relay.Endpoint, over *tls.Conn, cert tls.Certificate, pool *x509.CertPool) {
	backend := backendOf(t, over, habits{})
	front := newSite(t, 1<<20)
	r := relay.New(relay.Options{Decide: func(c *relay.Call) { c.Forward(e) }, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	go func() { _ = r.Serve(front.listener) }() // Until Close.
	defer r.Close()
	conn, err := front.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "stock", NextProtos: []string{"h2"}}), habits{})
	for id := uint32(1); id < 20; id += 2 {
		serve(client, id, backend, id)
	}
	client.request(21, false)
	client.pour(21, bytesOf(1<<20), true)
	backend.wantHeaders(21)
	backend.wantData(21, bytesOf(1<<20))
	backend.wantEnd(21)
	reply(client, 21, backend, 21, bytesOf(50_000))
}
