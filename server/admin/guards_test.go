package admin_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
)

func (r *rig) admit(feature string) guard.Permit {
	r.Helper()
	p, d := r.guard.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: feature})
	if !d.Admitted {
		r.Fatal("refused:", d.Reason)
	}
	return p
}

func (r *rig) backend(name string) *capguardv1.Backend {
	r.Helper()
	resp, err := r.guards.GetBackend(r.Context(), &capguardv1.GetBackendRequest{Name: name})
	if err != nil {
		r.Fatal("get back-end:", err)
	}
	return resp.GetBackend()
}

func TestBackendAsItIs(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.call("recs")
		p := r.admit("recs")
		b := r.backend("")
		p.Done(guard.Success)
		want(r, "name", b.GetName(), "backends/shop")
		want(r, "mode", b.GetMode(), capguardv1.Mode_MODE_ENFORCE)
		want(r, "breaker", b.GetBreaker().GetState(), capguardv1.Breaker_STATE_CLOSED)
		want(r, "in flight", b.GetInFlight(), 1)
		want(r, "limit", b.GetLimit().GetCurrent(), 8)
		want(r, "law", b.GetLimit().GetLaw(), "adaptive")
		want(r, "who set the limit", b.GetLimit().GetActor(), "")
		want(r, "endpoints", len(b.GetEndpoints()), 1)
		want(r, "endpoint", b.GetEndpoints()[0].GetState(), capguardv1.Endpoint_STATE_READY)
		e := b.GetEndpoints()[0]
		want(r, "address", e.GetAddress(), e.GetTarget())
		want(r, "limit of the endpoint", e.GetLimit(), b.GetLimit().GetCurrent())
		want(r, "trust", e.GetTrust(), 1.0)
		want(r, "suspect", e.GetSuspect(), false)
		want(r, "routes", strings.Join(b.GetRoutes(), " "), "*")
		if b.GetRates().GetAdmitted() <= 0 {
			r.Errorf("rates are %v", b.GetRates())
		}
	})
}

func TestListBackends(t *testing.T) {
	inBubble(t, parts{backends: []string{"stock", "shop", "mail"}}, func(r *rig) {
		var names []string
		req := &capguardv1.ListBackendsRequest{PageSize: 2}
		for range 3 {
			resp, err := r.guards.ListBackends(r.Context(), req)
			if err != nil {
				r.Fatal(err)
			}
			for _, b := range resp.GetBackends() {
				names = append(names, b.GetName())
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		want(r, "names", strings.Join(names, " "), "backends/mail backends/shop backends/stock")
		want(r, "a bare name", r.backend("shop").GetName(), "backends/shop")
		_, err := r.guards.GetBackend(r.Context(), &capguardv1.GetBackendRequest{})
		wantViolation(r, err, "name")
		_, err = r.guards.SetMode(r.Context(), &capguardv1.SetModeRequest{Name: "backends/shopp", Mode: "off"})
		st := wantError(r, err, codes.NotFound, "BACKEND_NOT_FOUND")
		if !strings.Contains(st.Message(), `"mail", "shop" or "stock"`) {
			r.Errorf("message %q does not name the back-ends", st.Message())
		}
		want(r, "resource", detail[*errdetails.ResourceInfo](st).GetResourceName(), "backends/shopp")
	})
}

func TestForceBreaker(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		force := func(state string, ttl time.Duration, dry bool) *capguardv1.Breaker {
			req := &capguardv1.ForceBreakerRequest{State: state, Reason: "maintenance", ValidateOnly: dry}
			if ttl > 0 {
				req.Ttl = durationpb.New(ttl)
			}
			resp, err := r.guards.ForceBreaker(r.as("anna"), req)
			if err != nil {
				r.Fatal(err)
			}
			return resp.GetBackend().GetBreaker()
		}
		want(r, "dry run", force("open", 0, true).GetState(), capguardv1.Breaker_STATE_FORCED_OPEN)
		want(r, "call after the dry run", r.call("recs"), true)
		b := force("open", time.Minute, false)
		want(r, "state", b.GetState(), capguardv1.Breaker_STATE_FORCED_OPEN)
		want(r, "actor", b.GetActor(), "anna")
		want(r, "end", b.GetExpireTime().AsTime(), time.Now().Add(time.Minute).UTC())
		if !strings.Contains(b.GetReason(), "maintenance") {
			r.Errorf("reason is %q", b.GetReason())
		}
		want(r, "call", r.call("recs"), false)
		time.Sleep(time.Minute)
		want(r, "call after the ttl", r.call("recs"), true)
		force("open", 0, false)
		want(r, "state after auto", force("auto", 0, false).GetState(), capguardv1.Breaker_STATE_CLOSED)
		want(r, "call after auto", r.call("recs"), true)
		want(r, "forced closed", force("closed", 0, false).GetState(), capguardv1.Breaker_STATE_FORCED_CLOSED)
		if r.log.line("verb=\"force breaker closed\"", "actor=anna", "backend=shop", "old=CLOSED", "new=FORCED_CLOSED") == "" {
			r.Error("nothing in the log")
		}
	})
}

