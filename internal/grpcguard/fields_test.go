package grpcguard_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// answered reads a Trailers-Only answer as a client does: the status, and what else there is, by name.
func answered(t *testing.T, fields []hpack.HeaderField) (*status.Status, map[string]string) {
	t.Helper()
	all := map[string]string{}
	for _, f := range fields {
		if _, twice := all[f.Name]; twice || f.Sensitive || !httpguts.ValidHeaderFieldValue(f.Value) {
			t.Errorf("field %+v, twice: %v", f, twice)
		}
		all[f.Name] = f.Value
	}
	if all[":status"] != "200" || all["content-type"] != "application/grpc" || fields[0].Name != ":status" {
		t.Errorf("no Trailers-Only answer: %v", fields)
	}
	code, err := strconv.Atoi(all["grpc-status"])
	if err != nil {
		t.Errorf("grpc-status: %v", err)
	}
	message, err := url.PathUnescape(all["grpc-message"])
	if err != nil {
		t.Errorf("grpc-message: %v", err)
	}
	p := &spb.Status{Code: int32(code), Message: message}
	if text := all["grpc-status-details-bin"]; text != "" {
		raw, err := base64.RawStdEncoding.DecodeString(text)
		full := &spb.Status{}
		if err != nil || proto.Unmarshal(raw, full) != nil || full.Code != p.Code || full.Message != p.Message {
			t.Errorf("details %q (%v) are %v, want them to be of %v", text, err, full, p)
		}
		p = full
	}
	return status.FromProto(p), all
}

// sameRefusal checks that the fields of a refusal say what Refusal says.
func sameRefusal(t *testing.T, fields []hpack.HeaderField, d guard.Decision, c guard.Call, backend string) {
	t.Helper()
	st, all := answered(t, fields)
	want, trailer := grpcguard.Refusal(d, c, backend)
	if !equal(st, want) {
		t.Errorf("refused with\n%v, want\n%v", st.Proto(), want.Proto())
	}
	if got := all["grpc-retry-pushback-ms"]; got != trailer.Get("grpc-retry-pushback-ms")[0] {
		t.Errorf("push-back %q, want %v", got, trailer)
	}
	if n := 5 + len(want.Details()[:min(1, len(want.Details()))]); len(fields) != n {
		t.Errorf("%d fields, want %d: %v", len(fields), n, fields)
	}
}

// equal compares statuses with what is in their details, the order of whose maps says nothing.
func equal(a, b *status.Status) bool {
	as, bs := a.Details(), b.Details()
	if a.Code() != b.Code() || a.Message() != b.Message() || len(as) != len(bs) {
		return false
	}
	for i := range as {
		x, ok1 := as[i].(proto.Message)
		y, ok2 := bs[i].(proto.Message)
		if !ok1 || !ok2 || !proto.Equal(x, y) {
			return false
		}
	}
	return true
}

func TestFieldsSayWhatRefusalSays(t *testing.T) {
	r := grpcguard.NewRefuser("stock")
	for reason := range guard.Canceled + 2 {
		d, c := refused(reason)
		sameRefusal(t, grpcguard.NewRefuser("stock").Append(nil, d, c), d, c, "stock")
		for range 2 {
			sameRefusal(t, r.Append(nil, d, c), d, c, "stock")
		}
		d.RetryAfter, d.Feature = -1, guard.Feature{}
		sameRefusal(t, grpcguard.NewRefuser("").Append(nil, d, guard.Call{}), d, guard.Call{}, "")
		sameRefusal(t, r.Append(nil, d, c), d, c, "stock")
	}
}

func TestFieldsAreAppended(t *testing.T) {
	d, c := refused(guard.FeatureOff)
	first := hpack.HeaderField{Name: "x", Value: "y"}
	r := grpcguard.NewRefuser("stock")
	for range 2 {
		if got := r.Append([]hpack.HeaderField{first}, d, c); got[0] != first || got[1].Name != ":status" {
			t.Errorf("Append = %v", got)
		}
	}
}

