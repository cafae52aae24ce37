package admin

import (
	"slices"
	"time"

	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/server/proxy"
)

// followHealth keeps the health board current until the server stops. It looks, as the guards' events have one reader already.
func (s *Server) followHealth() {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stopped.Done():
			return
		case <-ticker.C:
			s.updateHealth()
		}
	}
}

func (s *Server) updateHealth() {
	for _, b := range s.backends {
		s.health.SetServingStatus(b.Name(), healthOf(b))
	}
}

// healthOf tells whether calls can pass to b: its breaker lets some through and there is an address that is not known to be gone.
func healthOf(b *proxy.Backend) healthgrpc.HealthCheckResponse_ServingStatus {
	if s := b.Guard().Status().Breaker.State; s == breaker.Open || s == breaker.ForcedOpen {
		return healthgrpc.HealthCheckResponse_NOT_SERVING
	}
	usable := func(e *capguardv1.Endpoint) bool { return e.GetState() != capguardv1.Endpoint_STATE_FAILED }
	if endpoints := b.Endpoints(); len(endpoints) > 0 && !slices.ContainsFunc(endpoints, usable) {
		return healthgrpc.HealthCheckResponse_NOT_SERVING
	}
	return healthgrpc.HealthCheckResponse_SERVING
}
