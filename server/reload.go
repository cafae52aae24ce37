package server

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/server/config"
)

// Reload puts c in force as far as that is possible without dropping a call: the modes, limits, queues, breakers, routes and methods of the
// back-ends. If c, which must be complete, changes anything else, nothing changes and the error says what needs a restart. What an operator
// set by a command since the last reload is replaced by what c says. Not safe for concurrent use.
func (s *Server) Reload(c *capguardv1.Config) error {
	if err := s.needsRestart(c); err != nil {
		return err
	}
	var errs []error
	for i, b := range s.backends {
		settings := config.Settings(c.GetBackends()[i])
		errs = append(errs, b.Check(c.GetBackends()[i], settings))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, b := range s.backends {
		errs = append(errs, b.Configure(c.GetBackends()[i], config.Settings(c.GetBackends()[i])))
	}
	s.config.Backends = c.GetBackends()
	return errors.Join(errs...)
}

// needsRestart names everything in c that cannot change while the guard runs.
func (s *Server) needsRestart(c *capguardv1.Config) error {
	var errs []error
	fixed := func(what string, same bool) {
		if !same {
			errs = append(errs, fmt.Errorf("%s has changed: that needs a restart", what))
		}
	}
	old := s.config
	fixed("listen", old.GetListen() == c.GetListen())
	fixed("tls", proto.Equal(old.GetTls(), c.GetTls()))
	fixed("admin", proto.Equal(old.GetAdmin(), c.GetAdmin()))
	fixed("data_dir", old.GetDataDir() == c.GetDataDir())
	fixed("telemetry", proto.Equal(old.GetTelemetry(), c.GetTelemetry()))
	fixed("bounds", proto.Equal(old.GetBounds(), c.GetBounds()))
	fixed("drain_timeout", proto.Equal(old.GetDrainTimeout(), c.GetDrainTimeout()))
	fixed("the list of back-ends", slices.EqualFunc(old.GetBackends(), c.GetBackends(), func(a, b *capguardv1.BackendConfig) bool {
		return a.GetName() == b.GetName()
	}))
	return errors.Join(errs...)
}