// Whatever the texts: the answer can be sent, and says what Refusal says. One Refuser meets all.
func FuzzFields(f *testing.F) {
	r := grpcguard.NewRefuser("stock")
	f.Add(uint8(guard.LimitReached), int64(time.Second), int64(8), "/shop.v1.Catalog/List", "recs", "DB at 95%", "alice", "stock", int64(41))
	f.Add(uint8(guard.FeatureOff), int64(-1), int64(0), "\xff\n\x00", "é%", "\x1b[31m", "a\"b\\", "", int64(-1))
	f.Fuzz(func(t *testing.T, reason uint8, span, n int64, method, feature, why, who, backend string, revision int64) {
		d := guard.Decision{Reason: guard.Reason(reason % 13), RetryAfter: time.Duration(span), Wait: time.Duration(n)}
		d.Limit, d.InFlight = int(n), int(span)
		d.Feature = guard.Feature{Name: feature, Why: why, Who: who, Revision: revision, Percent: float64(n) / 1000}
		c := guard.Call{Method: method, Feature: feature, Attempt: int(revision)}
		sameRefusal(t, grpcguard.NewRefuser(backend).Append(nil, d, c), d, c, backend)
		for range 2 {
			sameRefusal(t, r.Append(nil, d, c), d, c, "stock")
		}
	})
}

// A flag that moves, or another text of its command, is told at once; and a Refuser that is asked for ever new names holds few.
func TestRefuserTellsTheFlagAsItIs(t *testing.T) {
	r := grpcguard.NewRefuser("stock")
	d, c := refused(guard.FeatureDimmed)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			d, c := d, c
			for j := range 3000 {
				d.Feature.Percent, d.Feature.Why = float64(j%7), fmt.Sprint("INC-", j%5)
				c.Method = fmt.Sprint("/shop.Stock/", j*(i%2))
				sameRefusal(t, r.Append(nil, d, c), d, c, "stock")
			}
		})
	}
	all.Wait()
}

func TestAnyStatusAsFields(t *testing.T) {
	full, err := status.New(codes.Aborted, "á 100% \n").WithDetails(&errdetails.DebugInfo{Detail: "x"}, &errdetails.RetryInfo{})
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range []*status.Status{nil, status.New(codes.OK, ""), status.New(codes.Unavailable, "gone"), full} {
		fields := grpcguard.AppendStatus(nil, st)
		got, all := answered(t, fields)
		if !equal(got, st) {
			t.Errorf("got %v, want %v", got, st)
		}
		if len(all) != len(fields) {
			t.Errorf("%d different fields in %v", len(all), fields)
		}
	}
	broken, _ := answered(t, grpcguard.AppendStatus(nil, status.New(codes.Internal, "\xff")))
	if broken.Code() != codes.Internal {
		t.Errorf("a message that is no UTF-8 gives %v", broken)
	}
}

func TestFieldsAllocateLittle(t *testing.T) {
	r, dst := grpcguard.NewRefuser("stock"), make([]hpack.HeaderField, 0, 8)
	off, c := refused(guard.FeatureOff)
	if n := testing.AllocsPerRun(100, func() { r.Append(dst, off, c) }); n != 0 {
		t.Errorf("a refusal by flag that was said before: %v allocations", n)
	}
}

func BenchmarkRefuser(b *testing.B) {
	for _, reason := range []guard.Reason{guard.LimitReached, guard.FeatureOff, guard.FeatureDimmed} {
		b.Run(grpcguard.ReasonName(reason), func(b *testing.B) {
			d, c := refused(reason)
			r, dst := grpcguard.NewRefuser("stock"), make([]hpack.HeaderField, 0, 8)
			b.ReportAllocs()
			for b.Loop() {
				dst = r.Append(dst[:0], d, c)
			}
			if dst[0].Value != strconv.Itoa(http.StatusOK) || strings.HasPrefix(dst[1].Name, ":") {
				b.Errorf("got %v", dst)
			}
		})
	}
}
