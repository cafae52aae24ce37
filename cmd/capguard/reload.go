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

// follower reloads the configuration on SIGHUP, and when the file's content has changed. The file is read once a second: that works with
// every editor, mount and link, where notifications of the file system do not. A bad file leaves the old one in force.
type follower struct {
	flags  *serveFlags
	log    *slog.Logger
	hangup chan os.Signal
	last   []byte    // what the file held
	since  time.Time // when the configuration in force came into force
}

// newFollower must be called before the file is loaded for the first time, so that no change after that is missed, and no SIGHUP ends the
// process.
func newFollower(f *serveFlags, log *slog.Logger) *follower {
	w := &follower{flags: f, log: log, hangup: make(chan os.Signal, 1), since: time.Now()}
	signal.Notify(w.hangup, syscall.SIGHUP)
	w.last, _ = os.ReadFile(f.config) // what is wrong with it is said by whoever loads it
	return w
}

// follow ends with ctx.
func (w *follower) follow(ctx context.Context, s *server.Server) {
	defer signal.Stop(w.hangup)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.hangup:
			w.last, _ = os.ReadFile(w.flags.config)
			w.reload(s)
		case <-tick.C:
			if now, err := os.ReadFile(w.flags.config); err == nil && !bytes.Equal(now, w.last) {
				w.last = now
				w.reload(s)
			}
		}
	}
}

func (w *follower) reload(s *server.Server) {
	if w.flags.config == "" {
		w.log.Info("nothing to reload: there is no --config file")
		return
	}
	c, err := w.flags.load()
	if err == nil {
		err = s.Reload(c)
	}
	if err != nil {
		w.log.Error("configuration not reloaded, the old one stays in force", "file", w.flags.config, "since", w.since, "error", err)
		return
	}
	w.since = time.Now()
	w.log.Info("configuration reloaded", "file", w.flags.config)
}
