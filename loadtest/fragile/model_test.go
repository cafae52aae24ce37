package fragile_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/loadtest/fragile"
)

func newModel(t *testing.T, s fragile.Settings) *fragile.Model {
	t.Helper()
	m, err := fragile.NewModel(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// closed keeps n jobs of the weight in the model for d and returns how many are served a second.
func closed(t *testing.T, m *fragile.Model, n int, d time.Duration) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	before := m.Stats().Served
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for m.Do(ctx, 1) == nil {
			}
		})
	}
	wg.Wait()
	return float64(m.Stats().Served-before) / d.Seconds()
}

// flood sends n jobs at once that nobody gives up, and returns a function that waits for all and counts those that ended with target.
func flood(m *fragile.Model, n int) (count func(target error) int) {
	ends := make(chan error, n)
	for range n {
		go func() { ends <- m.Do(context.Background(), 1) }() // waited for through ends
	}
	return func(target error) (hits int) {
		for range n {
			if errors.Is(<-ends, target) {
				hits++
			}
		}
		return hits
	}
}

func within(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*want {
		t.Errorf("%s is %.1f, want %.1f within %.0f %%", what, got, want, 100*tolerance)
	}
}

func TestCapacityByConcurrency(t *testing.T) {
	edit := func(f func(*fragile.Settings)) fragile.Settings {
		s := fragile.Default()
		f(&s)
		return s
	}
	for _, tc := range []struct {
		name     string
		settings fragile.Settings
		n        int
		want     float64
	}{
		{"one caller uses one worker", fragile.Default(), 1, 50},
		{"as many callers as workers reach the capacity", fragile.Default(), 8, 400},
		{"up to the knee nothing is lost", fragile.Default(), 16, 400},
		{"64 in flight: 160 a second", fragile.Default(), 65, 160},
		{"240 in flight: 50 a second", fragile.Default(), 241, 50},
		{"more in flight does no more harm", fragile.Default(), 400, 50},
		{"no collapse, no loss", fragile.Steady(), 400, 400},
		{"narrow", fragile.Narrow(), 2, 400},
		{"wide", fragile.Wide(), 32, 400},
		{"all service times alike", edit(func(s *fragile.Settings) { s.CV = 0 }), 8, 400},
		{"twice as slow", edit(func(s *fragile.Settings) { s.Slow = []fragile.Phase{{To: time.Hour, Factor: 2}} }), 8, 200},
		{"paused a tenth of the time", edit(func(s *fragile.Settings) {
			s.Pause = fragile.Pause{Every: 10 * time.Second, Length: time.Second}
		}), 8, 360},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				within(t, "throughput", closed(t, newModel(t, tc.settings), tc.n, 50*time.Second), tc.want, 0.04)
			})
		})
	}
}

func TestHeavyJobsTakeMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fragile.Default()
		s.CV = 0
		m, begin := newModel(t, s), time.Now()
		if err := m.Do(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got != 100*time.Millisecond {
			t.Errorf("five units of work took %v, want 100ms", got)
		}
	})
}

func TestQueueIsFirstInFirstOutAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fragile.Steady()
		s.Workers, s.MaxQueue, s.CV = 1, 10, 0
		m, begin := newModel(t, s), time.Now()
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if err := m.Do(t.Context(), 1); errors.Is(err, fragile.ErrFull) {
					if took := time.Since(begin); took != time.Millisecond*time.Duration(i+1) {
						t.Errorf("job %d was refused after %v", i, took)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if len(order) != 11 || m.Stats().Full != 1 {
			t.Fatalf("%d served and %d refused of 12, want 11 and 1", len(order), m.Stats().Full)
		}
		for at, i := range order {
			if at != i {
				t.Fatalf("served in the order %v", order)
			}
		}
	})
}

func TestCrashAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fragile.Brittle()
		m := newModel(t, s)
		count := flood(m, 400)
		time.Sleep(999 * time.Millisecond)
		if st := m.Stats(); st.Crashes != 0 || st.Running != 8 {
			t.Fatalf("before a second was over: %+v", st)
		}
		time.Sleep(time.Millisecond)
		broken := count(fragile.ErrCrashed)
		st := m.Stats()
		if !st.Down || st.Crashes != 1 || st.Running+st.Queued != 0 || st.Broken != uint64(broken) || st.Served+st.Broken != 400 {
			t.Errorf("after the crash, which ended %d calls: %+v", broken, st)
		}
		if err := m.Do(t.Context(), 1); !errors.Is(err, fragile.ErrCrashed) {
			t.Errorf("a dead process answered %v", err)
		}
		time.Sleep(5 * time.Second)
		if err := m.Do(t.Context(), 1); err != nil {
			t.Errorf("after the restart: %v", err)
		}
	})
}

func TestShortPeakDoesNotCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fragile.Brittle()
		s.Collapse = 0
		m := newModel(t, s)
		for range 5 { // 380 jobs are below 300 again after 200 ms, and gone after a second
			count := flood(m, 380)
			if served := count(nil); served != 380 {
				t.Fatalf("%d of 380 served: %+v", served, m.Stats())
			}
		}
	})
}

func TestKilledByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, fragile.Brittle())
		m.Crash()
		m.Crash()
		if st := m.Stats(); st.Crashes != 1 || !st.Down {
			t.Errorf("%+v", st)
		}
	})
}

