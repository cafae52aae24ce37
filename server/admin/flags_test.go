package admin_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
)

func TestNightSession(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		want(r, "first call", r.call("recs"), true)
		f := r.disable("recs", 2*time.Hour)
		want(r, "name", f.GetName(), "flags/recs")
		want(r, "state", f.GetState(), capguardv1.Flag_STATE_OFF)
		want(r, "percent", f.GetPercent(), 0)
		want(r, "reason", f.GetReason(), "incident 7")
		want(r, "actor", f.GetActor(), "anna")
		want(r, "end", f.GetExpireTime().AsTime(), time.Now().Add(2*time.Hour).UTC())
		want(r, "standing", f.GetStanding().GetState(), capguardv1.Flag_STATE_ON)
		want(r, "revision", f.GetRevision(), 1)
		want(r, "a call when off", r.call("recs"), false)
		want(r, "a call of another feature", r.call("search"), true)

		time.Sleep(2*time.Hour + time.Second)
		synctest.Wait()
		want(r, "state after the ttl", r.flag("recs").GetState(), capguardv1.Flag_STATE_ON)
		want(r, "a call after the ttl", r.call("recs"), true)

		resp, err := r.flags.DimFlag(r.as("bob"), &capguardv1.DimFlagRequest{Name: "flags/recs", Percent: new(20.0)})
		if err != nil {
			r.Fatal(err)
		}
		want(r, "state dimmed", resp.GetFlag().GetState(), capguardv1.Flag_STATE_DIMMED)
		want(r, "percent dimmed", resp.GetFlag().GetPercent(), 20)
		want(r, "state before", resp.GetPrevious().GetState(), capguardv1.Flag_STATE_ON)

		on, err := r.flags.EnableFlag(r.as("bob"), &capguardv1.EnableFlagRequest{Name: "recs"})
		if err != nil {
			r.Fatal(err)
		}
		want(r, "state enabled", on.GetFlag().GetState(), capguardv1.Flag_STATE_ON)
		want(r, "a call when on", r.call("recs"), true)
	})
}

// The answer to a command waits for calls that are on their way to the back-end, so that none arrives there after it.
func TestAnswerWaitsForCallsOnTheirWay(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		p, d := r.guard.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: "recs"})
		want(r, "admitted", d.Admitted, true)
		time.AfterFunc(300*time.Millisecond, func() { p.Answered() })
		start := time.Now()
		r.disable("recs", 0)
		want(r, "time to the answer", time.Since(start), 300*time.Millisecond)
		p.Done(guard.Success)
	})
}

// A back-end that gives no sign of life does not keep an operator waiting, and the log says so.
func TestAnswerDoesNotWaitForDeadBackend(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		p, _ := r.guard.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: "recs"})
		start := time.Now()
		r.disable("recs", 0)
		want(r, "time to the answer", time.Since(start), time.Second)
		want(r, "a call after the answer", r.call("recs"), false)
		if r.log.line("WARN", "calls=1") == "" {
			r.Error("nothing in the log about the call on its way")
		}
		p.Done(guard.Ignored)
	})
}

func TestSecondCommandChangesNothing(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		first := r.disable("recs", 0)
		second := r.disable("recs", 0)
		want(r, "etag", second.GetEtag(), first.GetEtag())
		want(r, "revision", second.GetRevision(), first.GetRevision())
	})
}

func TestRequestIDRepeatsTheAnswer(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		off := &capguardv1.DisableFlagRequest{Name: "recs", AllowMissing: true, RequestId: "8a7e8c1e-0c0f-4d5e-9d55-111111111111"}
		first, err := r.flags.DisableFlag(r.as("anna"), off)
		if err != nil {
			r.Fatal(err)
		}
		if _, err := r.flags.EnableFlag(r.as("anna"), &capguardv1.EnableFlagRequest{Name: "recs"}); err != nil {
			r.Fatal(err)
		}
		again, err := r.flags.DisableFlag(r.as("anna"), off)
		if err != nil {
			r.Fatal(err)
		}
		want(r, "repeated answer", again.GetFlag().GetRevision(), first.GetFlag().GetRevision())
		want(r, "state", r.flag("recs").GetState(), capguardv1.Flag_STATE_ON)
	})
}

