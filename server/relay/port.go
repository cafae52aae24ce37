package relay

import "golang.org/x/net/http2"

// Windows of one stream, in bytes. They begin at the default of HTTP/2, so that streams that nobody reads hold little, and grow for those
// that are read as fast as they are filled.
const (
	firstWindow = 1<<16 - 1
	fullWindow  = 256 << 10
)

// port is one side of a call: its stream on one connection.
type port struct {
	call *Call
	conn *conn // set before the port can be found
	id   uint32

	// Guarded by conn.mu.
	gotEnd  bool // nothing more comes
	sentEnd bool // nothing more goes
	ending  bool // the end goes as soon as wait is empty
	closed  bool // both, or a reset; it is no longer found
	headed  bool // final headers have been sent, on the client's side, or been received, on the back-end's

	tail      []Field       // trailers, to go with the end
	quit      bool          // a reset follows the end
	quitCode  http2.ErrCode // of that reset
	send      int64         // window for what goes; negative after a SETTINGS that lowers it
	receive   int64         // window for what comes
	owed      int64         // what came, went on, and was not credited yet
	target    int64         // what the window is to be
	wait      output        // DATA that waits for a window or room
	waitFrom  int           // where it begins in wait
	queued    bool          // in conn.blocked
	gift      int           // so many bytes that go on were credited before
	remaining int64         // of the content-length; -1: not said
}

// down tells whether p is on the client's side of its call.
func (p *port) isDown() bool { return p == &p.call.down }

// waiting returns the DATA that waits.
func (p *port) waiting() []byte { return p.wait.bytes()[p.waitFrom:] }

func (p *port) hasWaiting() bool { return p.wait.len() > p.waitFrom }

// reset ends the stream from our side, at once.
func (p *port) reset(code http2.ErrCode) {
	c := p.conn
	if c == nil {
		return // It was never sent.
	}
	c.mu.Lock()
	c.resetLocked(p, code)
	c.mu.Unlock()
	c.settle()
}

// credit is bytes that have gone on, to be credited to who sent them.
type credit struct {
	p *port
	n int
}
