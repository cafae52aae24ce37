package telemetry

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"
)

// durations are the histograms that calls write. They are our own, because a call pays for them: the SDK's instruments look their attribute
// set up on every record and offer the value as an exemplar, which costs ten times as much. Readers get them from a producer.
type durations struct {
	since time.Time
	// series by key; replaced as a whole, so that calls read it without a lock. That is dear, some 100 µs for the last of them, but
	// happens at most maxSeries times in the life of a process.
	series atomic.Pointer[map[seriesKey]*series]

	mu       sync.Mutex
	methods  map[string]string // each is its own copy
	overflow *series

	waitMu sync.Mutex
	waits  map[waitKey]*wait
}

// seriesKey tells calls with different attributes apart.
type seriesKey struct {
	backend, method string
	code            codes.Code
}

// series are the durations of calls with the same attributes.
type series struct {
	attributes attribute.Set

	mu             sync.Mutex
	server, client tally // the whole call at the guard, and the part at the back-end
}

// waitKey tells waiting calls with different attributes apart. Back-ends are configured and decisions a closed list, so it needs no bound.
type waitKey struct{ backend, decision string }

type wait struct {
	attributes attribute.Set
	tally      tally
}

// Boundaries, in seconds: the call durations as the OpenTelemetry RPC conventions have them; the queue from 100 µs, as it is short.
var (
	callBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	waitBounds = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1}
)

// tally is one histogram. The sum is a float, as nanoseconds of ten thousand streams would overflow an integer within days.
type tally struct {
	buckets          [15]uint64 // one more than callBounds; those beyond the bounds in use stay 0
	count            uint64
	sum, least, most float64 // seconds
}

// add counts d in the bucket of the first bound that is not below it.
func (t *tally) add(d time.Duration, bounds []float64) {
	v := d.Seconds()
	i := 0
	for i < len(bounds) && v > bounds[i] {
		i++
	}
	if t.count == 0 {
		t.least, t.most = v, v
	}
	t.buckets[i]++
	t.count++
	t.sum += v
	t.least, t.most = min(t.least, v), max(t.most, v)
}

// minus returns what t has more than an earlier state of it, but for the extremes.
func (t tally) minus(earlier tally) tally {
	for i, n := range earlier.buckets {
		t.buckets[i] -= n
	}
	t.count -= earlier.count
	t.sum -= earlier.sum
	return t
}

const (
	maxMethods    = 1000
	maxMethodName = 256      // bytes
	maxSeries     = 2000     // the SDK's bound for an instrument
	otherMethod   = "_OTHER" // the name that the conventions give to what is not known
)

func newDurations() *durations {
	d := &durations{
		since:    time.Now(),
		methods:  make(map[string]string),
		overflow: &series{attributes: attribute.NewSet(attribute.Bool("otel.metric.overflow", true))},
		waits:    make(map[waitKey]*wait),
	}
	d.series.Store(&map[seriesKey]*series{})
	return d
}

// call records the whole time of a call and, if it is not zero, the time at the back-end.
func (d *durations) call(k seriesKey, total, upstream time.Duration) {
	s := d.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server.add(total, callBounds)
	if upstream > 0 {
		s.client.add(upstream, callBounds)
	}
}

// of returns the series of k.
func (d *durations) of(k seriesKey) *series {
	if k.code > codes.Unauthenticated { // the last there is
		k.code = codes.Unknown
	}
	if s := (*d.series.Load())[k]; s != nil {
		return s
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ofLocked(d.boundedLocked(k))
}

// boundedLocked returns k with a method from a set that does not grow for ever: callers invent names. A method gets a name of its own when
// it is text of a decent length and an answer other than UNIMPLEMENTED makes it likely that there is such a method: who tries names does
// not push out the real ones.
func (d *durations) boundedLocked(k seriesKey) seriesKey {
	known, ok := d.methods[k.method]
	switch {
	case ok:
	case len(d.methods) >= maxMethods || len(k.method) > maxMethodName || !utf8.ValidString(k.method) || k.code == codes.Unimplemented:
		known = otherMethod
	default:
		known = strings.Clone(k.method) // not to hold on to the headers that it is a part of
		d.methods[known] = known
	}
	k.method = known
	return k
}

func (d *durations) ofLocked(k seriesKey) *series {
	all := *d.series.Load()
	if s := all[k]; s != nil {
		return s
	}
	if len(all) >= maxSeries-1 {
		return d.overflow
	}
	more := maps.Clone(all)
	more[k] = &series{attributes: k.attributes()}
	d.series.Store(&more)
	return more[k]
}

func (k seriesKey) attributes() attribute.Set {
	list := []attribute.KeyValue{
		attribute.String("rpc.system.name", "grpc"),
		attribute.String("rpc.method", k.method),
		attribute.String("rpc.response.status_code", CodeName(k.code)),
		attribute.String("capguard.backend", k.backend),
	}
	if BlamesServer(k.code) {
		list = append(list, attribute.String("error.type", CodeName(k.code)))
	}
	return attribute.NewSet(list...)
}

// waited records the time of a call in the queue.
func (d *durations) waited(k waitKey, t time.Duration) {
	d.waitMu.Lock()
	defer d.waitMu.Unlock()
	w := d.waits[k]
	if w == nil {
		w = &wait{attributes: attribute.NewSet(
			attribute.String("capguard.backend", k.backend), attribute.String("capguard.decision", k.decision))}
		d.waits[k] = w
	}
	w.tally.add(t, waitBounds)
}
