package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// destination is where one signal, traces or metrics, goes over OTLP.
type destination struct {
	wanted bool
	grpc   bool
	url    string // of the collector; "": the exporter reads the OTEL_* variables itself
}

// find decides where a signal goes. The flag outranks the variables; OTEL_SDK_DISABLED and OTEL_<SIGNAL>_EXPORTER=none outrank the
// flag, because they are said to switch off. See the OpenTelemetry specification, "Environment Variable Specification".
func find(signal, flag string) (destination, error) {
	disabled := strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true")
	exporter := os.Getenv("OTEL_" + signal + "_EXPORTER")
	if disabled || exporter == "none" {
		return destination{}, nil
	}
	if exporter != "" && exporter != "otlp" {
		return destination{}, fmt.Errorf("OTEL_%s_EXPORTER is %q: use otlp or none", signal, exporter)
	}
	fromEnv := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"))
	if flag == "" {
		if fromEnv == "" && exporter == "" {
			return destination{}, nil
		}
		d := destination{wanted: true}
		var err error
		d.grpc, err = isGRPC(protocol, fromEnv)
		return d, err
	}
	u, err := parseEndpoint(flag)
	if err != nil {
		return destination{}, err
	}
	d := destination{wanted: true, url: u}
	d.grpc, err = isGRPC(protocol, u)
	return d, err
}

// isGRPC tells the protocol: as said, else by the well-known port 4318 of OTLP over HTTP, else gRPC, which Jaeger and collectors speak.
func isGRPC(protocol, endpoint string) (bool, error) {
	switch protocol {
	case "grpc":
		return true, nil
	case "http/protobuf":
		return false, nil
	case "":
		u, err := url.Parse(endpoint)
		return err != nil || u.Port() != "4318", nil
	}
	return false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: use grpc or http/protobuf", protocol)
}

// parseEndpoint makes a URL of `host:port` (plain text) or of a URL.
func parseEndpoint(s string) (string, error) {
	if !strings.Contains(s, "://") {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf("OTLP endpoint %q: use host:port, as localhost:4317, or a URL: %w", s, err)
		}
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("OTLP endpoint: %w", err)
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("OTLP endpoint %q: use host:port, as localhost:4317, or an http or https URL", s)
	}
	return u.String(), nil
}

func newSpanExport(ctx context.Context, flag string) (sdktrace.SpanExporter, error) {
	d, err := find("TRACES", flag)
	switch {
	case err != nil || !d.wanted:
		return nil, err
	case d.grpc && d.url == "":
		return otlptracegrpc.New(ctx)
	case d.grpc:
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(d.url))
	case d.url == "":
		return otlptracehttp.New(ctx)
	}
	// Over HTTP each signal has its own path below the common endpoint.
	u, err := url.JoinPath(d.url, "v1/traces")
	if err != nil {
		return nil, err
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u))
}

func newMetricPush(ctx context.Context, flag string) (sdkmetric.Exporter, error) {
	d, err := find("METRICS", flag)
	switch {
	case err != nil || !d.wanted:
		return nil, err
	case d.grpc && d.url == "":
		return otlpmetricgrpc.New(ctx)
	case d.grpc:
		return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(d.url))
	case d.url == "":
		return otlpmetrichttp.New(ctx)
	}
	u, err := url.JoinPath(d.url, "v1/metrics")
	if err != nil {
		return nil, err
	}
	return otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(u))
}
