package admin_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	channelzgrpc "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

func TestHealth(t *testing.T) {
	inBubble(t, parts{backends: []string{"shop", "stock"}}, func(r *rig) {
		client := healthgrpc.NewHealthClient(r.conn)
		const serving, notServing = healthgrpc.HealthCheckResponse_SERVING, healthgrpc.HealthCheckResponse_NOT_SERVING
		board := func() map[string]*healthgrpc.HealthCheckResponse {
			resp, err := client.List(r.Context(), &healthgrpc.HealthListRequest{})
			if err != nil {
				r.Fatal(err)
			}
			return resp.GetStatuses()
		}
		b := board()
		want(r, "entries", len(b), 3)
		want(r, "guard", b[""].GetStatus(), serving)
		want(r, "shop", b["shop"].GetStatus(), serving)

		watch, err := client.Watch(r.Context(), &healthgrpc.HealthCheckRequest{Service: "shop"})
		if err != nil {
			r.Fatal(err)
		}
		if first, err := watch.Recv(); err != nil || first.GetStatus() != serving {
			r.Error("watch:", first, err)
		}
		if _, err := r.guards.ForceBreaker(r.Context(), &capguardv1.ForceBreakerRequest{Name: "shop", State: "open"}); err != nil {
			r.Fatal(err)
		}
		if next, err := watch.Recv(); err != nil || next.GetStatus() != notServing {
			r.Error("watch after the breaker opened:", next, err)
		}
		b = board()
		want(r, "shop when its breaker is open", b["shop"].GetStatus(), notServing)
		want(r, "stock", b["stock"].GetStatus(), serving)
		want(r, "guard", b[""].GetStatus(), serving)
	})
}

func TestHealthOfUnreachableBackend(t *testing.T) {
	refuse := func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	inBubble(t, parts{dial: refuse}, func(r *rig) {
		time.Sleep(5 * time.Second)
		synctest.Wait()
		resp, err := healthgrpc.NewHealthClient(r.conn).Check(r.Context(), &healthgrpc.HealthCheckRequest{Service: "shop"})
		if err != nil {
			r.Fatal(err)
		}
		want(r, "shop", resp.GetStatus(), healthgrpc.HealthCheckResponse_NOT_SERVING)
	})
}

// reflected asks one question of reflection v1.
func (r *rig) reflected(req *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
	r.Helper()
	stream, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	if err := stream.Send(req); err != nil {
		r.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		r.Fatal(err)
	}
	stream.CloseSend()
	for err == nil {
		_, err = stream.Recv()
	}
	return resp
}

func TestReflectionListsTheServices(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		resp := r.reflected(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
		})
		var names []string
		for _, s := range resp.GetListServicesResponse().GetService() {
			names = append(names, s.GetName())
		}
		want(r, "services", strings.Join(names, " "), "capguard.v1.FlagService capguard.v1.GuardService grpc.channelz.v1.Channelz "+
			"grpc.health.v1.Health grpc.reflection.v1.ServerReflection grpc.reflection.v1alpha.ServerReflection")
	})
}

func TestReflectionHasComments(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		for symbol, comment := range map[string]string{
			"capguard.v1.FlagService":             "Switches a feature off",
			"capguard.v1.GuardService.SetMode":    "lets an operator overrule the guard",
			"capguard.v1.FlagRevision":            "identifier of the trace",
			"google.protobuf.Duration":            "signed, fixed-length span of time",
			"grpc.health.v1.Health":               "", // linked in without comments
			"google.rpc.ErrorInfo":                "", // so that grpcurl can print the details of errors
			"google.rpc.BadRequest":               "",
			"google.rpc.ResourceInfo":             "",
			"capguard.v1.FlagService.DisableFlag": "The answer waits, at most a second",
		} {
			resp := r.reflected(&reflectionv1.ServerReflectionRequest{
				MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
			})
			files := resp.GetFileDescriptorResponse().GetFileDescriptorProto()
			if len(files) == 0 {
				r.Fatalf("%s: %v", symbol, resp.GetErrorResponse())
			}
			if !strings.Contains(comments(t, files), comment) {
				r.Errorf("%s has no comment with %q", symbol, comment)
			}
		}
	})
}

func comments(t *testing.T, files [][]byte) string {
	var all strings.Builder
	for _, raw := range files {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(raw, &file); err != nil {
			t.Fatal(err)
		}
		for _, l := range file.GetSourceCodeInfo().GetLocation() {
			all.WriteString(l.GetLeadingComments())
		}
	}
	return all.String()
}

// Older clients ask under another name; the messages are the same.
func TestReflectionV1Alpha(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
		stream, err := r.conn.NewStream(r.Context(), desc, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
		if err != nil {
			r.Fatal(err)
		}
		err = stream.SendMsg(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: "capguard/v1/flag.proto"},
		})
		if err != nil {
			r.Fatal(err)
		}
		var resp reflectionv1.ServerReflectionResponse
		if err := stream.RecvMsg(&resp); err != nil || len(resp.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			r.Error("file by name:", resp.GetErrorResponse(), err)
		}
	})
}

func TestChannelz(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		resp, err := channelzgrpc.NewChannelzClient(r.conn).GetServers(r.Context(), &channelzgrpc.GetServersRequest{})
		if err != nil || len(resp.GetServer()) == 0 {
			r.Error("servers:", resp, err)
		}
	})
}

