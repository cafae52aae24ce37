package admin

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/proxy"
)

const (
	explainedCalls = 10  // refusals on record that Explain tells of a method
	tracedCalls    = 100 // and of a trace
	maxMethod      = 256 // bytes
)

// Explain answers from the state of a guard at one moment, and from its journal of refusals. It changes nothing.
func (s *guardService) Explain(_ context.Context, req *capguardv1.ExplainRequest) (*capguardv1.ExplainResponse, error) {
	switch {
	case req.GetMethod() != "":
		return s.explainMethod(req)
	case req.GetTraceId() != "":
		return s.explainTrace(req)
	}
	return nil, invalid("method", "say which method, as /package.Service/Method, or the trace_id of a call that was refused lately")
}

func (s *guardService) explainMethod(req *capguardv1.ExplainRequest) (*capguardv1.ExplainResponse, error) {
	b, err := s.backends.find(req.GetName())
	if err != nil {
		return nil, err
	}
	method, err := parseMethod("method", req.GetMethod())
	if err != nil {
		return nil, err
	}
	call := b.Call(method)
	call.Tenant = req.GetTenant()
	if req.GetFeature() != "" {
		if call.Feature, err = parseFeature(b, req.GetFeature()); err != nil {
			return nil, err
		}
	}
	e, ok := b.Guard().Explain(call)
	if !ok {
		return nil, methodNotFound(method, b)
	}
	resp := s.renderExplanation(b, call, e)
	resp.Decisions = renderRefusals(b, guard.Filter{Method: method}, explainedCalls)
	return resp, nil
}

// parseMethod takes a method name with or without the slash before it, as grpcurl writes it without.
func parseMethod(field, name string) (string, error) {
	service, method, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !ok || service == "" || method == "" || len(name) > maxMethod || strings.ContainsAny(name, " \t\n*") {
		return "", invalid(field, "%.100q is no full method name; write /package.Service/Method", name)
	}
	return "/" + service + "/" + method, nil
}

// parseFeature takes the name of a feature that has a flag or was seen in calls.
func parseFeature(b *proxy.Backend, name string) (string, error) {
	feature, err := featureflags.ParseName(name)
	if err != nil {
		return "", invalid("feature", "%.100q is no flag id", name)
	}
	var names []string
	for _, f := range b.Guard().Features() {
		names = append(names, f.Name)
	}
	if slices.Contains(names, feature) {
		return feature, nil
	}
	return "", unseen{reason: reasonFlagNotFound, what: "feature", name: feature, detail: flagInfo(feature)}.err(slices.Values(names))
}

func methodNotFound(method string, b *proxy.Backend) error {
	known := b.Guard().Methods()
	names := func(yield func(string) bool) {
		for _, m := range known {
			if !yield(m.Method) {
				return
			}
		}
	}
	return unseen{
		reason: reasonMethodNotFound, what: "method", name: method, full: len(known) > guard.MaxMethods,
		detail: &errdetails.ResourceInfo{ResourceType: "method", ResourceName: method},
	}.err(names)
}

// unseen is a name that no call had.
type unseen struct {
	reason, what, name string
	detail             *errdetails.ResourceInfo
	full               bool // calls with the name may have been seen all the same
}

func (u unseen) err(candidates iter.Seq[string]) error {
	f := fault{code: codes.NotFound, reason: u.reason, metadata: map[string]string{u.what: u.name}, detail: u.detail}
	f.message = fmt.Sprintf("no call with the %s %q was seen, so there is nothing to explain", u.what, u.name)
	if u.full {
		f.message = fmt.Sprintf("nothing is known of the %s %q, and the table of them is full: either no call with it was seen, or it made room "+
			"for others because none of its calls was answered well", u.what, u.name)
	}
	if nearest := featureflags.Nearest(u.name, candidates); len(nearest) > 0 {
		f.metadata["nearest"] = strings.Join(nearest, ",")
		f.message += "; did you mean " + quoted(nearest) + "?"
	}
	return f.err()
}