func TestStaleEtag(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		old := r.disable("recs", 0).GetEtag()
		if _, err := r.flags.EnableFlag(r.Context(), &capguardv1.EnableFlagRequest{Name: "recs", Etag: `"` + old + `"`}); err != nil {
			r.Fatal("a quoted etag:", err)
		}
		current := r.flag("recs").GetEtag()
		_, err := r.flags.DisableFlag(r.Context(), &capguardv1.DisableFlagRequest{Name: "recs", Etag: old})
		info := detail[*errdetails.ErrorInfo](wantError(r, err, codes.Aborted, "ETAG_MISMATCH"))
		want(r, "sent", info.GetMetadata()["sent"], old)
		want(r, "current", info.GetMetadata()["current"], current)
	})
}

// An etag of a feature without a flag means: only if nobody made one meanwhile.
func TestEtagOfFeatureWithoutFlag(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.call("recs")
		etag := r.flag("recs").GetEtag()
		if _, err := r.flags.DimFlag(r.Context(), &capguardv1.DimFlagRequest{Name: "recs", Percent: new(5.0), Etag: etag}); err != nil {
			r.Fatal(err)
		}
		_, err := r.flags.DimFlag(r.Context(), &capguardv1.DimFlagRequest{Name: "recs", Percent: new(6.0), Etag: etag})
		wantError(r, err, codes.Aborted, "ETAG_MISMATCH")
	})
}

func TestUnknownName(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("recs", 0)
		r.call("searches") // seen, without a flag
		for typo, nearest := range map[string]string{"recz": "recs", "serches": "searches"} {
			_, err := r.flags.DisableFlag(r.Context(), &capguardv1.DisableFlagRequest{Name: typo})
			st := wantError(r, err, codes.NotFound, "FLAG_NOT_FOUND")
			for _, part := range []string{`"` + typo + `"`, `did you mean "` + nearest + `"?`, `"allow_missing": true`} {
				if !strings.Contains(st.Message(), part) {
					r.Errorf("message %q lacks %s", st.Message(), part)
				}
			}
			want(r, "nearest", detail[*errdetails.ErrorInfo](st).GetMetadata()["nearest"], nearest)
			want(r, "resource", detail[*errdetails.ResourceInfo](st).GetResourceName(), "flags/"+typo)
			_, err = r.flags.GetFlag(r.Context(), &capguardv1.GetFlagRequest{Name: typo})
			wantError(r, err, codes.NotFound, "FLAG_NOT_FOUND")
		}
	})
}

// A feature that was seen in calls needs no flag to be listed and switched.
func TestFeatureWithoutFlag(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.call("recs")
		f := r.flag("flags/recs")
		want(r, "state", f.GetState(), capguardv1.Flag_STATE_ON)
		want(r, "percent", f.GetPercent(), 100)
		want(r, "revision", f.GetRevision(), 0)
		want(r, "reason", f.GetReason(), "no flag: calls pass")
		if _, err := r.flags.DisableFlag(r.Context(), &capguardv1.DisableFlagRequest{Name: "recs"}); err != nil {
			r.Fatal(err)
		}
		want(r, "call", r.call("recs"), false)
		gone, err := r.flags.DeleteFlag(r.Context(), &capguardv1.DeleteFlagRequest{Name: "recs"})
		if err != nil {
			r.Fatal(err)
		}
		want(r, "state after delete", gone.GetFlag().GetState(), capguardv1.Flag_STATE_ON)
		want(r, "name after delete", gone.GetFlag().GetName(), "flags/recs")
		want(r, "state before", gone.GetPrevious().GetState(), capguardv1.Flag_STATE_OFF)
		want(r, "call after delete", r.call("recs"), true)
	})
}

