package breaker_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

var update = flag.Bool("update", false, "write what the breaker does into testdata/*.txt")

// TestScenarios plays testdata/*.txt, each in a bubble of its own. A block is one or more steps, a line of dashes, what they answer, and
// the instant and state they lead to; an empty line ends it. Steps, with their options and what these are by default:
//
//	set min_calls=10 slow_after=1s ...           settings, the rest as they were
//	sleep 2s
//	calls n=1 result=success took=0s             Allow and Done, one after the other
//	allow a b c                                  Allow for each name
//	done a b result=success took=0s              Done for each name
//	ready
//	force state=forced-open actor=a reason=r for=1h    without for: no end; reason is one word
//	transitions                                  those since the last such step
func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("find scenarios: %v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, string(text)) })
			compare(t, path, string(text), got)
		})
	}
}

func compare(t *testing.T, path, want, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wants), len(gots)) {
		if i >= len(wants) || i >= len(gots) || wants[i] != gots[i] {
			t.Fatalf("%s:%d:\n got %q\nwant %q", path, i+1, gots[min(i, len(gots)-1):][0], wants[min(i, len(wants)-1):][0])
		}
	}
}

// play returns the text with the answers that the breaker gives.
func play(t *testing.T, text string) string {
	p := player{T: t, start: time.Now(), settings: quick(), tickets: map[string]breaker.Ticket{}}
	p.breaker = breaker.New(p.settings, p.start)
	answering := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case answering:
			answering = line != ""
			if answering {
				continue
			}
		case line == "----":
			answering = true
			fmt.Fprintf(&p.out, "----\n%s%s", p.answers.String(), p.state())
			p.answers.Reset()
			continue
		case line != "" && line[0] != '#':
			p.step(strings.Fields(line))
		}
		fmt.Fprintln(&p.out, line)
	}
	return p.out.String()
}

// player plays one scenario.
type player struct {
	*testing.T
	breaker      *breaker.Breaker
	settings     breaker.Settings
	start        time.Time
	tickets      map[string]breaker.Ticket
	out, answers strings.Builder
}

func (p *player) say(format string, args ...any) {
	fmt.Fprintln(&p.answers, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// at is an instant as time since the start.
func (p *player) at(t time.Time) time.Duration { return t.Sub(p.start) }

func (p *player) state() string {
	s := p.breaker.Status(time.Now())
	line := fmt.Sprintf("@%v %v since %v: %s", p.at(time.Now()), s.State, p.at(s.Since), s.Reason)
	if s.Actor != "" {
		line += ", by " + s.Actor
	}
	if !s.Until.IsZero() {
		line += fmt.Sprintf(", until %v", p.at(s.Until))
	}
	if !s.RetryAt.IsZero() {
		line += fmt.Sprintf(", probes at %v", p.at(s.RetryAt))
	}
	return line + "\n"
}

func (p *player) step(words []string) {
	now := time.Now()
	names, o := p.options(words[1:])
	switch words[0] {
	case "set":
		p.set(o)
		p.breaker.Configure(p.settings, now)
	case "sleep":
		time.Sleep(p.duration(names[0]))
	case "calls":
		p.calls(o)
	case "allow":
		p.allow(names)
	case "done":
		for _, name := range names {
			p.breaker.Done(p.tickets[name], o.result, o.took, now)
		}
	case "ready":
		ok, retryAfter := p.breaker.Ready(now)
		p.say("ready: %v", verdict(ok, retryAfter))
	case "force":
		p.breaker.Force(p.override(o), now)
	case "transitions":
		for _, c := range p.breaker.Transitions(now) {
			p.say("%v: %v -> %v %q %s", p.at(c.Time), c.From, c.To, c.Reason, c.Actor)
		}
	default:
		p.Fatalf("unknown step %q", words)
	}
}

func verdict(ok bool, retryAfter time.Duration) string {
	if ok {
		return "passes"
	}
	return fmt.Sprintf("refused, retry after %v", retryAfter)
}

func (p *player) calls(o options) {
	passed, refused := 0, 0
	for range o.n {
		t, ok, _ := p.breaker.Allow(time.Now())
		if !ok {
			refused++
			continue
		}
		passed++
		p.breaker.Done(t, o.result, o.took, time.Now())
	}
	if refused > 0 {
		p.say("%d passed, %d refused", passed, refused)
	}
}

func (p *player) allow(names []string) {
	for _, name := range names {
		t, ok, retryAfter := p.breaker.Allow(time.Now())
		p.say("%s: %s", name, verdict(ok, retryAfter))
		p.tickets[name] = t
	}
}

// options are the key=value words of a step; those of set stay words.
type options struct {
	n      int
	result breaker.Result
	took   time.Duration
	words  map[string]string
}

func (p *player) options(words []string) (names []string, o options) {
	o = options{n: 1, result: breaker.Success, words: map[string]string{}}
	for _, word := range words {
		key, value, isOption := strings.Cut(word, "=")
		switch {
		case !isOption:
			names = append(names, word)
		case key == "n":
			o.n = p.number(value)
		case key == "result":
			o.result = p.result(value)
		case key == "took":
			o.took = p.duration(value)
		default:
			o.words[key] = value
		}
	}
	return names, o
}

func (p *player) set(o options) {
	s := &p.settings
	durations := map[string]*time.Duration{
		"slow_after": &s.SlowAfter, "window": &s.Window, "open_for": &s.OpenFor, "probe_timeout": &s.ProbeTimeout,
	}
	numbers := map[string]*int{"min_calls": &s.MinCalls, "probes": &s.Probes}
	ratios := map[string]*float64{"failure_ratio": &s.FailureRatio, "slow_ratio": &s.SlowRatio}
	for key, value := range o.words {
		switch {
		case durations[key] != nil:
			*durations[key] = p.duration(value)
		case numbers[key] != nil:
			*numbers[key] = p.number(value)
		case ratios[key] != nil:
			*ratios[key] = p.ratio(value)
		default:
			p.Fatalf("unknown setting %s", key)
		}
	}
	if err := s.Validate(); err != nil {
		p.Fatal(err)
	}
}

func (p *player) override(o options) breaker.Override {
	f := breaker.Override{Actor: o.words["actor"], Reason: o.words["reason"]}
	for f.State.String() != o.words["state"] {
		if f.State++; f.State > breaker.ForcedClosed {
			p.Fatalf("unknown state %q", o.words["state"])
		}
	}
	if d := o.words["for"]; d != "" {
		f.Until = time.Now().Add(p.duration(d))
	}
	return f
}

func (p *player) result(s string) breaker.Result {
	r, ok := map[string]breaker.Result{"success": breaker.Success, "failure": breaker.Failure, "ignored": breaker.Ignored}[s]
	if !ok {
		p.Fatalf("unknown result %q", s)
	}
	return r
}

func (p *player) duration(s string) time.Duration { return must(p.T, s, time.ParseDuration) }

func (p *player) number(s string) int { return must(p.T, s, strconv.Atoi) }

func (p *player) ratio(s string) float64 {
	return must(p.T, s, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
}

func must[V any](t *testing.T, s string, parse func(string) (V, error)) V {
	t.Helper()
	v, err := parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
