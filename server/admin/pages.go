package admin

import (
	"fmt"
	"net/http"
	"strings"
)

// frontPage tells somebody with a browser or curl where they are. Its arguments are the address they used, the version, and how grpcurl
// connects.
const frontPage = `Capacity Guard %[2]s, admin port.

Metrics for Prometheus are at /metrics, a sign of life is at /healthz. Everything else is gRPC:

  grpcurl %[3]s %[1]s list
  grpcurl %[3]s %[1]s describe capguard.v1.FlagService
  grpcurl %[3]s %[1]s capguard.v1.FlagService/ListFlags
  grpcurl %[3]s %[1]s capguard.v1.GuardService/ListBackends
  grpcurl %[3]s %[1]s grpc.health.v1.Health/List

Switch a feature off for two hours, and on again at once:

  grpcurl %[3]s -d '{"name":"FEATURE","reason":"WHY","ttl":"7200s"}' %[1]s capguard.v1.FlagService/DisableFlag
  grpcurl %[3]s -d '{"name":"FEATURE"}' %[1]s capguard.v1.FlagService/EnableFlag
`

// newMux serves what is not gRPC.
func newMux(o Options) *http.ServeMux {
	mux := http.NewServeMux()
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		plain(w)
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		plain(w)
		fmt.Fprintf(w, frontPage, shown(r.Host), o.Version, security(r))
	})
	return mux
}

func plain(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}

// shown returns host if it can be pasted into a shell as it is: it comes from the client.
func shown(host string) string {
	if host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-[]") != "" {
		return "127.0.0.1:7071"
	}
	return host
}

func security(r *http.Request) string {
	if r.TLS != nil {
		return "-cacert ca.pem"
	}
	return "-plaintext"
}
