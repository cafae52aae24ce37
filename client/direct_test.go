package client_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/client"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// behind is a site whose back-end can be reached past the guard, too.
type behind struct {
	*site
	server *grpc.Server
	port   *bufconn.Listener

	mu     sync.Mutex
	direct []metadata.MD // of the calls past the guard
	reply  error
	took   time.Duration
}

const backendAddress = "10.0.0.7:9000"

// inSight runs f in a bubble with a Conn that may go past the guard with a share.
func inSight(t *testing.T, share float64, f func(t *testing.T, b *behind, c *client.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &behind{site: newSite(), port: bufconn.Listen(1 << 20)}
		b.server = grpc.NewServer(grpc.UnknownServiceHandler(b.handle))
		go b.server.Serve(b.port) // until Stop
		t.Cleanup(b.server.Stop)
		t.Cleanup(b.site.close)
		c := b.connect(t, client.WithDirect(backendAddress, share), client.WithDialer(b.dial))
		settle(time.Second)
		f(t, b, c)
	})
}

func (b *behind) dial(ctx context.Context, address string) (net.Conn, error) {
	if address == backendAddress {
		return b.port.DialContext(ctx)
	}
	return b.site.dial(ctx, address)
}

func (b *behind) handle(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	b.mu.Lock()
	b.direct = append(b.direct, md)
	reply, took := b.reply, b.took
	b.mu.Unlock()
	if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != nil {
		return err
	}
	time.Sleep(took)
	if reply != nil {
		return reply
	}
	return stream.SendMsg(wrapperspb.String("books"))
}

// past returns the metadata of the calls past the guard so far.
func (b *behind) past() []metadata.MD {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.direct)
}

// granting answers calls that ask for a lease.
func granting(slots string) handler {
	return func(stream grpc.ServerStream, md metadata.MD, _ string) error {
		if len(md.Get("capguard-lease")) > 0 {
			stream.SetHeader(metadata.Pairs("capguard-lease", slots))
		}
		return stream.SendMsg(wrapperspb.String("books"))
	}
}

func recommend(c *client.Conn, ctx context.Context) error {
	_, err := Shop{c}.Recommend(ctx, new(Customer))
	return err
}

// A call of a client that may go past the guard asks for a lease; one that just did is not repeated, and others never ask.
func TestWhoAsksForALease(t *testing.T) {
	inSight(t, 1, func(t *testing.T, b *behind, c *client.Conn) {
		asked := 0
		for range 10 {
			recommend(c, t.Context())
			time.Sleep(time.Millisecond)
		}
		for _, md := range b.received() {
			asked += len(md.Get("capguard-lease"))
		}
		if asked != 1 || len(b.past()) != 0 {
			t.Errorf("%d of 10 calls in 10 ms asked, %d went past the guard", asked, len(b.past()))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		recommend(c, t.Context())
		if md := s.received()[0]; len(md.Get("capguard-lease")) > 0 {
			t.Errorf("a client that can not use a lease asks for one: %v", md)
		}
	})
}

// The guard dies: calls go on, as many at once as the lease had slots, and go by way of the guard again once it is back.
func TestCallsGoPastADeadGuard(t *testing.T) {
	inSight(t, 0, func(t *testing.T, b *behind, c *client.Conn) {
		b.answers(granting("3"))
		recommend(c, t.Context())
		b.site.close()
		settle(time.Second) // Of three slots two and nine tenths are left.
		begun := time.Now()
		if err := recommend(c, t.Context()); err != nil || time.Since(begun) > 0 {
			t.Errorf("past a guard that is known to be dead: %v after %v", err, time.Since(begun))
		}
		b.took = time.Second
		time.Sleep(time.Second)
		var passed, refused int
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "x-mine", "1")
				err := recommend(c, c.Feature("recs").Tag(ctx))
				mu.Lock()
				defer mu.Unlock()
				gone, ok := errors.AsType[*client.UnreachableError](err)
				switch {
				case err == nil:
					passed++
				case ok && !gone.Sent && gone.Direct != nil && status.Code(err) == codes.Unavailable &&
					strings.HasPrefix(err.Error(), "the guard at 127.0.0.1:7070 is unreachable: ") &&
					strings.HasSuffix(err.Error(), "; the lease for calls to the back-end at 10.0.0.7:9000 is used up"):
					refused++
				default:
					t.Errorf("error %v", err)
				}
			})
		}
		all.Wait()
		if passed != 3 || refused != 7 {
			t.Errorf("%d calls passed at once, %d were refused; the lease has 3 slots", passed, refused)
		}
		for _, md := range b.past()[1:] {
			if len(md.Get("capguard-lease")) > 0 || md.Get("x-mine")[0] != "1" || md.Get("capguard-feature")[0] != "recs" {
				t.Errorf("metadata past the guard: %v", md)
			}
		}
		time.Sleep(time.Minute)
		if err := recommend(c, t.Context()); err == nil {
			t.Error("a lease of an hour ago is as good as new, and the share is nothing")
		}
		b.revive()
		settle(4 * time.Second)
		before := len(b.past())
		if err := recommend(c, t.Context()); err != nil || len(b.past()) != before {
			t.Errorf("after the return of the guard: %v, %d calls past it", err, len(b.past())-before)
		}
	})
}

