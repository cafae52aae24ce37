package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// script is what the caller and the back-end of one call are to do.
//
// Everything in it happens at a whole millisecond, but for the caller's cancellation and its deadline, which come in the middle of one:
// since time in a bubble goes on only when everybody waits, what a caller and a back-end see does not depend on who of them runs first.
type script struct {
	desc     grpc.StreamDesc
	md       metadata.MD
	options  []grpc.CallOption
	asks     []ask
	open     bool          // the caller does not half-close
	cancel   time.Duration // when the caller cancels the call; 0 is never
	deadline time.Duration // 0 is none
	answers  []answer
}

// ask is a message of the caller, after a pause.
type ask struct {
	pause   time.Duration
	message []byte
}

// answer is one thing that the back-end does, after a pause. Its error, if it has one, ends the call.
type answer struct {
	pause time.Duration
	do    func(s grpc.ServerStream) error
}

// dice makes choices out of bytes: random ones, or those of a fuzzer. Where they end, the choice is always the first.
type dice struct{ bytes io.Reader }

// n returns a number below limit, which is at most 65,536.
func (d dice) n(limit int) int {
	var b [2]byte
	_, _ = io.ReadFull(d.bytes, b[:]) // What is missing is 0.
	return (int(b[0]) | int(b[1])<<8) % limit
}

// one tells whether what happens once in n times happens.
func (d dice) one(n int) bool { return d.n(n) == n-1 }

func (d dice) pause() time.Duration {
	if d.one(2) {
		return time.Duration(d.n(10)) * time.Millisecond
	}
	return 0
}

func (d dice) script() script {
	kind := d.n(4)
	s := script{desc: grpc.StreamDesc{ClientStreams: kind&1 != 0, ServerStreams: kind&2 != 0}, md: d.metadata()}
	if d.one(3) {
		s.options = append(s.options, grpc.UseCompressor(gzip.Name))
	}
	if d.one(4) {
		s.options = append(s.options, grpc.CallContentSubtype("proto"))
	}
	asks := 1 // A call that does not stream its request has exactly one message.
	if s.desc.ClientStreams {
		asks = d.n(8)
	}
	for range asks {
		s.asks = append(s.asks, ask{d.pause(), d.message()})
	}
	cut := time.Duration(d.n(60))*time.Millisecond + time.Millisecond/2
	switch d.n(4) {
	case 2:
		s.cancel, s.open = cut, d.one(2)
	case 3:
		s.deadline, s.open = cut, d.one(2)
	}
	s.answers = d.answers(s.desc.ServerStreams)
	return s
}

// message returns the bytes of a message: mostly few, at most 100 KiB and a little, and some of them easy to compress.
func (d dice) message() []byte {
	size := [...]int{0, d.n(200), d.n(20_000), d.n(101) << 10}[d.n(4)]
	if d.one(2) {
		return bytes.Repeat([]byte{byte(d.n(256))}, size)
	}
	return random(size, d.n(1<<16))
}

func random(size, seed int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b) // It never fails.
	return b
}

// keys are names of metadata that a proxy could take for its own, beside others.
var keys = [...]string{"plain", "data-bin", "x-trace-bin", "cookie", "authorization", "traceparent", "tracestate", "baggage", "via",
	"forwarded", "capguard-feature", "capguard-priority", "capguard-tenant", "grpc-trace-bin", "grpc-tags-bin", "date", "server", "x_y.z-1",
	"accept"}

func (d dice) metadata() metadata.MD {
	md := metadata.MD{}
	for range d.n(6) {
		key := keys[d.n(len(keys))]
		for range 1 + d.n(3) {
			md.Append(key, d.value(strings.HasSuffix(key, "-bin")))
		}
	}
	return md
}

// value returns a value of metadata, without space around it. Here the guard is stricter than grpc-go: a request with such a value is
// malformed (RFC 9113, section 8.2.1), and of an answer the relay takes the space off.
func (d dice) value(binary bool) string {
	b := random(d.n(64), d.n(1<<16))
	if binary {
		return string(b)
	}
	for i := range b {
		b[i] = ' ' + b[i]%('~'-' '+1)
	}
	return strings.TrimSpace(string(b))
}

// pieces are what messages of a status are made of.
var pieces = [...]string{"", "no such item", "naïve", "日本", "%", "%41", "\n", "\r", " ", "\t", "\x00", "\xff", "\x7f", "😀",
	strings.Repeat("long ", 300)}

func (d dice) status() error {
	if d.one(3) {
		return nil
	}
	code := codes.Code(d.n(18))
	if code == 17 {
		code = 42 // Nobody knows it, and it passes nevertheless.
	}
	var message strings.Builder
	for range d.n(5) {
		message.WriteString(pieces[d.n(len(pieces))])
	}
	st := status.New(code, message.String())
	if !utf8.ValidString(message.String()) {
		return st.Err() // With details it could not be written.
	}
	for range d.n(3) {
		long := map[string]string{"k": strings.Repeat("v", d.n(400))}
		detail := &errdetails.ErrorInfo{Reason: "R", Domain: "d", Metadata: long}
		if more, err := st.WithDetails(detail); err == nil { // It fails for OK.
			st = more
		}
	}
	return st.Err()
}

func (d dice) answers(streams bool) (as []answer) {
	if e := [...]string{"", gzip.Name, "identity"}[d.n(3)]; e != "" {
		as = append(as, answer{0, func(s grpc.ServerStream) error { return grpc.SetSendCompressor(s.Context(), e) }})
	}
	messages := 0
	for range d.n(12) {
		a := answer{pause: d.pause()}
		switch d.n(8) {
		case 0, 1, 2:
			a.do = receive
		case 3, 4:
			if messages++; messages > 1 && !streams {
				continue
			}
			a.do = send(d.message())
		case 5:
			a.do = head(d.metadata(), d.one(2))
		case 6:
			a.do = tail(d.metadata())
		case 7:
			a.do = receiveAll
		}
		as = append(as, a)
	}
	if !streams && messages == 0 && !d.one(3) { // Without it a unary call that says OK breaks the contract.
		as = append(as, answer{d.pause(), send(d.message())})
	}
	end := d.status()
	return append(as, answer{d.pause(), func(grpc.ServerStream) error { return end }})
}

// receive takes the next message, if there is one.
func receive(s grpc.ServerStream) error {
	if err := s.RecvMsg(&wrapperspb.BytesValue{}); !errors.Is(err, io.EOF) {
		return err
	}
	storyOf(s.Context()).tell("half-close")
	return nil
}

// receiveAll takes what comes until the half-close.
func receiveAll(s grpc.ServerStream) error {
	for {
		switch err := s.RecvMsg(&wrapperspb.BytesValue{}); {
		case errors.Is(err, io.EOF):
			storyOf(s.Context()).tell("half-close")
			return nil
		case err != nil:
			return err
		}
	}
}

func send(message []byte) func(grpc.ServerStream) error {
	return func(s grpc.ServerStream) error { return s.SendMsg(wrapperspb.Bytes(message)) }
}

// head sets headers, or sends them at once; if they are out already, nothing happens.
func head(md metadata.MD, now bool) func(grpc.ServerStream) error {
	return func(s grpc.ServerStream) error {
		if now {
			_ = s.SendHeader(md)
			return nil
		}
		_ = s.SetHeader(md)
		return nil
	}
}

func tail(md metadata.MD) func(grpc.ServerStream) error {
	return func(s grpc.ServerStream) error {
		s.SetTrailer(md)
		return nil
	}
}
