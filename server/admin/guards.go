package admin

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/server/proxy"
)

const (
	maxReason    = 1000             // bytes
	maxLimit     = 100_000          // calls
	maxStreamCap = 1_000_000        // streams
	viewInterval = time.Second      // default of WatchBackends
	viewPoll     = time.Second / 10 // how often WatchBackends looks for changes
	maxViewers   = 64               // of WatchBackends: each costs ten looks a second at every guard
)

// guardService serves capguard.v1.GuardService.
type guardService struct {
	capguardv1.UnimplementedGuardServiceServer
	backends fleet
	desk     *desk
	viewers  atomic.Int32 // of WatchBackends

	mu     sync.Mutex       // one command at a time: settings are read, changed, and written back whole
	owners map[string]owner // of bounds, by back-end
}

// owner is who set the bounds of a limit, as long as they are those in force.
type owner struct {
	limit      limit.Settings
	maxStreams int
	actor      string
	reason     string
}

// words tell of the bounds who set them and why.
func (o owner) words() string {
	if o.actor == "" {
		return ""
	}
	s := "; its bounds were set by " + o.actor
	if o.reason != "" {
		s += " (" + o.reason + ")"
	}
	return s
}

func (s *guardService) ListBackends(_ context.Context, req *capguardv1.ListBackendsRequest) (*capguardv1.ListBackendsResponse, error) {
	p, err := parsePage(req.GetPageSize(), req.GetPageToken(), "backends")
	if err != nil {
		return nil, err
	}
	backends, next := cut(p, s.renderAll(), (*capguardv1.Backend).GetName)
	return &capguardv1.ListBackendsResponse{Backends: backends, NextPageToken: next}, nil
}

func (s *guardService) GetBackend(_ context.Context, req *capguardv1.GetBackendRequest) (*capguardv1.GetBackendResponse, error) {
	b, err := s.backends.find(req.GetName())
	if err != nil {
		return nil, err
	}
	return &capguardv1.GetBackendResponse{Backend: s.render(b)}, nil
}