func TestCreateFlag(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		resp, err := r.flags.CreateFlag(r.as("anna"), &capguardv1.CreateFlagRequest{
			FlagId: "recs", Flag: &capguardv1.Flag{Description: "recommendations", Percent: new(30.0), Reason: "begin slowly"},
		})
		if err != nil {
			r.Fatal(err)
		}
		f := resp.GetFlag()
		want(r, "state", f.GetState(), capguardv1.Flag_STATE_DIMMED)
		want(r, "description", f.GetDescription(), "recommendations")
		want(r, "created", f.GetCreateTime().AsTime(), time.Now().UTC())
		_, err = r.flags.CreateFlag(r.as("anna"), &capguardv1.CreateFlagRequest{Flag: &capguardv1.Flag{Name: "flags/recs"}})
		wantError(r, err, codes.AlreadyExists, "FLAG_EXISTS")
	})
}

// A flag set by an implicit field without a mask was once answered OK and changed nothing.
func TestUpdateChangesWhatIsSaidOrFails(t *testing.T) {
	mask := func(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }
	full := &capguardv1.Flag{Name: "recs", Description: "new", Percent: new(0.0), Reason: "why not"}
	for name, c := range map[string]struct {
		flag *capguardv1.Flag
		mask *fieldmaskpb.FieldMask
		want string // description, percent, reason; or the field that is wrong
	}{
		"percent 0 without a mask":        {&capguardv1.Flag{Name: "recs", Percent: new(0.0)}, nil, "old 0 "},
		"description without a mask":      {&capguardv1.Flag{Name: "recs", Description: "new"}, nil, "new 50 begin"},
		"a mask selects":                  {full, mask("percent"), "old 0 "},
		"a mask with an absent text":      {&capguardv1.Flag{Name: "recs"}, mask("description"), " 50 begin"},
		"everything":                      {full, mask("*"), "new 0 why not"},
		"output-only fields are ignored":  {&capguardv1.Flag{Name: "recs", Actor: "x", Revision: 9, Reason: "r"}, nil, "old 50 r"},
		"nothing to change":               {&capguardv1.Flag{Name: "recs", State: capguardv1.Flag_STATE_OFF}, nil, "flag"},
		"no flag":                         {nil, nil, "flag"},
		"an absent percent":               {&capguardv1.Flag{Name: "recs"}, mask("percent"), "flag.percent"},
		"everything without a percent":    {&capguardv1.Flag{Name: "recs", Reason: "r"}, mask("*"), "flag.percent"},
		"an unknown path":                 {full, mask("enabled"), "update_mask"},
		"a state":                         {full, mask("state"), "update_mask"},
		"a star with others":              {full, mask("*", "reason"), "update_mask"},
		"a percent beyond":                {&capguardv1.Flag{Name: "recs", Percent: new(101.0)}, nil, "percent"},
		"another percent, the old reason": {&capguardv1.Flag{Name: "recs", Percent: new(50.0)}, nil, "old 50 begin"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, parts{}, func(r *rig) {
				create := &capguardv1.CreateFlagRequest{
					FlagId: "recs", Flag: &capguardv1.Flag{Description: "old", Percent: new(50.0), Reason: "begin"},
				}
				if _, err := r.flags.CreateFlag(r.as("anna"), create); err != nil {
					r.Fatal(err)
				}
				resp, err := r.flags.UpdateFlag(r.as("anna"), &capguardv1.UpdateFlagRequest{Flag: c.flag, UpdateMask: c.mask})
				if err != nil {
					wantViolation(r, err, c.want)
					return
				}
				f := resp.GetFlag()
				want(r, "flag", strings.Join([]string{f.GetDescription(), percentText(f), f.GetReason()}, " "), c.want)
			})
		})
	}
}

func percentText(f *capguardv1.Flag) string {
	return map[float64]string{0: "0", 50: "50"}[f.GetPercent()]
}

// wantViolation checks that err blames one field, and that field.
func wantViolation(t testing.TB, err error, field string) {
	t.Helper()
	violations := detail[*errdetails.BadRequest](wantError(t, err, codes.InvalidArgument, "INVALID_FIELD")).GetFieldViolations()
	if len(violations) != 1 || violations[0].GetField() != field || violations[0].GetDescription() == "" {
		t.Errorf("violations are %v, want one of %s", violations, field)
	}
}