// A command is a span, child of its caller's, and the change remembers it.
func TestCommandIsASpan(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	inBubble(t, parts{tracer: tracer}, func(r *rig) {
		ctx := metadata.AppendToOutgoingContext(r.as("anna"), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		resp, err := r.flags.DisableFlag(ctx, &capguardv1.DisableFlagRequest{Name: "recs", Reason: "incident 7", AllowMissing: true})
		if err != nil {
			r.Fatal(err)
		}
		r.flag("recs") // reads are no spans
		synctest.Wait()
		spans := recorder.Ended()
		if len(spans) != 1 {
			r.Fatalf("%d spans, want 1", len(spans))
		}
		s := spans[0]
		want(r, "name", s.Name(), "capguard.v1.FlagService/DisableFlag")
		want(r, "trace", s.SpanContext().TraceID().String(), "0af7651916cd43dd8448eb211c80319c")
		want(r, "parent", s.Parent().SpanID().String(), "b7ad6b7169203331")
		attributes := attribute.NewSet(s.Attributes()...)
		for key, text := range map[attribute.Key]string{
			"capguard.actor": "anna", "capguard.flag": "recs", "capguard.old.state": "ON", "capguard.new.state": "OFF",
			"capguard.old.percent": "100", "capguard.new.percent": "0", "capguard.reason": "incident 7", "capguard.flag.revision": "1",
			"rpc.method": "capguard.v1.FlagService/DisableFlag", "rpc.response.status_code": "OK",
		} {
			v, _ := attributes.Value(key)
			want(r, string(key), v.String(), text)
		}
		f, _ := r.registry.Snapshot().Flag("recs")
		want(r, "trace in the flag", f.Standing.TraceID, s.SpanContext().TraceID().String())
		want(r, "span in the flag", f.Standing.SpanID, s.SpanContext().SpanID().String())
		history, err := r.flags.ListFlagRevisions(r.Context(), &capguardv1.ListFlagRevisionsRequest{Parent: resp.GetFlag().GetName()})
		if err != nil {
			r.Fatal(err)
		}
		want(r, "trace in the history", history.GetRevisions()[0].GetTraceId(), f.Standing.TraceID)
	})
}

// A refused command is a span, too, but not an error: the server did what it should.
func TestRefusedCommandIsNoErrorSpan(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	inBubble(t, parts{tracer: tracer}, func(r *rig) {
		_, err := r.flags.DisableFlag(r.Context(), &capguardv1.DisableFlagRequest{Name: "recs"})
		wantError(r, err, codes.NotFound, "FLAG_NOT_FOUND")
		synctest.Wait()
		s := recorder.Ended()[0]
		want(r, "status", s.Status().Code.String(), "Unset")
		attributes := attribute.NewSet(s.Attributes()...)
		v, _ := attributes.Value("rpc.response.status_code")
		want(r, "code", v.String(), "NOT_FOUND")
	})
}

func TestLogOfACommand(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("recs", 0)
		if r.log.line("INFO", "actor=anna", "verb=disable", "flag=recs", "old=ON", "new=OFF", `reason="incident 7"`, "revision=1") == "" {
			r.Error("nothing in the log:", r.log.text.String())
		}
	})
}

// page fetches a page over HTTP/1.
func (r *rig) page(method, path string) (code int, body string) {
	r.Helper()
	conn, err := r.listener.DialContext(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, method+" "+path+" HTTP/1.1\r\nHost: guard.example:7071\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestPagesOverHTTP(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "capguard_inflight 3\n") })
	inBubble(t, parts{metrics: metrics}, func(r *rig) {
		for _, c := range []struct {
			method, path string
			code         int
			part         string
		}{
			{"GET", "/", 200, "grpcurl -plaintext guard.example:7071 list"},
			{"GET", "/healthz", 200, "ok"},
			{"GET", "/metrics", 200, "capguard_inflight 3"},
			{"GET", "/nothing", 404, ""},
			{"POST", "/healthz", 405, ""},
		} {
			code, body := r.page(c.method, c.path)
			want(r, c.method+" "+c.path, code, c.code)
			if !strings.Contains(body, c.part) {
				r.Errorf("%s %s lacks %q: %s", c.method, c.path, c.part, body)
			}
		}
	})
}

// A message beyond bounds is refused, and the port goes on.
func TestLargeMessage(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		_, err := r.flags.DisableFlag(r.Context(), &capguardv1.DisableFlagRequest{Name: "recs", Reason: strings.Repeat("x", 1<<20)})
		want(r, "code", codeOf(err), codes.ResourceExhausted)
		want(r, "state", r.disable("recs", 0).GetState(), capguardv1.Flag_STATE_OFF)
	})
}

// A client that sends without end and reads nothing is stopped: what it may send is bounded, and so is what is kept for it.
func TestEndlessRequest(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		stream, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(ctx)
		if err != nil {
			r.Fatal(err)
		}
		sent := 0
		for ; err == nil && sent < 1000; sent++ {
			err = stream.Send(&reflectionv1.ServerReflectionRequest{
				Host:           strings.Repeat("x", 16<<10),
				MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "none"},
			})
		}
		// 512 KiB are read, a window of 1 MiB and the client's own buffer of 64 KiB come on top: 101.
		if sent > 130 {
			r.Errorf("%d messages of 16 KiB were taken", sent)
		}
	})
}
