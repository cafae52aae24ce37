package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/server/config"
)

// bad files, each with what its error must say: where, what, and what to do.
var bad = map[string][]string{
	"unknown_field.bad.yml": {"unknown_field.bad.yml:3:5", `unknown field "limits"`},
	"unknown_top.bad.yml":   {"unknown_top.bad.yml:1:1", `unknown field "lisen"`},
	"wrong_type.bad.yml":    {"wrong_type.bad.yml:3:18", "int"},
	"twice.bad.yml":         {"twice.bad.yml:4:11", "names must differ"},
	"min_above_max.bad.yml": {"min_above_max.bad.yml:3:12", "min 20 is above max 10"},
	"negative_wait.bad.yml": {"negative_wait.bad.yml:3:23", "-5s is out of range: use 0s to 1m0s"},
	"half_tls.bad.yml":      {"half_tls.bad.yml:1:6", "TLS needs both cert_file and key_file", "half_tls.bad.yml:4:10", "client certificate needs both"},
	"no_targets.bad.yml":    {"no_targets.bad.yml:2:5", `needs targets, as ["127.0.0.1:9000"]`},
	"bad_method.bad.yml":    {":5:18", "Recs of the day", ":6:22", `"high" is no criticality: use CRITICAL_PLUS`},
	"bad_cost.bad.yml":      {":4:48", "1001 is out of range: use 1 to 1000", ":5:48", "-1 is out of range"},
	"bad_claims.bad.yml":    {":3:22", `"SHEDABLE" is no criticality: use CRITICAL_PLUS`, ":4:57", `"critical" is no criticality`},
	"bad_tenants.bad.yml": {":4:16", `"" is no tenant: use 1 to 128 bytes of printable text`, ":5:16", `"a\tb" is no tenant`,
		":6:34", "-1 is out of range: use 0.01 to 100", ":7:30", "101 is out of range", ":8:16", `tenants[3] has the name "huge" too`,
		":9:30", "NaN is out of range"},
	"bad_ratio.bad.yml":     {":3:18", "1.5 is out of range: use a share from 0 to 1", ":5:18", "NaN is out of range"},
	"bad_law.bad.yml":       {":3:18", `"vegas" is no law: use one of ["adaptive" "aimd" "gradient" "fixed"]`},
	"not_yaml.bad.yml":      {"not_yaml.bad.yml", "yaml"},
	"list.bad.yml":          {"list.bad.yml:1:1", "expected fields for capguard.v1.Config"},
	"absurd_number.bad.yml": {"absurd_number.bad.yml:1:28"},
	"zero.bad.yml": {":1:50 bounds.max_header_bytes: 0 would mean the default of 65536", ":1:70",
		":4:22 backends[0].limit.initial: 0 would mean the default of 8: leave the field out, or write at least 1", ":4:30",
		":4:40 backends[0].limit.max: 0 would mean the default of 1000: leave the field out, or write at least 1; to let no call pass use SetLimit",
		":5:29 backends[0].breaker.failure_ratio: 0 would mean the default of 0.5: leave the field out, or write a share above 0", ":5:44",
		":5:61 backends[0].breaker.min_calls: 0 would mean the default of 20: leave the field out, or write at least 10", ":5:72",
		":8:37 backends[0].tenants[0].weight: 0 would mean the default of 1: leave the field out, or write at least 0.01", ":9:46"},
	"key_twice.bad.yml": {":1:7 mode: it is written twice, in line 1 and in line 9", ":4:23 backends[0].queue.max_wait: it is written twice",
		`:6:54 backends[0].methods[0].outcomes["UNKNOWN"]: it is written twice`, ":7:12 backends[0].limit: it is written twice, in line 7 and in line 8"},
	"itself.bad.yml":      {`:4:15 backends[0].targets[0]: "dns:///localhost:7070" is the data port of the guard itself`, ":4:40", "admin port of the guard itself"},
	"same_target.bad.yml": {`:4:9 backends[0].targets[1]: targets[0] is the same address "localhost:9000"`, ":6:9", "missing port"},
	"same_route.bad.yml": {`:5:5 backends[1]: without routes all calls are its, and backends[0].routes[1] has the route "*" too`,
		`:9:14 backends[2].routes[0]: backends[0].routes[0] has the route "/shop.Stock/*" too`, `:9:29`, `"shop" does not begin with a slash`},
	"same_pattern.bad.yml": {`:6:18 backends[0].methods[2].pattern: methods[0] has the pattern "/shop.Stock/*" too`},
	"initial.bad.yml":      {":4:22", "8 is out of the bounds: use min to max, which are 20 to 1000", ":8:34", "2000 is out of the bounds"},
	"bad_pattern.bad.yml": {`:4:18 backends[0].methods[0].pattern: pattern "shop" does not begin with a slash`, `:6:16`, `"FOO" is no status code`,
		`:7:20`, `"good" is no outcome`, ":8:22", `:9:9`},
	"told_once.bad.yml":   {":3:18 integer is too large", ":3:35 invalid integer", ":4:30 invalid float", ":4:44 integer is too large"},
	"many_errors.bad.yml": {`:1:7 mode: "enforced" is no mode`, ":2:9", `"7070" is no address`, "Stock!", "failure_ratio: 1.5", "min_calls: 3", "needs targets"},
}

