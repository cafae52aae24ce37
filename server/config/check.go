package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/server/proxy"
)

// violations collects what is wrong, each with the path of its field.
type violations []*protovalidate.Violation

// add notes that the field at path is wrong; rule is a word for it.
func (v *violations) add(path, rule, format string, args ...any) {
	p := validate.Violation_builder{
		Field:   validate.FieldPath_builder{Elements: []*validate.FieldPathElement{validate.FieldPathElement_builder{FieldName: &path}.Build()}}.Build(),
		RuleId:  &rule,
		Message: new(fmt.Sprintf(format, args...)),
	}.Build()
	*v = append(*v, &protovalidate.Violation{Proto: p})
}

// note notes what is wrong with the text of the field at path, if anything is.
func (v *violations) note(path string, err error) {
	if err != nil {
		v.add(path, "format", "%v", err)
	}
}

// err is nil if nothing is wrong.
func (v violations) err() error {
	if len(v) == 0 {
		return nil
	}
	return &protovalidate.ValidationError{Violations: v}
}

// check returns everything that is wrong with the values that are present.
func check(c *capguardv1.Config) violations {
	var v violations
	v.address("listen", c.GetListen())
	v.serverTLS("tls", c.GetTls())
	v.address("admin.listen", c.GetAdmin().GetListen())
	v.serverTLS("admin.tls", c.GetAdmin().GetTls())
	v.mode("mode", c.GetMode())
	v.duration("drain_timeout", c.GetDrainTimeout(), 0, 24*time.Hour)
	v.bounds("bounds", c.GetBounds())
	seen := make(map[string]int)
	for i, b := range c.GetBackends() {
		path := fmt.Sprintf("backends[%d]", i)
		v.backend(path, b)
		if first, ok := seen[b.GetName()]; ok {
			v.add(path+".name", "unique", "backends[%d] has the name %q too: names must differ", first, b.GetName())
		}
		seen[b.GetName()] = i
		v.loops(path, b, c)
	}
	v.routes(c.GetBackends())
	return v
}

func (v *violations) address(path, s string) {
	if s == "" {
		return
	}
	if socket, ok := strings.CutPrefix(s, "unix:"); ok {
		if socket == "" {
			v.add(path, "format", "unix: needs a path, as unix:/run/capguard.sock")
		}
		return
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		v.add(path, "format", "%q is no address: use host:port or unix:/path", s)
	}
}

func (v *violations) mode(path, s string) {
	if _, ok := ParseMode(s); s != "" && !ok {
		v.add(path, "one_of", "%q is no mode: use enforce, observe or off", s)
	}
}

func (v *violations) serverTLS(path string, t *capguardv1.ServerTLS) {
	if t == nil {
		return
	}
	if t.GetCertFile() == "" || t.GetKeyFile() == "" {
		v.add(path, "required", "TLS needs both cert_file and key_file")
	}
}

func (v *violations) clientTLS(path string, t *capguardv1.ClientTLS) {
	if (t.GetCertFile() == "") != (t.GetKeyFile() == "") {
		v.add(path, "required", "a client certificate needs both cert_file and key_file")
	}
}

