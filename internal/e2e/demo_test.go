package e2e_test

import (
	"regexp"
	"syscall"
	"testing"
	"time"
)

// The story as a newcomer sees it, on real ports: what happens is asserted, not how well, for that depends on the machine.
func TestDemoTellsItsStory(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, path, "demo", "--duration", "20s")
	if err := p.wait(t, 2*time.Minute); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	for _, want := range []string{
		`Act 1: without the guard`, `The back-end HAS CRASHED`, `Act 2: the same load, through the guard`,
		`data port +127\.0\.0\.1:\d+`, `admin port +127\.0\.0\.1:\d+`, `grpcurl -plaintext -d .*"name":"recs".*ttl`, `FlagService/DisableFlag`,
		`recs is OFF until`, `While recs was off, 0 of its calls reached the back-end`, `recs is on again, by itself`,
		`crashes of the back-end +[1-9]\d* +0\n`,
	} {
		if !regexp.MustCompile(want).MatchString(p.output.String()) {
			t.Errorf("the story lacks %q", want)
		}
	}
}

// Ctrl-C ends it at any time, cleanly.
func TestDemoEndsOnCtrlC(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, path, "demo", "--duration", "1m")
	p.await(t, `Act 1`)
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t, 20*time.Second); err != nil {
		t.Errorf("the demo ended with %v after Ctrl-C", err)
	}
}