// A dry run answers like the command and changes nothing.
func TestValidateOnlyChangesNothing(t *testing.T) {
	const off, on, dimmed = capguardv1.Flag_STATE_OFF, capguardv1.Flag_STATE_ON, capguardv1.Flag_STATE_DIMMED
	type flagger interface{ GetFlag() *capguardv1.Flag }
	for name, c := range map[string]struct {
		try  func(r *rig) (flagger, error)
		want capguardv1.Flag_State
	}{
		"create": {func(r *rig) (flagger, error) {
			return r.flags.CreateFlag(r.Context(), &capguardv1.CreateFlagRequest{FlagId: "new", ValidateOnly: true})
		}, on},
		"update": {func(r *rig) (flagger, error) {
			flag := &capguardv1.Flag{Name: "recs", Percent: new(100.0)}
			return r.flags.UpdateFlag(r.Context(), &capguardv1.UpdateFlagRequest{Flag: flag, ValidateOnly: true})
		}, on},
		"delete": {func(r *rig) (flagger, error) {
			return r.flags.DeleteFlag(r.Context(), &capguardv1.DeleteFlagRequest{Name: "recs", ValidateOnly: true})
		}, on},
		"disable": {func(r *rig) (flagger, error) {
			return r.flags.DisableFlag(r.Context(), &capguardv1.DisableFlagRequest{Name: "new", AllowMissing: true, ValidateOnly: true})
		}, off},
		"enable": {func(r *rig) (flagger, error) {
			return r.flags.EnableFlag(r.Context(), &capguardv1.EnableFlagRequest{Name: "recs", ValidateOnly: true})
		}, on},
		"dim": {func(r *rig) (flagger, error) {
			return r.flags.DimFlag(r.Context(), &capguardv1.DimFlagRequest{Name: "recs", Percent: new(1.0), ValidateOnly: true})
		}, dimmed},
		"rollback": {func(r *rig) (flagger, error) {
			name := "flags/recs/revisions/1"
			return r.flags.RollbackFlag(r.Context(), &capguardv1.RollbackFlagRequest{Name: name, ValidateOnly: true})
		}, on},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, parts{}, func(r *rig) {
				if _, err := r.flags.CreateFlag(r.Context(), &capguardv1.CreateFlagRequest{FlagId: "recs"}); err != nil {
					r.Fatal(err)
				}
				r.disable("recs", 0)
				resp, err := c.try(r)
				if err != nil {
					r.Fatal(err)
				}
				want(r, "state in the answer", resp.GetFlag().GetState(), c.want)
				want(r, "revision of the registry", r.registry.Snapshot().Revision, 2)
				want(r, "flags", r.registry.Snapshot().Len(), 1)
				want(r, "a call", r.call("recs"), false)
			})
		})
	}
}

