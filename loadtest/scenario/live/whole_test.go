package live

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/scenario"
)

// proofs are the scenarios of the whole product, each with how many seeds. Overhead is the machine's, not virtual time's.
var proofs = map[string]struct {
	seeds int
	quick bool // also in short runs and under the race detector, with one seed
}{
	"S20a": {3, false},
	"S20b": {2, false},
	"S20c": {3, true},
	"S21a": {5, true},
	"S21b": {5, false},
	"S21c": {0, false},
	"S21d": {3, false},
	"S21e": {3, false},
}

// inBubble plays s in virtual time: clients with the library, guard with both ports, back-ends, and a network in memory.
func inBubble(t *testing.T, s *scenario.Scenario, seed uint64) *scenario.Record {
	t.Helper()
	r := scenario.NewRecord(s, scenario.Base, "ours", seed)
	synctest.Test(t, func(t *testing.T) {
		how := setting{network: &memory{listeners: map[string]*bufconn.Listener{}}, mode: "enforce"}
		if _, err := play(t.Context(), s, r, how); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestProofs plays every scenario of the whole product, and wants of it what the scenario wants.
func TestProofs(t *testing.T) {
	for _, s := range scenario.Whole() {
		p, known := proofs[s.Name]
		if !known {
			t.Errorf("nothing holds the product to %s", s.Name)
		}
		if testing.Short() || raced {
			p.seeds = 0
			if p.quick {
				p.seeds = 1
			}
		}
		if p.seeds == 0 {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			var runs []*scenario.Record
			for seed := range uint64(p.seeds) {
				r := inBubble(t, &s, seed+1)
				t.Logf("seed %d: %v", seed+1, scenario.Judge([]*scenario.Record{r}))
				runs = append(runs, r)
			}
			if rep := scenario.Judge(runs); !rep.Kept() {
				t.Error(rep)
			}
		})
	}
}

// TestWholeStage plays a second of everything on the machine's own network: a feature is switched off and on by an operator who has to try
// again, for its admin port is gone at first, and then the guard dies, before the clients are sure to have heard. It asserts nothing about
// how long anything took.
func TestWholeStage(t *testing.T) {
	const ms = time.Millisecond
	s := brief()
	s.Kills, s.Restart, s.Clients = nil, 0, 3
	s.Classes[0].Feature = "recs"
	s.Classes = append(s.Classes, scenario.Class{Name: "direct", Method: "/scenario.Service/Call", Rate: loadtest.Steady(50), Direct: true})
	s.Flips = []scenario.Flip{{At: 100 * ms, Feature: "recs", Off: true}, {At: 1100 * ms, Feature: "recs"}}
	s.Outages = []scenario.Outage{
		{Window: scenario.Window{To: 300 * ms}, Admin: true}, {Window: scenario.Window{From: 600 * ms, To: 900 * ms}},
	}
	s.Duration, s.Measured.To = 2*time.Second, 2*time.Second
	r := scenario.NewRecord(&s, scenario.Base, "ours", 1)
	if _, err := play(t.Context(), &s, r, setting{network: loopback{}, mode: "enforce"}); err != nil {
		t.Fatal(err)
	}
	if len(r.Commands) != 2 || r.Commands[0].Issued < 300*ms || len(r.Commands[1].Clients) != 3 {
		t.Fatalf("the commands are %+v", r.Commands)
	}
	var fates [scenario.Off + 1]int
	direct := 0
	for _, a := range r.Attempts {
		switch c := s.Classes[a.Class]; {
		case c.Feature != "":
			fates[a.Fate]++
			if a.Fate == scenario.Off && a.Made < 100*ms || a.Sent > r.Commands[0].Answered && a.Sent < 600*ms {
				t.Errorf("a call that was off before the command, or came to the back-end after it: %+v", a)
			}
		case c.Direct && a.Fate == scenario.Served:
			direct++
		}
	}
	if fates[scenario.Off] == 0 || fates[scenario.Served] == 0 || direct == 0 {
		t.Errorf("fates %v, %d direct calls served", fates, direct)
	}
}
