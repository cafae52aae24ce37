package boltstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/featureflags/boltstore"
)

// ack is what the child prints for every command that was answered.
type ack struct {
	Revision int64
	Name     string
	Gone     bool // deleted
	Percent  float64
	Reason   string
	Request  string
}

// changeFlagsForEver is the child: one command after the other, one line each when it is answered.
func changeFlagsForEver(dir string) error {
	s, err := boltstore.Open(dir)
	if err != nil {
		return err
	}
	reg, err := featureflags.Open(context.Background(), s)
	if err != nil {
		return err
	}
	for {
		c := randomCommand()
		result, err := reg.Apply(context.Background(), c, nil)
		if err != nil {
			return err
		}
		now, _ := result.Flag.Effective(time.Now())
		line, err := json.Marshal(ack{result.Revision, c.Name, result.Flag.Name == "", now.Percent, now.Reason, c.RequestID})
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
			return err
		}
	}
}

// randomCommand returns a command that changes something, unless it deletes what is not there.
func randomCommand() featureflags.Command {
	c := featureflags.Command{
		Action: featureflags.Dim, Name: fmt.Sprint("feature-", rand.IntN(7)), Percent: new(float64(rand.IntN(100_001)) / 1000),
		AllowMissing: true, Actor: "child", RequestID: fmt.Sprintf("%x", rand.Uint64()),
	}
	c.Reason = new("because of " + c.RequestID)
	switch rand.IntN(5) {
	case 0:
		return featureflags.Command{Action: featureflags.Delete, Name: c.Name, AllowMissing: true, Actor: "child", RequestID: c.RequestID}
	case 1:
		c.TTL = time.Hour
	}
	return c
}

// TestKillDurability: kill -9 in the middle of a flag write; after the restart, every command that was answered is in force.
func TestKillDurability(t *testing.T) {
	const rounds = 100
	dir := dataDir(t)
	inForce := map[string]ack{}
	var last, acks, unanswered int64
	for round := range rounds {
		answered := runAndKill(t, dir, round%10 == 0)
		for _, a := range answered {
			inForce[a.Name] = a
			last = a.Revision
		}
		acks += int64(len(answered))
		revision := checkAfterKill(t, dir, inForce, last, answered)
		unanswered += revision - last
		last = revision
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	if acks < rounds {
		t.Errorf("only %d commands in %d rounds: nothing was tested", acks, rounds)
	}
	t.Logf("%d rounds: %d commands answered, all in force; %d more were stored but killed before the answer", rounds, acks, unanswered)
}

// runAndKill lets a child work on dir, kills it at a random moment, and returns what it had answered. early is while it starts, else it is
// after the first answer.
func runAndKill(t *testing.T, dir string, early bool) []ack {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = t.Output()
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { time.AfterFunc(rand.N(30*time.Millisecond), func() { child.Process.Kill() }) }
	if early {
		kill()
	}
	var answered []ack
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if len(answered) == 0 && !early {
			kill()
		}
		var a ack
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
		answered = append(answered, a)
	}
	if err := child.Wait(); err == nil || child.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v", child.ProcessState)
	}
	return answered
}

// checkAfterKill compares the store with what was answered and returns its revision. One change more may be there: the one whose answer
// was cut off.
func checkAfterKill(t *testing.T, dir string, inForce map[string]ack, last int64, answered []ack) int64 {
	t.Helper()
	s := open(t, dir)
	defer shut(t, s)
	reg := registry(t, s)
	if r := reg.Snapshot().Revision; r < last || r > last+1 {
		t.Errorf("store is at revision %d; %d was answered", r, last)
	}
	for name, want := range inForce {
		revs, err := reg.Revisions(t.Context(), name, 0, 1)
		if err != nil || len(revs) == 0 {
			if err != nil || !want.Gone { // what was deleted may never have been there
				t.Errorf("history of %s = %v, %v; want revision %d", name, revs, err, want.Revision)
			}
			continue
		}
		if revs[0].Number > last { // stored, not answered
			now, _ := revs[0].Flag.Effective(time.Now())
			want = ack{revs[0].Number, name, revs[0].Action == featureflags.Delete, now.Percent, now.Reason, ""}
			inForce[name] = want
		}
		f, exists := reg.Snapshot().Flag(name)
		now, _ := f.Effective(time.Now())
		if exists == want.Gone || exists && (now.Percent != want.Percent || now.Reason != want.Reason) {
			t.Errorf("%s is %+v (exists %t), want %+v", name, now, exists, want)
		}
	}
	for _, a := range answered {
		req, found, err := s.Request(t.Context(), a.Request)
		if !found || err != nil || req.Result.Revision != a.Revision {
			t.Errorf("request %s = %+v, %t, %v; want the answer of revision %d", a.Request, req, found, err, a.Revision)
		}
	}
	return reg.Snapshot().Revision
}
