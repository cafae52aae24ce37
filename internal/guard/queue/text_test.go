package queue_test

import (
	"fmt"
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
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		p.now = p.now.Add(d)
	case "push":
		return p.push(t, f[1:])
	case "pop":
		return p.pop()
	case "remove":
		return fmt.Sprintf("%v, %d in line", p.Remove(p.items[f[1]]), p.Len())
	default:
		t.Fatalf("unknown step %q", line)
	}
	return fmt.Sprintf("%d in line", p.Len())
}

// settings reads "max_wait max_length".
func settings(t *testing.T, f []string) (s queue.Settings) {
	t.Helper()
	var err error
	if s.MaxWait, err = time.ParseDuration(f[0]); err != nil {
		t.Fatal(err)
	}
	if _, err = fmt.Sscan(f[1], &s.MaxLength); err != nil {
		t.Fatal(err)
	}
	return s
}

// push reads "name rank [time left]".
func (p *play) push(t *testing.T, f []string) string {
	t.Helper()
	var rank int
	if _, err := fmt.Sscan(f[1], &rank); err != nil {
		t.Fatal(err)
	}
	var deadline time.Time
	if len(f) > 2 {
		left, err := time.ParseDuration(f[2])
		if err != nil {
			t.Fatal(err)
		}
		deadline = p.now.Add(left)
	}
	item, evicted, ok := p.Push(f[0], rank, deadline, p.now)
	says := "refused"
	if ok {
		p.items[f[0]] = item
		says = fmt.Sprint("gives up in ", item.Give.Sub(p.now))
	}
	if evicted != nil {
		says += ", " + evicted.Value + " evicted"
	}
	return fmt.Sprintf("%s, %d in line", says, p.Len())
}

func (p *play) pop() string {
	item, ok := p.Pop(p.now)
	if !ok {
		return "nobody"
	}
	return fmt.Sprintf("%s, %d in line", item.Value, p.Len())
}
