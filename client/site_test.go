package client_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/client"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// site is a guard as its clients see it, in memory: a data port with a back-end behind it, and an admin port with flags. Kill and revive
// it at will.
type site struct {
	capguardv1.UnimplementedFlagServiceServer

	mu       sync.Mutex
	ports    map[string]*bufconn.Listener
	servers  []*grpc.Server
	revision int64
	flags    map[string]*capguardv1.Flag
	watchers map[chan *capguardv1.WatchFlagsResponse]struct{}
	streams  int                                                        // streams of flags opened so far
	calls    []metadata.MD                                              // metadata of the calls received so far
	answer   func(s grpc.ServerStream, md metadata.MD, in string) error // of the data port
	script   func(s watchStream) error                                  // of the admin port
}

type watchStream = grpc.ServerStreamingServer[capguardv1.WatchFlagsResponse]

func newSite() *site {
	s := &site{revision: 1, flags: map[string]*capguardv1.Flag{}, watchers: map[chan *capguardv1.WatchFlagsResponse]struct{}{}}
	s.answer, s.script = s.obey, s.broadcast
	s.revive()
	return s
}

// dialed returns a connection to a new site; both end with the test.
func dialed(t testing.TB, opts ...client.Option) (*site, *client.Conn) {
	t.Helper()
	s := newSite()
	t.Cleanup(s.close)
	return s, s.connect(t, opts...)
}