// The guard's word counts in a refusal, too, which has nothing but trailers.
func TestARefusalGrantsALease(t *testing.T) {
	inSight(t, 0, func(t *testing.T, b *behind, c *client.Conn) {
		b.answers(func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
			st, trailer := grpcguard.Refusal(guard.Decision{Reason: guard.LimitReached, RetryAfter: time.Minute}, guard.Call{}, "shop")
			trailer.Set("capguard-lease", "1")
			stream.SetTrailer(trailer)
			return st.Err()
		})
		recommend(c, t.Context())
		b.site.close()
		settle(time.Second)
		if err := recommend(c, t.Context()); err != nil || len(b.past()) != 1 {
			t.Errorf("%v; %d calls went past the guard", err, len(b.past()))
		}
	})
}

// A call that may have been carried out is not made again, past the guard as little as through it; and a stream never goes past it.
func TestWhatDoesNotGoPastTheGuard(t *testing.T) {
	inSight(t, 5, func(t *testing.T, b *behind, c *client.Conn) {
		b.answers(func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
			<-stream.Context().Done()
			return stream.Context().Err()
		})
		ended := make(chan error)
		go func() { ended <- recommend(c, t.Context()) }()
		settle(time.Second)
		b.site.close()
		gone, ok := errors.AsType[*client.UnreachableError](<-ended)
		if !ok || !gone.Sent || gone.Direct != nil {
			t.Errorf("a call in flight when the guard died: %v", gone)
		}
		settle(time.Second)
		_, err := c.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/shop.Shop/Watch")
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok || len(b.past()) != 0 {
			t.Errorf("a stream: %v; %d calls went past the guard", err, len(b.past()))
		}
	})
}

// The flags that are known hold past the guard, too.
func TestFlagsHoldPastTheGuard(t *testing.T) {
	inSight(t, 1000, func(t *testing.T, b *behind, c *client.Conn) {
		b.disable("recs", "INC-4821")
		b.set(dimmed("ads", 20))
		settle(time.Second)
		b.site.close()
		settle(time.Second)
		err := recommend(c, c.Feature("recs").Tag(t.Context()))
		if r, ok := client.Rejected(err); !ok || r.Reason != client.FeatureOff || r.Metadata["why"] != "INC-4821" || len(b.past()) != 0 {
			t.Errorf("off: %v; %d calls went past the guard", err, len(b.past()))
		}
		for range 1000 {
			err := recommend(c, c.Feature("ads").Tag(t.Context()))
			if r, ok := client.Rejected(err); err != nil && (!ok || r.Reason != client.FeatureDimmed || r.Metadata["percent"] != "20") {
				t.Fatalf("dimmed: %v", err)
			}
		}
		if n := len(b.past()); n < 140 || n > 260 { // 200, give or take five standard deviations
			t.Errorf("%d of 1000 calls dimmed to 20 %% went past the guard", n)
		}
	})
}

