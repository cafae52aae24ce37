package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
)

// listed returns the bare names on one page.
func (r *rig) listed(req *capguardv1.ListFlagsRequest) (names []string, next string) {
	r.Helper()
	resp, err := r.flags.ListFlags(r.Context(), req)
	if err != nil {
		r.Fatal("list:", err)
	}
	for _, f := range resp.GetFlags() {
		names = append(names, strings.TrimPrefix(f.GetName(), "flags/"))
	}
	return names, resp.GetNextPageToken()
}

func TestFilter(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("ads", 0)
		r.disable("recs", 0)
		if _, err := r.flags.DimFlag(r.as("bob b"), &capguardv1.DimFlagRequest{Name: "recs", Percent: new(20.0)}); err != nil {
			r.Fatal(err)
		}
		r.call("search")
		for filter, names := range map[string]string{
			"":                                      "ads recs search",
			"  ":                                    "ads recs search",
			"state != STATE_ON":                     "ads recs",
			"state = STATE_ON":                      "search",
			"state=STATE_DIMMED":                    "recs",
			`state != STATE_ON AND actor = "anna"`:  "ads",
			`actor = "bob b"`:                       "recs",
			`actor = ""`:                            "search",
			"name = flags/ads":                      "ads",
			"name != ads AND name != recs":          "search",
			`name = "ads" AND state != "STATE_OFF"`: "",
		} {
			got, _ := r.listed(&capguardv1.ListFlagsRequest{Filter: filter})
			want(r, "flags with "+filter, strings.Join(got, " "), names)
		}
	})
}

func TestPages(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		for i := range 7 {
			r.disable(fmt.Sprint("f", i), 0)
		}
		var all []string
		token := ""
		for range 10 {
			names, next := r.listed(&capguardv1.ListFlagsRequest{PageSize: 3, PageToken: token, Filter: "state = STATE_OFF"})
			if len(names) > 3 {
				r.Errorf("a page of %d", len(names))
			}
			all = append(all, names...)
			if token = next; token == "" {
				break
			}
			// A flag that appears or vanishes between pages moves nothing else.
			r.disable("a-new-one", 0)
		}
		want(r, "all pages", strings.Join(all, " "), "f0 f1 f2 f3 f4 f5 f6")

		_, next := r.listed(&capguardv1.ListFlagsRequest{PageSize: 3})
		_, err := r.flags.ListFlags(r.Context(), &capguardv1.ListFlagsRequest{PageToken: next, Filter: "name != f1"})
		wantViolation(r, err, "page_token")
		names, next := r.listed(&capguardv1.ListFlagsRequest{PageSize: 100_000})
		want(r, "flags on a page too large", len(names), 8)
		want(r, "token at the end", next, "")
	})
}

func TestPagesOfHistory(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		for i := range 5 {
			if _, err := r.flags.DimFlag(r.Context(), &capguardv1.DimFlagRequest{
				Name: "recs", Percent: new(float64(i)), AllowMissing: true,
			}); err != nil {
				r.Fatal(err)
			}
		}
		var numbers []string
		req := &capguardv1.ListFlagRevisionsRequest{Parent: "recs", PageSize: 2}
		for range 5 {
			resp, err := r.flags.ListFlagRevisions(r.Context(), req)
			if err != nil {
				r.Fatal(err)
			}
			for _, v := range resp.GetRevisions() {
				numbers = append(numbers, strings.TrimPrefix(v.GetName(), "flags/recs/revisions/"))
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		want(r, "revisions", strings.Join(numbers, " "), "5 4 3 2 1")
	})
}

// The history of what never was is an error with the nearest names; of a feature without a flag it is empty; of a deleted flag it stays.
func TestHistoryOfOthers(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("recs", 0)
		r.call("search")
		_, err := r.flags.ListFlagRevisions(r.Context(), &capguardv1.ListFlagRevisionsRequest{Parent: "rec"})
		wantError(r, err, codes.NotFound, "FLAG_NOT_FOUND")
		resp, err := r.flags.ListFlagRevisions(r.Context(), &capguardv1.ListFlagRevisionsRequest{Parent: "search"})
		if err != nil || len(resp.GetRevisions()) != 0 {
			r.Error("a feature without a flag:", resp, err)
		}
		if _, err := r.flags.DeleteFlag(r.Context(), &capguardv1.DeleteFlagRequest{Name: "recs"}); err != nil {
			r.Fatal(err)
		}
		resp, err = r.flags.ListFlagRevisions(r.Context(), &capguardv1.ListFlagRevisionsRequest{Parent: "recs"})
		if err != nil || len(resp.GetRevisions()) != 2 {
			r.Error("a deleted flag:", resp, err)
		}
	})
}

// What a feature costs is summed over the back-ends, and the shares of all calls are 1.
func TestCost(t *testing.T) {
	inBubble(t, parts{backends: []string{"shop", "stock"}}, func(r *rig) {
		for _, b := range r.backends {
			for feature, took := range map[string]time.Duration{"recs": 3 * time.Second, "search": time.Second} {
				p, d := b.Guard().Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: feature})
				want(r, "admitted", d.Admitted, true)
				time.Sleep(took)
				synctest.Wait()
				p.Done(guard.Success)
			}
		}
		p, _ := r.guard.Admit(r.Context(), guard.Call{Method: "/shop.Shop/Get", Feature: "recs"})
		c := r.flag("recs").GetCost()
		p.Done(guard.Success)
		want(r, "in flight", c.GetInFlight(), 1)
		if share := c.GetInFlightShare(); share < 0.74 || share > 0.76 {
			r.Errorf("share in flight is %v, want 0.75", share)
		}
		if rate := c.GetCallsPerSecond(); rate <= 0 {
			r.Errorf("rate is %v", rate)
		}
		want(r, "cost of a flag without calls", r.disable("idle", 0).GetCost().String(), "")
	})
}

// A flag that was made by mistake and deleted before any call of its feature leaves no trace in the list.
func TestDeletedFlagWithoutCalls(t *testing.T) {
	inBubble(t, parts{}, func(r *rig) {
		r.disable("typo", 0)
		if _, err := r.flags.DeleteFlag(r.Context(), &capguardv1.DeleteFlagRequest{Name: "typo"}); err != nil {
			r.Fatal(err)
		}
		names, _ := r.listed(&capguardv1.ListFlagsRequest{})
		want(r, "flags", len(names), 0)
		_, err := r.flags.DeleteFlag(r.Context(), &capguardv1.DeleteFlagRequest{Name: "typo"})
		wantError(r, err, codes.NotFound, "FLAG_NOT_FOUND")
		if _, err := r.flags.DeleteFlag(r.Context(), &capguardv1.DeleteFlagRequest{Name: "typo", AllowMissing: true}); err != nil {
			r.Error("with allow_missing:", err)
		}
	})
}
