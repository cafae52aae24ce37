package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/capguard/capguard/server/relay"
)

// relayGauges are read from a relay's figures when a collector comes.
type relayGauges struct {
	open, waiting                                  metric.Int64ObservableUpDownCounter
	accepted, io, messages, resets, stalls, breach metric.Int64ObservableCounter
}

// The direction is seen from the guard.
var (
	in  = metric.WithAttributeSet(attribute.NewSet(attribute.String("direction", "in")))
	out = metric.WithAttributeSet(attribute.NewSet(attribute.String("direction", "out")))
)

// WatchRelay exports the figures of a relay as metrics, for as long as t has readers. It is for one relay a process, as the figures have
// no name.
func (t *Telemetry) WatchRelay(s *relay.Stats) error {
	g, err := newRelayGauges(t.instruments.meter)
	if err != nil {
		return err
	}
	_, err = t.instruments.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		g.observe(o, s)
		return nil
	}, g.open, g.waiting, g.accepted, g.io, g.messages, g.resets, g.stalls, g.breach)
	return err
}

func newRelayGauges(m metric.Meter) (relayGauges, error) {
	var g relayGauges
	var errs [8]error
	g.open, errs[0] = m.Int64ObservableUpDownCounter("capguard.relay.connections", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections of clients that are open."))
	g.waiting, errs[1] = m.Int64ObservableUpDownCounter("capguard.relay.waiting", metric.WithUnit("By"),
		metric.WithDescription("Data that wait for a window or for a peer to read."))
	g.accepted, errs[2] = m.Int64ObservableCounter("capguard.relay.connections.accepted", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections of clients that were accepted."))
	g.io, errs[3] = m.Int64ObservableCounter("capguard.relay.io", metric.WithUnit("By"),
		metric.WithDescription("Bytes from clients (in) and to them (out), frames and all."))
	g.messages, errs[4] = m.Int64ObservableCounter("capguard.relay.messages", metric.WithUnit("{message}"),
		metric.WithDescription("gRPC messages of requests (in) and of answers (out)."))
	g.resets, errs[5] = m.Int64ObservableCounter("capguard.relay.resets", metric.WithUnit("{reset}"),
		metric.WithDescription("RST_STREAM frames from clients (in) and to them (out)."))
	g.stalls, errs[6] = m.Int64ObservableCounter("capguard.relay.stalls", metric.WithUnit("{stall}"),
		metric.WithDescription("How often data had to wait for a window or for a full output."))
	g.breach, errs[7] = m.Int64ObservableCounter("capguard.relay.breaches", metric.WithUnit("{breach}"),
		metric.WithDescription("Bounds and rules of the protocol that peers broke."))
	return g, errors.Join(errs[:]...)
}

func (g relayGauges) observe(o metric.Observer, s *relay.Stats) {
	o.ObserveInt64(g.open, s.OpenConnections.Load())
	o.ObserveInt64(g.waiting, s.WaitingBytes.Load())
	o.ObserveInt64(g.accepted, s.Connections.Load())
	o.ObserveInt64(g.io, s.BytesIn.Load(), in)
	o.ObserveInt64(g.io, s.BytesOut.Load(), out)
	o.ObserveInt64(g.messages, s.MessagesIn.Load(), in)
	o.ObserveInt64(g.messages, s.MessagesOut.Load(), out)
	o.ObserveInt64(g.resets, s.ResetsIn.Load(), in)
	o.ObserveInt64(g.resets, s.ResetsOut.Load(), out)
	o.ObserveInt64(g.stalls, s.Stalls.Load())
	for b, n := range s.AllBreaches {
		o.ObserveInt64(g.breach, n, metric.WithAttributes(attribute.String("breach", b.String())))
	}
}
