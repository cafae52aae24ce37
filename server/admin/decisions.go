package admin

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

const defaultDecisions = 10 // a second

// WatchDecisions looks often for what its Watcher was told, and sends it. A slow watcher holds up nobody: what it has no room for is
// skipped and counted.
func (s *guardService) WatchDecisions(
	req *capguardv1.WatchDecisionsRequest, stream grpc.ServerStreamingServer[capguardv1.WatchDecisionsResponse],
) error {
	b, err := s.backends.find(req.GetName())
	if err != nil {
		return err
	}
	f, perSecond, err := parseWatch(req)
	if err != nil {
		return err
	}
	w, err := b.Guard().Watch(f, perSecond)
	if err != nil {
		return tooManyWatchers(b.Name())
	}
	defer w.Close()
	if err := stream.SendHeader(metadata.MD{}); err != nil { // The client knows from now on that it misses nothing.
		return err
	}
	ctx := stream.Context()
	look := time.NewTicker(viewPoll)
	defer look.Stop()
	m, last := &capguardv1.WatchDecisionsResponse{}, time.Now()
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-look.C:
		}
		came, skipped := w.Take()
		m.Skipped += int64(skipped)
		for _, r := range came {
			m.Decisions = append(m.Decisions, renderDecision(b.Name(), r))
		}
		if len(m.GetDecisions()) == 0 && time.Since(last) < heartbeat {
			continue
		}
		if err := stream.Send(m); err != nil {
			return err
		}
		m, last = &capguardv1.WatchDecisionsResponse{}, time.Now()
	}
}

// parseWatch reads which refusals are wanted, and how many a second.
func parseWatch(req *capguardv1.WatchDecisionsRequest) (f guard.Filter, perSecond int, err error) {
	f = guard.Filter{Tenant: req.GetTenant(), Enforced: !req.GetIncludeObserved()}
	if req.GetFeature() != "" {
		if f.Feature, err = featureflags.ParseName(req.GetFeature()); err != nil {
			return f, 0, invalid("feature", "%.100q is no flag id; it can match no call", req.GetFeature())
		}
	}
	if f.Tenant != "" && !grpcguard.IsTenant(f.Tenant) {
		return f, 0, invalid("tenant", "%.100q is no name of a tenant, 1 to 128 bytes of printable text; it can match no call", f.Tenant)
	}
	if req.GetMethod() != "" {
		if f.Method, err = parseMethod("method", req.GetMethod()); err != nil {
			return f, 0, err
		}
	}
	if f.Reason, err = parseReason(req.GetReason()); err != nil {
		return f, 0, err
	}
	perSecond = int(req.GetMaxPerSecond())
	if perSecond < 0 || perSecond > guard.MaxWatchRate {
		return f, 0, invalid("max_per_second", "%d is not between 1 and %d; leave it out for %d", perSecond, guard.MaxWatchRate, defaultDecisions)
	}
	if perSecond == 0 {
		perSecond = defaultDecisions
	}
	return f, perSecond, nil
}

// parseReason reads the name of a reason; none is any.
func parseReason(name string) (guard.Reason, error) {
	if name == "" {
		return guard.None, nil
	}
	if r, ok := grpcguard.ReasonOf(name); ok {
		return r, nil
	}
	var names []string
	for r := guard.None + 1; grpcguard.ReasonName(r) != ""; r++ {
		names = append(names, grpcguard.ReasonName(r))
	}
	return guard.None, invalid("reason", "%.100q is none of %s", name, strings.Join(names, ", "))
}

func tooManyViewers() error {
	return fault{
		code: codes.ResourceExhausted, reason: reasonTooManyWatchers,
		message: fmt.Sprintf("the back-ends are watched by %d, as many as may; end another watch, or ask ListBackends", maxViewers),
	}.err()
}

func tooManyWatchers(backend string) error {
	return fault{
		code: codes.ResourceExhausted, reason: reasonTooManyWatchers, metadata: map[string]string{"backend": backend},
		message: fmt.Sprintf("the decisions on back-end %q are watched by as many as may; end another watch, or ask Explain", backend),
	}.err()
}