// explainTrace finds the refused calls of a trace and, to compare, how things stand now for the method of the last.
func (s *guardService) explainTrace(req *capguardv1.ExplainRequest) (*capguardv1.ExplainResponse, error) {
	f, err := parseTrace(req.GetTraceId())
	if err != nil {
		return nil, err
	}
	if req.GetFeature() != "" {
		return nil, invalid("feature", "say it with a method; of a trace the guard knows it")
	}
	among := s.backends
	if req.GetName() != "" {
		b, err := s.backends.find(req.GetName())
		if err != nil {
			return nil, err
		}
		among = fleet{b}
	}
	var found []*capguardv1.Decision
	for _, b := range among {
		found = append(found, renderRefusals(b, f, tracedCalls)...)
	}
	if len(found) == 0 {
		return nil, traceNotFound(req.GetTraceId(), among)
	}
	slices.SortStableFunc(found, func(a, b *capguardv1.Decision) int { return b.GetTime().AsTime().Compare(a.GetTime().AsTime()) })
	return s.explainLast(found[:min(len(found), tracedCalls)])
}

// explainLast tells which rule decided on the first of ds, and how its method fares now.
func (s *guardService) explainLast(ds []*capguardv1.Decision) (*capguardv1.ExplainResponse, error) {
	last := ds[0]
	b, err := s.backends.find(last.GetBackend())
	if err != nil {
		return nil, err
	}
	resp := &capguardv1.ExplainResponse{Backend: last.GetBackend(), Method: last.GetMethod()}
	call := b.Call(last.GetMethod())
	call.Feature = last.GetFeature()
	if e, ok := b.Guard().Explain(call); ok {
		resp = s.renderExplanation(b, call, e)
	}
	verb := "was refused"
	if last.GetObserved() {
		verb = "would have been refused, if the mode were enforce,"
	}
	resp.Summary = fmt.Sprintf("a call of %s %s at %s by the %s (%s): %s", last.GetMethod(), verb,
		last.GetTime().AsTime().Format(time.RFC3339Nano), ruleWords[last.GetRule()], last.GetReason(), last.GetMessage())
	resp.Decisions = ds
	return resp, nil
}

// parseTrace reads a trace id as W3C writes it.
func parseTrace(id string) (guard.Filter, error) {
	var f guard.Filter
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != len(f.Trace) || strings.Trim(id, "0") == "" {
		return f, invalid("trace_id", "%.100q is not 32 hexadecimal digits", id)
	}
	f.Trace = [16]byte(raw)
	return f, nil
}

// traceNotFound says how far the records go, for a call may have been refused and not be on record.
func traceNotFound(id string, among fleet) error {
	var all guard.Records
	for _, b := range among {
		r := b.Guard().Records()
		all.Kept, all.Unrecorded = all.Kept+r.Kept, all.Unrecorded+r.Unrecorded
		if all.Since.IsZero() || !r.Since.IsZero() && r.Since.Before(all.Since) {
			all.Since = r.Since
		}
	}
	since := "there are no records yet"
	if !all.Since.IsZero() {
		since = "records go back to " + all.Since.UTC().Format(time.RFC3339)
	}
	unrecorded := strconv.FormatUint(all.Unrecorded, 10)
	return fault{
		code: codes.NotFound, reason: reasonTraceNotFound,
		metadata: map[string]string{"trace_id": id, "since": since, "kept": strconv.Itoa(all.Kept), "unrecorded": unrecorded},
		message: fmt.Sprintf("no refused call of trace %s is on record. Either the guard refused none, or it is not recorded any more: %s "+
			"(%d refusals, at least the last half minute), and %s more were only counted, as of a flood a part is recorded, sampled traces first",
			id, since, all.Kept, unrecorded),
		detail: &errdetails.ResourceInfo{ResourceType: "trace", ResourceName: id},
	}.err()
}