func TestBadInput(t *testing.T) {
	ttl := func(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
	for name, c := range map[string]struct {
		try   func(context.Context, capguardv1.FlagServiceClient) error
		field string
	}{
		"no name":            {disable(&capguardv1.DisableFlagRequest{}), "name"},
		"a name with spaces": {disable(&capguardv1.DisableFlagRequest{Name: "re cs"}), "name"},
		"a name in capitals": {disable(&capguardv1.DisableFlagRequest{Name: "Recs"}), "name"},
		"a very long name":   {disable(&capguardv1.DisableFlagRequest{Name: strings.Repeat("a", 10_000)}), "name"},
		"a revision's name":  {disable(&capguardv1.DisableFlagRequest{Name: "flags/recs/revisions/1"}), "name"},
		"ttl of nothing":     {disable(&capguardv1.DisableFlagRequest{Name: "recs", Ttl: ttl(0)}), "ttl"},
		"ttl below zero":     {disable(&capguardv1.DisableFlagRequest{Name: "recs", Ttl: ttl(-time.Hour)}), "ttl"},
		"ttl of half a second": {
			disable(&capguardv1.DisableFlagRequest{Name: "recs", Ttl: ttl(time.Second / 2)}), "ttl"},
		"ttl of two years": {disable(&capguardv1.DisableFlagRequest{Name: "recs", Ttl: ttl(2 * 366 * 24 * time.Hour)}), "ttl"},
		"ttl of nonsense": {
			disable(&capguardv1.DisableFlagRequest{Name: "recs", Ttl: &durationpb.Duration{Seconds: 5, Nanos: -5}}), "ttl"},
		"a long reason":         {disable(&capguardv1.DisableFlagRequest{Name: "recs", Reason: strings.Repeat("x", 1001)}), "reason"},
		"a reason of lines":     {disable(&capguardv1.DisableFlagRequest{Name: "recs", Reason: "a\nb"}), "reason"},
		"a long request id":     {disable(&capguardv1.DisableFlagRequest{Name: "recs", RequestId: strings.Repeat("x", 200)}), "request_id"},
		"dim without percent":   {dim(nil), "percent"},
		"dim below 0":           {dim(new(-0.1)), "percent"},
		"dim beyond 100":        {dim(new(100.1)), "percent"},
		"dim to not a number":   {dim(new(nan())), "percent"},
		"rollback of a flag":    {rollback("flags/recs"), "name"},
		"rollback to no number": {rollback("flags/recs/revisions/x"), "name"},
		"rollback to 0":         {rollback("flags/recs/revisions/0"), "name"},
		"negative page":         {list(&capguardv1.ListFlagsRequest{PageSize: -1}), "page_size"},
		"bad token":             {list(&capguardv1.ListFlagsRequest{PageToken: "?"}), "page_token"},
		"foreign token":         {list(&capguardv1.ListFlagsRequest{PageToken: "YWJj"}), "page_token"},
		"filter of a field":     {list(&capguardv1.ListFlagsRequest{Filter: "percent = 5"}), "filter"},
		"filter operator":       {list(&capguardv1.ListFlagsRequest{Filter: "name > a"}), "filter"},
		"filter without value":  {list(&capguardv1.ListFlagsRequest{Filter: "name ="}), "filter"},
		"filter of a state":     {list(&capguardv1.ListFlagsRequest{Filter: "state = OFF"}), "filter"},
		"filter with OR":        {list(&capguardv1.ListFlagsRequest{Filter: "name = a OR name = b"}), "filter"},
		"filter ends in AND":    {list(&capguardv1.ListFlagsRequest{Filter: "name = a AND"}), "filter"},
		"filter open quote":     {list(&capguardv1.ListFlagsRequest{Filter: `name = "a`}), "filter"},
		"history of nonsense":   {history(&capguardv1.ListFlagRevisionsRequest{Parent: "?"}), "parent"},
		"history page":          {history(&capguardv1.ListFlagRevisionsRequest{Parent: "recs", PageSize: -5}), "page_size"},
		"two names":             {create(&capguardv1.CreateFlagRequest{FlagId: "a", Flag: &capguardv1.Flag{Name: "b"}}), "flag_id"},
		"create without name":   {create(&capguardv1.CreateFlagRequest{}), "name"},
		"a long description": {create(&capguardv1.CreateFlagRequest{
			FlagId: "a", Flag: &capguardv1.Flag{Description: strings.Repeat("x", 1001)}}), "description"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, parts{}, func(r *rig) {
				r.call("recs")
				wantViolation(r, c.try(r.Context(), r.flags), c.field)
				want(r, "revision", r.registry.Snapshot().Revision, 0)
			})
		})
	}
}

type try = func(context.Context, capguardv1.FlagServiceClient) error

func disable(req *capguardv1.DisableFlagRequest) try {
	return func(ctx context.Context, c capguardv1.FlagServiceClient) error {
		_, err := c.DisableFlag(ctx, req)
		return err
	}
}

func dim(percent *float64) try {
	return func(ctx context.Context, c capguardv1.FlagServiceClient) error {
		_, err := c.DimFlag(ctx, &capguardv1.DimFlagRequest{Name: "recs", Percent: percent})
		return err
	}
}

func rollback(name string) try {
	return func(ctx context.Context, c capguardv1.FlagServiceClient) error {
		_, err := c.RollbackFlag(ctx, &capguardv1.RollbackFlagRequest{Name: name})
		return err
	}
}

