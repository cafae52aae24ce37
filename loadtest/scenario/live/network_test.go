package live

import (
	"errors"
	"net"
	"testing"
)

// TestADoorThatIsShut cuts off who is inside, turns newcomers away, and lets them in again afterwards.
func TestADoorThatIsShut(t *testing.T) {
	lis, err := loopback{}.listen(anyPort)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: lis}
	inside := make(chan net.Conn)
	go func() { // ends with the door
		for {
			c, err := d.Accept()
			if err != nil {
				close(inside)
				return
			}
			inside <- c
		}
	}()
	enter := func() net.Conn {
		c, err := loopback{}.dial(t.Context(), lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	first := enter()
	guest := <-inside
	d.sever()
	if _, err := guest.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("who was inside still is: %v", err)
	}
	for _, c := range []net.Conn{first, enter()} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection to a door that is shut still stands")
		}
	}
	d.mend()
	enter()
	if c := <-inside; c == nil {
		t.Error("nobody comes in any more")
	} else {
		_ = c.Close()
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	<-inside
}