func TestSetMode(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		for word, mode := range map[string]capguardv1.Mode{
			"observe": capguardv1.Mode_MODE_OBSERVE, "off": capguardv1.Mode_MODE_OFF, "enforce": capguardv1.Mode_MODE_ENFORCE,
		} {
			before := r.backend("").GetMode()
			dry, err := r.guards.SetMode(r.as("anna"), &capguardv1.SetModeRequest{Mode: word, ValidateOnly: true})
			if err != nil {
				r.Fatal(err)
			}
			want(r, "dry run", dry.GetBackend().GetMode(), mode)
			want(r, "mode after the dry run", r.backend("").GetMode(), before)
			resp, err := r.guards.SetMode(r.as("anna"), &capguardv1.SetModeRequest{Mode: word})
			if err != nil {
				r.Fatal(err)
			}
			want(r, "answer", resp.GetBackend().GetMode(), mode)
			want(r, "mode", r.backend("").GetMode(), mode)
		}
	})
}

func TestSetLimit(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		set := func(lo, hi, streams *int32, dry bool) *capguardv1.Limit {
			resp, err := r.guards.SetLimit(r.as("anna"), &capguardv1.SetLimitRequest{
				Min: lo, Max: hi, MaxStreams: streams, ValidateOnly: dry, Reason: "half the pods are gone",
			})
			if err != nil {
				r.Fatal(err)
			}
			return resp.GetBackend().GetLimit()
		}
		check := func(l *capguardv1.Limit, lo, hi, streams int32) {
			t.Helper()
			want(r, "min", l.GetMin(), lo)
			want(r, "max", l.GetMax(), hi)
			want(r, "streams", l.GetMaxStreams(), streams)
		}
		check(set(nil, new(int32(5)), nil, true), 1, 5, 1000)
		check(r.backend("").GetLimit(), 1, 1000, 1000)
		l := set(nil, new(int32(5)), nil, false)
		check(l, 1, 5, 1000)
		want(r, "current", l.GetCurrent(), 5)
		want(r, "actor", l.GetActor(), "anna")
		check(set(new(int32(20)), nil, nil, false), 20, 20, 1000) // max follows
		want(r, "a fixed limit", r.backend("").GetLimit().GetCurrent(), 20)
		check(set(nil, new(int32(3)), new(int32(0)), false), 3, 3, 0) // min follows
		check(set(nil, new(int32(0)), nil, false), 1, 0, 0)
		want(r, "call at limit 0", r.call("recs"), false)
		check(set(new(int32(2)), new(int32(9)), nil, false), 2, 9, 0)
		want(r, "call", r.call("recs"), true)
	})
}

