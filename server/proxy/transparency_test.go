package proxy_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// pairs are metadata that a proxy could spoil: binary, twice, empty, upper-case values, the guard's own keys.
var pairs = metadata.MD{
	"plain": {"One", "two", "One"}, "empty": {""}, "data-bin": {"\x00\xff\n", "", "abc"}, "capguard-feature": {"recs"},
	"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "baggage": {"a=b", "c=d"}, "authorization": {"Bearer x"},
}

// sameMD fails the test unless got has all of want, in order.
func sameMD(t *testing.T, what string, got, want metadata.MD) {
	t.Helper()
	for k, v := range want {
		if !slices.Equal(got[k], v) {
			t.Errorf("%s %q = %q, want %q", what, k, got[k], v)
		}
	}
}

func TestMetadataPassesBothWays(t *testing.T) {
	handler := func(_ any, s grpc.ServerStream) error {
		sameMD(t, "request", received(s), pairs)
		s.SetTrailer(pairs)
		if err := s.SendHeader(pairs); err != nil {
			return err
		}
		return upper(nil, s)
	}
	bubble(t, only(handler), func(t *testing.T, w *world) {
		var header, trailer metadata.MD
		got, err := w.call(metadata.NewOutgoingContext(t.Context(), pairs), "x", grpc.Header(&header), grpc.Trailer(&trailer))
		if got != "X" || err != nil {
			t.Errorf("call = %q, %v", got, err)
		}
		sameMD(t, "header", header, pairs)
		sameMD(t, "trailer", trailer, pairs)
	})
}