// WatchBackends looks at the guards often and sends when something changed that an operator waits for, or the interval is over. A slow
// watcher gets the state of the moment when it reads on.
func (s *guardService) WatchBackends(
	req *capguardv1.WatchBackendsRequest, stream grpc.ServerStreamingServer[capguardv1.WatchBackendsResponse],
) error {
	interval, err := parseInterval(req.GetInterval())
	if err != nil {
		return err
	}
	defer s.viewers.Add(-1)
	if s.viewers.Add(1) > maxViewers {
		return tooManyViewers()
	}
	ctx := stream.Context()
	look := time.NewTicker(viewPoll)
	defer look.Stop()
	var told []string
	var last time.Time
	for {
		now := s.outline()
		if !slices.Equal(now, told) || time.Since(last) >= interval {
			told, last = now, time.Now()
			if err := stream.Send(&capguardv1.WatchBackendsResponse{Backends: s.renderAll()}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-look.C:
		}
	}
}

func parseInterval(d *durationpb.Duration) (time.Duration, error) {
	if d == nil || d.AsDuration() == 0 {
		return viewInterval, nil
	}
	if !d.IsValid() || d.AsDuration() < 0 {
		return 0, invalid("interval", "%v is no time between messages; leave it out for %v", d.AsDuration(), viewInterval)
	}
	return max(d.AsDuration(), viewPoll), nil
}

// outline is what makes WatchBackends send at once when it changes.
func (s *guardService) outline() []string {
	lines := make([]string, len(s.backends))
	for i, b := range s.backends {
		st := b.Guard().Status()
		lines[i] = fmt.Sprint(st.Mode, st.Breaker.State, st.Breaker.Actor, st.Limit.Limit, st.Limit.Min, st.Limit.Max, st.MaxStreams)
	}
	return lines
}

func (s *guardService) ForceBreaker(ctx context.Context, req *capguardv1.ForceBreakerRequest) (*capguardv1.ForceBreakerResponse, error) {
	b, err := s.backends.find(req.GetName())
	if err != nil {
		return nil, err
	}
	o, err := parseOverride(req)
	if err != nil {
		return nil, err
	}
	o.Actor = actor(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	before, after := s.renderLocked(b), s.renderLocked(b)
	if !req.GetValidateOnly() {
		b.Guard().ForceBreaker(o)
		after = s.renderLocked(b)
	} else if o.State != breaker.Closed {
		after.Breaker = renderBreaker(breaker.Status{State: o.State, Since: time.Now(), Reason: o.Reason, Actor: o.Actor, Until: o.Until})
	}
	s.desk.record(ctx, deed{
		verb: "force breaker " + req.GetState(), target: slog.String("backend", b.Name()), reason: o.Reason,
		from: position{state: breakerWord(before)}, to: position{state: breakerWord(after)},
		validateOnly: req.GetValidateOnly(), changed: !req.GetValidateOnly(),
	})
	return &capguardv1.ForceBreakerResponse{Backend: after}, nil
}

func breakerWord(b *capguardv1.Backend) string {
	return strings.TrimPrefix(b.GetBreaker().GetState().String(), "STATE_")
}

// parseOverride reads the command; the actor is missing yet.
func parseOverride(req *capguardv1.ForceBreakerRequest) (breaker.Override, error) {
	o := breaker.Override{Reason: req.GetReason()}
	ttl, err := parseTTL(req.GetTtl())
	if err != nil {
		return o, err
	}
	if err := checkReason(req.GetReason()); err != nil {
		return o, err
	}
	if ttl > 0 {
		o.Until = time.Now().Add(ttl)
	}
	switch req.GetState() {
	case "open":
		o.State = breaker.ForcedOpen
	case "closed":
		o.State = breaker.ForcedClosed
	case "auto":
		if ttl > 0 {
			return o, invalid("ttl", "auto has no end; say it with open or closed")
		}
	default:
		return o, invalid("state", "%q is none of open, closed, auto", req.GetState())
	}
	return o, nil
}

func (s *guardService) SetMode(ctx context.Context, req *capguardv1.SetModeRequest) (*capguardv1.SetModeResponse, error) {
	b, err := s.backends.find(req.GetName())
	if err != nil {
		return nil, err
	}
	mode, ok := parseMode(req.GetMode())
	if !ok {
		return nil, invalid("mode", "%q is none of enforce, observe, off", req.GetMode())
	}
	after, err := s.configure(ctx, b, change{
		verb: "set mode", reason: req.GetReason(), validateOnly: req.GetValidateOnly(),
		apply: func(g *guard.Settings) error { g.Mode = mode; return nil },
		show:  func(g guard.Settings) string { return g.Mode.String() },
	})
	return &capguardv1.SetModeResponse{Backend: after}, err
}

func parseMode(word string) (guard.Mode, bool) {
	for _, m := range []guard.Mode{guard.Enforce, guard.Observe, guard.Off} {
		if word == m.String() {
			return m, true
		}
	}
	return 0, false
}

func (s *guardService) SetLimit(ctx context.Context, req *capguardv1.SetLimitRequest) (*capguardv1.SetLimitResponse, error) {
	b, err := s.backends.find(req.GetName())
	if err != nil {
		return nil, err
	}
	after, err := s.configure(ctx, b, change{
		verb: "set limit", reason: req.GetReason(), validateOnly: req.GetValidateOnly(),
		apply: func(g *guard.Settings) error { return setBounds(g, req) },
		show:  guard.Settings.Bounds,
	})
	return &capguardv1.SetLimitResponse{Backend: after}, err
}

// setBounds changes what the request has. A bound that it has not stays, unless the new one passes it: then it follows.
func setBounds(g *guard.Settings, req *capguardv1.SetLimitRequest) error {
	if req.Min == nil && req.Max == nil && req.MaxStreams == nil {
		return invalid("max", "say min, max or max_streams, or there is nothing to set")
	}
	if err := checkBounds(req); err != nil {
		return err
	}
	if req.Max != nil {
		g.Limit.Max = int(req.GetMax())
		g.Limit.Min = min(g.Limit.Min, max(g.Limit.Max, 1))
	}
	if req.Min != nil {
		g.Limit.Min = int(req.GetMin())
		if req.Max == nil {
			g.Limit.Max = max(g.Limit.Max, g.Limit.Min)
		}
	}
	if req.MaxStreams != nil {
		g.MaxStreams = int(req.GetMaxStreams())
	}
	return nil
}

func checkBounds(req *capguardv1.SetLimitRequest) error {
	switch lo, hi, streams := req.GetMin(), req.GetMax(), req.GetMaxStreams(); {
	case req.Max != nil && (hi < 0 || hi > maxLimit):
		return invalid("max", "%d is not between 0 (no call passes) and %d", hi, maxLimit)
	case req.Min != nil && (lo < 1 || lo > maxLimit):
		return invalid("min", "%d is not between 1 and %d; to let no call pass set max to 0", lo, maxLimit)
	case req.Min != nil && req.Max != nil && hi > 0 && lo > hi:
		return invalid("min", "%d is above max, %d", lo, hi)
	case req.MaxStreams != nil && (streams < 0 || streams > maxStreamCap):
		return invalid("max_streams", "%d is not between 0 (no stream is opened) and %d", streams, maxStreamCap)
	}
	return nil
}

// change is one change of a guard's settings.
type change struct {
	verb, reason string
	validateOnly bool
	apply        func(*guard.Settings) error
	show         func(guard.Settings) string // the part that it changes, for the log
}

// configure carries c out and returns the back-end after it.
func (s *guardService) configure(ctx context.Context, b *proxy.Backend, c change) (*capguardv1.Backend, error) {
	if err := checkReason(c.reason); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := b.Guard().Settings()
	next := old
	if err := c.apply(&next); err != nil {
		return nil, err
	}
	if err := next.Validate(); err != nil {
		return nil, invalid("settings", "%v", err)
	}
	changed := c.show(next) != c.show(old) && !c.validateOnly
	view := preview(s.renderLocked(b), next)
	if changed {
		b.Guard().Configure(next, actor(ctx), c.reason)
		s.ownLocked(b, old, next, owner{actor: actor(ctx), reason: c.reason})
		view = s.renderLocked(b)
	}
	s.desk.record(ctx, deed{
		verb: c.verb, target: slog.String("backend", b.Name()), reason: c.reason,
		from: position{state: c.show(old)}, to: position{state: c.show(next)}, validateOnly: c.validateOnly, changed: changed,
	})
	return view, nil
}
