package virtual

import (
	"fmt"
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest/scenario"
)

// useless is the time that a call must have left before its objective to be worth sending, in the queue of a Static gate.
const useless = 60 * time.Millisecond

// Static is a limit that somebody has chosen, for each replica, with or without a queue before it: strictly by criticality, first come
// first served, and dropping what would be late.
func Static(limit int, queue bool) Maker {
	name := fmt.Sprintf("static %d", limit)
	if queue {
		name += "+queue"
	}
	return Maker{Name: name, Make: func(w *World) Gate {
		return &static{world: w, limit: limit, queued: queue, inFlight: make([]int, w.Replicas)}
	}}
}

type static struct {
	world    *World
	limit    int
	queued   bool
	inFlight []int
	ranks    [guard.Sheddable - guard.CriticalPlus + 1][]*Call // who waits, oldest first
}

// free returns the replica with the least in flight, and whether it has room.
func (s *static) free() (replica int, ok bool) {
	for i, n := range s.inFlight {
		if n < s.inFlight[replica] {
			replica = i
		}
	}
	return replica, s.inFlight[replica] < s.limit
}

func (s *static) Arrive(c *Call) {
	if !s.queued {
		if i, ok := s.free(); ok {
			s.inFlight[i]++
			c.Admit(i)
		} else {
			c.Refuse()
		}
		return
	}
	c.State = s.world.Now() + s.world.Objective - useless // when it is not worth it any more
	rank := &s.ranks[c.Criticality-guard.CriticalPlus]
	*rank = append(*rank, c)
	s.serve()
}

// serve sends who waits while there is room, the most critical first.
func (s *static) serve() {
	for i := range s.ranks {
		for len(s.ranks[i]) > 0 {
			c := s.ranks[i][0]
			replica, ok := s.free()
			switch {
			case c.stage == over:
			case c.State.(time.Duration) < s.world.Now():
				c.Refuse()
			case !ok:
				return
			default:
				s.inFlight[replica]++
				c.Admit(replica)
			}
			s.ranks[i] = s.ranks[i][1:]
		}
	}
}

func (s *static) Gone(*Call) {}

func (s *static) Ended(c *Call, _ guard.Outcome, _ time.Duration) {
	s.inFlight[c.Replica()]--
	if s.queued {
		s.serve()
	}
}

func (s *static) Limit() float64 { return float64(s.limit * s.world.Replicas) }

// limits are those among which hindsight chooses, for 8 workers.
var limits = []int{4, 6, 8, 10, 12, 14, 16, 20, 24, 32}

// Limits returns those among which hindsight chooses for s.
func Limits(s *scenario.Scenario) (list []int) {
	for _, n := range limits {
		list = append(list, max(1, n*s.Replicas[0].Workers/8))
	}
	return slices.Compact(list)
}

// Best returns the run of s under the best of all Static gates, by goodput.
func Best(s *scenario.Scenario, v scenario.Variant, seed uint64) *scenario.Record {
	var best *scenario.Record
	for _, limit := range Limits(s) {
		for _, queue := range []bool{false, true} {
			r := Play(s, v, seed, Static(limit, queue), nil)
			if r.Hindsight = r.GoodIn(); best == nil || r.Hindsight > best.Hindsight {
				best = r
			}
		}
	}
	return best
}

// Foresee sets what hindsight reaches in the scenario of r, if that is its oracle.
func Foresee(r *scenario.Record) {
	if r.Scenario.Oracle == scenario.Hindsight {
		r.Hindsight = Best(r.Scenario, r.Variant, r.Seed).Hindsight
	}
}