func TestColdCacheWarmsUp(t *testing.T) {
	for _, tc := range []struct {
		name           string
		warm           bool
		first, settled float64
	}{
		{"cold", false, 100, 400}, // the first jobs take four times as long
		{"warm", true, 400, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := fragile.Default()
				s.Cold = fragile.Cold{Extra: 3, Calls: 1000, Warm: tc.warm}
				m := newModel(t, s)
				within(t, "throughput of the first second", closed(t, m, 8, time.Second), tc.first, 0.15)
				closed(t, m, 8, 20*time.Second)
				within(t, "throughput when warm", closed(t, m, 8, 10*time.Second), tc.settled, 0.05)
			})
		})
	}
}

func TestWorkForNobody(t *testing.T) {
	for _, tc := range []struct {
		name                     string
		honor                    bool
		served                   uint64
		busy, wasted             time.Duration
		thenRunning, thenWaiting int
	}{
		{"is done by default", false, 3, 60 * time.Millisecond, 60 * time.Millisecond, 1, 2},
		{"stops if cancellation is honoured", true, 0, 10 * time.Millisecond, 10 * time.Millisecond, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := fragile.Default()
				s.Workers, s.CV, s.HonorCancel = 1, 0, tc.honor
				m := newModel(t, s)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						if err := m.Do(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("the caller was told %v", err)
						}
					})
				}
				wg.Wait()
				if st := m.Stats(); st.Running != tc.thenRunning || st.Queued != tc.thenWaiting {
					t.Errorf("when the callers had gone: %+v", st)
				}
				time.Sleep(time.Second)
				if st := m.Stats(); st.Served != tc.served || st.Busy != tc.busy || st.Wasted != tc.wasted {
					t.Errorf("in the end: %+v", st)
				}
			})
		})
	}
}

// trace returns when each of a sequence of jobs ended.
func trace(t *testing.T, seed uint64) (ends []time.Duration) {
	s := fragile.Default()
	s.Seed = seed
	m, begin := newModel(t, s), time.Now()
	for range 200 {
		if err := m.Do(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, time.Since(begin))
	}
	return ends
}

func TestSeedRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := trace(t, 1), trace(t, 1), trace(t, 2)
		same := 0
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("job %d ended at %v and then at %v", i, a[i], b[i])
			}
			if a[i] == c[i] {
				same++
			}
		}
		if same > 2 {
			t.Errorf("%d of 200 jobs ended alike with another seed", same)
		}
	})
}

// TestEveryJobEndsOnce mixes callers who give up, a small queue and crashes: what came in is what is served, broken, full, given up or
// still there, and no more than the workers ever run.
func TestEveryJobEndsOnce(t *testing.T) {
	for _, honor := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := fragile.Brittle()
			s.MaxQueue, s.HonorCancel, s.Crash.Above, s.Crash.Restart = 150, honor, 120, time.Second
			m := newModel(t, s)
			var mu sync.Mutex
			var gaveUp uint64
			var wg sync.WaitGroup
			for i := range 6_000 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(50+i%700)*time.Millisecond)
					defer cancel()
					if err := m.Do(ctx, 1); errors.Is(err, context.DeadlineExceeded) {
						mu.Lock()
						defer mu.Unlock()
						gaveUp++
					}
				})
				time.Sleep(time.Millisecond)
				if st := m.Stats(); st.Running > s.Workers || st.Queued > s.MaxQueue {
					t.Fatalf("bounds broken: %+v", st)
				}
			}
			wg.Wait()
			time.Sleep(time.Minute)
			st := m.Stats()
			ended := st.Served + st.Broken + st.Full
			if honor {
				ended += gaveUp
			}
			if st.Arrived != 6_000 || ended != st.Arrived || st.Running+st.Queued != 0 || st.Crashes == 0 || gaveUp == 0 {
				t.Errorf("honor %v: %d gave up, %d ended, %+v", honor, gaveUp, ended, st)
			}
		})
	}
}

// TestPauseAgainstNaive starts jobs at many moments around pauses and compares their ends with a walk millisecond by millisecond.
func TestPauseAgainstNaive(t *testing.T) {
	const first, every, length = 50, 200, 70
	naive := func(start, work int) (end int) {
		for end = start; work > 0; end++ {
			if end < first || (end-first)%every >= length {
				work--
			}
		}
		return end
	}
	s := fragile.Default()
	s.CV, s.ServiceTime = 0, time.Millisecond
	s.Pause = fragile.Pause{First: first * time.Millisecond, Every: every * time.Millisecond, Length: length * time.Millisecond}
	for start := 0; start < 500; start += 7 {
		for _, work := range []int{1, 20, 90, 400} {
			synctest.Test(t, func(t *testing.T) {
				m, begin := newModel(t, s), time.Now()
				time.Sleep(time.Duration(start) * time.Millisecond)
				if err := m.Do(t.Context(), float64(work)); err != nil {
					t.Fatal(err)
				}
				if got, want := time.Since(begin), time.Duration(naive(start, work))*time.Millisecond; got != want {
					t.Errorf("%d ms of work from %d ms on ended at %v, want %v", work, start, got, want)
				}
			})
		}
	}
}
