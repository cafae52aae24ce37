package fragile

import (
	"context"
	"errors"
	"sync"
	"time"
)

// The ways in which a job is not served. Do returns these, or the error of its context.
var (
	ErrFull    = errors.New("fragile: the queue is full")
	ErrCrashed = errors.New("fragile: the back-end has crashed")
)

// Refusal is how long a full queue takes to say no, and a dead process to refuse.
const Refusal = time.Millisecond

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

// Model is the back-end without gRPC: a Core that lives in real time, or in that of a bubble. Safe for concurrent use.
type Model struct {
	mu      sync.Mutex
	start   time.Time
	core    *Core
	timer   *time.Timer   // runs out when the core has something to do
	changed chan struct{} // closed when it goes down or comes up
}

// NewModel returns a running back-end, or every fault of s.
func NewModel(s Settings) (*Model, error) {
	core, err := NewCore(s)
	if err != nil {
		return nil, err
	}
	m := &Model{start: time.Now(), core: core, changed: make(chan struct{})}
	m.timer = time.AfterFunc(time.Hour, m.wake)
	m.timer.Stop()
	return m, nil
}

// Begin has the times in the settings count from now on, as if it had just been made. There must be no job, and it must be alive.
func (m *Model) Begin() {
	m.lock()
	defer m.unlock()
	m.start = time.Now()
}

// Do has a job of weight units of work done and waits for its end or for the end of ctx. weight is above 0.
func (m *Model) Do(ctx context.Context, weight float64) error {
	done := make(chan error, 1)
	j, err := m.enter(weight, done)
	if err != nil {
		sleep(ctx, Refusal)
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		m.leave(j)
	}
	select {
	case err := <-done: // it ended in the same moment
		return err
	default:
		return ctx.Err()
	}
}

// Crash kills the process now, as if it had been overloaded; it restarts by itself. A dead one stays dead as long as it would have.
func (m *Model) Crash() {
	now := m.lock()
	defer m.unlock()
	down := m.core.stats.Down
	m.tellLocked(m.core.Crash(now), down)
}

// Stats returns the figures of this moment.
func (m *Model) Stats() Stats {
	m.lock()
	defer m.unlock()
	return m.core.Stats()
}

// Coldness returns how much longer a job takes now because the cache is cold: 1 when it is full.
func (m *Model) Coldness() float64 {
	m.lock()
	defer m.unlock()
	return m.core.Coldness()
}

// life tells whether the process is dead, and returns what is closed when that changes.
func (m *Model) life() (down bool, changed <-chan struct{}) {
	m.lock()
	defer m.unlock()
	return m.core.stats.Down, m.changed
}

func (m *Model) enter(weight float64, done chan error) (*Job, error) {
	now := m.lock()
	defer m.unlock()
	return m.core.Arrive(weight, done, now)
}

// leave is called when the caller of j has gone.
func (m *Model) leave(j *Job) {
	now := m.lock()
	defer m.unlock()
	m.core.Leave(j, now)
}

func (m *Model) wake() {
	m.lock()
	defer m.unlock()
}

// lock locks, and makes happen what was due; it returns the present instant.
func (m *Model) lock() (now time.Duration) {
	m.mu.Lock()
	now = time.Since(m.start)
	for at, ok := m.core.Next(); ok && at <= now; at, ok = m.core.Next() {
		down := m.core.stats.Down
		m.tellLocked(m.core.Step(), down)
	}
	return now
}

// unlock unlocks, and sees to it that the core is woken in time.
func (m *Model) unlock() {
	if at, ok := m.core.Next(); ok {
		m.timer.Reset(time.Until(m.start.Add(at)))
	} else {
		m.timer.Stop()
	}
	m.mu.Unlock()
}

// tellLocked tells the callers of jobs that have ended, and all when the process went down, or came up after it was down.
func (m *Model) tellLocked(jobs []*Job, down bool) {
	for _, j := range jobs {
		j.Owner.(chan error) <- j.Err
	}
	if m.core.stats.Down != down {
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
