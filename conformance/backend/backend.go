// Package backend serves a handler of net/http behind the middle, over HTTP/2 alone.
//
// What this package does not do: it knows no gRPC. That is its use: it adds nothing to what the handler sends.
package backend

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/capguard/capguard/conformance/middle"
)

// Start serves until stop is called, over TLS if secure is not nil and else over h2c.
func Start(handler http.Handler, secure *middle.TLS) (address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	stop = func() { _ = server.Close() }
	if secure == nil {
		server.Protocols.SetUnencryptedHTTP2(true)
		go server.Serve(l) // ends with stop
		return l.Addr().String(), stop, nil
	}
	pair, err := tls.X509KeyPair(secure.Cert, secure.Key)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("load the certificate: %w", err), l.Close())
	}
	server.Protocols.SetHTTP2(true)
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	go server.ServeTLS(l, "", "") // ends with stop
	return l.Addr().String(), stop, nil
}
