package queue

// The bounds of a trend. A hundred comers tell one in twenty lost from chance well enough, and are a quarter of a second of a back-end that
// serves four hundred. At nine tenths of its capacity a back-end with a line before it loses far less than one in fifty; at eleven tenths
// one in eleven.
const (
	trendLength = 100
	standFrom   = 0.05
	standUntil  = 0.02
)

// trend tells a line that stands from a burst: in a line that stands more than one in twenty of those who came of late were not served.
// In a burst the line may be as long, and last as long, but its waiters are served in time.
type trend struct {
	lost   float64 // share of the last comers that were not served for want of time or room
	stands bool
}

// came takes note of a comer, lose of one who was not served; both tell whether that has turned what the line is.
func (t *trend) came() (turned bool) {
	t.lost -= t.lost / trendLength
	return t.turn(t.stands && t.lost > standUntil)
}

func (t *trend) lose() (turned bool) {
	t.lost += 1.0 / trendLength
	return t.turn(t.stands || t.lost >= standFrom)
}

func (t *trend) turn(stands bool) (turned bool) {
	turned = t.stands != stands
	t.stands = stands
	return turned
}
