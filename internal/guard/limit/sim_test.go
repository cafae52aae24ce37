package limit_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// backend is what stands behind the limit: workers with one line before them, and lognormal work.
type backend struct {
	workers int
	mean    time.Duration                       // of the work of one call
	cv      float64                             // of it, its coefficient of variation; 0 is 0.5
	crowd   int                                 // from so many inside on, work takes longer: congestion; 0 is never
	room    int                                 // calls inside from which on it pushes back at once; 0 is never
	heavy   float64                             // share of calls that take thirty times as long as the others, with the same mean of all
	answer  func(at time.Duration) limit.Result // of a call that ends; nil is Success
	slow    func(at time.Duration) float64
}

// capacity is the most it can answer in a second.
func (b backend) capacity() float64 { return float64(b.workers) / b.mean.Seconds() }

// sim runs calls through a limiter with a short line before it, in virtual time, by plain arithmetic.
type sim struct {
	backend
	rate    float64                        // calls a second, Poisson
	surge   func(at time.Duration) float64 // factor on rate; nil is 1
	wait    time.Duration                  // longest wait before the limit; 0 is none
	timeout time.Duration                  // callers give up so long after they came; the work goes on
	usual   *usual                         // how long calls of a kind take beside others; nil is not known

	*limit.Limiter
	rand    *rand.Rand
	now     time.Duration
	arrival time.Duration
	line    fifo // before the limit
	inside  fifo // at the back-end, before the workers
	sent    fifo // all sent, by deadline
	running running
	each    func(second *second) // hears of every second that ended
	second  second
}

// second is what happened in one second, or in several together.
type second struct {
	at                           time.Duration
	offered, good, refused, late int
	latency                      time.Duration // of good answers, from being sent on; the sum
	low, high                    int           // limits seen
	last                         int           // the limit at its end
}

// meanLatency is that of good answers, from being sent on.
func (s *second) meanLatency() time.Duration { return s.latency / time.Duration(max(s.good, 1)) }

// refusedShare is the share of the offered calls that was refused.
func (s *second) refusedShare() float64 { return float64(s.refused) / float64(max(s.offered, 1)) }

type call struct {
	came, sent, ends time.Duration
	over             bool // the caller has its answer, or is gone
	slot             limit.Slot
	kind             int // 1 if it is heavy
}

// epoch is when simulated time begins.
var epoch = time.Date(2026, 12, 19, 1, 30, 0, 0, time.UTC)

func newSim(b backend, s limit.Settings, seed uint64) *sim {
	return &sim{
		backend: b, wait: 100 * time.Millisecond, timeout: time.Second,
		Limiter: limit.New(s, epoch), rand: rand.New(rand.NewPCG(seed, 1)),
	}
}

func (s *sim) clock() time.Time { return epoch.Add(s.now) }

// run goes on for d and returns what happened, all in all.
func (s *sim) run(d time.Duration) second {
	total, end := second{low: s.Limit(), high: s.Limit()}, s.now+d
	s.second.low, s.second.high = s.Limit(), s.Limit()
	s.arrival = s.now + s.gap()
	for s.now < end {
		s.step(min(end, s.second.at+time.Second))
		s.second.low, s.second.high = min(s.second.low, s.Limit()), max(s.second.high, s.Limit())
		if s.now >= s.second.at+time.Second {
			s.second.last = s.Limit()
			total.add(s.second)
			if s.each != nil {
				s.each(&s.second)
			}
			s.second = second{at: s.now, low: s.Limit(), high: s.Limit()}
		}
	}
	return total
}

// add takes in what happened later.
func (s *second) add(o second) {
	s.offered += o.offered
	s.good += o.good
	s.refused += o.refused
	s.late += o.late
	s.latency += o.latency
	s.low, s.high, s.last = min(s.low, o.low), max(s.high, o.high), o.last
}

// step goes to the next thing that happens, at most until end.
func (s *sim) step(end time.Duration) {
	for s.sent.len() > 0 && s.sent.first().over {
		s.sent.pop()
	}
	done, late := end, end
	if len(s.running) > 0 {
		done = s.running[0].ends
	}
	if s.sent.len() > 0 {
		late = s.sent.first().came + s.timeout
	}
	s.now = max(s.now, min(done, late, s.arrival, end))
	switch s.now {
	case end:
	case done:
		s.finish(heap.Pop(&s.running).(*call))
	case late:
		c := s.sent.pop()
		s.second.late++
		s.over(c, limit.TimedOut)
	case s.arrival:
		s.arrive()
	}
}

func (s *sim) gap() time.Duration {
	rate := s.rate
	if s.surge != nil {
		rate *= s.surge(s.now)
	}
	if rate <= 0 {
		return math.MaxInt64 / 2
	}
	return time.Duration(s.rand.ExpFloat64() / rate * float64(time.Second))
}