// Story: in an incident one operator set the limit to 0, and the next one found "fixed: by the settings" everywhere, and callers heard that
// a line was full which there was not. Who and why stands wherever the limit is explained.
func TestTheReasonOfSetLimitIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		req    *capguardv1.SetLimitRequest
		reason string
	}{
		"none passes": {&capguardv1.SetLimitRequest{Max: new(int32(0)), Reason: "INC-7"},
			"max is 0: no call may pass; its bounds were set by anna (INC-7)"},
		"fixed": {&capguardv1.SetLimitRequest{Min: new(int32(3)), Max: new(int32(3)), Reason: "INC-7"},
			"; its bounds were set by anna (INC-7)"},
		"streams": {&capguardv1.SetLimitRequest{MaxStreams: new(int32(3)), Reason: "INC-7"}, "; its bounds were set by anna (INC-7)"},
		"no word": {&capguardv1.SetLimitRequest{Max: new(int32(0))}, "max is 0: no call may pass; its bounds were set by anna"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, parts{}, func(r *rig) {
				r.call("recs")
				resp, err := r.guards.SetLimit(r.as("anna"), test.req)
				if err != nil {
					r.Fatal(err)
				}
				got := resp.GetBackend().GetLimit().GetReason()
				want(r, "reason "+got, strings.HasSuffix(got, test.reason), true)
				want(r, "reason later", r.backend("").GetLimit().GetReason(), got)
				e := r.explainMethod("recs")
				contains(r, rule(r, e, capguardv1.Rule_KIND_LIMIT).GetExplanation(), test.reason)
				last := e.GetChanges()[slices.IndexFunc(e.GetChanges(), func(c *capguardv1.Change) bool { return c.GetKind() == "bounds" })]
				want(r, "change", last.GetActor()+": "+last.GetReason(), "anna: "+test.req.GetReason())
			})
		})
	}
}

// The commonest limit of all has nobody's name on it.
func TestALimitThatNobodySet(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.call("recs")
		e := r.explainMethod("recs")
		for _, text := range []string{
			r.backend("").GetLimit().GetReason(), rule(r, e, capguardv1.Rule_KIND_LIMIT).GetExplanation(),
		} {
			want(r, "somebody set it: "+text, strings.Contains(text, "set by"), false)
		}
	})
}

// Story: 4,000 watches of back-ends made the process twice as large.
func TestWatchesOfBackendsAreBounded(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		watch := func(ctx context.Context) error {
			stream, err := r.guards.WatchBackends(ctx, &capguardv1.WatchBackendsRequest{})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}
		one, end := context.WithCancel(r.Context())
		defer end()
		for i := range 64 {
			ctx := r.Context()
			if i == 0 {
				ctx = one
			}
			if err := watch(ctx); err != nil {
				r.Fatalf("watch %d: %v", i, err)
			}
		}
		contains(r, wantError(r, watch(r.Context()), codes.ResourceExhausted, "TOO_MANY_WATCHERS").Message(), "64", "ListBackends")
		end()
		synctest.Wait()
		if err := watch(r.Context()); err != nil {
			r.Errorf("one has gone, and still there is no room: %v", err)
		}
	})
}

// What a reload of the configuration sets is not the operator's any more.
func TestLimitOfTheConfiguration(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		if _, err := r.guards.SetLimit(r.as("anna"), &capguardv1.SetLimitRequest{Max: new(int32(5))}); err != nil {
			r.Fatal(err)
		}
		r.guard.Configure(guard.Default(), "config", "reload")
		want(r, "actor", r.backend("").GetLimit().GetActor(), "")
		want(r, "the operator's words", strings.Contains(r.backend("").GetLimit().GetReason(), "anna"), false)
	})
}

