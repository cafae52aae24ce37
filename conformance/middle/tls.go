package middle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// TLS is one end of a connection, all in PEM; what is not needed is empty.
type TLS struct {
	Cert, Key []byte // shown to the other side
	CA        []byte // verifies the other side
}

// NewTLS makes a certificate for loopback that signs itself, so that Cert is its own CA.
func NewTLS() (*TLS, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "conformance"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &TLS{Cert: cert, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}, nil
}

// files are the paths of what a TLS holds; empty for what it does not.
type files struct {
	cert, key, ca string
	bundle        string // certificate and key in one, as HAProxy wants it
}

func (t *TLS) write(dir, name string) (f files, err error) {
	write := func(suffix string, content []byte) string {
		if len(content) == 0 || err != nil {
			return ""
		}
		path := filepath.Join(dir, name+suffix)
		err = os.WriteFile(path, content, 0o600)
		return path
	}
	f.cert, f.key, f.ca = write(".crt", t.Cert), write(".key", t.Key), write(".ca", t.CA)
	if len(t.Key) > 0 {
		f.bundle = write(".pem", append(append([]byte{}, t.Cert...), t.Key...))
	}
	return f, err
}

// yaml is a TLS message of the guard's configuration.
func (f files) yaml(name, caField, indent string) string {
	var text strings.Builder
	text.WriteString(indent + name + ":\n")
	for _, line := range []struct{ field, path string }{{"cert_file", f.cert}, {"key_file", f.key}, {caField, f.ca}} {
		if line.path != "" {
			text.WriteString(indent + "  " + line.field + ": " + line.path + "\n")
		}
	}
	return text.String()
}
