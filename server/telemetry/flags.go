package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/capguard/capguard/featureflags"
)

// WatchFlags exports the revision of the flags, how long the store has been failing, and the number of changes, until ctx ends.
func (t *Telemetry) WatchFlags(ctx context.Context, r *featureflags.Registry) {
	changes, err := t.observeFlags(r)
	if err != nil {
		t.Log.Warn("metrics of the flags are missing", "error", err)
		return
	}
	var last *featureflags.Snapshot
	for s := range r.Watch(ctx) {
		if last != nil {
			for name := range changed(last, s) {
				countChanges(ctx, changes, r, name, last.Revision)
			}
		}
		last = s
	}
}

func (t *Telemetry) observeFlags(r *featureflags.Registry) (metric.Int64Counter, error) {
	m := t.instruments.meter
	changes, err1 := m.Int64Counter("capguard.flag.changes", metric.WithUnit("{change}"), metric.WithDescription("Changes of flags."))
	_, err2 := m.Int64ObservableGauge("capguard.flag.revision",
		metric.WithDescription("Revision of the flags in force."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(r.Snapshot().Revision)
			return nil
		}))
	_, err3 := m.Float64ObservableGauge("capguard.flag.staleness", metric.WithUnit("s"),
		metric.WithDescription("Seconds since the flag store began to fail; 0 when it works."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(staleness(r))
			return nil
		}))
	return changes, errors.Join(err1, err2, err3)
}

func staleness(r *featureflags.Registry) float64 {
	since, err := r.StoreError()
	if err == nil {
		return 0
	}
	return time.Since(since).Seconds()
}

// changed yields the names of flags that differ between two snapshots.
func changed(before, after *featureflags.Snapshot) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for f := range after.All() {
			if f.Revision > before.Revision && !yield(f.Name) {
				return
			}
		}
		for f := range before.All() {
			if _, ok := after.Flag(f.Name); !ok && !yield(f.Name) {
				return
			}
		}
	}
}

// countChanges reads the history, as a snapshot may stand for several changes.
func countChanges(ctx context.Context, c metric.Int64Counter, r *featureflags.Registry, name string, since int64) {
	revisions, err := r.Revisions(ctx, name, 0, 100)
	if err != nil {
		return
	}
	for _, v := range revisions {
		if v.Number > since {
			c.Add(ctx, 1, metric.WithAttributes(attribute.String("feature_flag.key", name), attribute.String("actor_type", actorType(v))))
		}
	}
}

func actorType(r featureflags.Revision) string {
	switch r.Action {
	case featureflags.Expire:
		return "schedule"
	case featureflags.Rollback:
		return "rollback"
	}
	return "human"
}
