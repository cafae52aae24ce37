package limit

// standing is the limit of a law that knows nothing else to stand by.
type standing struct{ limit float64 }

func (*standing) sends(*Limiter, int, int) uint32 { return 0 }

// set takes to into the bounds, and tells whether that moves the limit in force.
func (s *standing) set(l *Limiter, to float64) bool {
	s.limit = min(max(to, float64(l.s.Min)), float64(l.s.Max))
	return int(s.limit) != l.limit
}

func (s *standing) stand(l *Limiter, to float64, reason string) {
	s.set(l, to)
	l.move(int(s.limit), reason)
}

func (s *standing) restart(l *Limiter) {
	s.stand(l, float64(l.s.Min), "restart: from the lowest limit")
}

func (s *standing) resume(l *Limiter, limit int) {
	s.limit = float64(limit)
	if l.adapts() {
		s.stand(l, s.limit, resumed(limit))
	}
}

func (s *standing) bounded(l *Limiter) { s.stand(l, s.limit, "configured: into the bounds") }

func (s *standing) knows() int { return int(s.limit) }
