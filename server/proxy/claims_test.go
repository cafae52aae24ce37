package proxy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
)

// What callers claim, and what is known of their methods and tenants, decides who goes first through the whole proxy: six calls wait for one
// slot, and the back-end tells in which order they came.
func TestWhoGoesFirst(t *testing.T) {
	type pairs = []string
	tests := []struct {
		name   string
		change func(*plan)
		calls  []pairs // what each says in its metadata, after its name
		want   string
	}{
		{
			"as they claim", func(*plan) {},
			[]pairs{{"a", "capguard-criticality", "SHEDDABLE"}, {"b"}, {"c", "baggage", "capguard-criticality=CRITICAL_PLUS"}},
			"c b a",
		},
		{
			"a claim above the bound is taken as the bound", func(p *plan) { p.cfg.MaxCriticality = "CRITICAL" },
			[]pairs{{"a"}, {"b", "capguard-criticality", "CRITICAL_PLUS"}, {"c", "capguard-criticality", "SHEDDABLE"}, {"d"}},
			"a b d c",
		},
		{
			"tenants take turns", func(*plan) {},
			[]pairs{{"a", "capguard-tenant", "hog"}, {"b", "capguard-tenant", "hog"}, {"c", "capguard-tenant", "hog"}, {"d", "capguard-tenant", "x"}},
			"a d b c",
		},
		{
			"by weight", func(p *plan) { p.settings.Tenants = map[string]float64{"hog": 2} },
			[]pairs{{"a", "capguard-tenant", "hog"}, {"b", "capguard-tenant", "hog"}, {"c", "capguard-tenant", "hog"},
				{"d", "capguard-tenant", "x"}, {"e", "capguard-tenant", "x"}},
			"a d b c e",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var order []string
			slow := func(_ any, s grpc.ServerStream) error {
				if err := s.RecvMsg(text("")); err != nil {
					return err
				}
				order = append(order, received(s)["name"]...)
				time.Sleep(time.Millisecond)
				return s.SendMsg(text(""))
			}
			oneByOne := func(p *plan) {
				p.settings.Limit = limit.Settings{Law: limit.Fixed, Initial: 1, Min: 1, Max: 1}
				p.settings.Queue.MaxWait = time.Second
			}
			bubble(t, only(slow, oneByOne, test.change), func(t *testing.T, w *world) {
				ask := func(said ...string) {
					ctx := withHeader(t.Context(), "name", said[0])
					for i := 1; i < len(said); i += 2 {
						ctx = withHeader(ctx, said[i], said[i+1])
					}
					go func() {
						if _, err := w.call(ctx, ""); err != nil {
							t.Errorf("call %v: %v", said, err)
						}
					}()
					synctest.Wait()
				}
				ask("first")
				for _, said := range test.calls {
					ask(said...)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if got := strings.Join(order, " "); got != "first "+test.want {
					t.Errorf("served were %s, want first %s", got, test.want)
				}
			})
		})
	}
}

// A method that costs three of four units lets one plain call pass beside it, and no second.
func TestCostOfMethods(t *testing.T) {
	costly := func(p *plan) {
		p.cfg.Methods = []*capguardv1.MethodConfig{{Pattern: method, Cost: 3}}
		p.settings.Limit = limit.Settings{Law: limit.Fixed, Initial: 4, Min: 1, Max: 4}
		p.settings.Queue.MaxWait = 0
	}
	bubble(t, only(hangs, costly), func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		var refused []string
		for _, m := range []string{method, "/test.Service/Plain", "/test.Service/Plain"} {
			go func() {
				if err := w.client.Invoke(ctx, m, text(""), text("")); err != nil && ctx.Err() == nil {
					refused = append(refused, m)
				}
			}()
			synctest.Wait()
		}
		if !slices.Equal(refused, []string{"/test.Service/Plain"}) {
			t.Errorf("refused were %v, want the third call", refused)
		}
		if got := w.backend.Guard().Status().Totals.Refused[guard.LimitReached]; got != 1 {
			t.Errorf("%d calls were refused by the limit, want 1", got)
		}
		cancel()
		synctest.Wait()
	})
}
