package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// wire moves the bytes of one connection. One goroutine may read and one may write at a time.
//
// On a socket a write takes what the socket has room for and never waits, so that whoever has something to send can do so in place. TLS stands
// between frames and socket without changing that: what it encrypts goes to a tape first.
type wire struct {
	nc  net.Conn
	raw syscall.RawConn // nil if the connection is not a socket
	tls *tls.Conn       // nil without TLS
	tap *tape

	// Of the reader.
	tryRead func(fd uintptr) bool
	in      *input
	got     int
	readErr error
	small   []byte // for connections that are not sockets
	more    bool   // the last read filled its buffer

	// Of the writer.
	tryWrite func(fd uintptr) bool
	out      []byte
	writeErr error
}

func newWire(nc net.Conn) *wire {
	w := &wire{nc: nc}
	w.tryRead, w.tryWrite = w.readSocket, w.writeSocket
	if s, ok := nc.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	return w
}

// serverTLS returns c for HTTP/2 alone.
func serverTLS(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.NextProtos = []string{"h2"}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	c.DynamicRecordSizingDisabled = true // Batches are written whole; small records only cost.
	return c
}

// secure does the handshake. make is tls.Server or tls.Client.
func (w *wire) secure(ctx context.Context, c *tls.Config, side func(net.Conn, *tls.Config) *tls.Conn) error {
	w.tap = &tape{Conn: w.nc, through: true}
	w.tls = side(w.tap, c)
	if err := w.tls.HandshakeContext(ctx); err != nil {
		return err
	}
	if p := w.tls.ConnectionState().NegotiatedProtocol; p != "h2" {
		return errors.New("the peer does not speak HTTP/2 over TLS: ALPN did not choose h2")
	}
	w.tap.record()
	return nil
}

// tape is the connection below TLS: after the handshake it keeps what TLS writes until the writer takes it.
type tape struct {
	net.Conn
	mu      sync.Mutex // TLS answers key updates from the goroutine that reads
	through bool
	pending []byte
	spare   []byte // what was taken last, to be written over after the next take
}

func (t *tape) record() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.through = false
}

// Write keeps b, or passes it on during the handshake.
func (t *tape) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.through {
		return t.Conn.Write(b)
	}
	t.pending = append(t.pending, b...)
	return len(b), nil
}

// take returns what was written, valid until the next take.
func (t *tape) take() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending, t.spare = t.spare[:0], t.pending
	return t.spare
}

// read waits for something to be there and reads it into in.
func (w *wire) read(in *input) error {
	if w.raw != nil && w.tls == nil {
		w.in, w.got, w.readErr = in, 0, nil
		if err := w.raw.Read(w.tryRead); err != nil {
			return err
		}
		in.w += w.got
		return w.readErr
	}
	return w.readPlain(in)
}

// readSocket is called by the runtime when the socket may have something; false waits on. While it waits, no buffer is held.
func (w *wire) readSocket(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), w.in.space())
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if w.in.w == 0 {
				w.in.release()
			}
			return false
		case err != nil:
			w.readErr = err
		case n == 0:
			w.readErr = io.EOF
		default:
			w.got = n
		}
		return true
	}
}

// readPlain reads through package net or TLS, whose Read needs its buffer while it waits: a small one, unless there is more to come.
func (w *wire) readPlain(in *input) error {
	var reader io.Reader = w.nc
	if w.tls != nil {
		reader = w.tls
	}
	if in.buf != nil || w.more {
		p := in.space()
		n, err := reader.Read(p)
		in.w += n
		w.more = n >= smallInput
		return eofOnly(n, err)
	}
	if w.small == nil {
		w.small = make([]byte, smallInput)
	}
	n, err := reader.Read(w.small)
	if n > 0 {
		in.w += copy(in.space(), w.small[:n])
	}
	w.more = n == len(w.small)
	return eofOnly(n, err)
}

// eofOnly leaves an error that came with data for the next read.
func eofOnly(n int, err error) error {
	if n > 0 {
		return nil
	}
	return err
}

// send writes what the socket takes at once and returns the rest, which is valid until the next send.
func (w *wire) send(b []byte) (rest []byte, err error) {
	if w.tls != nil {
		if _, err := w.tls.Write(b); err != nil {
			return nil, err
		}
		b = w.tap.take()
	}
	if w.raw == nil {
		return b, nil
	}
	w.out, w.writeErr = b, nil
	err = w.raw.Write(w.tryWrite)
	rest, w.out = w.out, nil
	return rest, errors.Join(err, w.writeErr)
}

// writeSocket writes without waiting: true says that there is no need to.
func (w *wire) writeSocket(fd uintptr) bool {
	for len(w.out) > 0 {
		n, err := syscall.Write(int(fd), w.out)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			w.writeErr = err
			return true
		default:
			w.out = w.out[n:]
		}
	}
	return true
}

// finish writes b, and waits for the peer to take some of it for at most patience at a time.
func (w *wire) finish(b []byte, patience time.Duration) error {
	for len(b) > 0 {
		if err := w.nc.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := w.nc.Write(b[:min(len(b), 64<<10)])
		if b = b[n:]; err != nil && (n == 0 || !isTimeout(err)) {
			return err
		}
	}
	return w.nc.SetWriteDeadline(time.Time{})
}

// part ends what is sent, and leaves the end to the peer, or to the reader when partTime has passed. A socket that is closed drops what is
// still on its way as soon as anything comes, and from a client that reads something does: WINDOW_UPDATE. It returns false if that is not
// to be had.
func (w *wire) part() bool {
	half, ok := w.nc.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil && w.nc.SetReadDeadline(time.Now().Add(partTime)) == nil
}

// linger lets the peer read what was sent last: a socket that is closed while there is something unread in it drops what it has sent.
func (w *wire) linger() {
	half, ok := w.nc.(interface{ CloseWrite() error })
	if ok && half.CloseWrite() == nil {
		w.discard()
	}
}

// discard reads what nobody wants, for a while or until the connection is closed.
func (w *wire) discard() {
	if w.nc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	buf := inputs.Get().(*[inputBytes]byte)
	defer inputs.Put(buf)
	for range lingerReads {
		if _, err := w.nc.Read(buf[:]); err != nil {
			return
		}
	}
}

// How long, and for how many reads, the end of a connection waits for the peer to end it too.
const (
	lingerTime  = 500 * time.Millisecond
	lingerReads = 64
	partTime    = 5 * time.Second // for a client that broke nothing
)
