package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/capguard/capguard/server"
)

// follow reloads the configuration on SIGHUP, and when the file's content has changed, until ctx ends. The file is read once a second: that
// works with every editor, mount and link, where notifications of the file system do not. A bad file leaves the old one in force.
func follow(ctx context.Context, f *serveFlags, s *server.Server, log *slog.Logger) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, _ := os.ReadFile(f.config)
	since := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			last, _ = os.ReadFile(f.config)
		case <-tick.C:
			now, err := os.ReadFile(f.config)
			if err != nil || bytes.Equal(now, last) {
				continue
			}
			last = now
		}
		since = reload(f, s, log, since)
	}
}

// reload returns since when the configuration is in force that is: since, if the file is bad.
func reload(f *serveFlags, s *server.Server, log *slog.Logger, since time.Time) time.Time {
	c, err := f.load()
	if err == nil {
		err = s.Reload(c)
	}
	if err != nil {
		log.Error("configuration not reloaded, the old one stays in force", "file", f.config, "since", since, "error", err)
		return since
	}
	log.Info("configuration reloaded", "file", f.config)
	return time.Now()
}
