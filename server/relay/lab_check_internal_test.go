package relay

import (
	"errors"
	"fmt"
)

// Check tells what is wrong inside the relay: windows, queues and sums, whatever the peers have done. To be called between turns.
func (l *Lab) Check() error {
	var errs []error
	waiting := int64(0)
	for i, line := range l.Lines {
		c := line.c
		c.mu.Lock()
		if err := errors.Join(c.checkSums(), c.checkQueue()); err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", i, err))
		}
		for id, p := range c.streams {
			waiting += int64(len(p.waiting()))
			if err := c.checkPort(id, p); err != nil {
				errs = append(errs, fmt.Errorf("line %d, stream %d: %w", i, id, err))
			}
		}
		c.mu.Unlock()
		for _, p := range line.ports() {
			if err := p.checkCredit(); err != nil {
				errs = append(errs, fmt.Errorf("line %d, stream %d: %w", i, p.id, err))
			}
		}
	}
	if has := l.Relay.stats.WaitingBytes.Load(); has != waiting {
		errs = append(errs, fmt.Errorf("%d bytes wait, WaitingBytes is %d", waiting, has))
	}
	return errors.Join(errs...)
}

// Empty tells what is left of a relay of which every connection has ended.
func (l *Lab) Empty() error {
	for i, line := range l.Lines {
		if n := len(line.c.streams) + len(line.c.credits); n > 0 {
			return fmt.Errorf("line %d has %d streams and credits left", i, n)
		}
		if held := line.c.held; held != 0 && line.endpoint < 0 {
			return fmt.Errorf("line %d holds %d bytes at its end", i, held)
		}
	}
	for i, e := range l.Endpoints {
		if n := len(e.waiting); n > 0 {
			return fmt.Errorf("%d calls wait for endpoint %d", n, i)
		}
	}
	return l.Check()
}

func (l *Line) ports() (ports []*port) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	for _, p := range l.c.streams {
		ports = append(ports, p)
	}
	return ports
}

// checkSums checks what belongs to the connection as a whole.
func (c *conn) checkSums() error {
	window := int64(clientWindow)
	if c.endpoint != nil {
		window = backendWindow
	}
	switch {
	case c.broken != nil:
		return nil // The peer may have gone beyond its window.
	case c.receive < 0 || c.receive+c.owed != window:
		return fmt.Errorf("a window of %d and %d owed are not %d", c.receive, c.owed, window)
	case c.send < 0 || c.send > maxWindow:
		return fmt.Errorf("a window to send of %d", c.send)
	case c.held < 0:
		return fmt.Errorf("%d bytes held", c.held)
	case c.opened && !c.ended && !c.writing && c.sealed == 0 && c.out.len() > 0:
		return fmt.Errorf("%d bytes of output that nobody writes", c.out.len())
	case c.hangUp && !c.ended && !c.writing:
		return errors.New("a connection that was to end")
	}
	return nil
}

// checkQueue checks that who can go on is in line, once, and that the line moves.
func (c *conn) checkQueue() error {
	var in map[*port]bool
	if len(c.blocked) > 0 {
		in = map[*port]bool{}
	}
	for _, p := range c.blocked {
		if in[p] || !p.queued {
			return fmt.Errorf("stream %d is in line twice, or does not know of it", p.id)
		}
		in[p] = true
	}
	for id, p := range c.streams {
		if p.queued != in[p] {
			return fmt.Errorf("stream %d believes %t of being in line", id, p.queued)
		}
		if p.hasWaiting() && p.send > 0 && !p.queued {
			return fmt.Errorf("stream %d could go on and is not in line", id)
		}
		if p.queued && c.send > 0 && !c.writing && !c.ended && c.sealed == 0 && c.out.len() < softOutput {
			return fmt.Errorf("stream %d could go on and does not", id)
		}
	}
	return nil
}

// checkPort checks an open stream.
func (c *conn) checkPort(id uint32, p *port) error {
	switch {
	case p.id != id || p.conn != c || p.closed:
		return errors.New("a stream in the wrong place")
	case p.receive < 0 && c.broken == nil:
		return fmt.Errorf("a window of %d", p.receive)
	case p.receive > fullWindow || p.owed < 0 || p.gift < 0:
		return fmt.Errorf("a window of %d, %d owed and %d for nothing", p.receive, p.owed, p.gift)
	case p.send > maxWindow:
		return fmt.Errorf("a window to send of %d", p.send)
	case p.sentEnd && (p.hasWaiting() || p.ending):
		return errors.New("more to send after the end")
	case p.ending && !p.hasWaiting():
		return errors.New("an end that nothing holds up")
	case p.gotEnd && p.sentEnd:
		return errors.New("open after both ends")
	}
	return nil
}

// checkCredit checks that every byte of p's window is somewhere: open to the sender, owed to it, or of DATA under way to the other side.
func (p *port) checkCredit() error {
	call := p.call
	d := call.client
	d.mu.Lock()
	up, dead := call.up, call.dead
	early := len(call.early) - call.sent
	if call.linked || up == nil && !p.isDown() {
		early = 0
	}
	gift := call.credited
	if up == nil {
		early = len(call.early)
	}
	d.mu.Unlock()
	if dead || p.gotEnd || up != nil && up.conn == nil {
		return nil
	}
	q, under := &call.down, int64(0)
	if p.isDown() {
		under, q = int64(early), up
		if q == nil {
			under -= int64(gift)
		}
	} else if p != up {
		return nil
	}
	if q != nil {
		q.conn.mu.Lock()
		if q.closed || q.sentEnd || q.ending {
			q.conn.mu.Unlock()
			return nil
		}
		under += int64(len(q.waiting()))
		if p.isDown() {
			under -= int64(q.gift)
		}
		for _, cr := range q.conn.credits {
			if cr.p == q {
				under += int64(cr.n)
			}
		}
		q.conn.mu.Unlock()
	}
	if sum := p.receive + p.owed + under; sum != p.target && p.receive >= 0 {
		return fmt.Errorf("a window of %d, %d owed and %d under way are not %d", p.receive, p.owed, under, p.target)
	}
	return nil
}
