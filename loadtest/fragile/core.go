package fragile

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Core is what a back-end does, with neither clock nor goroutine: its owner tells it what comes and when, asks with Next when something
// happens by itself, and makes that happen with Step. Instants are counted from the start and must not run backwards, nor past Next. Not
// safe for concurrent use.
type Core struct {
	settings Settings
	rng      *rand.Rand
	queue    []*Job        // oldest first
	running  work          // the one that ends first is first
	begun    uint64        // jobs taken into work
	warmth   uint64        // jobs served since the last start of the process; the u of w(u)
	crowded  bool          // there are too many jobs,
	since    time.Duration // from then on
	up       time.Duration // when the process starts again, if it is down
	stats    Stats
}

// Job is one piece of work.
type Job struct {
	Owner any           // whoever it is for; the core does not look at it
	Began time.Duration // of the work, once it is in work
	Ends  time.Duration // of the work; known as soon as it begins, but for a crash or a cancellation
	Err   error         // once it has ended: nil or ErrCrashed

	weight float64
	gone   bool   // nobody waits for it any more
	seq    uint64 // decides who ends first at the same instant
	place  int    // among the running; inQueue or ended otherwise
}

// The places of a job that is not running.
const (
	inQueue = -1
	ended   = -2
)

// NewCore returns a running back-end at instant 0, or every fault of s.
func NewCore(s Settings) (*Core, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	c := &Core{settings: s, rng: rand.New(rand.NewPCG(s.Seed, 0))}
	if s.Cold.Warm {
		c.warmth = math.MaxUint64 / 2
	}
	return c, nil
}

// Arrive takes in a job of weight units of work, above 0, for owner. It returns ErrFull or ErrCrashed if it does not; the caller learns
// that after Refusal.
func (c *Core) Arrive(weight float64, owner any, now time.Duration) (*Job, error) {
	c.stats.Arrived++
	if c.stats.Down {
		c.stats.Broken++
		return nil, ErrCrashed
	}
	if len(c.running) >= c.settings.Workers && len(c.queue) >= c.settings.MaxQueue {
		c.stats.Full++
		return nil, ErrFull
	}
	j := &Job{Owner: owner, weight: weight, place: inQueue}
	c.queue = append(c.queue, j)
	c.work(now)
	return j, nil
}

// Leave tells that nobody waits for j any more. With HonorCancel its work ends. Of a job that has ended it changes nothing.
func (c *Core) Leave(j *Job, now time.Duration) {
	j.gone = true
	if !c.settings.HonorCancel {
		return
	}
	switch {
	case j.place == inQueue:
		i := slices.Index(c.queue, j)
		c.queue = slices.Delete(c.queue, i, i+1)
		j.place = ended
	case j.place >= 0:
		j.Ends = now
		c.stop(j)
	}
	c.work(now)
}

// Next returns when something happens next by itself; false if nothing does.
func (c *Core) Next() (at time.Duration, ok bool) {
	at = math.MaxInt64
	if len(c.running) > 0 {
		at, ok = c.running[0].Ends, true
	}
	if c.crowded {
		at, ok = min(at, c.since+c.settings.Crash.After), true
	}
	if c.stats.Down {
		at, ok = min(at, c.up), true
	}
	return at, ok
}

// Step makes happen what Next told, and returns the jobs that ended by it.
func (c *Core) Step() []*Job {
	now, ok := c.Next()
	switch {
	case !ok:
		return nil
	case c.stats.Down && c.up == now:
		c.stats.Down = false
		return nil
	case c.crowded && c.since+c.settings.Crash.After == now:
		return c.Crash(now)
	}
	j := c.running[0]
	c.stop(j)
	c.stats.Served++
	c.warmth++
	c.work(now)
	return []*Job{j}
}

// Crash kills the process, as if it had been overloaded, and returns the jobs that ended by it. It restarts by itself. A dead one stays
// dead as long as it would have.
func (c *Core) Crash(now time.Duration) []*Job {
	if c.stats.Down {
		return nil
	}
	broken := append(slices.Clone([]*Job(c.running)), c.queue...)
	for _, j := range broken {
		if j.place >= 0 {
			j.gone, j.Ends = true, now
			c.book(j)
		}
		j.place, j.Err = ended, ErrCrashed
	}
	c.stats.Broken += uint64(len(broken))
	c.stats.Crashes++
	c.stats.Down, c.up = true, now+c.settings.Crash.Restart
	c.running, c.queue, c.warmth, c.crowded = nil, nil, 0, false
	return broken
}

// Stats returns the figures of this moment.
func (c *Core) Stats() Stats {
	st := c.stats
	st.Running, st.Queued = len(c.running), len(c.queue)
	return st
}

// Coldness returns how much longer a job takes now because the cache is cold: 1 when it is full.
func (c *Core) Coldness() float64 { return c.settings.cold(c.warmth) }

// work gives waiting jobs to free workers, and notices when there begin to be too many jobs for the process, and when that ends.
func (c *Core) work(now time.Duration) {
	for len(c.running) < c.settings.Workers && len(c.queue) > 0 {
		n := len(c.running) + len(c.queue)
		j := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		c.begun++
		j.Began, j.Ends, j.seq = now, now+c.duration(j, n, now), c.begun
		heap.Push(&c.running, j)
	}
	above := c.settings.Crash.Above
	crowded := above > 0 && len(c.running)+len(c.queue) > above
	if crowded && !c.crowded {
		c.since = now
	}
	c.crowded = crowded
}

// duration draws how long j takes when it starts now among n jobs.
func (c *Core) duration(j *Job, n int, now time.Duration) time.Duration {
	s := &c.settings
	work := c.service() * j.weight * s.collapse(n) * s.slow(now) * s.cold(c.warmth)
	return s.Pause.stretch(now, time.Duration(work*float64(time.Second)))
}

// service draws a service time in seconds from the lognormal distribution with the mean and the CV of the settings:
// sigma² = ln(1 + CV²), mu = ln(mean) - sigma²/2.
func (c *Core) service() float64 {
	v := math.Log1p(c.settings.CV * c.settings.CV)
	return c.settings.ServiceTime.Seconds() * math.Exp(math.Sqrt(v)*c.rng.NormFloat64()-v/2)
}

// stop takes a job out of work and books its time.
func (c *Core) stop(j *Job) {
	heap.Remove(&c.running, j.place)
	j.place = ended
	c.book(j)
}

func (c *Core) book(j *Job) {
	d := j.Ends - j.Began
	c.stats.Busy += d
	if j.gone {
		c.stats.Wasted += d
	}
}

// work is a heap of jobs by their ends.
type work []*Job

func (w work) Len() int { return len(w) }

func (w work) Less(i, k int) bool {
	if w[i].Ends != w[k].Ends {
		return w[i].Ends < w[k].Ends
	}
	return w[i].seq < w[k].seq
}

func (w work) Swap(i, k int) {
	w[i], w[k] = w[k], w[i]
	w[i].place, w[k].place = i, k
}

// Push is for package heap.
func (w *work) Push(x any) {
	j := x.(*Job)
	j.place = len(*w)
	*w = append(*w, j)
}

// Pop is for package heap.
func (w *work) Pop() any {
	last := len(*w) - 1
	j := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return j
}
