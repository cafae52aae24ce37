package relay_test

import (
	"errors"
	"time"

	"github.com/capguard/capguard/server/relay"
)

// dealing is the hook's side of one call: what is decided is in the path, so that it can be seen in the script.
type dealing struct {
	game     *game
	call     *relay.Call
	policy   byte
	tag      string
	detached bool
	ended    int
	answered bool
	unsent   int
}

// What a policy says, in the path of the request.
const (
	toSecond = 1 << iota // forward to the second endpoint
	answers              // do not forward
	detaches             // decide when the script says so
	again                // forward elsewhere what was not sent
	consoles             // answer what was broken off
	wakes
)

func (g *game) decide(c *relay.Call) {
	d := &dealing{game: g, call: c}
	if p := c.Path(); len(p) > 1 {
		d.policy = p[1] - '@'
	}
	for _, f := range c.Fields() {
		if f.Name == "x-tag" {
			d.tag = f.Value
		}
	}
	g.dealings = append(g.dealings, d)
	c.Observe(d)
	if d.policy&wakes != 0 {
		c.Wake(time.Now())
	}
	switch {
	case d.policy&detaches != 0:
		d.detached = true
		c.Detach()
	case d.policy&answers != 0:
		d.answer()
	default:
		d.forward()
	}
}

func (d *dealing) forward() {
	n := 0
	if d.policy&toSecond != 0 {
		n = 1
	}
	d.call.Forward(d.game.lab.Endpoints[(n+d.unsent)%2])
}

func (d *dealing) answer() {
	d.answered = true
	d.call.Answer([]relay.Field{
		{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"},
		{Name: "grpc-status", Value: "9"}, {Name: "x-hook", Value: d.tag},
	})
}

// Progress is one of the methods of relay.Observer.
func (d *dealing) Progress(relay.Progress) { d.alive("Progress") }

// Woken is one of them too.
func (d *dealing) Woken(time.Time) { d.alive("Woken") }

func (d *dealing) alive(what string) {
	if d.ended > 0 || d.answered {
		d.game.fail("%s of call %s after its end", what, d.tag)
	}
}

// Unsent forwards the call elsewhere, twice at most.
func (d *dealing) Unsent(err error) {
	d.alive("Unsent")
	if d.unsent++; d.policy&again != 0 && d.unsent < 3 {
		d.forward()
		return
	}
	if _, ok := errors.AsType[*relay.UnsentError](err); !ok {
		d.game.fail("unsent because of %v", err)
	}
	d.answer()
}

// Ended is to come once.
func (d *dealing) Ended(e relay.End) {
	d.alive("Ended")
	if d.ended++; e.Broken && d.policy&consoles != 0 {
		d.answer()
	}
}
