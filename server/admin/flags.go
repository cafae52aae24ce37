package admin

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/tuning"
)

// settleTimeout is how long an operator's command waits for back-ends to acknowledge calls that were sent to them just before it.
const settleTimeout = time.Second

// flagService serves capguard.v1.FlagService: reads and commands here, the stream in watch.go.
type flagService struct {
	capguardv1.UnimplementedFlagServiceServer
	registry *featureflags.Registry
	tuner    *tuning.Tuner
	backends fleet
	desk     *desk
}

func (s *flagService) ListFlags(_ context.Context, req *capguardv1.ListFlagsRequest) (*capguardv1.ListFlagsResponse, error) {
	p, err := parsePage(req.GetPageSize(), req.GetPageToken(), "flags "+req.GetFilter())
	if err != nil {
		return nil, err
	}
	conditions, err := parseFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	flags, next := cut(p, s.matching(conditions), (*capguardv1.Flag).GetName)
	return &capguardv1.ListFlagsResponse{Flags: flags, NextPageToken: next, StoreDownSince: s.storeDownSince()}, nil
}

// matching returns the flags and features that meet all conditions, by name.
func (s *flagService) matching(conditions []condition) []*capguardv1.Flag {
	snapshot, seen, now := s.registry.Snapshot(), s.backends.costs(), time.Now()
	var flags []*capguardv1.Flag
	for name := range names(snapshot, seen) {
		f := renderNamed(snapshot, name, now)
		if !slices.ContainsFunc(conditions, func(c condition) bool { return !c.match(f) }) {
			f.Cost = seen.of(name)
			flags = append(flags, f)
		}
	}
	return flags
}

func (s *flagService) GetFlag(_ context.Context, req *capguardv1.GetFlagRequest) (*capguardv1.GetFlagResponse, error) {
	name, err := featureflags.ParseName(req.GetName())
	if err != nil {
		return nil, s.explain(err)
	}
	snapshot, seen := s.registry.Snapshot(), s.backends.costs()
	if _, ok := snapshot.Flag(name); !ok && !seen.seen(name) {
		return nil, s.explain(&featureflags.Error{Kind: featureflags.NotFound, Name: name})
	}
	f := renderNamed(snapshot, name, time.Now())
	f.Cost = seen.of(name)
	return &capguardv1.GetFlagResponse{Flag: f, StoreDownSince: s.storeDownSince()}, nil
}

// storeDownSince tells an operator how old what is shown may be; nil while the store works.
func (s *flagService) storeDownSince() *timestamppb.Timestamp {
	since, err := s.registry.StoreError()
	if err == nil {
		return nil
	}
	return timestamppb.New(since)
}

func (s *flagService) CreateFlag(ctx context.Context, req *capguardv1.CreateFlagRequest) (*capguardv1.CreateFlagResponse, error) {
	name := req.GetFlagId()
	if name == "" {
		name = req.GetFlag().GetName()
	} else if in := req.GetFlag().GetName(); in != "" && strings.TrimPrefix(in, flagPrefix) != strings.TrimPrefix(name, flagPrefix) {
		return nil, invalid("flag_id", "%q is not flag.name %q; say one of them", name, in)
	}
	c := featureflags.Command{
		Action: featureflags.Create, Name: name,
		Description: stated(req.GetFlag().GetDescription()), Reason: stated(req.GetFlag().GetReason()),
		ValidateOnly: req.GetValidateOnly(), RequestID: req.GetRequestId(),
	}
	if flag := req.GetFlag(); flag != nil {
		c.Percent = flag.Percent
	}
	a, err := s.command(ctx, c)
	return &capguardv1.CreateFlagResponse{Flag: a.flag}, err
}

func (s *flagService) UpdateFlag(ctx context.Context, req *capguardv1.UpdateFlagRequest) (*capguardv1.UpdateFlagResponse, error) {
	c, err := updateCommand(req)
	if err != nil {
		return nil, err
	}
	a, err := s.command(ctx, c)
	return &capguardv1.UpdateFlagResponse{Flag: a.flag, Previous: a.previous}, err
}

