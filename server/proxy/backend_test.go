package proxy_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/proxy"
)

func oneMethod(m *capguardv1.MethodConfig) *capguardv1.BackendConfig {
	return &capguardv1.BackendConfig{Targets: []string{"localhost:1"}, Methods: []*capguardv1.MethodConfig{{Pattern: "*"}, m}}
}

func target(s string) *capguardv1.BackendConfig {
	return &capguardv1.BackendConfig{Targets: []string{"localhost:1", s}}
}

func route(s string) *capguardv1.BackendConfig {
	return &capguardv1.BackendConfig{Targets: []string{"localhost:1"}, Routes: []string{"*", s}}
}

// Every mistake that can be made in the description of a back-end, and the part of the message that leads to it.
func TestBadConfigurations(t *testing.T) {
	for want, cfg := range map[string]*capguardv1.BackendConfig{
		"targets: empty":                                           {},
		`targets[1]: target "": missing port`:                      target(""),
		`targets[1]: target "stock": address stock: missing port`:  target("stock"),
		`targets[1]: target ":80" needs a host`:                    target(":80"),
		`targets[1]: target "stock:http" needs a host and a port`:  target("stock:http"),
		`targets[1]: target "stock:70000" needs`:                   target("stock:70000"),
		`targets[1]: target "http://stock:80" has the unknown`:     target("http://stock:80"),
		`targets[1]: target "dns:///stock": address`:               target("dns:///stock"),
		`targets[1]: target "unix:" has no path`:                   target("unix:"),
		`targets[1]: target "unix:///" has no path`:                target("unix:///"),
		`targets[1]: target "xds:///stock:80" has the unknown`:     target("xds:///stock:80"),
		`routes[1]: pattern "shop.*" does not begin with a slash`:  route("shop.*"),
		`routes[1]: pattern "" does not begin`:                     route(""),
		`routes[1]: pattern "/shop*" names no service`:             route("/shop*"),
		`routes[1]: pattern "/*" names no service`:                 route("/*"),
		`routes[1]: pattern "/shop.Cart/" names no method`:         route("/shop.Cart/"),
		`routes[1]: pattern "/shop.*/List": a star may only stand`: route("/shop.*/List"),
		`routes[1]: pattern "/a/b/c": a star may only stand`:       route("/a/b/c"),
		`methods[1].pattern: pattern "Cart"`:                       oneMethod(&capguardv1.MethodConfig{Pattern: "Cart"}),
		`methods[1].feature: "Recs!" is no flag id`:                oneMethod(&capguardv1.MethodConfig{Pattern: "*", Feature: "Recs!"}),
		`methods[1].criticality: "high" is unknown`:                oneMethod(&capguardv1.MethodConfig{Pattern: "*", Criticality: "high"}),
		`methods[1].outcomes[BROKEN]: "BROKEN" is no status code`: oneMethod(&capguardv1.MethodConfig{Pattern: "*",
			Outcomes: map[string]string{"BROKEN": "success"}}),
		`methods[1].outcomes[UNKNOWN]: "fine" is no outcome`: oneMethod(&capguardv1.MethodConfig{Pattern: "*",
			Outcomes: map[string]string{"UNKNOWN": "fine"}}),
	} {
		t.Run(want, func(t *testing.T) {
			_, err := proxy.NewBackend(cfg, guard.Default(), proxy.BackendOptions{})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	cfg := route("x")
	cfg.Methods = []*capguardv1.MethodConfig{{Pattern: "y"}}
	s := guard.Default()
	s.MaxStreams = -1
	_, err := proxy.NewBackend(cfg, s, proxy.BackendOptions{})
	for _, part := range []string{"routes[1]", "methods[0]", "max_streams"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not tell of %s", err, part)
		}
	}
}

func TestDefaultsOfABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := &capguardv1.BackendConfig{Targets: []string{"unix:/run/stock.sock"}}
		b, err := proxy.NewBackend(cfg, guard.Default(), proxy.BackendOptions{Dialer: refuse})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if b.Name() != "default" || !slices.Equal(b.Routes(), []string{"*"}) || b.Endpoints()[0].GetTarget() != "unix:/run/stock.sock" {
			t.Errorf("got %s, %v, %v", b.Name(), b.Routes(), b.Endpoints())
		}
	})
}

