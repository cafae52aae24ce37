package client_test

import (
	"log/slog"
	"testing"
)

// quiet returns a logger into the output of the test.
func quiet(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
