package telemetry

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/capguard/capguard/server/relay"
)

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		name string
		flag string
		env  map[string]string
		want destination
		err  string
	}{
		{name: "nobody asked"},
		{name: "host and port are gRPC in plain text", flag: "localhost:4317", want: destination{wanted: true, grpc: true, url: "http://localhost:4317"}},
		{name: "the port of OTLP over HTTP", flag: "localhost:4318", want: destination{wanted: true, url: "http://localhost:4318"}},
		{name: "a URL", flag: "https://otel.example:443", want: destination{wanted: true, grpc: true, url: "https://otel.example:443"}},
		{name: "a URL and a protocol", flag: "https://otel.example", env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
			want: destination{wanted: true, url: "https://otel.example"}},
		{name: "by variable", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, want: destination{wanted: true, grpc: true}},
		{name: "by variable of the signal", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"},
			want: destination{wanted: true}},
		{name: "by exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, want: destination{wanted: true, grpc: true}},
		{name: "protocol of the signal wins", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
			"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, want: destination{wanted: true}},
		{name: "none outranks the flag", flag: "localhost:4317", env: map[string]string{"OTEL_TRACES_EXPORTER": "none"}},
		{name: "disabled outranks the flag", flag: "localhost:4317", env: map[string]string{"OTEL_SDK_DISABLED": "true"}},
		{name: "no port", flag: "localhost", err: "use host:port"},
		{name: "another scheme", flag: "ftp://localhost:4317", err: "http or https"},
		{name: "no host", flag: "http://", err: "http or https"},
		{name: "another exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, err: "use otlp or none"},
		{name: "another protocol", flag: "localhost:4317", env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, err: "use grpc or http/protobuf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			got, err := find("TRACES", tt.flag)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("find = %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("find = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// A collector that nobody runs is no reason not to guard.
func TestNewWithoutCollector(t *testing.T) {
	tel, err := New(t.Context(), Settings{OTLPEndpoint: "127.0.0.1:1", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if tel.Tracer == nil {
		t.Error("tracing was asked for and is off")
	}
	tel.Stop(1) // does not wait
}

// A collector gets the durations beside what the SDK's instruments have, and the last of them when the guard stops.
func TestDurationsArePushed(t *testing.T) {
	var mu sync.Mutex
	var got []byte
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, body...)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	tel, err := New(t.Context(), Settings{OTLPEndpoint: collector.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := tel.WatchRelay(&relay.Stats{}); err != nil {
		t.Fatal(err)
	}
	tel.Call("stock", "/shop.Stock/Check", "admitted", codes.OK, 3, 2, 1)
	tel.Stop(10 * time.Second)
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"rpc.server.call.duration", "rpc.client.call.duration", "capguard.request.time_in_queue",
		"/shop.Stock/Check", "capguard.relay.io"} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("the collector did not get %s", want)
		}
	}
}

func TestTracingIsOffUnlessAskedFor(t *testing.T) {
	tel, err := New(t.Context(), Settings{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if tel.Tracer != nil {
		t.Error("nobody asked for traces")
	}
	tel.Stop(1)
}