func TestConfigureSwapsMethodsAndSettings(t *testing.T) {
	bubble(t, only(fails(codes.Unknown, "x")), func(t *testing.T, w *world) {
		cfg := &capguardv1.BackendConfig{Name: "stock", Targets: []string{"10.0.0.1:80"}, Routes: []string{"/test.*"},
			Methods: []*capguardv1.MethodConfig{{Pattern: "/test.*", Outcomes: map[string]string{"UNKNOWN": "success"}}}}
		s := w.backend.Guard().Settings()
		s.MaxStreams = 7
		if err := w.backend.Configure(cfg, s); err != nil {
			t.Fatal(err)
		}
		_, err := w.call(t.Context(), "x")
		code(t, err, codes.Unknown)
		if got := w.counts(); got != (counts{succeeded: 1}) {
			t.Errorf("counted %+v under the new methods", got)
		}
		err = w.client.Invoke(t.Context(), "/other.Service/Call", text("x"), &wrapperspb.StringValue{})
		code(t, err, codes.Unimplemented)
		if got := w.backend.Guard().Settings().MaxStreams; got != 7 {
			t.Errorf("MaxStreams = %d, want 7", got)
		}
	})
}

func TestABadConfigurationChangesNothing(t *testing.T) {
	bubble(t, only(upper), func(t *testing.T, w *world) {
		s := w.backend.Guard().Settings()
		s.MaxStreams = 7
		bad := s
		bad.MaxStreams = -1
		for want, c := range map[string]struct {
			cfg *capguardv1.BackendConfig
			s   guard.Settings
		}{
			"targets: can not change": {&capguardv1.BackendConfig{Targets: []string{"10.0.0.2:80"}}, s},
			"tls: can not change":     {&capguardv1.BackendConfig{Targets: []string{"10.0.0.1:80"}, Tls: &capguardv1.ClientTLS{}}, s},
			"routes[0]":               {&capguardv1.BackendConfig{Targets: []string{"10.0.0.1:80"}, Routes: []string{"x"}}, s},
			"max_streams":             {&capguardv1.BackendConfig{Targets: []string{"10.0.0.1:80"}, Routes: []string{"/a.*"}}, bad},
		} {
			if err := w.backend.Configure(c.cfg, c.s); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v, want %q", err, want)
			}
		}
		if got := w.backend.Guard().Settings().MaxStreams; got == 7 || !slices.Equal(w.backend.Routes(), []string{"*"}) {
			t.Errorf("MaxStreams = %d, routes %v", got, w.backend.Routes())
		}
	})
}

func TestTheFirstBackendWithARouteGetsTheCall(t *testing.T) {
	bubble(t, only(fails(codes.Aborted, "stock"), func(p *plan) { p.cfg.Routes = []string{"/shop.*"} }), func(t *testing.T, w *world) {
		w.net.serve("10.0.0.9:80", fails(codes.NotFound, "other"))
		other, err := proxy.NewBackend(&capguardv1.BackendConfig{Name: "other", Targets: []string{"10.0.0.9:80"}}, guard.Default(),
			proxy.BackendOptions{Dialer: w.net.dial})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		both := proxy.New(proxy.Options{}, w.backend, other)
		lis := bufconn.Listen(1 << 16)
		go func() { _ = both.Serve(lis) }() // Until Drain.
		client, err := grpc.NewClient("passthrough:///guard", insecureVia(func(ctx context.Context, _ string) (net.Conn, error) {
			return lis.DialContext(ctx)
		})...)
		if err != nil {
			t.Fatal(err)
		}
		for m, want := range map[string]codes.Code{"/shop.Cart/Add": codes.Aborted, "/shopping.Cart/Add": codes.NotFound} {
			code(t, client.Invoke(t.Context(), m, text("x"), &wrapperspb.StringValue{}), want)
		}
		if a, b := w.backend.Guard().Status().Totals.Admitted, other.Guard().Status().Totals.Admitted; a != 1 || b != 1 {
			t.Errorf("%d and %d calls admitted, want one each", a, b)
		}
		if err := errors.Join(client.Close(), both.Drain(t.Context())); err != nil {
			t.Error(err)
		}
	})
}
