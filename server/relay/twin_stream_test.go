package relay_test

import (
	"fmt"

	"golang.org/x/net/http2"
)

// stream is what the twin knows of one stream.
type stream struct {
	opened bool // by the HEADERS of whichever side is the client

	used, given     int // bytes of DATA from the relay, and what the peer granted beyond the first window
	filled, granted int // the same the other way

	ended, reset    bool // by the relay
	endedAt, undone int  // by the peer's END_STREAM or RST_STREAM, as counted in twin.sent; 0 is not
	provoked        bool // the peer sent something although the stream was over for it

	msg message // of the relay
	ask string  // the request's method
}

// done tells whether the stream is closed, as the peer sees it.
func (s *stream) done() bool { return s.reset || s.undone > 0 || s.ended && s.endedAt > 0 }

// answered tells whether the relay, as a server, has done something with the stream.
func (s *stream) answered() bool { return s.msg.begun || s.used > 0 || s.ended }

// learnStream keeps in mind what a frame of the peer means for its stream.
func (w *twin) learnStream(f frame) {
	s := w.touched(f.id)
	if s.endedAt > 0 || s.undone > 0 || s.reset {
		s.provoked = true
	}
	switch f.kind {
	case http2.FrameHeaders:
		if !w.client && !s.opened {
			s.opened, w.highest = true, max(w.highest, f.id)
		}
	case http2.FrameData:
		s.filled += len(f.payload)
	case http2.FrameWindowUpdate:
		s.given += int(f.number(0))
	case http2.FrameRSTStream:
		if s.undone == 0 {
			s.undone = w.sent
		}
	}
	if f.ends() && s.endedAt == 0 {
		s.endedAt = w.sent
	}
	w.learnMethod(s, f)
}

func (w *twin) touched(id uint32) *stream {
	if w.streams[id] == nil {
		w.streams[id] = &stream{msg: message{length: -1}}
	}
	return w.streams[id]
}

// learnMethod reads the request of the peer: its method decides what the answer may hold. What cannot be read is a POST.
func (w *twin) learnMethod(s *stream, f frame) {
	switch f.kind {
	case http2.FrameHeaders:
		p, _ := f.content()
		w.ours = &block{f, p}
	case http2.FrameContinuation:
		if w.ours == nil {
			return
		}
		w.ours.bytes = append(w.ours.bytes, f.payload...)
	default:
		return
	}
	if !f.has(flagEndHeaders) {
		return
	}
	fields, _ := w.reader.DecodeFull(w.ours.bytes)
	w.ours = nil
	for _, v := range fields {
		if v.Name == ":method" && !w.client && s.ask == "" {
			s.ask = v.Value
		}
	}
}

// usable returns the stream of a frame of the relay, having checked that such a frame may be sent on it.
func (w *twin) usable(f frame) *stream {
	s, why := w.streams[f.id], ""
	switch {
	case (s == nil || !s.opened) && f.id > w.highest:
		why = "on an idle stream"
	case s == nil || !s.opened && f.kind != http2.FrameRSTStream:
		why = "on a stream that was passed over"
	case f.kind == http2.FrameRSTStream && s.provoked:
	case s.reset:
		why = "after the relay's own RST_STREAM"
	case s.ended && f.kind != http2.FrameWindowUpdate && f.kind != http2.FrameRSTStream:
		why = "after the relay's own END_STREAM"
	case w.knows(s.undone):
		why = "although the relay has read our RST_STREAM"
	case s.ended && w.knows(s.endedAt):
		why = "on a closed stream"
	case w.parting && !w.client && f.id > w.lastID && (f.kind == http2.FrameHeaders || f.kind == http2.FrameData):
		why = fmt.Sprintf("beyond the last stream of the relay's GOAWAY, %d", w.lastID)
	}
	if why != "" {
		w.breach("%v %s", f, why)
	}
	return s
}

// knows tells whether the relay has certainly read the peer's frame of that count.
func (w *twin) knows(at int) bool { return at > 0 && at <= w.seen }