func TestBadFilesAreRefusedWithTheirPlace(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yml")
	if err != nil || len(files) != len(bad) {
		t.Fatalf("have %d bad files and %d expectations, %v", len(files), len(bad), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := config.Load(file)
			if err == nil {
				t.Fatal("the file was accepted")
			}
			for _, want := range bad[filepath.Base(file)] {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

// The files that show one fault each line say nothing else.
func TestBadFilesAreToldOnce(t *testing.T) {
	for file, want := range map[string]int{
		"zero": 11, "key_twice": 4, "itself": 2, "same_target": 2, "same_route": 3, "same_pattern": 1, "initial": 2, "bad_pattern": 5, "told_once": 4,
		"min_above_max": 1,
	} {
		_, err := config.Load("testdata/" + file + ".bad.yml")
		if got := strings.Count(err.Error(), "testdata/") - 1; got != want {
			t.Errorf("%s has %d errors, want %d: %v", file, got, want, err)
		}
	}
}

// TestZeroIsHonouredOrRefused: a number is optional, so that 0 is a value, or 0 is refused; but for the one whose default is 0.
func TestZeroIsHonouredOrRefused(t *testing.T) {
	numbers := 0
	var visit func(d protoreflect.MessageDescriptor)
	visit = func(d protoreflect.MessageDescriptor) {
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			switch f.Kind() {
			case protoreflect.MessageKind:
				if !f.IsMap() && f.Message().FullName() != "google.protobuf.Duration" {
					visit(f.Message())
				}
			case protoreflect.BoolKind, protoreflect.StringKind:
			default:
				numbers++
				if refused := config.RefusesZero(f); refused == (f.HasPresence() || f.Name() == "max_message_bytes") {
					t.Errorf("%s: 0 is refused: %v", f.FullName(), refused)
				}
			}
		}
	}
	visit((*capguardv1.Config)(nil).ProtoReflect().Descriptor())
	if numbers < 20 {
		t.Errorf("only %d numbers were found", numbers)
	}
}

func TestNoBackendIsTheGuardItself(t *testing.T) {
	for _, tt := range []struct {
		listen, target string
		itself         bool
	}{
		{"", "127.0.0.1:7070", true},
		{"", "localhost:7071", true},
		{"", "dns:///127.0.0.1:7071", true},
		{"", "[::1]:7070", false},
		{"", "127.0.0.2:7070", false},
		{"", "10.0.0.1:7070", false},
		{"127.0.0.1:7072", "127.0.0.1:7070", false},
		{"127.0.0.1:7072", "0.0.0.0:7072", true},
		{":7072", "[::1]:7072", true},
		{"[::]:7072", "127.0.0.3:7072", true},
		{"0.0.0.0:7072", "10.0.0.1:7072", false},
		{"[::1]:7072", "[0:0::1]:7072", true},
		{"guard.internal:7072", "dns:///Guard.internal:7072", true},
		{"unix:/run/guard.sock", "unix:///run/guard.sock", true},
		{"unix:/run/guard.sock", "unix:/run/stock.sock", false},
	} {
		err := config.Complete(&capguardv1.Config{Listen: tt.listen, Backends: []*capguardv1.BackendConfig{{Targets: []string{tt.target}}}})
		if itself := err != nil && strings.Contains(err.Error(), "of the guard itself"); itself != tt.itself || err != nil && !itself {
			t.Errorf("listen %q, target %q: %v", tt.listen, tt.target, err)
		}
	}
}

func TestFullFile(t *testing.T) {
	c, err := config.Load("testdata/full.good.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Complete(c); err != nil {
		t.Fatal(err)
	}
	s := config.Settings(c.GetBackends()[0])
	if s.Mode != guard.Observe || s.Limit.Initial != 16 || s.Limit.Max != 200 || s.MaxStreams != 0 || s.Queue.MaxLength != 0 ||
		s.Queue.MaxWait != 50*time.Millisecond || s.Breaker.SlowAfter != time.Second || s.Breaker.MinCalls != 30 {
		t.Errorf("settings do not follow the file: %+v", s)
	}
	if s.RetryRatio != 0 || s.Queue.StandingWait != 10*time.Millisecond || s.Limit.Law != limit.AIMD ||
		!reflect.DeepEqual(s.Tenants, map[string]float64{"café": 3, "batch": 1}) {
		t.Errorf("settings do not follow the file: %+v", s)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if got := c.GetBackends()[1]; got.GetMode() != "enforce" || got.GetRoutes()[0] != "*" {
		t.Errorf("the second back-end lacks the defaults: %v", got)
	}
}

func TestOneBackendIsAWholeConfiguration(t *testing.T) {
	c := &capguardv1.Config{Backends: []*capguardv1.BackendConfig{{Targets: []string{"127.0.0.1:9000"}}}}
	if err := config.Complete(c); err != nil {
		t.Fatal(err)
	}
	want := guard.Default()
	if got := config.Settings(c.GetBackends()[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("settings = %+v, want the guard's defaults %+v", got, want)
	}
	if c.GetListen() != config.DefaultListen || c.GetAdmin().GetListen() != config.DefaultAdmin || c.GetBackends()[0].GetName() != "default" {
		t.Errorf("defaults are missing: %v", c)
	}
}

func TestCompleteChecksTheWhole(t *testing.T) {
	backend := []*capguardv1.BackendConfig{{Targets: []string{"127.0.0.1:9000"}}}
	for _, tt := range []struct {
		name string
		c    *capguardv1.Config
		want string // "" is valid
	}{
		{"no back-end", &capguardv1.Config{}, "--backend host:port"},
		{"everybody may switch features", &capguardv1.Config{Backends: backend, Admin: &capguardv1.Admin{Listen: "0.0.0.0:7071"}}, "--insecure-admin"},
		{"all addresses", &capguardv1.Config{Backends: backend, Admin: &capguardv1.Admin{Listen: ":7071"}}, "not loopback"},
		{"a name may be anything", &capguardv1.Config{Backends: backend, Admin: &capguardv1.Admin{Listen: "guard.internal:7071"}}, "not loopback"},
		{"wanted", &capguardv1.Config{Backends: backend, Admin: &capguardv1.Admin{Listen: ":7071", Insecure: true}}, ""},
		{"with TLS", &capguardv1.Config{Backends: backend, Admin: &capguardv1.Admin{Listen: ":7071",
			Tls: &capguardv1.ServerTLS{CertFile: "c", KeyFile: "k"}}}, ""},
		{"loopback v6", &capguardv1.Config{Backends: backend, Admin: &capguardv1.Admin{Listen: "[::1]:7071"}}, ""},
		{"localhost", &capguardv1.Config{Backends: backend, Admin: &capguardv1.Admin{Listen: "localhost:7071"}}, ""},
		{"a socket", &capguardv1.Config{Backends: backend, Admin: &capguardv1.Admin{Listen: "unix:/run/admin.sock"}}, ""},
		{"a bad mode from the command line", &capguardv1.Config{Backends: backend, Mode: "watch"}, `"watch" is no mode`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := config.Complete(proto.CloneOf(tt.c))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Complete = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLoadBoundsTheFile(t *testing.T) {
	huge := filepath.Join(t.TempDir(), "huge.yml")
	if err := os.WriteFile(huge, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(huge); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("Load of 2 MiB = %v", err)
	}
	if _, err := config.Load(filepath.Join(t.TempDir(), "absent.yml")); err == nil || !strings.Contains(err.Error(), "absent.yml") {
		t.Errorf("Load of nothing = %v", err)
	}
}

func TestBadTLSFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.pem")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(dir, "absent.pem")
	for _, s := range []*capguardv1.ServerTLS{{CertFile: garbage, KeyFile: garbage}, {CertFile: absent, KeyFile: absent}} {
		if _, err := config.ServerTLS("data port", s); err == nil || !strings.Contains(err.Error(), "data port: load TLS certificate "+s.GetCertFile()) {
			t.Errorf("ServerTLS(%v) = %v", s, err)
		}
	}
	for _, c := range []*capguardv1.ClientTLS{{CaFile: garbage}, {CaFile: absent}, {CertFile: garbage, KeyFile: garbage}} {
		if _, err := config.ClientTLS("back-end stock", c); err == nil || !strings.Contains(err.Error(), "back-end stock: ") {
			t.Errorf("ClientTLS(%v) = %v", c, err)
		}
	}
	if got, err := config.ServerTLS("data port", nil); got != nil || err != nil {
		t.Errorf("no TLS = %v, %v", got, err)
	}
}

// FuzzParse: whatever stands in a file, the answer is a configuration that Complete can judge, or an error; never a panic. What is accepted
// gives settings that the guard accepts.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("\r\r: 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("fuzz.yml", data)
		if err != nil {
			return
		}
		if config.Complete(c) != nil {
			return
		}
		for _, b := range c.GetBackends() {
			if err := config.Settings(b).Validate(); err != nil {
				t.Errorf("accepted, but the guard does not take it: %v", err)
			}
		}
	})
}
