package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer speaks HTTP/2 frame by frame, as a client or as a back-end: whatever it is told to, and nothing by itself. Its methods that
// write are for one goroutine.
type peer struct {
	net.Conn
	*http2.Framer
	in    *bufio.Reader
	out   *bufio.Writer
	block bytes.Buffer
	table *hpack.Encoder
	next  uint32 // stream of a client

	heard *heard
	ended chan struct{} // closed when nothing more is heard
}

// heard is what a peer was told.
type heard struct {
	mu      sync.Mutex
	frames  map[http2.FrameType]int
	resets  map[http2.ErrCode]int
	goAways map[http2.ErrCode]int
	answers map[string]int // by grpc-status
}

func newHeard() *heard {
	return &heard{
		frames: make(map[http2.FrameType]int), resets: make(map[http2.ErrCode]int), goAways: make(map[http2.ErrCode]int),
		answers: make(map[string]int),
	}
}

func newPeer(conn net.Conn) *peer {
	p := &peer{
		Conn: conn, in: bufio.NewReaderSize(conn, 64<<10), out: bufio.NewWriterSize(conn, 64<<10), next: 1,
		heard: newHeard(), ended: make(chan struct{}),
	}
	p.Framer = http2.NewFramer(p.out, p.in)
	p.Framer.AllowIllegalWrites = true
	p.table = hpack.NewEncoder(&p.block)
	return p
}

// join connects to the guard as a client that has shaken hands. It hears nothing unless listen runs.
func join(ctx context.Context, address string, settings ...http2.Setting) (*peer, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	p := newPeer(conn)
	_, err = p.out.WriteString(http2.ClientPreface)
	if err = errors.Join(err, p.WriteSettings(settings...), p.out.Flush()); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return p, nil
}

// listen hears what comes until the connection ends, and hands each frame to do, if there is one.
func (p *peer) listen(do func(http2.Frame)) {
	defer close(p.ended)
	p.SetReuseFrames()
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return
		}
		p.heard.add(f)
		if do != nil {
			do(f)
		}
	}
}

// listenAll hears what comes, and does nothing about it.
func (p *peer) listenAll() { p.listen(nil) }

func (h *heard) add(f http2.Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frames[f.Header().Type]++
	switch f := f.(type) {
	case *http2.RSTStreamFrame:
		h.resets[f.ErrCode]++
	case *http2.GoAwayFrame:
		h.goAways[f.ErrCode]++
	case *http2.MetaHeadersFrame:
		if f.StreamEnded() {
			for _, field := range f.RegularFields() {
				if field.Name == "grpc-status" {
					h.answers[field.Value]++
				}
			}
		}
	}
}

// String lists it.
func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("GOAWAY %v, RST_STREAM %v, status %v", h.goAways, h.resets, h.answers)
}

// left returns how often a GOAWAY with that code was heard.
func (h *heard) left(code http2.ErrCode) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.goAways[code]
}

// answered tells whether an answer with that status was heard.
func (h *heard) answered(code string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answers[code] > 0
}

// addAll adds what another one has heard.
func (h *heard) addAll(o *heard) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	addCounts(h.frames, o.frames)
	addCounts(h.resets, o.resets)
	addCounts(h.goAways, o.goAways)
	addCounts(h.answers, o.answers)
}

func addCounts[K comparable](to, from map[K]int) {
	for k, n := range from {
		to[k] += n
	}
}

// request begins a call and returns its stream; more are further fields, name and value in turn.
func (p *peer) request(method string, end bool, more ...string) (id uint32, err error) {
	id = p.next
	p.next += 2
	fields := append([]string{
		":method", "POST", ":scheme", "http", ":path", method, ":authority", "x", "content-type", "application/grpc", "te", "trailers",
	}, more...)
	return id, p.headers(id, end, fields...)
}

// headers sends a header list, name and value in turn.
func (p *peer) headers(id uint32, end bool, fields ...string) error {
	block := p.encode(fields...)
	for first := true; first || len(block) > 0; first = false {
		n := min(len(block), 16<<10)
		var err error
		if first {
			err = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:n], EndHeaders: n == len(block), EndStream: end})
		} else {
			err = p.WriteContinuation(id, n == len(block), block[:n])
		}
		if err != nil {
			return err
		}
		block = block[n:]
	}
	return nil
}

func (p *peer) encode(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.table.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // Into memory.
	}
	return p.block.Bytes()
}

// part ends the connection when the guard has ended it, or has had its chance to.
func (p *peer) part() {
	select {
	case <-p.ended:
	case <-time.After(time.Second):
	}
	_ = p.Close()
	<-p.ended
}