// Without the guard the back-end sees a caller's metadata and nothing else; with it, neither.
func TestTheBackendSeesNoHeaderMoreThanWithoutTheGuard(t *testing.T) {
	var seen []metadata.MD
	handler := func(_ any, s grpc.ServerStream) error {
		seen = append(seen, received(s))
		return upper(nil, s)
	}
	ua := func(p *plan) {
		p.dial = []grpc.DialOption{grpc.WithUserAgent("shop/1.2"), grpc.WithAuthority("stock.internal")}
	}
	bubble(t, only(handler, ua), func(t *testing.T, w *world) {
		direct, err := grpc.NewClient("passthrough:///10.0.0.1:80", append(insecureVia(w.net.dial), grpc.WithUserAgent("shop/1.2"),
			grpc.WithAuthority("stock.internal"))...)
		if err != nil {
			t.Fatal(err)
		}
		ctx := metadata.NewOutgoingContext(t.Context(), pairs)
		if err := direct.Invoke(ctx, method, text("x"), &wrapperspb.StringValue{}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.call(ctx, "x"); err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(seen[0], seen[1], slices.Equal) {
			t.Errorf("direct:\n%v\nthrough the guard:\n%v", seen[0], seen[1])
		}
		if err := direct.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What describes one connection must not be told of another, and a length that is not true would let two readers see two messages. Such
// a request or answer is malformed, and ends alone (RFC 9113, section 8.2.2).
func TestHeadersOfOneConnectionDoNotPass(t *testing.T) {
	for key, value := range map[string]string{"content-length": "5", "keep-alive": "x", "http2-settings": "x", "upgrade": "h2c",
		"proxy-connection": "x"} {
		answers := func(_ any, s grpc.ServerStream) error {
			if len(received(s)["well"]) == 0 {
				s.SetTrailer(metadata.Pairs(key, value))
				return s.SendHeader(metadata.Pairs(key, value))
			}
			return upper(nil, s)
		}
		t.Run(key, func(t *testing.T) {
			bubble(t, only(answers), func(t *testing.T, w *world) {
				_, err := w.call(withHeader(t.Context(), "well", "yes"), "x")
				code(t, err, codes.OK)
				_, err = w.call(withHeader(withHeader(t.Context(), "well", "yes"), key, value), "x")
				code(t, err, codes.Internal)
				_, err = w.call(t.Context(), "x")
				code(t, err, codes.Internal)
				_, err = w.call(withHeader(t.Context(), "well", "yes"), "x")
				code(t, err, codes.OK)
			})
		})
	}
}

func TestStatusDetailsPass(t *testing.T) {
	want, err := status.New(codes.FailedPrecondition, "naïve\n%").WithDetails(&errdetails.ErrorInfo{Reason: "R", Domain: "d"})
	if err != nil {
		t.Fatal(err)
	}
	handler := func(any, grpc.ServerStream) error { return want.Err() }
	bubble(t, only(handler), func(t *testing.T, w *world) {
		_, err := w.call(t.Context(), "x")
		got := code(t, err, codes.FailedPrecondition)
		if got.String() != want.String() || len(got.Details()) != 1 {
			t.Errorf("got %v with %d details, want %v", got, len(got.Details()), want)
		}
	})
}

func TestTrailersOnlyStaysTrailersOnly(t *testing.T) {
	handler := func(_ any, s grpc.ServerStream) error {
		s.SetTrailer(metadata.Pairs("k", "v"))
		return status.Error(codes.NotFound, "no")
	}
	watch := &headerWatch{}
	bubble(t, only(handler, func(p *plan) { p.dial = []grpc.DialOption{grpc.WithStatsHandler(watch)} }), func(t *testing.T, w *world) {
		var trailer metadata.MD
		_, err := w.call(t.Context(), "x", grpc.Trailer(&trailer))
		code(t, err, codes.NotFound)
		sameMD(t, "trailer", trailer, metadata.Pairs("k", "v"))
		if watch.headers != 0 {
			t.Errorf("%d header blocks, want none before the trailers", watch.headers)
		}
	})
}

// headerWatch counts the header blocks that a client receives, the sizes of messages on the wire, and whether any was compressed.
type headerWatch struct {
	headers  int
	encoding string
}

func (h *headerWatch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (h *headerWatch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (h *headerWatch) HandleConn(context.Context, stats.ConnStats)                       {}
func (h *headerWatch) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InHeader); ok {
		h.headers++
		h.encoding = in.Compression
	}
}

func TestHeadersPassBeforeAnyMessage(t *testing.T) {
	handler := func(_ any, s grpc.ServerStream) error {
		if err := s.SendHeader(metadata.Pairs("early", "yes")); err != nil {
			return err
		}
		time.Sleep(time.Hour)
		return nil
	}
	bubble(t, only(handler), func(t *testing.T, w *world) {
		s := w.open(t.Context())
		began := time.Now()
		header, err := s.Header()
		if err != nil || time.Since(began) != 0 {
			t.Errorf("headers after %v, %v; want them at once", time.Since(began), err)
		}
		sameMD(t, "header", header, metadata.Pairs("early", "yes"))
		if err := s.RecvMsg(&wrapperspb.StringValue{}); !errors.Is(err, io.EOF) {
			t.Errorf("end = %v, want OK without a message", err)
		}
	})
}

func TestAllFourKindsOfCalls(t *testing.T) {
	bubble(t, only(echo), func(t *testing.T, w *world) {
		for name, messages := range map[string][]string{
			"unary": {"a"}, "no message": nil, "many": {"a", "", "b", "c"},
		} {
			s := w.open(t.Context())
			for _, m := range messages {
				if err := s.SendMsg(text(m)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if got, err := drain(s); !slices.Equal(got, messages) || !errors.Is(err, io.EOF) {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, messages)
			}
		}
	})
}

// drain returns the messages of s until its end.
func drain(s grpc.ClientStream) (got []string, err error) {
	for {
		m := &wrapperspb.StringValue{}
		if err := s.RecvMsg(m); err != nil {
			return got, err
		}
		got = append(got, m.GetValue())
	}
}

func TestPingPongAfterHalfClose(t *testing.T) {
	// The back-end answers only after the half-close, so a half-close that does not pass hangs.
	handler := func(_ any, s grpc.ServerStream) error {
		n := 0
		for s.RecvMsg(&wrapperspb.StringValue{}) == nil {
			n++
		}
		for range n {
			if err := s.SendMsg(text("late")); err != nil {
				return err
			}
		}
		return nil
	}
	bubble(t, only(handler), func(t *testing.T, w *world) {
		s := w.open(t.Context())
		for range 3 {
			if err := s.SendMsg(text("x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got, err := drain(s); len(got) != 3 || !errors.Is(err, io.EOF) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestDeadlinePasses(t *testing.T) {
	var left time.Duration
	handler := func(_ any, s grpc.ServerStream) error {
		deadline, _ := s.Context().Deadline()
		left = time.Until(deadline)
		return hangs(nil, s)
	}
	bubble(t, only(handler), func(t *testing.T, w *world) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		_, err := w.call(ctx, "x")
		code(t, err, codes.DeadlineExceeded)
		synctest.Wait()
		if left != 3*time.Second || time.Since(began) != 3*time.Second {
			t.Errorf("the back-end had %v left, the call took %v, want 3s both", left, time.Since(began))
		}
	})
}

func TestNoDeadlineStaysNoDeadline(t *testing.T) {
	handler := func(_ any, s grpc.ServerStream) error {
		if d, ok := s.Context().Deadline(); ok {
			t.Errorf("deadline in %v, want none", time.Until(d))
		}
		return upper(nil, s)
	}
	bubble(t, only(handler), func(t *testing.T, w *world) {
		if _, err := w.call(t.Context(), "x"); err != nil {
			t.Error(err)
		}
	})
}

func TestCancellationReachesTheBackend(t *testing.T) {
	var gone time.Time
	handler := func(_ any, s grpc.ServerStream) error {
		err := hangs(nil, s)
		gone = time.Now()
		return err
	}
	bubble(t, only(handler), func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err := w.call(ctx, "x")
		code(t, err, codes.Canceled)
		synctest.Wait()
		if took := gone.Sub(began); took != time.Second {
			t.Errorf("the back-end learned of it after %v, want 1s", took)
		}
	})
}

// A back-end that answers before it has read the request ends the call; the caller need not go on sending.
func TestEarlyAnswerEndsTheRequest(t *testing.T) {
	bubble(t, only(fails(codes.ResourceExhausted, "enough")), func(t *testing.T, w *world) {
		s := w.open(t.Context())
		var err error
		for err == nil {
			err = s.SendMsg(text("x"))
			synctest.Wait()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("send = %v, want EOF", err)
		}
		code(t, s.RecvMsg(&wrapperspb.StringValue{}), codes.ResourceExhausted)
	})
}

func TestGzipPasses(t *testing.T) {
	encodings := map[string]string{}
	handler := func(_ any, s grpc.ServerStream) error {
		in := grpc.ServerTransportStreamFromContext(s.Context()).(interface{ RecvCompress() string })
		encodings["request"] = in.RecvCompress()
		if want := received(s)["answer"]; len(want) > 0 {
			if err := grpc.SetSendCompressor(s.Context(), want[0]); err != nil {
				return err
			}
		}
		return upper(nil, s)
	}
	watch := &headerWatch{}
	bubble(t, only(handler, func(p *plan) { p.dial = []grpc.DialOption{grpc.WithStatsHandler(watch)} }), func(t *testing.T, w *world) {
		for _, c := range []struct{ request, answer string }{
			{"gzip", "gzip"}, {"gzip", "identity"}, {"identity", "gzip"}, {"identity", "identity"},
		} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "answer", c.answer)
			got, err := w.call(ctx, "hello", grpc.UseCompressor(c.request))
			if got != "HELLO" || err != nil {
				t.Errorf("%v: call = %q, %v", c, got, err)
			}
			if plain(encodings["request"]) != plain(c.request) || plain(watch.encoding) != plain(c.answer) {
				t.Errorf("%v: request came as %q, answer as %q", c, encodings["request"], watch.encoding)
			}
		}
	})
	_ = gzip.Name // Registers it.
}

func plain(encoding string) string {
	if encoding == "identity" {
		return ""
	}
	return encoding
}

func TestContentSubtypePasses(t *testing.T) {
	var seen []string
	handler := func(_ any, s grpc.ServerStream) error {
		seen = received(s)["content-type"]
		return upper(nil, s)
	}
	bubble(t, only(handler), func(t *testing.T, w *world) {
		if _, err := w.call(t.Context(), "x", grpc.CallContentSubtype("proto")); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(seen, []string{"application/grpc+proto"}) {
			t.Errorf("content type %q", seen)
		}
	})
}

// Whatever else a caller calls itself, the back-end sees it first; grpc-go can not but add its own name.
func TestForeignUserAgentPassesWithASuffix(t *testing.T) {
	var seen []string
	handler := func(_ any, s grpc.ServerStream) error {
		seen = received(s)["user-agent"]
		return upper(nil, s)
	}
	bubble(t, only(handler, func(p *plan) { p.dial = []grpc.DialOption{grpc.WithUserAgent("java/1")} }), func(t *testing.T, w *world) {
		if _, err := w.call(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if want := "java/1 grpc-go/" + grpc.Version; !slices.Equal(seen, []string{want}) {
			t.Errorf("user agent %q, want %q", seen, want)
		}
	})
}
