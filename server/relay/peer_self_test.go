package relay_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// pair connects a client straight to a back-end, so that each is the other's relay.
func pair(t testing.TB, ofClient, ofBackend habits) (client, backend *peer) {
	near, far := net.Pipe()
	return clientOf(t, near, ofClient), backendOf(t, far, ofBackend)
}

func TestPeersTalk(t *testing.T) {
	for name, s := range map[string]style{
		"plainly": {}, "in pieces": {fragment: 3}, "padded": {pad: 200, fragment: 7}, "with priority": {priority: true, pad: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, backend := pair(t, habits{}, habits{})
				client.style, backend.style = s, s
				client.request(1, false, "!authorization: secret", "x-long: "+bytesOf(20000))
				client.data(1, "hello", true)
				backend.wantHeaders(1, ":path: /test.Service/Call", "!authorization: secret", "-x-none")
				backend.wantData(1, "hello")
				backend.wantEnd(1)
				backend.headers(1, false, ":status: 103")
				backend.response(1)
				backend.data(1, grpcMessage("world"), false)
				backend.trailers(1, "x-more: 1")
				client.wantHeaders(1, ":status: 103")
				client.wantHeaders(1, ":status: 200")
				client.wantData(1, "\x00\x00\x00\x00\x05world")
				client.wantTrailers(1, "grpc-status: 0", "x-more: 1")
				client.ping("ping")
				client.wantQuiet()
				client.wantSettled()
				backend.wantSettled()
			})
		})
	}
}

func TestPeersEndStreamsAndConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, backend := pair(t, habits{}, habits{})
		client.request(1, false)
		client.rst(1, http2.ErrCodeCancel)
		backend.wantReset(1, http2.ErrCodeCancel)
		client.priority(3, 0)
		client.request(3, true)
		backend.wantControl(http2.FramePriority)
		backend.wantHeaders(3)
		backend.goaway(3, http2.ErrCodeNo)
		if last := client.wantGoAway(http2.ErrCodeNo); last != 3 {
			t.Errorf("last stream is %d, want 3", last)
		}
		backend.slowly([]byte("\x00\x00\x04\x03\x00\x00\x00\x00\x03\x00\x00\x00\x07"), 2, time.Second)
		client.wantReset(3, http2.ErrCodeRefusedStream)
		client.wantAlive()
		backend.close()
		client.wantClosed()
	})
}

// A peer pours as fast as the other grants, and the other grants by itself, or only when told.
func TestPeersPour(t *testing.T) {
	text := strings.Repeat("0123456789", 30000)
	synctest.Test(t, func(t *testing.T) {
		client, backend := pair(t, habits{}, habits{manual: true})
		client.request(1, false)
		backend.response(1)
		backend.wantHeaders(1)
		go client.pour(1, text, true)
		backend.pour(1, text, false)
		backend.trailers(1)
		client.wantHeaders(1)
		client.wantData(1, text)
		client.wantTrailers(1)
		backend.wantData(1, text[:65535])
		backend.wantQuiet()
		if n := client.credit(1); n != 0 {
			t.Errorf("%d bytes allowed, want none", n)
		}
		backend.windowUpdate(0, 300000)
		backend.windowUpdate(1, 100)
		backend.wantData(1, text[65535:65635])
		backend.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 300000})
		backend.wantData(1, text[65635:])
		backend.wantEnd(1)
	})
}

// A peer that reads slowly takes exactly as much as it is told.
func TestPeersRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, backend := pair(t, habits{}, habits{})
		client.request(1, false)
		backend.wantHeaders(1)
		client.wantSettled() // So that nothing but DATA is on its way.
		backend.wantSettled()
		backend.pause()
		client.data(1, "hello", false)
		backend.wantQuiet()
		backend.sip(9 + 4)
		backend.wantQuiet()
		backend.sip(1)
		backend.wantData(1, "hello")
		client.data(1, "more", true)
		backend.wantQuiet()
		backend.resume()
		backend.wantData(1, "more")
		backend.wantEnd(1)
	})
}

// jury is a test that a peer is meant to fail.
type jury struct {
	testing.TB
	said string
	last []func()
}

func (*jury) Helper()            {}
func (j *jury) Cleanup(f func()) { j.last = append(j.last, f) }
func (j *jury) Errorf(format string, args ...any) {
	j.said += fmt.Sprintf(format, args...)
}
func (j *jury) Fatalf(format string, args ...any) {
	j.Errorf(format, args...)
	runtime.Goexit()
}

