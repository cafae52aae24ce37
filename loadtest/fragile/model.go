package fragile

import (
	"container/list"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// The ways in which a job is not served. Do returns these, or the error of its context.
var (
	ErrFull    = errors.New("fragile: the queue is full")
	ErrCrashed = errors.New("fragile: the back-end has crashed")
)

// refusal is how long a full queue takes to say no, and a dead process to refuse.
const refusal = time.Millisecond

// Stats are what a back-end does now and has done since New.
type Stats struct {
	Running int    // jobs in work now
	Queued  int    // jobs waiting now
	Down    bool   // crashed and not yet restarted
	Arrived uint64 // jobs that came, whatever became of them
	Served  uint64 // jobs worked on to the end, also those whose callers had gone
	Full    uint64 // jobs refused by the full queue
	Broken  uint64 // jobs that a crash ended or that met a dead process
	Crashes uint64
	Busy    time.Duration // time that all workers spent in work, jobs now in work not counted
	Wasted  time.Duration // the part of Busy spent on jobs whose callers had gone or that a crash ended
}

// Model is the back-end without gRPC. Safe for concurrent use.
type Model struct {
	settings Settings
	start    time.Time

	mu      sync.Mutex
	rng     *rand.Rand
	queue   list.List // of *job, oldest first
	running []*job    // in the order of their starts
	warmth  uint64    // jobs served since the last start of the process; the u of w(u)
	over    time.Time // since when there are too many jobs; zero when there are not
	stats   Stats
	changed chan struct{} // closed when it goes down or comes up
}

// job is one piece of work. Guarded by the mutex of its model, but for done.
type job struct {
	weight float64
	place  *list.Element // in the queue; nil when in work
	began  time.Time     // of the work
	timer  *time.Timer   // its end
	gone   bool          // nobody waits for it any more
	done   chan error    // takes its end
}

// NewModel returns a running back-end, or every fault of s.
func NewModel(s Settings) (*Model, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	m := &Model{
		settings: s,
		start:    time.Now(),
		rng:      rand.New(rand.NewPCG(s.Seed, 0)),
		changed:  make(chan struct{}),
	}
	if s.Cold.Warm {
		m.warmth = math.MaxUint64 / 2
	}
	return m, nil
}

// Do has a job of weight units of work done and waits for its end or for the end of ctx. weight is above 0.
func (m *Model) Do(ctx context.Context, weight float64) error {
	j, err := m.enter(weight)
	if err != nil {
		sleep(ctx, refusal)
		return err
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		m.leave(j)
	}
	select {
	case err := <-j.done: // it ended in the same moment
		return err
	default:
		return ctx.Err()
	}
}

// Crash kills the process now, as if it had been overloaded; it restarts by itself. A dead one stays dead as long as it would have.
func (m *Model) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stats.Down {
		m.crashLocked()
	}
}

// Stats returns the figures of this moment.
func (m *Model) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.stats
	st.Running, st.Queued = len(m.running), m.queue.Len()
	return st
}

// life tells whether the process is dead, and returns what is closed when that changes.
func (m *Model) life() (down bool, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats.Down, m.changed
}

func (m *Model) enter(weight float64) (*job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Arrived++
	if m.stats.Down {
		m.stats.Broken++
		return nil, ErrCrashed
	}
	free := len(m.running) < m.settings.Workers
	if !free && m.queue.Len() >= m.settings.MaxQueue {
		m.stats.Full++
		return nil, ErrFull
	}
	j := &job{weight: weight, done: make(chan error, 1)}
	j.place = m.queue.PushBack(j)
	m.workLocked()
	m.watchLocked()
	return j, nil
}

// leave is called when the caller of j has gone.
func (m *Model) leave(j *job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j.gone = true
	if !m.settings.HonorCancel {
		return
	}
	switch {
	case j.place != nil:
		m.queue.Remove(j.place)
		j.place = nil
	case slices.Contains(m.running, j):
		j.timer.Stop()
		m.stopLocked(j)
	}
	m.workLocked()
	m.watchLocked()
}

// workLocked gives waiting jobs to free workers.
func (m *Model) workLocked() {
	for len(m.running) < m.settings.Workers && m.queue.Len() > 0 {
		n := len(m.running) + m.queue.Len()
		j := m.queue.Remove(m.queue.Front()).(*job)
		j.place = nil
		j.began = time.Now()
		m.running = append(m.running, j)
		j.timer = time.AfterFunc(m.durationLocked(j, n), func() { m.finish(j) })
	}
}

// durationLocked draws how long j takes when it starts now among n jobs.
func (m *Model) durationLocked(j *job, n int) time.Duration {
	s := &m.settings
	t := j.began.Sub(m.start)
	work := m.serviceLocked() * j.weight * s.collapse(n) * s.slow(t) * s.cold(m.warmth)
	return s.Pause.stretch(t, time.Duration(work*float64(time.Second)))
}

// serviceLocked draws a service time in seconds from the lognormal distribution with the mean and the CV of the settings:
// sigma² = ln(1 + CV²), mu = ln(mean) - sigma²/2.
func (m *Model) serviceLocked() float64 {
	v := math.Log1p(m.settings.CV * m.settings.CV)
	return m.settings.ServiceTime.Seconds() * math.Exp(math.Sqrt(v)*m.rng.NormFloat64()-v/2)
}

func (m *Model) finish(j *job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.running, j) { // it ended otherwise while this waited for the lock
		return
	}
	m.stopLocked(j)
	m.stats.Served++
	m.warmth++
	j.done <- nil
	m.workLocked()
	m.watchLocked()
}

// stopLocked takes a job out of work and books its time.
func (m *Model) stopLocked(j *job) {
	i := slices.Index(m.running, j)
	m.running = slices.Delete(m.running, i, i+1)
	m.bookLocked(j, j.gone)
}

func (m *Model) bookLocked(j *job, wasted bool) {
	d := time.Since(j.began)
	m.stats.Busy += d
	if wasted {
		m.stats.Wasted += d
	}
}

// watchLocked notices when there begin to be too many jobs for the process, and when that ends.
func (m *Model) watchLocked() {
	c := m.settings.Crash
	over := c.Above > 0 && len(m.running)+m.queue.Len() > c.Above
	switch {
	case !over:
		m.over = time.Time{}
	case m.over.IsZero():
		m.over = time.Now()
		time.AfterFunc(c.After, m.burst)
	}
}

// burst crashes the process if there have been too many jobs for long enough. One that was set off by an earlier spell finds that the
// present one is younger, and does nothing.
func (m *Model) burst() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.over.IsZero() && time.Since(m.over) >= m.settings.Crash.After {
		m.crashLocked()
	}
}

func (m *Model) crashLocked() {
	for _, j := range m.running {
		j.timer.Stop()
		m.bookLocked(j, true)
		m.breakLocked(j)
	}
	for e := m.queue.Front(); e != nil; e = e.Next() {
		m.breakLocked(e.Value.(*job))
	}
	m.running, m.warmth = nil, 0
	m.queue.Init()
	m.watchLocked()
	m.stats.Crashes++
	m.turnLocked(true)
	time.AfterFunc(m.settings.Crash.Restart, m.restart)
}

func (m *Model) breakLocked(j *job) {
	m.stats.Broken++
	j.place = nil
	j.done <- ErrCrashed
}

func (m *Model) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turnLocked(false)
}

// turnLocked is the only place where the process goes down or comes up.
func (m *Model) turnLocked(down bool) {
	m.stats.Down = down
	close(m.changed)
	m.changed = make(chan struct{})
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
