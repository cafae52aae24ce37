package telemetry

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"google.golang.org/grpc/codes"
)

// twin is the SDK's own histograms, fed with the same calls.
type twin struct{ server, client, wait metric.Float64Histogram }

func newTwin(t *testing.T, m metric.Meter) twin {
	t.Helper()
	histogram := func(name, description string, bounds []float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name,
			metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	return twin{
		server: histogram("rpc.server.call.duration", "Duration of a call at the guard, refused calls included.", callBounds),
		client: histogram("rpc.client.call.duration", "Duration of an admitted call at the back-end.", callBounds),
		wait:   histogram("capguard.request.time_in_queue", "Time that calls which had to wait spent in the queue.", waitBounds),
	}
}

func (w twin) tell(ctx context.Context, c call) {
	call := metric.WithAttributeSet(seriesKey{c.backend, c.method, c.code}.attributes())
	w.server.Record(ctx, c.total.Seconds(), call)
	if c.upstream > 0 {
		w.client.Record(ctx, c.upstream.Seconds(), call)
	}
	if c.wait > 0 {
		w.wait.Record(ctx, c.wait.Seconds(), metric.WithAttributes(
			attribute.String("capguard.backend", c.backend), attribute.String("capguard.decision", c.decision)))
	}
}

// read returns the one scope that r has.
func read(t *testing.T, r sdkmetric.Reader) metricdata.ScopeMetrics {
	t.Helper()
	var m metricdata.ResourceMetrics
	if err := r.Collect(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.ScopeMetrics) != 1 {
		t.Fatalf("%d scopes, want 1", len(m.ScopeMetrics))
	}
	return m.ScopeMetrics[0]
}

// pair returns a reader of d and one of a twin, and the twin.
func pair(t *testing.T, d *durations, of metricdata.Temporality) (ours, theirs sdkmetric.Reader, w twin) {
	t.Helper()
	r := sdkmetric.NewManualReader(sdkmetric.WithProducer(newProducer(d, of)))
	sdkmetric.NewMeterProvider(sdkmetric.WithReader(r))
	sdk := sdkmetric.NewManualReader(sdkmetric.WithTemporalitySelector(func(sdkmetric.InstrumentKind) metricdata.Temporality { return of }))
	return r, sdk, newTwin(t, sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdk)).Meter(scope))
}

// randomCall has one of three methods.
func randomCall(r *rand.Rand) call {
	between := func() time.Duration { return time.Duration(r.ExpFloat64() * float64(100*time.Millisecond)) }
	c := call{backend: "stock", method: fmt.Sprintf("/a.B/M%d", r.IntN(3)), decision: "admitted", total: between()}
	c.code = codes.Code(r.IntN(17))
	if c.code == codes.Unimplemented {
		c.code = codes.OK
	}
	if r.IntN(2) == 0 {
		c.upstream = between()
	}
	if r.IntN(4) == 0 {
		c.decision, c.wait = Decision(1), between()
	}
	return c
}

// What a collector reads is what the SDK's instruments would have given it, start times included.
func TestReadersGetWhatInstrumentsGive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDurations()
		ours, theirs, w := pair(t, d, metricdata.CumulativeTemporality)
		tel := &Telemetry{instruments: instruments{durations: d}}
		r := rand.New(rand.NewPCG(1, 2))
		for range 3 {
			for range 1000 {
				c := randomCall(r)
				c.tell(tel)
				w.tell(t.Context(), c)
			}
			time.Sleep(time.Minute)
			metricdatatest.AssertEqual(t, read(t, theirs), read(t, ours), metricdatatest.IgnoreExemplars())
		}
	})
}