// What a test wants and does not get fails it, and so does whatever the twin finds.
func TestPeersFailTests(t *testing.T) {
	for want, act := range map[string]func(client, backend *peer){
		"want x: 2 in it":                         func(c, b *peer) { c.request(1, true, "x: 1"); b.wantHeaders(1, "x: 2") },
		"got x: 1 in":                             func(c, b *peer) { c.request(1, true, "x: 1"); b.wantHeaders(1, "-x") },
		"want !x: 1 in it":                        func(c, b *peer) { c.request(1, true, "x: 1"); b.wantHeaders(1, "!x: 1") },
		"want END_STREAM with it":                 func(c, b *peer) { c.request(1, false); b.wantTrailers(1) },
		"want HEADERS":                            func(c, b *peer) { c.data(1, "x", false); b.wantHeaders(1) },
		`want "hello"`:                            func(c, b *peer) { c.data(1, "help!", false); b.wantData(1, "hello") },
		"want END_STREAM":                         func(c, b *peer) { c.data(1, "x", true); b.wantEnd(1) },
		"want code CANCEL":                        func(c, b *peer) { c.rst(1, http2.ErrCodeNo); b.wantReset(1, http2.ErrCodeCancel) },
		"want code NO_ERROR":                      func(c, b *peer) { c.goaway(1, http2.ErrCodeInternal); b.wantGoAway(http2.ErrCodeNo) },
		"wants something on stream 7 in vain":     func(_, b *peer) { b.next(7) },
		"but the relay has closed the connection": func(c, b *peer) { c.close(); b.next(7) },
		"close the connection, in vain":           func(_, b *peer) { b.wantClosed() },
		"wants quiet":                             func(c, b *peer) { c.request(1, true); b.wantQuiet() },
		"PING \"x.......\" not answered":          func(c, b *peer) { c.habits.mute = true; b.ping("x"); b.wantSettled() },
		"broke HTTP/2 towards its back-end":       func(c, _ *peer) { c.request(2, true) },
		"broke HTTP/2 towards its client":         func(_, b *peer) { b.response(1) },
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jury{TB: t}
				done := make(chan struct{})
				go func() {
					defer close(done)
					client, backend := pair(j, habits{}, habits{})
					synctest.Wait()
					act(client, backend)
					synctest.Wait()
				}()
				<-done
				for _, f := range j.last {
					f()
				}
				if !strings.Contains(j.said, want) {
					t.Errorf("the peer says %q, want %q in it", j.said, want)
				}
			})
		})
	}
}

// The twin finds nothing in an implementation that the world uses, in either role. So what it finds in the relay is the relay's.
func TestTwinAcquitsGRPC(t *testing.T) {
	handler := func(_ any, s grpc.ServerStream) error {
		for {
			m := &wrapperspb.StringValue{}
			if err := s.RecvMsg(m); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		at := newSite(t, 1<<16)
		server := grpc.NewServer(grpc.UnknownServiceHandler(handler))
		go func() { _ = server.Serve(at.listener) }() // Until Stop.
		defer server.Stop()
		conn, err := at.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		client := clientOf(t, conn, habits{})
		text := grpcMessage("\x0a\x80\x80\x08" + bytesOf(1<<17))
		for id := uint32(1); id < 20; id += 2 {
			client.request(id, false)
			client.pour(id, text, true)
			client.wantHeaders(id, ":status: 200")
			client.wantData(id, text)
			client.wantTrailers(id, "grpc-status: 0")
		}
		client.wantSettled()
	})
	synctest.Test(t, func(t *testing.T) {
		at := newSite(t, 1<<16)
		client, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return at.dial(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }() // It has one connection, which the back-end closes too.
		answer := make(chan error)
		sent := wrapperspb.String(bytesOf(1 << 17))
		go func() { answer <- client.Invoke(t.Context(), "/test.Service/Call", sent, &wrapperspb.StringValue{}) }()
		backend := at.accept(habits{})
		text := grpcMessage("\x0a\x80\x80\x08" + bytesOf(1<<17))
		backend.wantHeaders(1, ":path: /test.Service/Call")
		backend.wantData(1, text)
		backend.wantEnd(1)
		backend.response(1)
		backend.data(1, grpcMessage(""), false)
		backend.trailers(1, "grpc-message: x")
		if err := <-answer; err != nil {
			t.Error("call:", status.Convert(err))
		}
		backend.wantSettled()
	})
}
