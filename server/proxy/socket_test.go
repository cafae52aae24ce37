package proxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/proxy"
)

// refuse is a dialer to nowhere.
func refuse(_ context.Context, address string) (net.Conn, error) {
	return nil, fmt.Errorf("dial %s: refused", address)
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

// serveOn starts a back-end on a real listener.
func serveOn(t *testing.T, lis net.Listener, options ...grpc.ServerOption) {
	t.Helper()
	s := grpc.NewServer(append(options, grpc.UnknownServiceHandler(upper))...)
	go func() { _ = s.Serve(lis) }() // Until Stop.
	t.Cleanup(s.Stop)
}

// through makes one call through a proxy before target, over real sockets.
func through(t *testing.T, target string, o proxy.Options, b proxy.BackendOptions, creds credentials.TransportCredentials) {
	t.Helper()
	backend, err := proxy.NewBackend(&capguardv1.BackendConfig{Targets: []string{target}}, guard.Default(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	p := proxy.New(o, backend)
	lis := listen(t, "tcp", "127.0.0.1:0")
	go func() { _ = p.Serve(lis) }() // Until Drain.
	client, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	answer := &wrapperspb.StringValue{}
	if err := client.Invoke(t.Context(), method, text("x"), answer, grpc.WaitForReady(true)); err != nil || answer.GetValue() != "X" {
		t.Errorf("%s: %q, %v", target, answer.GetValue(), err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRealSockets(t *testing.T) {
	tcp := listen(t, "tcp", "127.0.0.1:0")
	serveOn(t, tcp)
	_, port, err := net.SplitHostPort(tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	serveOn(t, listen(t, "unix", path))
	for _, target := range []string{"127.0.0.1:" + port, "localhost:" + port, "dns:///127.0.0.1:" + port, "unix:" + path, "unix://" + path} {
		t.Run(strings.ReplaceAll(target, path, "PATH"), func(t *testing.T) {
			through(t, target, proxy.Options{}, proxy.BackendOptions{}, insecure.NewCredentials())
		})
	}
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	client := &tls.Config{RootCAs: pool, ServerName: "guard.test"}
	lis := listen(t, "tcp", "127.0.0.1:0")
	serveOn(t, lis, grpc.Creds(credentials.NewTLS(server)))
	t.Run("on both sides", func(t *testing.T) {
		through(t, lis.Addr().String(), proxy.Options{TLS: server}, proxy.BackendOptions{TLS: client}, credentials.NewTLS(client))
	})
	// Here the caller's authority is 127.0.0.1, which the back-end's certificate does not name: it says what the call is for, not whom the
	// guard trusts.
	t.Run("to the back-end alone", func(t *testing.T) {
		through(t, lis.Addr().String(), proxy.Options{}, proxy.BackendOptions{TLS: client}, insecure.NewCredentials())
	})
}

// certificate returns one for guard.test, and who trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"guard.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
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