func (v *violations) duration(path string, d *durationpb.Duration, least, most time.Duration) {
	if d == nil {
		return
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < least || d.AsDuration() > most {
		v.add(path, "range", "%v is out of range: use %v to %v", d.AsDuration(), least, most)
	}
}

func (v *violations) number(path string, n, least, most int64) {
	if n < least || n > most {
		v.add(path, "range", "%d is out of range: use %d to %d", n, least, most)
	}
}

// numberOrNone checks a number of which 0 means that it is left out.
func (v *violations) numberOrNone(path string, n, least, most int64) {
	if n != 0 {
		v.number(path, n, least, most)
	}
}

func (v *violations) ratio(path string, r float64) {
	if math.IsNaN(r) || r < 0 || r > 1 {
		v.add(path, "range", "%v is out of range: use a share above 0, up to 1", r)
	}
}

// share checks a share that may be none.
func (v *violations) share(path string, r float64) {
	if !(r >= 0 && r <= 1) {
		v.add(path, "range", "%v is out of range: use a share from 0 to 1", r)
	}
}

func (v *violations) bounds(path string, b *capguardv1.Bounds) {
	v.number(path+".max_message_bytes", b.GetMaxMessageBytes(), 0, 1<<31-1)
	v.numberOrNone(path+".max_header_bytes", int64(b.GetMaxHeaderBytes()), 1, 1<<24)
	v.numberOrNone(path+".max_connection_streams", int64(b.GetMaxConnectionStreams()), 1, 1<<20)
	v.numberOrNone(path+".max_connections", int64(b.GetMaxConnections()), 1, 1<<20)
	v.numberOrNone(path+".max_table_bytes", int64(b.GetMaxTableBytes()), 4096, 1<<20)
	v.numberOrNone(path+".max_continuation_frames", int64(b.GetMaxContinuationFrames()), 1, 1<<20)
	v.numberOrNone(path+".max_resets", int64(b.GetMaxResets()), 1, 1<<30)
	v.numberOrNone(path+".max_resets_per_second", int64(b.GetMaxResetsPerSecond()), 1, 1<<30)
	v.numberOrNone(path+".max_control_frames", int64(b.GetMaxControlFrames()), 1, 1<<30)
	v.numberOrNone(path+".max_control_frames_per_second", int64(b.GetMaxControlFramesPerSecond()), 1, 1<<30)
	v.numberOrNone(path+".max_output_bytes", int64(b.GetMaxOutputBytes()), 1, 1<<30)
	v.numberOrNone(path+".max_held_bytes", int64(b.GetMaxHeldBytes()), 1, 1<<30)
	v.numberOrNone(path+".max_buffered_bytes", b.GetMaxBufferedBytes(), 1, 1<<40)
	for field, d := range map[string]*durationpb.Duration{
		"handshake_timeout": b.GetHandshakeTimeout(), "frame_timeout": b.GetFrameTimeout(), "write_timeout": b.GetWriteTimeout(),
		"idle_timeout": b.GetIdleTimeout(), "ping_after": b.GetPingAfter(), "ping_timeout": b.GetPingTimeout(),
	} {
		v.duration(path+"."+field, d, 100*time.Millisecond, 24*time.Hour)
	}
}

func (v *violations) backend(path string, b *capguardv1.BackendConfig) {
	if b.GetName() != "" {
		if _, err := featureflags.ParseName(b.GetName()); err != nil {
			v.add(path+".name", "format", "%q is no id: use 1 to 63 of a-z, 0-9, -, _ and ., first a letter or digit", b.GetName())
		}
	}
	if len(b.GetTargets()) == 0 {
		v.add(path, "required", "a back-end needs targets, as [\"127.0.0.1:9000\"]")
	}
	v.clientTLS(path+".tls", b.GetTls())
	v.mode(path+".mode", b.GetMode())
	v.limit(path+".limit", b.GetLimit())
	v.duration(path+".queue.max_wait", b.GetQueue().GetMaxWait(), 0, time.Minute)
	v.duration(path+".queue.standing_wait", b.GetQueue().GetStandingWait(), 0, time.Minute)
	v.number(path+".queue.max_length", int64(b.GetQueue().GetMaxLength()), 0, 1_000_000)
	v.breaker(path+".breaker", b.GetBreaker())
	v.share(path+".retry_ratio", b.GetRetryRatio())
	v.criticality(path+".max_criticality", b.GetMaxCriticality())
	v.tenants(path+".tenants", b.GetTenants())
	v.targets(path, b.GetTargets())
	v.methods(path+".methods", b.GetMethods())
}

func (v *violations) limit(path string, l *capguardv1.LimitConfig) {
	if law := l.GetLaw(); law != "" && !slices.Contains(limit.Laws(), limit.Law(law)) {
		v.add(path+".law", "one_of", "%q is no law: use one of %q", law, limit.Laws())
	}
	v.number(path+".max_streams", int64(l.GetMaxStreams()), 0, 1_000_000)
	before := len(*v)
	v.numberOrNone(path+".initial", int64(l.GetInitial()), 1, 100_000)
	v.numberOrNone(path+".min", int64(l.GetMin()), 1, 100_000)
	v.numberOrNone(path+".max", int64(l.GetMax()), 1, 100_000)
	if len(*v) > before {
		return // what is out of range would only be told again
	}
	s := limitSettings(l)
	if s.Min > s.Max {
		v.add(path, "range", "min %d is above max %d", s.Min, s.Max)
	} else if s.Initial < s.Min || s.Initial > s.Max {
		v.add(path+".initial", "range", "%d is out of the bounds: use min to max, which are %d to %d", s.Initial, s.Min, s.Max)
	}
}

func (v *violations) breaker(path string, b *capguardv1.BreakerConfig) {
	v.ratio(path+".failure_ratio", b.GetFailureRatio())
	v.ratio(path+".slow_ratio", b.GetSlowRatio())
	v.duration(path+".slow_after", b.GetSlowAfter(), 0, time.Hour)
	v.duration(path+".window", b.GetWindow(), time.Second, 10*time.Minute)
	v.duration(path+".open_for", b.GetOpenFor(), 10*time.Millisecond, time.Hour)
	v.duration(path+".probe_timeout", b.GetProbeTimeout(), 10*time.Millisecond, time.Hour)
	v.numberOrNone(path+".probes", int64(b.GetProbes()), 1, 1000)
	v.numberOrNone(path+".min_calls", int64(b.GetMinCalls()), 10, 1_000_000)
}

func (v *violations) methods(path string, methods []*capguardv1.MethodConfig) {
	seen := make(map[string]int)
	for i, m := range methods {
		at := fmt.Sprintf("%s[%d]", path, i)
		v.method(at, m)
		if first, ok := seen[m.GetPattern()]; ok {
			v.add(at+".pattern", "unique", "methods[%d] has the pattern %q too, and the first match counts: keep one", first, m.GetPattern())
		} else {
			seen[m.GetPattern()] = i
		}
	}
}

func (v *violations) method(path string, m *capguardv1.MethodConfig) {
	if m.GetFeature() != "" {
		if _, err := featureflags.ParseName(m.GetFeature()); err != nil {
			v.add(path+".feature", "format", "%v", err)
		}
	}
	v.criticality(path+".criticality", m.GetCriticality())
	v.criticality(path+".max_criticality", m.GetMaxCriticality())
	v.numberOrNone(path+".cost", int64(m.GetCost()), 1, guard.MostCost)
	v.note(path+".pattern", proxy.CheckPattern(m.GetPattern()))
	for _, name := range slices.Sorted(maps.Keys(m.GetOutcomes())) {
		v.note(fmt.Sprintf("%s.outcomes[%q]", path, name), proxy.CheckOutcome(name, m.GetOutcomes()[name]))
	}
}

func (v *violations) criticality(path, s string) {
	if _, ok := guard.ParseCriticality(s); s != "" && !ok {
		v.add(path, "one_of", "%q is no criticality: use CRITICAL_PLUS, CRITICAL, SHEDDABLE_PLUS or SHEDDABLE", s)
	}
}

func (v *violations) tenants(path string, tenants []*capguardv1.TenantConfig) {
	if len(tenants) > guard.MostTenants {
		v.add(path, "range", "%d tenants are too many: name those %d that differ most from the weight 1", len(tenants), guard.MostTenants)
	}
	seen := make(map[string]int)
	for i, t := range tenants {
		at := fmt.Sprintf("%s[%d]", path, i)
		if !grpcguard.IsTenant(t.GetName()) {
			v.add(at+".name", "format", "%q is no tenant: use 1 to 128 bytes of printable text", t.GetName())
		}
		if w := t.GetWeight(); w != 0 && !(w >= guard.LeastWeight && w <= guard.MostWeight) {
			v.add(at+".weight", "range", "%v is out of range: use %v to %v", w, guard.LeastWeight, guard.MostWeight)
		}
		if first, ok := seen[t.GetName()]; ok {
			v.add(at+".name", "unique", "tenants[%d] has the name %q too: names must differ", first, t.GetName())
		}
		seen[t.GetName()] = i
	}
}

// checkAdminExposure refuses an admin port that everybody on the network could use, unless that is what the operator wants.
func checkAdminExposure(a *capguardv1.Admin) error {
	if a.GetTls() != nil || a.GetInsecure() || strings.HasPrefix(a.GetListen(), "unix:") {
		return nil
	}
	host, _, err := net.SplitHostPort(a.GetListen())
	if err != nil || host == "localhost" {
		return nil // a bad address was reported already
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("admin address %s is not loopback: anybody who reaches it could switch features; give --admin-tls-cert and "+
		"--admin-tls-key, or --insecure-admin if that is wanted", a.GetListen())
}
