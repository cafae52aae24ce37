package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// ServerTLS loads the files of a TLS server; nil for a nil t. what names the port in errors.
func ServerTLS(what string, t *capguardv1.ServerTLS) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(t.GetCertFile(), t.GetKeyFile())
	if err != nil {
		return nil, fmt.Errorf("%s: load TLS certificate %s with key %s: %w", what, t.GetCertFile(), t.GetKeyFile(), err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}
	if t.GetClientCaFile() == "" {
		return c, nil
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs, err = loadAuthorities(what, t.GetClientCaFile())
	return c, err
}

// ClientTLS loads the files of a TLS client; nil for a nil t. what names the back-end in errors.
func ClientTLS(what string, t *capguardv1.ClientTLS) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.GetServerName()}
	var err error
	if t.GetCaFile() != "" {
		if c.RootCAs, err = loadAuthorities(what, t.GetCaFile()); err != nil {
			return nil, err
		}
	}
	if t.GetCertFile() != "" {
		cert, err := tls.LoadX509KeyPair(t.GetCertFile(), t.GetKeyFile())
		if err != nil {
			return nil, fmt.Errorf("%s: load client certificate %s with key %s: %w", what, t.GetCertFile(), t.GetKeyFile(), err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

func loadAuthorities(what, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: read certificate authorities: %w", what, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no PEM certificate", what, file)
	}
	return pool, nil
}
