package admin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/server/admin"
)

func codeOf(err error) codes.Code { return status.Code(err) }

func TestActorByMetadata(t *testing.T) {
	for said, actor := range map[string]string{
		"anna":                   "anna",
		" anna smith ":           "anna smith",
		"":                       "anonymous@bufconn",
		"   ":                    "anonymous@bufconn",
		strings.Repeat("x", 101): "anonymous@bufconn",
	} {
		inBubble(t, parts{}, func(r *rig) {
			ctx := metadata.AppendToOutgoingContext(r.Context(), admin.ActorKey, said)
			resp, err := r.flags.DisableFlag(ctx, &capguardv1.DisableFlagRequest{Name: "recs", AllowMissing: true})
			if err != nil {
				r.Fatal(err)
			}
			want(r, "actor of "+said, resp.GetFlag().GetActor(), actor)
		})
	}
}

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	made := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign})
	a.cert, a.key = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// sign completes a template; the first one signs itself.
func (a *authority) sign(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// serveTLS serves the rig's server on a second listener that verifies client certificates, and returns a client with cert.
func (r *rig) serveTLS(a *authority, cert tls.Certificate) capguardv1.FlagServiceClient {
	r.Helper()
	host := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "guard"}, DNSNames: []string{"guard"}, IPAddresses: []net.IP{{127, 0, 0, 1}}})
	r.listener = bufconn.Listen(1 << 16)
	serving := make(chan error, 1)
	go func() {
		serving <- r.server.Serve(r.listener, &tls.Config{
			Certificates: []tls.Certificate{host}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool(),
		})
	}()
	r.Cleanup(func() {
		r.server.Shutdown(r.Context())
		if err := <-serving; err != nil {
			r.Error("serve:", err)
		}
	})
	conn := r.dial(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: a.pool(), ServerName: "guard", Certificates: []tls.Certificate{cert},
	})))
	return capguardv1.NewFlagServiceClient(conn)
}

// The certificate says who commands; what the metadata say besides does not count.
func TestActorByCertificate(t *testing.T) {
	robot, _ := url.Parse("spiffe://example/robot")
	for actor, template := range map[string]*x509.Certificate{
		"anna":                   {Subject: pkix.Name{CommonName: "anna"}},
		"anna@example.org":       {EmailAddresses: []string{"anna@example.org"}},
		"ops.example.org":        {DNSNames: []string{"ops.example.org"}},
		"spiffe://example/robot": {URIs: []*url.URL{robot}},
	} {
		inBubble(t, parts{}, func(r *rig) {
			a := newAuthority(t)
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			client := r.serveTLS(a, a.sign(template))
			resp, err := client.DisableFlag(r.as("somebody else"), &capguardv1.DisableFlagRequest{Name: "recs", AllowMissing: true})
			if err != nil {
				r.Fatal(err)
			}
			want(r, "actor", resp.GetFlag().GetActor(), actor)
		})
	}
}

func TestForeignCertificate(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		a, foreign := newAuthority(t), newAuthority(t)
		client := r.serveTLS(a, foreign.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "anna"}}))
		_, err := client.DisableFlag(r.Context(), &capguardv1.DisableFlagRequest{Name: "recs", AllowMissing: true})
		want(r, "code", codeOf(err), codes.Unavailable)
		want(r, "flags", r.registry.Snapshot().Len(), 0)
	})
}
