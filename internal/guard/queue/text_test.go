package queue_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
	"github.com/capguard/capguard/internal/guard/stage"
)

// TestTexts plays the scenarios of testdata.
func TestTexts(t *testing.T) {
	stage.Play(t, func() stage.Step { return (&play{now: start, items: map[string]*queue.Item[string]{}}).step })
}

// play is a queue on stage.
type play struct {
	*queue.Queue[string]
	now   time.Time
	items map[string]*queue.Item[string]
}

// step runs one command and tells what came of it.
func (p *play) step(t *testing.T, line string) string {
	t.Helper()
	f := strings.Fields(line)
	switch f[0] {
	case "new":
		p.Queue = queue.New[string](settings(t, f[1:]))
	case "configure":
		p.Configure(settings(t, f[1:]))
	case "wait":
		p.now = p.now.Add(duration(t, f[1]))
	case "push":
		return p.push(t, f[1:])
	case "pop":
		return p.pop(t, f[1:])
	case "remove":
		return fmt.Sprintf("%v, %d in line", p.Remove(p.items[f[1]]), p.Len())
	default:
		t.Fatalf("unknown step %q", line)
	}
	return fmt.Sprintf("%d in line", p.Len())
}

// scan reads a number.
func scan[N int | float64](t *testing.T, text string) (n N) {
	t.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// settings reads "max_wait standing_wait max_length".
func settings(t *testing.T, f []string) queue.Settings {
	t.Helper()
	return queue.Settings{MaxWait: duration(t, f[0]), StandingWait: duration(t, f[1]), MaxLength: scan[int](t, f[2])}
}

// push reads "names rank [what they claim as key=value]"; names are joined by commas, c*3 is three of the same name.
func (p *play) push(t *testing.T, f []string) string {
	t.Helper()
	c := queue.Claim{Rank: scan[int](t, f[1])}
	for _, claim := range f[2:] {
		key, value, _ := strings.Cut(claim, "=")
		switch key {
		case "tenant":
			c.Tenant = value
		case "weight":
			c.Weight = scan[float64](t, value)
		case "cost":
			c.Cost = scan[float64](t, value)
		case "left":
			c.Deadline = p.now.Add(duration(t, value))
		case "patience":
			c.Patience = duration(t, value)
		default:
			t.Fatalf("unknown claim %q", claim)
		}
	}
	var says []string
	for name := range strings.SplitSeq(f[0], ",") {
		name, times, many := strings.Cut(name, "*")
		if !many {
			times = "1"
		}
		for range scan[int](t, times) {
			says = append(says, p.pushOne(name, c))
		}
	}
	return fmt.Sprintf("%s, %d in line", strings.Join(slices.Compact(says), "; "), p.Len())
}

func (p *play) pushOne(name string, c queue.Claim) string {
	item, evicted, ok := p.Push(name, c, p.now)
	says := "refused"
	if ok {
		p.items[name] = item
		says = fmt.Sprint("gives up in ", item.Give.Sub(p.now))
	}
	if evicted != nil {
		says += ", " + evicted.Value + " evicted"
	}
	return says
}

// pop reads "[how many]".
func (p *play) pop(t *testing.T, f []string) string {
	t.Helper()
	n := 1
	if len(f) > 0 {
		n = scan[int](t, f[0])
	}
	var names []string // c*3 for three of the same name
	same := 0
	for range n {
		next, _ := p.Next(p.now)
		item, ok := p.Pop(p.now)
		if item != next {
			t.Fatalf("Pop = %v after Next = %v", item, next)
		}
		if !ok {
			names = append(names, "nobody")
			break
		}
		if last := len(names) - 1; last >= 0 && strings.TrimSuffix(names[last], fmt.Sprint("*", same)) == item.Value {
			same++
			names[last] = fmt.Sprint(item.Value, "*", same)
			continue
		}
		names, same = append(names, item.Value), 1
	}
	return fmt.Sprintf("%s, %d in line", strings.Join(names, " "), p.Len())
}