func TestBadInputOfGuards(t *testing.T) {
	type client = capguardv1.GuardServiceClient
	mode := func(req *capguardv1.SetModeRequest) func(context.Context, client) error {
		return func(ctx context.Context, c client) error { _, err := c.SetMode(ctx, req); return err }
	}
	force := func(req *capguardv1.ForceBreakerRequest) func(context.Context, client) error {
		return func(ctx context.Context, c client) error { _, err := c.ForceBreaker(ctx, req); return err }
	}
	limit := func(req *capguardv1.SetLimitRequest) func(context.Context, client) error {
		return func(ctx context.Context, c client) error { _, err := c.SetLimit(ctx, req); return err }
	}
	long := strings.Repeat("x", 1001)
	for name, c := range map[string]struct {
		try   func(context.Context, client) error
		field string
	}{
		"no mode":           {mode(&capguardv1.SetModeRequest{}), "mode"},
		"unknown mode":      {mode(&capguardv1.SetModeRequest{Mode: "on"}), "mode"},
		"a long reason":     {mode(&capguardv1.SetModeRequest{Mode: "off", Reason: long}), "reason"},
		"no state":          {force(&capguardv1.ForceBreakerRequest{}), "state"},
		"half-open":         {force(&capguardv1.ForceBreakerRequest{State: "half-open"}), "state"},
		"auto for a time":   {force(&capguardv1.ForceBreakerRequest{State: "auto", Ttl: durationpb.New(time.Hour)}), "ttl"},
		"open for nothing":  {force(&capguardv1.ForceBreakerRequest{State: "open", Ttl: durationpb.New(0)}), "ttl"},
		"open, long reason": {force(&capguardv1.ForceBreakerRequest{State: "open", Reason: long}), "reason"},
		"open, two lines":   {force(&capguardv1.ForceBreakerRequest{State: "open", Reason: "a\nb"}), "reason"},
		"an escape":         {mode(&capguardv1.SetModeRequest{Mode: "off", Reason: "\x1b[31mred"}), "reason"},
		"no limit":          {limit(&capguardv1.SetLimitRequest{}), "max"},
		"max below 0":       {limit(&capguardv1.SetLimitRequest{Max: new(int32(-1))}), "max"},
		"max beyond":        {limit(&capguardv1.SetLimitRequest{Max: new(int32(100_001))}), "max"},
		"min of 0":          {limit(&capguardv1.SetLimitRequest{Min: new(int32(0))}), "min"},
		"min above max":     {limit(&capguardv1.SetLimitRequest{Min: new(int32(9)), Max: new(int32(8))}), "min"},
		"streams below 0":   {limit(&capguardv1.SetLimitRequest{MaxStreams: new(int32(-1))}), "max_streams"},
		"a negative page": {func(ctx context.Context, c client) error {
			_, err := c.ListBackends(ctx, &capguardv1.ListBackendsRequest{PageSize: -1})
			return err
		}, "page_size"},
		"a negative interval": {func(ctx context.Context, c client) error {
			stream, err := c.WatchBackends(ctx, &capguardv1.WatchBackendsRequest{Interval: durationpb.New(-1)})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}, "interval"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, parts{}, func(r *rig) {
				before := r.guard.Settings()
				wantViolation(r, c.try(r.Context(), r.guards), c.field)
				if after := r.guard.Settings(); !reflect.DeepEqual(after, before) {
					r.Errorf("settings are %+v, want %+v", after, before)
				}
			})
		})
	}
}

func TestWatchBackends(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		stream, err := r.guards.WatchBackends(r.Context(), &capguardv1.WatchBackendsRequest{Interval: durationpb.New(time.Minute)})
		if err != nil {
			r.Fatal(err)
		}
		next := func() *capguardv1.Backend {
			resp, err := stream.Recv()
			if err != nil {
				r.Fatal(err)
			}
			return resp.GetBackends()[0]
		}
		want(r, "first", next().GetMode(), capguardv1.Mode_MODE_ENFORCE)
		start := time.Now()
		if _, err := r.guards.SetMode(r.as("anna"), &capguardv1.SetModeRequest{Mode: "observe"}); err != nil {
			r.Fatal(err)
		}
		want(r, "after a change", next().GetMode(), capguardv1.Mode_MODE_OBSERVE)
		if took := time.Since(start); took > time.Second/5 {
			r.Errorf("a change was shown after %v", took)
		}
		start = time.Now()
		next()
		if took := time.Since(start); took < 59*time.Second || took > 61*time.Second {
			r.Errorf("the next message came after %v, want a minute", took)
		}
		synctest.Wait()
	})
}
