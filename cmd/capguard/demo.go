package main

import (
	"context"
	"flag"
	"io"

	"github.com/capguard/capguard/cmd/capguard/demo"
	"github.com/capguard/capguard/loadtest/fragile"
)

func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := demo.Options{Version: version(), Out: stdout}
	fs := flag.NewFlagSet("capguard demo", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.DurationVar(&o.Duration, "duration", demo.DefaultDuration, "how long the story takes")
	fs.StringVar(&o.DataAddress, "listen", "", "data port of the guard (default that of serve if it is free, else any other)")
	fs.StringVar(&o.AdminAddress, "admin", "", "admin port of the guard (default that of serve if it is free, else any other)")
	fs.StringVar(&o.OTLPEndpoint, "otlp-endpoint", "", "host:port or URL of an OTLP collector, as Jaeger; else the OTEL_* variables decide")
	if err := parse(fs, args); err != nil {
		return err
	}
	return demo.Run(ctx, o)
}

func runFragile(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := fragile.Options{Settings: fragile.Brittle(), Out: stdout}
	fs := flag.NewFlagSet("capguard fragile", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.Listen, "listen", "127.0.0.1:9000", "where it listens, host:port")
	fs.IntVar(&o.Settings.Workers, "workers", o.Settings.Workers, "how many jobs run at once")
	fs.DurationVar(&o.Settings.ServiceTime, "service-time", o.Settings.ServiceTime, "mean time of one job")
	fs.Float64Var(&o.Settings.CV, "cv", o.Settings.CV, "coefficient of variation of that time")
	fs.IntVar(&o.Settings.Crash.Above, "crash-above", o.Settings.Crash.Above, "crash when more calls than this are there for a second; 0 is never")
	fs.Uint64Var(&o.Settings.Seed, "seed", o.Settings.Seed, "seed of the service times")
	if err := parse(fs, args); err != nil {
		return err
	}
	return fragile.Run(ctx, o)
}