// A client that begins while the guard is dead knows nothing of flags: a feature may have been off for hours, so its calls stay.
func TestUnknownFlagsHoldPastTheGuard(t *testing.T) {
	inSight(t, 1000, func(t *testing.T, b *behind, _ *client.Conn) {
		b.disable("recs", "INC-4821")
		b.site.close()
		late := b.connect(t, client.WithDirect(backendAddress, 1000), client.WithDialer(b.dial))
		settle(time.Second)
		err := recommend(late, late.Feature("recs").Tag(t.Context()))
		if gone, ok := errors.AsType[*client.UnreachableError](err); !ok || gone.Direct == nil || len(b.past()) != 0 {
			t.Errorf("a feature: %v; %d calls went past the guard", err, len(b.past()))
		}
		if err := recommend(late, t.Context()); err != nil || len(b.past()) != 1 {
			t.Errorf("no feature: %v; %d calls went past the guard", err, len(b.past()))
		}
	})
}

// What the back-end answers is its answer, with retries as the throttle lets them; and one that is dead, too, is told of.
func TestAnswersPastTheGuard(t *testing.T) {
	inSight(t, 5, func(t *testing.T, b *behind, c *client.Conn) {
		b.site.close()
		settle(time.Second)
		b.reply = status.Error(codes.NotFound, "no such book")
		if err := recommend(c, t.Context()); status.Code(err) != codes.NotFound || len(b.past()) != 1 {
			t.Errorf("error %v after %d calls", err, len(b.past()))
		}
		b.reply = errDown
		for range 100 {
			recommend(c, t.Context())
		}
		if n := len(b.past()); n < 102 || n > 112 {
			t.Errorf("100 calls that failed were made %d times", n-1)
		}
		b.server.Stop()
		settle(time.Second)
		err := recommend(c, t.Context())
		_, ok := errors.AsType[*client.UnreachableError](err)
		if !ok || !strings.Contains(err.Error(), "; the back-end at 10.0.0.7:9000 is unreachable: ") {
			t.Errorf("nobody is there: %v", err)
		}
	})
}

// A guard from whose address nothing comes at all holds calls up for a moment only.
func TestABlackHoleDoesNotHoldCallsUp(t *testing.T) {
	inSight(t, 5, func(t *testing.T, b *behind, _ *client.Conn) {
		hole := func(ctx context.Context, address string) (net.Conn, error) {
			if address == backendAddress {
				return b.port.DialContext(ctx)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c := b.connect(t, client.WithDirect(backendAddress, 5), client.WithDialer(hole))
		begun := time.Now()
		if err := recommend(c, t.Context()); err != nil || time.Since(begun) != 100*time.Millisecond {
			t.Errorf("error %v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := recommend(c, ctx)
		gone, ok := errors.AsType[*client.UnreachableError](err)
		if !ok || gone.Direct != nil || status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a call without the time to wait: %v", err)
		}
	})
}

func TestWithDirectTellsFaults(t *testing.T) {
	_, err := client.Dial("127.0.0.1:7070", client.WithDirect("", -1))
	if err == nil || !strings.Contains(err.Error(), "the target is empty") || !strings.Contains(err.Error(), "a share of -1 calls") {
		t.Errorf("error %v", err)
	}
	_, err = client.Dial("127.0.0.1:7070", client.WithDirect("dns://%zz", 1))
	if err == nil || !strings.Contains(err.Error(), "dial back-end") {
		t.Errorf("error %v", err)
	}
}