// A collector that wants deltas gets them, each from its own last reading on, and nothing for what had no calls. Calls of a quarter of a
// second are summed without rounding.
func TestDeltas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDurations()
		ours, theirs, w := pair(t, d, metricdata.DeltaTemporality)
		tel := &Telemetry{instruments: instruments{durations: d}}
		for i := range 3 {
			for _, method := range []string{"/a.B/Always", fmt.Sprintf("/a.B/Once%d", i)} {
				c := call{"stock", method, "admitted", codes.OK, time.Second, time.Second / 2, time.Second / 4}
				c.tell(tel)
				w.tell(t.Context(), c)
			}
			time.Sleep(time.Minute)
			metricdatatest.AssertEqual(t, withoutExtremes(read(t, theirs)), read(t, ours), metricdatatest.IgnoreExemplars())
		}
	})
}

func withoutExtremes(s metricdata.ScopeMetrics) metricdata.ScopeMetrics {
	for _, m := range s.Metrics {
		points := m.Data.(metricdata.Histogram[float64]).DataPoints
		for i := range points {
			points[i].Min, points[i].Max = metricdata.Extrema[float64]{}, metricdata.Extrema[float64]{}
		}
	}
	return s
}

// A thousand methods with many codes each would be a page of 100 MiB: what is too much goes to one series, as in the SDK.
func TestSeriesAreBounded(t *testing.T) {
	d := newDurations()
	ours, theirs, w := pair(t, d, metricdata.CumulativeTemporality)
	tel := &Telemetry{instruments: instruments{durations: d}}
	for i := range 3 * maxSeries {
		c := call{"stock", fmt.Sprintf("/a.B/M%d", i%maxMethods), "admitted", codes.Code(i / maxMethods), time.Second, time.Second, 0}
		c.tell(tel)
		w.tell(t.Context(), c)
	}
	got, want := counts(read(t, ours)), counts(read(t, theirs))
	if !maps.Equal(got, want) {
		t.Errorf("%d series that differ from the SDK's %d", len(got), len(want))
	}
}

// counts returns how many calls each series of s has.
func counts(s metricdata.ScopeMetrics) map[string]uint64 {
	n := make(map[string]uint64)
	for _, m := range s.Metrics {
		for _, pt := range m.Data.(metricdata.Histogram[float64]).DataPoints {
			n[m.Name+pt.Attributes.Encoded(attribute.DefaultEncoder())] = pt.Count
		}
	}
	return n
}

// Nothing is lost or counted twice when calls and readers come at once, and what a reader sees is whole.
func TestCallsAndReadersAtOnce(t *testing.T) {
	const callers, each = 4, 2000
	d := newDurations()
	p := newProducer(d, metricdata.CumulativeTemporality)
	tel := &Telemetry{instruments: instruments{durations: d}}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range each {
				tel.Call("stock", fmt.Sprintf("/a.B/M%d", i%100), "admitted", codes.OK, time.Second, time.Second, time.Second)
			}
		})
	}
	total := func() (n uint64) {
		scopes, err := p.Produce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scopes {
			for _, m := range s.Metrics {
				for _, pt := range m.Data.(metricdata.Histogram[float64]).DataPoints {
					if pt.Sum != float64(pt.Count) {
						t.Errorf("%s has a sum of %v for %d calls of a second", m.Name, pt.Sum, pt.Count)
					}
					n += pt.Count
				}
			}
		}
		return n
	}
	for range 20 {
		total()
	}
	wg.Wait()
	if got := total(); got != 3*callers*each {
		t.Errorf("%d durations, want %d", got, 3*callers*each)
	}
}

func TestACallAllocatesNothing(t *testing.T) {
	tel := Discard()
	waits := func() {
		tel.Call("stock", "/shop.Stock/Check", "admitted", codes.OK, 3*time.Millisecond, 2*time.Millisecond, 1)
	}
	other := func() {
		tel.Call("stock", "/shop.Stock/Tried", "admitted", codes.Unimplemented, 3*time.Millisecond, 0, 0)
	}
	for name, f := range map[string]func(){"a call that waited": waits, "a name that somebody tried": other} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
