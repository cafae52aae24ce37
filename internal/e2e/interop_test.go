package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The basic cases of gRPC's interoperability suite, as grpc-go's client names them.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
	"cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service",
}

// interopServer starts gRPC's own test server and returns its address.
func interopServer(t *testing.T) string {
	t.Helper()
	address := freePort(t)
	_, port, _ := strings.Cut(address, ":")
	start(t, nil, tool(t, "interop_server"), "-port", port)
	return address
}

func runInterop(t *testing.T, address string, flags ...string) {
	t.Helper()
	host, port, _ := strings.Cut(address, ":")
	client := tool(t, "interop_client")
	for _, name := range interopCases {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"-server_host", host, "-server_port", port, "-test_case", name}, flags...)
			if out, err := run(t.Context(), client, args...); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestInterop(t *testing.T) {
	g := serve(t, nil, interopServer(t))
	runInterop(t, g.data)
}

func TestInteropOverTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue(t, "guard.test")
	g := serve(t, nil, interopServer(t), "--tls-cert", cert, "--tls-key", key)
	runInterop(t, g.data, "-use_tls", "-use_test_ca", "-ca_file", a.file, "-server_host_override", "guard.test")
}

// The guard verifies its clients, and the back-end verifies the guard.
func TestInteropOverMutualTLSOnBothSides(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue(t, "guard.test")
	backend := serve(t, nil, interopServer(t), "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", a.file)
	g := serve(t, nil, backend.data, "--backend-tls-ca", a.file, "--backend-tls-cert", cert, "--backend-tls-key", key,
		"--backend-tls-server-name", "guard.test")
	runInterop(t, g.data)
}

func TestInteropOverUnixSockets(t *testing.T) {
	dir := t.TempDir()
	inner := serve(t, nil, interopServer(t), "--listen", "unix:"+filepath.Join(dir, "guard.sock"))
	if _, err := os.Stat(filepath.Join(dir, "guard.sock")); err != nil {
		t.Fatal(err, inner.data)
	}
	g := serve(t, nil, "unix:"+filepath.Join(dir, "guard.sock"))
	runInterop(t, g.data)
}
