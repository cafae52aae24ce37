package relay

import (
	"maps"
	"math"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// This file keeps the time of a connection, and ends it. Each connection has one timer for all of its calls.

// never is a time that does not come.
const never = time.Duration(math.MaxInt64)

// wakeSlack is how much earlier than asked a call may be woken with others.
const wakeSlack = time.Millisecond

// drainTime is how long a client has to answer the PING between the first GOAWAY and the last.
const drainTime = time.Second

// backendPing is how long a back-end may be silent while it has calls: shorter, and gRPC servers take offence at pings.
const backendPing = 5*time.Minute + 10*time.Second

func (c *conn) startClock() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dueLocked(c.born.Sub(epoch) + c.limits.HandshakeTime)
	c.timer = time.AfterFunc(c.limits.HandshakeTime, c.tick)
}

// dueLocked notes when the timer fires.
func (c *conn) dueLocked(at time.Duration) {
	c.due = at
	c.dueSoon.Store(int64(at))
}

// wakeBy sees to it that the timer fires no later than at.
func (c *conn) wakeBy(at time.Duration) {
	if int64(at) >= c.dueSoon.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at < c.due && !c.ended {
		c.dueLocked(at)
		c.timer.Reset(at - time.Since(epoch))
	}
}

// tick does all that is due.
func (c *conn) tick() {
	now := time.Since(epoch)
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.dueLocked(never) // First: who sets a time from here on is either seen below, or waits for the lock to set the timer.
	woken, next := c.wokenLocked(now)
	breach, late, due := c.lateLocked(now)
	next = min(next, due)
	c.dueLocked(next)
	if next != never {
		c.timer.Reset(max(next-now, wakeSlack))
	}
	c.mu.Unlock()
	if late {
		c.stats.breach(breach)
		c.expire(breach)
		return
	}
	at := epoch.Add(now)
	for _, call := range woken {
		if call.observer != nil && !call.ended.Load() {
			call.observer.Woken(at)
		}
	}
	c.settle()
}

// wokenLocked returns the calls that want to be woken now, and when the next one does.
func (c *conn) wokenLocked(now time.Duration) (woken []*Call, next time.Duration) {
	next = never
	if c.relay == nil {
		return nil, next
	}
	for _, p := range c.streams {
		switch at := time.Duration(p.call.wake.Load()); {
		case at == 0:
		case !p.call.detached.Load():
			next = min(next, now+wakeSlack) // It is being decided on at this moment.
		case at <= now+wakeSlack:
			p.call.wake.CompareAndSwap(int64(at), 0)
			woken = append(woken, p.call)
		default:
			next = min(next, at)
		}
	}
	return woken, next
}

// lateLocked tells whether the peer let a time pass, and else when the next one is due.
func (c *conn) lateLocked(now time.Duration) (b Breach, late bool, next time.Duration) {
	next = never
	check := func(at time.Duration, is Breach) {
		switch {
		case at <= now && !late:
			b, late = is, true
		default:
			next = min(next, at)
		}
	}
	if !c.greeted.Load() {
		check(c.born.Sub(epoch)+c.limits.HandshakeTime, SlowHandshake)
	}
	if at := c.partial.Load(); at != 0 {
		check(time.Duration(at)+c.limits.FrameTime, SlowFrame)
	}
	if c.relay != nil && c.idleSince != never && !c.away {
		check(c.idleSince+c.limits.IdleTime, Idle)
	}
	if c.drainAt != 0 {
		if c.drainAt > now {
			next = min(next, c.drainAt)
		} else {
			c.drainedLocked()
		}
	}
	if c.pingAt != 0 {
		check(c.pingAt+c.limits.PingTime, Silent)
	} else {
		next = min(next, c.pingLocked(now))
	}
	return b, late, next
}

// pingLocked asks for a sign of life if it is time to, and returns when it is to be looked at again.
func (c *conn) pingLocked(now time.Duration) time.Duration {
	after := c.limits.PingAfter
	if c.endpoint != nil {
		if after = max(after, backendPing); len(c.streams) == 0 {
			return now + after
		}
	}
	at := time.Duration(c.heard.Load()) + after
	if at > now || !c.greeted.Load() {
		return max(at, now+wakeSlack)
	}
	c.pingAt = now
	c.out.set(appendPing(c.out.open(), 0, alivePing))
	return now + c.limits.PingTime
}