func (s *sim) arrive() {
	s.arrival = s.now + s.gap()
	s.second.offered++
	s.admit() // a charge may have ended
	c := &call{came: s.now}
	if s.heavy > 0 && s.rand.Float64() < s.heavy {
		c.kind = 1
	}
	switch {
	case s.acquire(c):
		s.send(c)
	case s.wait > 0:
		s.line.push(c)
		s.expire()
	default:
		s.second.refused++
	}
}

// acquire takes a slot for a call that has just come.
func (s *sim) acquire(c *call) bool {
	if s.take(c) {
		return true
	}
	s.Held()
	return false
}

func (s *sim) take(c *call) (ok bool) {
	c.slot, ok = s.Acquire(1, s.clock())
	return ok
}

// expire drops who waited too long.
func (s *sim) expire() {
	for s.line.len() > 0 && s.now-s.line.first().came >= s.wait {
		s.line.pop()
		s.second.refused++
	}
}

func (s *sim) send(c *call) {
	c.sent = s.now
	if s.room > 0 && len(s.running)+s.inside.len() >= s.room {
		s.over(c, limit.Overload)
		return
	}
	s.sent.push(c)
	s.inside.push(c)
	s.work()
}

// work gives idle workers something to do.
func (s *sim) work() {
	for len(s.running) < s.workers && s.inside.len() > 0 {
		n := len(s.running) + s.inside.len()
		c := s.inside.pop()
		c.ends = s.now + time.Duration(float64(s.mean)*s.lognormal()*s.weight(c)*s.congestion(n))
		heap.Push(&s.running, c)
	}
}

// weight is the work of a call beside the mean of all.
func (s *sim) weight(c *call) float64 {
	light := 1 / (1 + 29*s.heavy)
	return light * float64(1+29*c.kind)
}

func (s *sim) congestion(n int) float64 {
	f := 1.0
	if s.crowd > 0 {
		f = min(8, 1+0.5*float64(max(0, n-s.crowd))/float64(s.crowd))
	}
	if s.slow != nil {
		f *= s.slow(s.now)
	}
	return f
}

// lognormal has mean 1.
func (s *sim) lognormal() float64 {
	cv := s.cv
	if cv == 0 {
		cv = 0.5
	}
	v := math.Log(1 + cv*cv)
	return math.Exp(s.rand.NormFloat64()*math.Sqrt(v) - v/2)
}

func (s *sim) finish(c *call) {
	if !c.over {
		r := limit.Success
		if s.answer != nil {
			r = s.answer(s.now)
		}
		if r == limit.Success {
			s.second.good++
			s.second.latency += s.now - c.sent
		}
		s.over(c, r)
	}
	s.work()
}

func (s *sim) over(c *call, r limit.Result) {
	c.over = true
	took := s.now - c.sent
	s.Release(c.slot, r, took, s.usual.of(c.kind), s.clock())
	if r == limit.Success {
		s.usual.learn(c.kind, took)
	}
	s.admit()
}

// admit sends those in line for whom there is a slot.
func (s *sim) admit() {
	for s.expire(); s.line.len() > 0 && s.take(s.line.first()); s.expire() {
		s.send(s.line.pop())
	}
}

// fifo is a queue of calls.
type fifo struct {
	calls []*call
	head  int
}

func (f *fifo) len() int     { return len(f.calls) - f.head }
func (f *fifo) first() *call { return f.calls[f.head] }
func (f *fifo) push(c *call) { f.calls = append(f.calls, c) }

func (f *fifo) pop() *call {
	c := f.calls[f.head]
	f.calls[f.head] = nil
	if f.head++; f.head > 1000 && f.head > len(f.calls)/2 {
		f.calls, f.head = append(f.calls[:0], f.calls[f.head:]...), 0
	}
	return c
}

// running is a heap of the calls in work, by their end.
type running []*call

func (r running) Len() int           { return len(r) }
func (r running) Less(i, j int) bool { return r[i].ends < r[j].ends }
func (r running) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *running) Push(x any)        { *r = append(*r, x.(*call)) }
func (r *running) Pop() any {
	old := *r
	c := old[len(old)-1]
	*r = old[:len(old)-1]
	return c
}

// usual learns how long calls of two kinds take, as the mean of the last answers.
type usual struct {
	answers float64 // how many it remembers
	n       [2]float64
	mean    [2]float64
}

func (u *usual) learn(kind int, took time.Duration) {
	if u == nil {
		return
	}
	u.n[kind]++
	u.mean[kind] += (took.Seconds() - u.mean[kind]) / min(u.n[kind], u.answers)
}

// of is how long calls of a kind take beside the others; 0 while that is not known.
func (u *usual) of(kind int) float64 {
	if u == nil || min(u.n[0], u.n[1]) < 30 {
		return 0
	}
	return u.mean[kind]
}
