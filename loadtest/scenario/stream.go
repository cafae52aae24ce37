package scenario

import "time"

func messageP99(m *measurement, w Window, _ Want) float64 {
	var took []time.Duration
	for _, x := range m.record.Messages {
		if w.holds(x.Sent) {
			took = append(took, x.Answered-x.Sent)
		}
	}
	return percentile(took)
}

func resets(m *measurement, _ Window, _ Want) (n float64) {
	for _, a := range m.record.Attempts {
		if m.streams(a) && a.Sent >= 0 && a.Fate == Failed {
			n++
		}
	}
	return n
}

func openRefusal(m *measurement, w Window, _ Want) float64 {
	var took []time.Duration
	for _, a := range m.record.Attempts {
		if m.streams(a) && a.Sent < 0 && w.holds(a.Made) {
			took = append(took, a.Ended-a.Made)
		}
	}
	return percentile(took)
}