func (s *site) connect(t testing.TB, opts ...client.Option) *client.Conn {
	t.Helper()
	all := append([]client.Option{client.WithAdmin("127.0.0.1:7071"), client.WithDialer(s.dial), client.WithLogger(quiet(t))}, opts...)
	c, err := client.Dial("127.0.0.1:7070", all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// revive begins to listen on both ports.
func (s *site) revive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	data := grpc.NewServer(grpc.UnknownServiceHandler(s.call))
	admin := grpc.NewServer()
	capguardv1.RegisterFlagServiceServer(admin, s)
	s.servers = []*grpc.Server{data, admin}
	s.ports = map[string]*bufconn.Listener{"127.0.0.1:7070": bufconn.Listen(1 << 20), "127.0.0.1:7071": bufconn.Listen(1 << 20)}
	go data.Serve(s.ports["127.0.0.1:7070"]) // close ends both
	go admin.Serve(s.ports["127.0.0.1:7071"])
}

// close kills the guard: connections break, and nobody listens any more.
func (s *site) close() {
	s.mu.Lock()
	servers := s.servers
	s.ports, s.servers = nil, nil
	s.mu.Unlock()
	for _, server := range servers {
		server.Stop()
	}
}

func (s *site) dial(ctx context.Context, address string) (net.Conn, error) {
	s.mu.Lock()
	port := s.ports[address]
	s.mu.Unlock()
	if port == nil {
		return nil, errors.New("connection refused")
	}
	return port.DialContext(ctx)
}

// call receives one message on the data port and answers it.
func (s *site) call(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.mu.Lock()
	s.calls = append(s.calls, md)
	answer := s.answer
	s.mu.Unlock()
	in := new(wrapperspb.StringValue)
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	return answer(stream, md, in.GetValue())
}

// obey refuses the calls of features that are off, and lets the back-end answer all others.
func (s *site) obey(stream grpc.ServerStream, md metadata.MD, in string) error {
	c := grpcguard.Identify(md, guard.Call{Method: "/shop.Shop/Recommend"})
	s.mu.Lock()
	f, ok := s.flags[c.Feature]
	s.mu.Unlock()
	if ok && f.GetState() == capguardv1.Flag_STATE_OFF {
		d := guard.Decision{Reason: guard.FeatureOff, RetryAfter: -1, Feature: guard.Feature{Name: c.Feature, Why: f.GetReason()}}
		return refuse(stream, d)
	}
	return stream.SendMsg(wrapperspb.String("books for " + in))
}

// refuse answers as the guard does.
func refuse(stream grpc.ServerStream, d guard.Decision) error {
	st, trailer := grpcguard.Refusal(d, guard.Call{Method: "/shop.Shop/Recommend", Feature: d.Feature.Name}, "shop")
	stream.SetTrailer(trailer)
	return st.Err()
}

// WatchFlags runs the script.
func (s *site) WatchFlags(_ *capguardv1.WatchFlagsRequest, stream watchStream) error {
	s.mu.Lock()
	s.streams++
	script := s.script
	s.mu.Unlock()
	return script(stream)
}

// broadcast is what a guard does: all flags, then every change, and heartbeats.
func (s *site) broadcast(stream watchStream) error {
	changes := make(chan *capguardv1.WatchFlagsResponse, 1000)
	s.mu.Lock()
	s.watchers[changes] = struct{}{}
	first := s.snapshotLocked()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, changes)
		s.mu.Unlock()
	}()
	if err := stream.Send(first); err != nil {
		return err
	}
	heartbeat, revision := time.NewTicker(5*time.Second), first.GetRevision()
	defer heartbeat.Stop()
	for {
		m := &capguardv1.WatchFlagsResponse{Kind: capguardv1.WatchFlagsResponse_KIND_HEARTBEAT, Revision: revision}
		select {
		case m = <-changes:
			revision = m.GetRevision()
		case <-heartbeat.C:
		case <-stream.Context().Done():
			return nil
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

func (s *site) snapshotLocked() *capguardv1.WatchFlagsResponse {
	return snapshot(s.revision, slices.Collect(maps.Values(s.flags))...)
}

func snapshot(revision int64, flags ...*capguardv1.Flag) *capguardv1.WatchFlagsResponse {
	return &capguardv1.WatchFlagsResponse{Kind: capguardv1.WatchFlagsResponse_KIND_SNAPSHOT, Revision: revision, Flags: flags}
}

func delta(revision int64, flags ...*capguardv1.Flag) *capguardv1.WatchFlagsResponse {
	return &capguardv1.WatchFlagsResponse{Kind: capguardv1.WatchFlagsResponse_KIND_DELTA, Revision: revision, Flags: flags}
}

func beat(revision int64) *capguardv1.WatchFlagsResponse {
	return &capguardv1.WatchFlagsResponse{Kind: capguardv1.WatchFlagsResponse_KIND_HEARTBEAT, Revision: revision}
}

// set stores a flag and tells the watchers.
func (s *site) set(f *capguardv1.Flag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	f.Revision = s.revision
	s.flags[f.GetName()[len("flags/"):]] = f
	for w := range s.watchers {
		w <- delta(s.revision, f)
	}
}

// unset deletes a flag and tells the watchers.
func (s *site) unset(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	delete(s.flags, name)
	m := delta(s.revision)
	m.Deleted = []string{"flags/" + name}
	for w := range s.watchers {
		w <- m
	}
}

func (s *site) disable(name, reason string) {
	f := off(name)
	f.Reason = reason
	s.set(f)
}

// received returns the metadata of the calls so far.
func (s *site) received() []metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// opened returns how many streams of flags were opened so far.
func (s *site) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams
}

// answers makes the data port answer with f from now on.
func (s *site) answers(f func(stream grpc.ServerStream, md metadata.MD, in string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// scripts makes the next streams of flags run f.
func (s *site) scripts(f func(stream watchStream) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = f
}

func on(name string) *capguardv1.Flag {
	return &capguardv1.Flag{Name: "flags/" + name, State: capguardv1.Flag_STATE_ON, Percent: new(100.0)}
}

func off(name string) *capguardv1.Flag {
	return &capguardv1.Flag{Name: "flags/" + name, State: capguardv1.Flag_STATE_OFF, Percent: new(0.0), Actor: "ann"}
}

func dimmed(name string, percent float64) *capguardv1.Flag {
	return &capguardv1.Flag{Name: "flags/" + name, State: capguardv1.Flag_STATE_DIMMED, Percent: new(percent)}
}

// until lets a flag's setting end after d, when it is on again.
func until(f *capguardv1.Flag, d time.Duration) *capguardv1.Flag {
	f.ExpireTime = timestamppb.New(time.Now().Add(d))
	f.Standing = &capguardv1.Flag_Setting{State: capguardv1.Flag_STATE_ON, Percent: 100}
	return f
}

// say is a script that sends messages and then waits for the end of the stream.
func say(messages ...*capguardv1.WatchFlagsResponse) func(watchStream) error {
	return func(stream watchStream) error {
		for _, m := range messages {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		<-stream.Context().Done()
		return nil
	}
}

var errDown = status.Error(codes.Unavailable, "the back-end is down")
