package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// pattern matches full method names: one of them, or all that begin alike.
type pattern struct {
	text   string // without the star
	prefix bool
}

// parsePattern reads `*`, `/pkg.*`, `/pkg.Service/*`, `/pkg.Service/List*` or `/pkg.Service/Method`.
func parsePattern(s string) (pattern, error) {
	const want = "want /package.Service/Method, /package.Service/*, /package.Service/List*, /package.* or *"
	if s == "*" {
		return pattern{prefix: true}, nil
	}
	text, star := strings.CutSuffix(s, "*")
	service, method, slash := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	switch {
	case !strings.HasPrefix(s, "/"):
		return pattern{}, fmt.Errorf("pattern %q does not begin with a slash; %s", s, want)
	case strings.ContainsAny(text, "* \t") || strings.Contains(method, "/"):
		return pattern{}, fmt.Errorf("pattern %q: a star may only stand at the end, and there are two slashes at most; %s", s, want)
	case service == "" || !slash && (!star || !strings.HasSuffix(service, ".")):
		return pattern{}, fmt.Errorf("pattern %q names no service; %s", s, want)
	case slash && method == "" && !star:
		return pattern{}, fmt.Errorf("pattern %q names no method; %s", s, want)
	}
	return pattern{text: text, prefix: star}, nil
}

func (p pattern) matches(method string) bool {
	return p.text == method || p.prefix && strings.HasPrefix(method, p.text)
}

// rules are what the configuration knows of one method.
type rules struct {
	pattern  pattern
	defaults guard.Call        // feature, criticality, cost and stream of calls that do not say
	most     guard.Criticality // that they may claim
	outcomes map[codes.Code]guard.Outcome
}

// outcome returns what code tells about the back-end.
func (r *rules) outcome(c codes.Code) guard.Outcome {
	if o, ok := r.outcomes[c]; ok {
		return o
	}
	return grpcguard.Outcome(c, false)
}

// maxCachedMethods bounds the memory of methods, whose names callers invent.
const maxCachedMethods = 1024

// table is what one configuration says of methods: which are the back-end's, and what is known of them. It does not change; a new
// configuration is a new table. Safe for concurrent use.
type table struct {
	routes []pattern
	texts  []string
	rules  []rules

	mu    sync.Mutex
	cache map[string]*rules
}

// newTable compiles the routes and methods of cfg; its error names every fault by its field.
func newTable(cfg *capguardv1.BackendConfig) (*table, error) {
	t := &table{texts: slices.Clone(cfg.GetRoutes()), cache: map[string]*rules{}}
	if len(t.texts) == 0 {
		t.texts = []string{"*"}
	}
	var errs []error
	for i, text := range t.texts {
		p, err := parsePattern(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("routes[%d]: %w", i, err))
		}
		t.routes = append(t.routes, p)
	}
	most, err := parseMost(cfg.GetMaxCriticality(), guard.CriticalPlus)
	if err != nil {
		errs = append(errs, err)
	}
	for i, m := range cfg.GetMethods() {
		r, err := newRules(m, most)
		if err != nil {
			errs = append(errs, fmt.Errorf("methods[%d].%w", i, err))
		}
		t.rules = append(t.rules, r)
	}
	others := rules{pattern: pattern{prefix: true}} // of which nothing is known
	others.bound(most)
	t.rules = append(t.rules, others)
	return t, errors.Join(errs...)
}

// parseMost reads what callers may claim at most.
func parseMost(s string, otherwise guard.Criticality) (guard.Criticality, error) {
	if s == "" {
		return otherwise, nil
	}
	c, ok := guard.ParseCriticality(s)
	if !ok {
		return c, fmt.Errorf("max_criticality: %q is unknown; want CRITICAL_PLUS, CRITICAL, SHEDDABLE_PLUS or SHEDDABLE", s)
	}
	return c, nil
}

// bound bounds what callers may claim. Who says nothing is not better off than who claims most.
func (r *rules) bound(most guard.Criticality) {
	r.most = most
	r.defaults.Criticality = max(r.defaults.Criticality, most)
}

// newRules compiles what is known of some methods; most is what callers of the back-end may claim. What the configuration says of a method
// is its owner's word: nobody is worse off for claiming the same.
func newRules(m *capguardv1.MethodConfig, most guard.Criticality) (rules, error) {
	r := rules{
		defaults: guard.Call{Feature: m.GetFeature(), Stream: m.GetStreaming(), Cost: int(m.GetCost())},
		outcomes: map[codes.Code]guard.Outcome{},
	}
	most, err := parseMost(m.GetMaxCriticality(), most)
	if err != nil {
		return rules{}, err
	}
	if m.GetCriticality() == "" {
		r.bound(most)
	}
	if r.pattern, err = parsePattern(m.GetPattern()); err != nil {
		return rules{}, fmt.Errorf("pattern: %w", err)
	}
	if f := m.GetFeature(); f != "" && !grpcguard.IsFeature(f) {
		return rules{}, fmt.Errorf("feature: %q is no flag id; want 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or a digit", f)
	}
	if c := m.GetCriticality(); c != "" {
		var ok bool
		if r.defaults.Criticality, ok = guard.ParseCriticality(c); !ok {
			return rules{}, fmt.Errorf("criticality: %q is unknown; want CRITICAL_PLUS, CRITICAL, SHEDDABLE_PLUS or SHEDDABLE", c)
		}
		r.most = min(most, r.defaults.Criticality)
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetOutcomes())) {
		code, outcome, err := parseOutcome(name, m.GetOutcomes()[name])
		if err != nil {
			return rules{}, fmt.Errorf("outcomes[%s]: %w", name, err)
		}
		r.outcomes[code] = outcome
	}
	return r, nil
}

func parseOutcome(name, word string) (code codes.Code, o guard.Outcome, err error) {
	if err := code.UnmarshalJSON([]byte(`"` + name + `"`)); err != nil {
		return 0, 0, fmt.Errorf("%q is no status code; want a name such as UNAVAILABLE", name)
	}
	switch word {
	case "success":
		return code, guard.Success, nil
	case "overload":
		return code, guard.Overload, nil
	case "failure":
		return code, guard.Failure, nil
	case "ignored":
		return code, guard.Ignored, nil
	}
	return 0, 0, fmt.Errorf("%q is no outcome; want success, overload, failure or ignored", word)
}

// routesTo tells whether method is the back-end's.
func (t *table) routesTo(method string) bool {
	return slices.ContainsFunc(t.routes, func(p pattern) bool { return p.matches(method) })
}

// lookup returns the first rules that match method.
func (t *table) lookup(method string) *rules {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := t.cache[method]; ok {
		return r
	}
	i := slices.IndexFunc(t.rules, func(r rules) bool { return r.pattern.matches(method) })
	if len(t.cache) < maxCachedMethods {
		t.cache[method] = &t.rules[i]
	}
	return &t.rules[i]
}
