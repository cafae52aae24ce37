package relay

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// These are the faults that a review found where no peer can be made to meet them at the right moment.

// Room came just while the only call in line was being found no room for. Nobody told who was looking, and the call waited for a second.
func TestRoomThatComesWhileACallIsBeingPlaced(t *testing.T) {
	l := NewLab(Limits{}.complete(), 1, nil)
	e := l.Endpoints[0]
	e.waiting = []waiting{{&port{}, time.Now().Add(waitTime)}}
	e.countLocked()
	e.asked.Store(1) // Somebody serves the line,
	if _, ok := e.nextWaiting(); !ok {
		t.Fatal("nobody in line")
	}
	e.serve() // and another has room.
	if n := e.asked.Load(); n != 2 {
		t.Errorf("%d want the line to be served, want 2", n)
	}
}

// A call set its time just while the timer of its connection was looking for the next one, and was never woken.
func TestWakeWhileTheTimerFires(t *testing.T) {
	l := NewLab(Limits{}.complete(), 1, nil)
	c := l.Client().c
	c.greeted.Store(true)
	last := &Call{client: c}
	for id := uint32(1); id < 500; id += 2 {
		call := &Call{client: c}
		if id == 1 {
			call = last
		}
		call.detached.Store(true)
		call.down = port{call: call, conn: c, id: id}
		c.streams[id] = &call.down
	}
	defer clear(c.streams)
	for range 20_000 {
		at := time.Since(epoch) + 10*time.Second
		c.dueLocked(0) // The timer has just fired.
		var ticking sync.WaitGroup
		ticking.Go(c.tick)
		last.Wake(epoch.Add(at))
		ticking.Wait()
		if due := c.dueSoon.Load(); due > int64(at) {
			t.Fatalf("the timer fires %v after the time that was asked for", time.Duration(due)-at)
		}
		last.Wake(time.Time{})
	}
}

// Streams that ended with DATA waiting were kept until the peer granted a window, which was up to the peer.
func TestEndedStreamsAreNotKept(t *testing.T) {
	l := NewLab(Limits{}.complete(), 1, nil)
	c := l.Client().c
	c.send = 0
	for id := uint32(1); id < 20_000; id += 2 {
		call := &Call{client: c}
		p := &call.down
		*p = port{call: call, conn: c, id: id, send: firstWindow}
		c.mu.Lock()
		c.streams[id] = p
		c.push(p, []byte("answer"), false)
		c.resetLocked(p, 0)
		c.mu.Unlock()
		c.settle()
	}
	if n := len(c.blocked); n > 10 {
		t.Errorf("%d streams that ended are kept", n)
	}
}

// Fields with a short value and a name of 60 KB were remembered, 64 in each direction of each connection.
func TestLongNamesAreNotRemembered(t *testing.T) {
	long := Field{Name: strings.Repeat("x", 60_000), Value: "1"}
	k, e := new(known), new(encoder)
	e.ready()
	for range 3 {
		if m := k.well(&long); m != "" {
			t.Fatal(m)
		}
		e.append(nil, &long, true)
		e.append(nil, &long, false)
		e.append(nil, &Field{Name: ":path", Value: long.Name}, true)
	}
	for i := range slots {
		if len(k[i].Name) > longKnown || len(e.known[i].name)+len(e.known[i].value) > longWritten {
			t.Error("a long field is remembered")
		}
	}
}

// Skip lets so many numbers of streams pass on each connection of e.
func (e *Endpoint) Skip(n uint32) {
	for _, c := range *e.conns.Load() {
		c.mu.Lock()
		c.nextID += n
		c.mu.Unlock()
	}
}

// A list may begin with a field that is too long to be remembered. The new size of the table comes before it all the same.
func TestTheNewSizeOfATableComesFirst(t *testing.T) {
	e := new(encoder)
	e.resize(100)
	long := Field{Name: "x", Value: strings.Repeat("y", 2*longWritten)}
	if b := e.append(nil, &long, true); b[0]&0xe0 != 0x20 {
		t.Errorf("the list begins with %x", b[:2])
	}
	if b := e.append(nil, &long, true); b[0]&0xe0 == 0x20 {
		t.Errorf("the size is said twice: %x", b[:2])
	}
}