func (s *flagService) DeleteFlag(ctx context.Context, req *capguardv1.DeleteFlagRequest) (*capguardv1.DeleteFlagResponse, error) {
	a, err := s.command(ctx, featureflags.Command{
		Action: featureflags.Delete, Name: req.GetName(), Etag: req.GetEtag(),
		ValidateOnly: req.GetValidateOnly(), RequestID: req.GetRequestId(), AllowMissing: req.GetAllowMissing(),
	})
	return &capguardv1.DeleteFlagResponse{Flag: a.flag, Previous: a.previous}, err
}

func (s *flagService) DisableFlag(ctx context.Context, req *capguardv1.DisableFlagRequest) (*capguardv1.DisableFlagResponse, error) {
	a, err := s.turn(ctx, featureflags.Disable, nil, req)
	return &capguardv1.DisableFlagResponse{Flag: a.flag, Previous: a.previous}, err
}

func (s *flagService) EnableFlag(ctx context.Context, req *capguardv1.EnableFlagRequest) (*capguardv1.EnableFlagResponse, error) {
	a, err := s.turn(ctx, featureflags.Enable, nil, req)
	return &capguardv1.EnableFlagResponse{Flag: a.flag, Previous: a.previous}, err
}

func (s *flagService) DimFlag(ctx context.Context, req *capguardv1.DimFlagRequest) (*capguardv1.DimFlagResponse, error) {
	a, err := s.turn(ctx, featureflags.Dim, req.Percent, req)
	return &capguardv1.DimFlagResponse{Flag: a.flag, Previous: a.previous}, err
}

func (s *flagService) RollbackFlag(ctx context.Context, req *capguardv1.RollbackFlagRequest) (*capguardv1.RollbackFlagResponse, error) {
	name, revision, err := parseRevisionName(req.GetName())
	if err != nil {
		return nil, err
	}
	a, err := s.command(ctx, featureflags.Command{
		Action: featureflags.Rollback, Name: name, RollbackTo: revision, Reason: stated(req.GetReason()), Etag: req.GetEtag(),
		ValidateOnly: req.GetValidateOnly(), RequestID: req.GetRequestId(),
	})
	return &capguardv1.RollbackFlagResponse{Flag: a.flag, Previous: a.previous}, err
}

func (s *flagService) ListFlagRevisions(
	ctx context.Context, req *capguardv1.ListFlagRevisionsRequest,
) (*capguardv1.ListFlagRevisionsResponse, error) {
	name, err := featureflags.ParseName(req.GetParent())
	if err != nil {
		return nil, invalid("parent", "%s", strings.TrimPrefix(err.Error(), "name: "))
	}
	p, err := parsePage(req.GetPageSize(), req.GetPageToken(), "revisions "+name)
	if err != nil {
		return nil, err
	}
	before, _ := strconv.ParseInt(p.after, 10, 64) // our own token, or "" for 0
	revisions, err := s.registry.Revisions(ctx, name, before, p.size+1)
	if err != nil {
		return nil, s.explain(err)
	}
	if len(revisions) == 0 && before == 0 {
		if err := s.known(name); err != nil {
			return nil, err
		}
	}
	resp := &capguardv1.ListFlagRevisionsResponse{}
	for i, r := range revisions[:min(len(revisions), p.size)] {
		resp.Revisions = append(resp.Revisions, renderRevision(r))
		if i == p.size-1 && len(revisions) > p.size {
			resp.NextPageToken = p.token(strconv.FormatInt(r.Number, 10))
		}
	}
	return resp, nil
}

// known returns an error if there is neither a flag nor a feature of that name.
func (s *flagService) known(name string) error {
	_, err := s.GetFlag(context.Background(), &capguardv1.GetFlagRequest{Name: name})
	return err
}

// switching is a request that turns a switch.
type switching interface {
	GetName() string
	GetReason() string
	GetTtl() *durationpb.Duration
	GetEtag() string
	GetValidateOnly() bool
	GetRequestId() string
	GetAllowMissing() bool
}