// open lets the relay, as a client, open a stream by HEADERS.
func (w *twin) open(f frame) {
	if f.id%2 == 0 {
		w.breach("%v: a client's streams are odd", f)
	}
	if f.id < w.highest {
		w.breach("%v: stream %d was opened before", f, w.highest)
	}
	if w.knows(w.goneAt) {
		w.breach("%v opens a stream although the relay has read our GOAWAY", f)
	}
	w.touched(f.id).opened = true
	w.highest = max(w.highest, f.id)
	if n, most := w.running(), w.most(http2.SettingMaxConcurrentStreams); n > most {
		w.breach("%v is one of %d streams, %d are allowed", f, n, most)
	}
}

// running counts the streams that are open. The relay may know of fewer ends than the peer, never of more.
func (w *twin) running() (n int) {
	for _, s := range w.streams {
		if s.opened && !s.done() {
			n++
		}
	}
	return n
}

func (w *twin) checkData(e *event) {
	w.connUsed += len(e.payload)
	if most := firstWindow + w.connGiven; len(e.payload) > 0 && w.connUsed > most {
		w.breach("%v: %d bytes on the connection, its window allows %d", e.frame, w.connUsed, most)
	}
	var wrong string
	if e.data, wrong = e.content(); wrong != "" {
		w.breach("%v %s", e.frame, wrong)
	}
	s := w.usable(e.frame)
	if s == nil {
		return
	}
	s.used += len(e.payload)
	if most := w.most(http2.SettingInitialWindowSize) + s.given; len(e.payload) > 0 && s.used > most {
		w.breach("%v: %d bytes on the stream, its window allows %d", e.frame, s.used, most)
	}
	w.checkBody(s, e)
	s.ended = s.ended || e.ends()
}

func (w *twin) checkReset(f frame) {
	if s := w.usable(f); s != nil {
		s.reset, s.provoked = true, false
	}
}

// checkShape checks what can be said of a frame without knowing its connection, and tells whether it can be understood.
func (w *twin) checkShape(f frame) bool {
	if most := w.most(http2.SettingMaxFrameSize); len(f.payload) > most {
		w.breach("%v is larger than %d", f, most)
	}
	if f.reserved {
		w.breach("%v has the reserved bit set", f)
	}
	shape, known := shapes[f.kind]
	if !known {
		w.breach("%v is of a kind that only extensions know", f)
		return false
	}
	if extra := f.flags &^ shape.flags; extra != 0 {
		w.breach("%v has undefined flags %#x", f, extra)
	}
	if shape.stream != (f.id != 0) && f.kind != http2.FrameWindowUpdate {
		w.breach("%v has the wrong stream", f)
		return false
	}
	if !shape.fits(f) {
		w.breach("%v has the wrong size", f)
		return false
	}
	if f.kind == http2.FramePriority && f.number(0) == f.id {
		w.breach("%v depends on itself", f)
	}
	return true
}

// shape is what the frames of one kind look like.
type shape struct {
	stream    bool // it belongs to a stream
	flags     http2.Flags
	min, unit int // its size is min, or more if unit is not 0: by multiples of it
}

func (s shape) fits(f frame) bool {
	n := len(f.payload)
	if f.kind == http2.FrameSettings && f.acks() {
		return n == 0
	}
	return n == s.min || s.unit > 0 && n > s.min && (n-s.min)%s.unit == 0
}

// shapes has no PUSH_PROMISE: the relay never pushes.
var shapes = map[http2.FrameType]shape{
	http2.FrameData:         {stream: true, flags: flagEndStream | flagPadded, unit: 1},
	http2.FrameHeaders:      {stream: true, flags: flagEndStream | flagEndHeaders | flagPadded | flagPriority, unit: 1},
	http2.FrameContinuation: {stream: true, flags: flagEndHeaders, unit: 1},
	http2.FramePriority:     {stream: true, min: 5},
	http2.FrameRSTStream:    {stream: true, min: 4},
	http2.FrameWindowUpdate: {min: 4},
	http2.FrameSettings:     {flags: flagAck, unit: 6},
	http2.FramePing:         {flags: flagAck, min: 8},
	http2.FrameGoAway:       {min: 8, unit: 1},
}