// expire ends the connection because of a time that passed. A client without calls is told to come again.
func (c *conn) expire(b Breach) {
	if b == Idle {
		c.drain()
		return
	}
	code := http2.ErrCodeEnhanceYourCalm
	if b == SlowHandshake {
		code = http2.ErrCodeSettingsTimeout
	}
	c.goAway(code, b.String())
	c.mu.Lock()
	busy := c.writing
	c.hangUp = true
	c.mu.Unlock()
	if busy {
		time.AfterFunc(lingerTime, c.close) // If whoever writes has not come to the end by then.
		return
	}
	c.close()
}

// goAway appends a last GOAWAY and tries to send it.
func (c *conn) goAway(code http2.ErrCode, text string) {
	c.mu.Lock()
	if !c.ended && c.sealed == 0 {
		last := min(c.lastID, c.finalID) // An earlier GOAWAY may have let in fewer.
		if c.endpoint != nil {
			last = 0
		}
		c.away, c.finalID = true, 0
		c.out.set(appendGoAway(c.out.open(), last, code, text))
		c.sealed = c.out.len()
	}
	c.mu.Unlock()
	c.flush()
}

// condemn ends the connection because its peer broke the protocol or a bound.
func (c *conn) condemn(err *connError) {
	c.stats.breach(err.breach)
	c.mu.Lock()
	c.broken, c.lingering = err, true
	c.mu.Unlock()
	c.goAway(err.code, err.text)
}

// fail ends the connection because bytes can no longer be read or written.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.broken == nil {
		c.broken = err
	}
	c.mu.Unlock()
	c.close()
}

// partLocked tells whether the connection, on which all has been said, ends in good terms: then nothing more is written, and its client is
// to have the time to read the last.
func (c *conn) partLocked() bool {
	if !c.hangUp || c.relay == nil || c.sealed != 0 || c.lingering {
		return false
	}
	c.hangUp, c.sealed = false, -1
	return true
}

// close ends the connection; its reading goroutine does the rest.
func (c *conn) close() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	_ = c.wire.nc.Close() // It may be closed already.
}

// finish is the last of a connection's reading goroutine: it ends all calls.
func (c *conn) finish() {
	c.farewell()
	c.mu.Lock()
	linger := c.lingering && !c.ended
	c.ended = true
	ports := slices.Collect(maps.Values(c.streams))
	for _, p := range ports {
		c.closeLocked(p, false)
	}
	credits := c.creditsLocked()
	c.timer.Stop()
	if c.ackTimer != nil {
		c.ackTimer.Stop()
	}
	c.mu.Unlock()
	pay(credits)
	for _, p := range ports {
		c.bereave(p)
	}
	c.flushTouched()
	if c.onEnd != nil {
		c.onEnd()
	}
	if linger {
		c.wire.linger()
	}
	_ = c.wire.nc.Close()
	c.writers.Wait()
	c.input.release()
}

// farewell gives a little time to whoever is writing why the connection ends.
func (c *conn) farewell() {
	c.mu.Lock()
	busy := c.lingering && c.writing && !c.ended
	c.hangUp = c.hangUp || busy // The writer closes.
	c.mu.Unlock()
	if busy {
		c.wire.discard()
	}
}

// bereave ends a call whose connection is gone.
func (c *conn) bereave(p *port) {
	if c.relay != nil {
		c.abandon(p.call, http2.ErrCodeCancel, "the caller's connection ended")
		return
	}
	if p.gotEnd {
		p.call.quit(http2.ErrCodeNo) // It had its answer.
		c.touch(p.call.client)
		return
	}
	p.lost(End{Broken: true, Lost: true, Code: http2.ErrCodeInternal, Reason: "the connection to the back-end was lost"}, false, c)
}

// drain tells the client to go elsewhere. Calls that it has sent before it knows are taken.
func (c *conn) drain() {
	c.mu.Lock()
	switch {
	case !c.opened:
		c.mu.Unlock()
		c.close()
		return
	case !c.away && !c.ended:
		c.away = true
		b := appendGoAway(c.out.open(), maxID, http2.ErrCodeNo, "")
		c.out.set(appendPing(b, 0, drainPing))
		c.drainAt = time.Since(epoch) + drainTime
		if c.drainAt < c.due {
			c.dueLocked(c.drainAt)
			c.timer.Reset(drainTime)
		}
	}
	c.mu.Unlock()
	c.flush()
}

// drained tells the client which of its calls was the last that is taken.
func (c *conn) drained() {
	c.mu.Lock()
	c.drainedLocked()
	c.mu.Unlock()
}

func (c *conn) drainedLocked() {
	if c.drainAt == 0 || c.ended {
		return
	}
	c.drainAt = 0
	c.finalID = c.lastID
	c.out.set(appendGoAway(c.out.open(), c.finalID, http2.ErrCodeNo, ""))
	c.hangUp = len(c.streams) == 0
}