func (s *flagService) turn(ctx context.Context, a featureflags.Action, percent *float64, req switching) (answer, error) {
	ttl, err := parseTTL(req.GetTtl())
	if err != nil {
		return answer{}, err
	}
	return s.command(ctx, featureflags.Command{
		Action: a, Name: req.GetName(), Percent: percent, Reason: stated(req.GetReason()), TTL: ttl, Etag: req.GetEtag(),
		ValidateOnly: req.GetValidateOnly(), RequestID: req.GetRequestId(), AllowMissing: req.GetAllowMissing(),
	})
}

// answer is a flag after and before a command.
type answer struct{ flag, previous *capguardv1.Flag }

// command carries c out, waits until it is in force everywhere, and tells the log.
func (s *flagService) command(ctx context.Context, c featureflags.Command) (answer, error) {
	c.Actor = actor(ctx)
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		c.TraceID, c.SpanID = sc.TraceID().String(), sc.SpanID().String()
	}
	result, err := s.registry.Apply(ctx, c, s.backends.costs().seen)
	if err != nil {
		return answer{}, s.explain(err)
	}
	if !c.ValidateOnly {
		s.settle(ctx, result.Revision)
	}
	name := strings.TrimPrefix(c.Name, flagPrefix)
	a := answer{renderResult(result.Flag, name), renderResult(result.Previous, name)}
	a.flag.Cost = s.backends.costs().of(name)
	s.desk.record(ctx, deed{
		verb: c.Action.String(), target: slog.String("flag", name), from: positionOf(a.previous), to: positionOf(a.flag),
		reason: a.flag.GetReason(), revision: result.Revision, validateOnly: c.ValidateOnly, changed: result.Changed,
	})
	return a, nil
}

// settle returns when no call that an earlier revision admitted can arrive at a back-end any more. It is no error if back-ends do not
// acknowledge in time: the command is stored and every later call obeys it.
func (s *flagService) settle(ctx context.Context, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	unknown, err := s.tuner.Wait(ctx, revision)
	if err != nil {
		s.desk.log.ErrorContext(ctx, "flags are not in force", "revision", revision, "error", err)
	} else if unknown > 0 {
		s.desk.log.WarnContext(ctx, "calls admitted before the command may still arrive at a back-end that gives no sign of life",
			"calls", unknown, "revision", revision)
	}
}

// explain names the nearest of all names that there are.
func (s *flagService) explain(err error) error {
	return explain(err, names(s.registry.Snapshot(), s.backends.costs()))
}

// names yields the names of all flags and of all features seen in calls, in order.
func names(snapshot *featureflags.Snapshot, seen costs) iter.Seq[string] {
	all := map[string]bool{}
	for f := range snapshot.All() {
		all[f.Name] = true
	}
	for name := range seen {
		all[name] = true
	}
	return slices.Values(slices.Sorted(maps.Keys(all)))
}

// renderNamed returns the flag of that name, or the feature without one.
func renderNamed(snapshot *featureflags.Snapshot, name string, now time.Time) *capguardv1.Flag {
	if f, ok := snapshot.Flag(name); ok {
		return renderFlag(f, now)
	}
	return renderUnflagged(name)
}

// renderResult is renderNamed for the flags of a Result, whose name is empty when there is no flag.
func renderResult(f featureflags.Flag, name string) *capguardv1.Flag {
	if f.Name == "" {
		return renderUnflagged(name)
	}
	return renderFlag(f, time.Now())
}

func positionOf(f *capguardv1.Flag) position {
	return position{state: strings.TrimPrefix(f.GetState().String(), "STATE_"), percent: new(f.GetPercent())}
}

// stated returns nil for a text that the request does not contain: on the wire it cannot be told from an empty one.
func stated(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// parseTTL refuses what is present but no duration in bounds: an explicit 0s must not mean for ever.
func parseTTL(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	ttl := d.AsDuration()
	if !d.IsValid() || ttl < time.Second || ttl > 366*24*time.Hour {
		return 0, invalid("ttl", "%v is not between 1 second and 366 days; leave it out for no end", ttl)
	}
	return ttl, nil
}
