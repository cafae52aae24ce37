package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// A collector that refuses the metrics every minute is worth one line.
func TestComplaintsAreNotRepeated(t *testing.T) {
	var log bytes.Buffer
	c := &complaints{log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		c.Handle(errors.New("unknown service MetricsService"))
	}
	c.Handle(errors.New("connection refused"))
	c.Handle(errors.New("unknown service MetricsService"))
	if n := strings.Count(log.String(), "telemetry was not sent"); n != 3 {
		t.Errorf("%d lines, want one for each change:\n%s", n, log.String())
	}
}
