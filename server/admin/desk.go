package admin

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/server/telemetry"
)

// desk is where commands come in: it makes their spans and writes them to the log. Reads pass it unseen.
type desk struct {
	log      *slog.Logger
	tracer   trace.Tracer    // nil: no spans
	commands map[string]bool // full methods that change something
}

func newDesk(log *slog.Logger, tracer trace.Tracer) *desk {
	return &desk{log: log, tracer: tracer, commands: commands()}
}

// commands returns the methods that the schema does not declare free of side effects.
func commands() map[string]bool {
	found := map[string]bool{}
	for _, file := range []protoreflect.FileDescriptor{
		capguardv1.File_capguard_v1_flag_service_proto, capguardv1.File_capguard_v1_guard_service_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				if m := service.Methods().Get(j); changes(m) {
					found["/"+string(service.FullName())+"/"+string(m.Name())] = true
				}
			}
		}
	}
	return found
}

func changes(m protoreflect.MethodDescriptor) bool {
	options, _ := m.Options().(*descriptorpb.MethodOptions)
	return !m.IsStreamingServer() && options.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

// intercept makes a span of each command and logs those that are refused; those that are carried out are logged with what they did.
func (d *desk) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer d.survive(ctx, info.FullMethod, &err)
	if !d.commands[info.FullMethod] {
		return handle(ctx, req)
	}
	name := strings.TrimPrefix(info.FullMethod, "/")
	ctx, span := d.start(ctx, name)
	defer span.End()
	resp, err = handle(ctx, req)
	span.SetAttributes(attribute.String("rpc.response.status_code", telemetry.CodeName(status.Code(err))))
	if err != nil {
		if telemetry.BlamesServer(status.Code(err)) {
			span.SetStatus(otelcodes.Error, status.Convert(err).Message())
		}
		d.log.InfoContext(ctx, "command refused", "verb", verb(name), "actor", actor(ctx),
			"code", telemetry.CodeName(status.Code(err)), "error", status.Convert(err).Message())
	}
	return resp, err
}

// survive turns a panic into an error: a fault of the admin port must not end the guard of running calls.
func (d *desk) survive(ctx context.Context, method string, err *error) {
	if fault := recover(); fault != nil {
		d.log.ErrorContext(ctx, "panic", "method", method, "panic", fault, "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "the guard met a fault of its own in %s; its log has the details", method)
	}
}

// start begins the span of a command as a child of the caller's, if the caller has one.
func (d *desk) start(ctx context.Context, name string) (context.Context, trace.Span) {
	if d.tracer == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	ctx = propagation.TraceContext{}.Extract(ctx, telemetry.Carrier(md))
	return d.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("rpc.system.name", "grpc"),
		attribute.String("rpc.method", name),
		attribute.String("capguard.actor", actor(ctx)),
	))
}

// deed is what a command did.
type deed struct {
	verb         string
	target       slog.Attr // flag or backend
	from, to     position
	reason       string
	revision     int64 // of the flags; 0 for back-ends
	validateOnly bool
	changed      bool
}

// position is a state before or after, and the share of calls that pass if it is one of a flag.
type position struct {
	state   string
	percent *float64
}

// record writes a deed to the log and to the span of its command.
func (d *desk) record(ctx context.Context, did deed) {
	attrs := []slog.Attr{
		slog.String("actor", actor(ctx)), slog.String("verb", did.verb), did.target,
		slog.String("old", did.from.state), slog.String("new", did.to.state), slog.String("reason", did.reason),
		slog.Bool("changed", did.changed),
	}
	if did.revision != 0 {
		attrs = append(attrs, slog.Int64("revision", did.revision))
	}
	if did.validateOnly {
		attrs = append(attrs, slog.Bool("validate_only", true))
	}
	span := trace.SpanFromContext(ctx)
	if sc := span.SpanContext(); sc.IsValid() {
		attrs = append(attrs, slog.String("trace_id", sc.TraceID().String()))
	}
	d.log.LogAttrs(ctx, slog.LevelInfo, "command", attrs...)
	if span.IsRecording() {
		span.SetAttributes(did.attributes()...)
	}
}

// attributes are what one can search for in a trace.
func (d deed) attributes() []attribute.KeyValue {
	kvs := []attribute.KeyValue{
		attribute.String("capguard."+d.target.Key, d.target.Value.String()),
		attribute.String("capguard.old.state", d.from.state),
		attribute.String("capguard.new.state", d.to.state),
		attribute.String("capguard.reason", d.reason),
		attribute.Bool("capguard.changed", d.changed),
		attribute.Bool("capguard.validate_only", d.validateOnly),
	}
	if d.from.percent != nil {
		kvs = append(kvs, attribute.Float64("capguard.old.percent", *d.from.percent))
	}
	if d.to.percent != nil {
		kvs = append(kvs, attribute.Float64("capguard.new.percent", *d.to.percent))
	}
	if d.revision != 0 {
		kvs = append(kvs, attribute.Int64("capguard.flag.revision", d.revision))
	}
	return kvs
}

// verb returns the last part of a method's name.
func verb(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