func list(req *capguardv1.ListFlagsRequest) try {
	return func(ctx context.Context, c capguardv1.FlagServiceClient) error {
		_, err := c.ListFlags(ctx, req)
		return err
	}
}

func history(req *capguardv1.ListFlagRevisionsRequest) try {
	return func(ctx context.Context, c capguardv1.FlagServiceClient) error {
		_, err := c.ListFlagRevisions(ctx, req)
		return err
	}
}

func create(req *capguardv1.CreateFlagRequest) try {
	return func(ctx context.Context, c capguardv1.FlagServiceClient) error {
		_, err := c.CreateFlag(ctx, req)
		return err
	}
}

func nan() float64 { zero := 0.0; return zero / zero }

func TestStoreDown(t *testing.T) {
	store := &fillable{Memory: featureflags.NewMemory()}
	store.full.Store(true)
	inBubble(t, parts{store: store}, func(r *rig) {
		r.call("recs")
		_, err := r.flags.DisableFlag(r.as("anna"), &capguardv1.DisableFlagRequest{Name: "recs"})
		st := wantError(r, err, codes.Unavailable, "STORE_DOWN")
		if !strings.Contains(st.Message(), "no space left on device") {
			r.Errorf("message %q does not say why", st.Message())
		}
		want(r, "state", r.flag("recs").GetState(), capguardv1.Flag_STATE_ON)
		want(r, "call", r.call("recs"), true)
		if r.log.line("command refused", "actor=anna", "UNAVAILABLE") == "" {
			r.Error("nothing in the log about the refused command")
		}
		want(r, "store is down", r.storeIsDown(), true)
		store.full.Store(false)
		r.disable("recs", time.Minute)
		want(r, "store is down", r.storeIsDown(), false)
	})
}

// storeIsDown is what the reads tell, which must agree.
func (r *rig) storeIsDown() bool {
	r.Helper()
	all, err := r.flags.ListFlags(r.Context(), &capguardv1.ListFlagsRequest{})
	one, err2 := r.flags.GetFlag(r.Context(), &capguardv1.GetFlagRequest{Name: "recs"})
	if err != nil || err2 != nil || (all.GetStoreDownSince() == nil) != (one.GetStoreDownSince() == nil) {
		r.Fatal(all, err, one, err2)
	}
	return all.GetStoreDownSince() != nil
}

func TestHistoryAndRollback(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("recs", time.Minute)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		resp, err := r.flags.ListFlagRevisions(r.Context(), &capguardv1.ListFlagRevisionsRequest{Parent: "flags/recs"})
		if err != nil || len(resp.GetRevisions()) != 2 {
			r.Fatal("history:", resp, err)
		}
		ended, off := resp.GetRevisions()[0], resp.GetRevisions()[1]
		want(r, "name", off.GetName(), "flags/recs/revisions/1")
		want(r, "action", off.GetAction(), capguardv1.FlagRevision_ACTION_DISABLE)
		want(r, "actor", off.GetActor(), "anna")
		want(r, "state then", off.GetFlag().GetState(), capguardv1.Flag_STATE_OFF)
		want(r, "last action", ended.GetAction(), capguardv1.FlagRevision_ACTION_EXPIRE)
		want(r, "last actor", ended.GetActor(), "schedule")

		r.disable("recs", 0)
		back, err := r.flags.RollbackFlag(r.as("bob"), &capguardv1.RollbackFlagRequest{Name: ended.GetName(), Reason: "all is well"})
		if err != nil {
			r.Fatal(err)
		}
		want(r, "state", back.GetFlag().GetState(), capguardv1.Flag_STATE_ON)
		want(r, "reason", back.GetFlag().GetReason(), "all is well")
		want(r, "revision", back.GetFlag().GetRevision(), 4)
		want(r, "call", r.call("recs"), true)
		_, err = r.flags.RollbackFlag(r.as("bob"), &capguardv1.RollbackFlagRequest{Name: "flags/recs/revisions/77"})
		wantError(r, err, codes.NotFound, "REVISION_NOT_FOUND")
	})
}
