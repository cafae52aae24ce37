package telemetry

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// producer hands durations to one reader of the SDK, with the names, points and start times that histograms of the SDK would have. What
// it does not give: exemplars; exponential buckets, if a variable asks for them; the least and the greatest value to a reader that wants
// deltas, as they are known of the whole time alone.
type producer struct {
	durations   *durations
	temporality metricdata.Temporality

	mu sync.Mutex
	// For deltas: the time of the last reading, and what it told.
	since time.Time
	told  map[toldKey]tally
}

type toldKey struct {
	metric     string
	attributes attribute.Distinct
}

// point is one attribute set of a histogram and what was counted for it.
type point struct {
	attributes attribute.Set
	tally      tally
}

func newProducer(d *durations, t metricdata.Temporality) *producer {
	return &producer{durations: d, temporality: t, since: d.since, told: make(map[toldKey]tally)}
}

// Produce is called by the reader.
func (p *producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	server, client := p.durations.calls()
	var all []metricdata.Metrics
	add := func(name, description string, bounds []float64, points []point) {
		if h := p.histogramLocked(name, bounds, points, now); len(h.DataPoints) > 0 {
			all = append(all, metricdata.Metrics{Name: name, Description: description, Unit: "s", Data: h})
		}
	}
	add("rpc.server.call.duration", "Duration of a call at the guard, refused calls included.", callBounds, server)
	add("rpc.client.call.duration", "Duration of an admitted call at the back-end.", callBounds, client)
	add("capguard.request.time_in_queue", "Time that calls which had to wait spent in the queue.", waitBounds, p.durations.waiting())
	if p.temporality == metricdata.DeltaTemporality {
		p.since = now
	}
	if len(all) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scope}, Metrics: all}}, nil
}

func (p *producer) histogramLocked(name string, bounds []float64, points []point, now time.Time) metricdata.Histogram[float64] {
	h := metricdata.Histogram[float64]{Temporality: p.temporality}
	for _, pt := range points {
		t := pt.tally
		if p.temporality == metricdata.DeltaTemporality {
			t = p.newsLocked(name, pt)
		}
		if t.count == 0 {
			continue
		}
		d := metricdata.HistogramDataPoint[float64]{
			Attributes: pt.attributes, StartTime: p.since, Time: now,
			Count: t.count, Sum: t.sum, Bounds: bounds, BucketCounts: t.buckets[:len(bounds)+1],
		}
		if p.temporality == metricdata.CumulativeTemporality {
			d.Min, d.Max = metricdata.NewExtrema(t.least), metricdata.NewExtrema(t.most)
		}
		h.DataPoints = append(h.DataPoints, d)
	}
	return h
}

// newsLocked returns what was counted since the last reading.
func (p *producer) newsLocked(name string, pt point) tally {
	k := toldKey{name, pt.attributes.Equivalent()}
	told := p.told[k]
	p.told[k] = pt.tally
	return pt.tally.minus(told)
}

// calls returns the histograms of calls as they are now.
func (d *durations) calls() (server, client []point) {
	read := func(s *series) {
		s.mu.Lock()
		defer s.mu.Unlock()
		server = append(server, point{s.attributes, s.server})
		client = append(client, point{s.attributes, s.client})
	}
	for _, s := range *d.series.Load() {
		read(s)
	}
	read(d.overflow)
	return server, client
}

// waiting returns the histograms of the queues as they are now.
func (d *durations) waiting() (points []point) {
	d.waitMu.Lock()
	defer d.waitMu.Unlock()
	for _, w := range d.waits {
		points = append(points, point{w.attributes, w.tally})
	}
	return points
}
