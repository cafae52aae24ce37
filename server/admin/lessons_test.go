package admin_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
)

// Lesson: health, reflection and admin pass when everything is refused, and are never counted (mimir #5650, argo-cd #28826).
func TestAdminPassesWhenEverythingIsRefused(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		nothing := r.guard.Settings()
		nothing.Limit.Max, nothing.MaxStreams = 0, 0
		r.guard.Configure(nothing, "test", "")
		r.disable("recs", 0)
		if _, err := r.guards.ForceBreaker(r.Context(), &capguardv1.ForceBreakerRequest{Name: "shop", State: "open"}); err != nil {
			r.Fatal(err)
		}
		go r.guard.Drain(r.Context()) // Nothing is in flight.
		synctest.Wait()
		before := r.guard.Status().Totals
		_, err1 := r.flags.ListFlags(r.Context(), &capguardv1.ListFlagsRequest{})
		_, err2 := r.guards.ListBackends(r.Context(), &capguardv1.ListBackendsRequest{})
		_, err3 := healthgrpc.NewHealthClient(r.conn).List(r.Context(), &healthgrpc.HealthListRequest{})
		_, err4 := r.guards.SetMode(r.Context(), &capguardv1.SetModeRequest{Name: "shop", Mode: "observe"})
		for _, err := range []error{err1, err2, err3, err4} {
			if err != nil {
				r.Error(err)
			}
		}
		r.reflected(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		want(r, "calls counted", r.guard.Status().Totals, before)
		want(r, "a call", r.call("search"), false)
	})
}

// Lesson: a plain bool set to false without a mask must not answer OK and change nothing. No figure or switch that a command can set is of
// a kind that cannot be told from being absent: what may be implicit is listed here, and means the same when it is absent.
func TestNothingThatCanBeSetIsImplicit(t *testing.T) {
	implicit := []protoreflect.Name{"page_size", "validate_only", "allow_missing", "max_per_second", "include_observed"}
	found := 0
	for _, file := range []protoreflect.FileDescriptor{
		capguardv1.File_capguard_v1_flag_service_proto, capguardv1.File_capguard_v1_guard_service_proto,
	} {
		for i := range file.Services().Len() {
			for j := range file.Services().Get(i).Methods().Len() {
				for _, f := range settable(file.Services().Get(i).Methods().Get(j).Input()) {
					found++
					if !f.HasPresence() && !slices.Contains(implicit, f.Name()) {
						t.Errorf("%s is an implicit %v: 0 or false cannot be told from absent", f.FullName(), f.Kind())
					}
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("found only %d figures and switches: nothing was checked", found)
	}
}

// settable returns the bools and numbers of a request, and of the flag in it, but for what the server alone fills in.
func settable(m protoreflect.MessageDescriptor) (all []protoreflect.FieldDescriptor) {
	filled := []protoreflect.Name{"revision"}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		switch f.Kind() {
		case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.EnumKind:
		case protoreflect.MessageKind:
			if f.Message().FullName() == "capguard.v1.Flag" {
				all = append(all, settable(f.Message())...)
			}
		default:
			if !slices.Contains(filled, f.Name()) {
				all = append(all, f)
			}
		}
	}
	return all
}

// Lesson: a limit lowered below what is in flight cuts nothing, also by the operator's command; new calls wait until enough have ended.
func TestSetLimitBelowInFlight(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		var permits []guard.Permit
		for range 4 {
			p, _ := r.guard.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get"})
			permits = append(permits, p)
		}
		if _, err := r.guards.SetLimit(r.Context(), &capguardv1.SetLimitRequest{Name: "shop", Max: new(int32(2))}); err != nil {
			r.Fatal(err)
		}
		want(r, "in flight", r.backend("shop").GetInFlight(), 4)
		admitted := make(chan bool)
		go func() { admitted <- r.call("recs") }() // Ends with its wait.
		for i := range 3 {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			want(r, "waiting", r.backend("shop").GetQueued(), 1)
			permits[i].Done(guard.Success)
		}
		want(r, "the one that waited", <-admitted, true)
		permits[3].Done(guard.Success)
	})
}
