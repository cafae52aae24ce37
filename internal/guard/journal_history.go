package guard

import "slices"

// historySize is how many changes of the limit, of its bounds, and how many others, are kept for whoever asks what happened.
const historySize = 20

// history keeps the last changes, whoever has taken them as events. A limit moves all the time; it must not wash away what else changed.
type history struct{ limits, bounds, others []Event }

func (h *history) add(e Event) {
	list := &h.others
	switch e.Kind {
	case LimitChanged:
		list = &h.limits
	case BoundsChanged:
		list = &h.bounds
	}
	if len(*list) == historySize {
		*list = slices.Delete(*list, 0, 1)
	}
	*list = append(*list, e)
}

// newest returns all of them, newest first.
func (h *history) newest() []Event {
	list := slices.Concat(h.limits, h.bounds, h.others)
	slices.SortStableFunc(list, func(a, b Event) int { return b.Time.Compare(a.Time) })
	return list
}
