package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/benchmarks/raw"
	"github.com/capguard/capguard/loadtest"
)

// The features that calls name: guards have the first switched on and the second off. Other rivals pass the header through.
const (
	FeatureOn  = "on"
	FeatureOff = "off"
)

// deadline is what each unary call has, as those of a careful application.
const deadline = 20 * time.Second

// caller is one of those who call.
type caller struct {
	conn     *grpc.ClientConn
	shape    Shape
	message  mem.BufferSlice
	counting *atomic.Bool // whether the round is on

	calls   int64
	latency loadtest.Histogram
}

// run calls until the round is done; calls is the context of what it calls. Its error is that an answer was not the wanted one.
func (c *caller) run(round, calls context.Context) error {
	switch c.shape.Kind {
	case Unary:
		return c.repeat(round, calls, FeatureOn, codes.OK)
	case Refusal:
		return c.repeat(round, calls, FeatureOff, codes.FailedPrecondition)
	case Chat:
		return c.chat(round, calls)
	case Download:
		return c.download(round)
	}
	return fmt.Errorf("no such kind of call: %q", c.shape.Kind)
}

// count counts an answer to what was asked at began.
func (c *caller) count(began time.Time) {
	if c.counting.Load() {
		c.calls++
		c.latency.Record(time.Since(began))
	}
}

// repeat makes unary calls; the last one runs to its end when the round is done.
func (c *caller) repeat(round, calls context.Context, feature string, want codes.Code) error {
	base := metadata.AppendToOutgoingContext(calls, "capguard-feature", feature)
	for round.Err() == nil {
		began := time.Now()
		if err := c.unary(base, want); err != nil {
			return err
		}
		c.count(began)
	}
	return nil
}

func (c *caller) unary(base context.Context, want codes.Code) error {
	ctx, cancel := context.WithTimeout(base, deadline)
	defer cancel()
	var answer mem.BufferSlice
	if err := c.conn.Invoke(ctx, raw.Unary, &c.message, &answer); status.Code(err) != want {
		return fmt.Errorf("call: want %v, got: %w", want, err)
	}
	if want != codes.OK {
		return nil
	}
	return c.check(answer)
}

// check frees an answer of the right length.
func (c *caller) check(answer mem.BufferSlice) error {
	defer answer.Free()
	if n := answer.Len(); n != c.shape.Size {
		return fmt.Errorf("an answer has %d bytes instead of %d", n, c.shape.Size)
	}
	return nil
}

// open opens a stream.
func (c *caller) open(ctx context.Context, method string) (grpc.ClientStream, error) {
	desc := grpc.StreamDesc{ServerStreams: true, ClientStreams: method == raw.Chat}
	s, err := c.conn.NewStream(metadata.AppendToOutgoingContext(ctx, "capguard-feature", FeatureOn), &desc, method)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return s, nil
}

// chat sends messages on one stream, each when the one before was answered, and then ends the stream in peace.
func (c *caller) chat(round, calls context.Context) error {
	ctx, cancel := context.WithCancel(calls)
	defer cancel()
	s, err := c.open(ctx, raw.Chat)
	if err != nil {
		return err
	}
	for round.Err() == nil {
		began := time.Now()
		if err := s.SendMsg(&c.message); err != nil {
			return fmt.Errorf("send message: %w", err)
		}
		if err := c.receive(s); err != nil {
			return err
		}
		c.count(began)
	}
	if err := s.CloseSend(); err != nil {
		return fmt.Errorf("close stream: %w", err)
	}
	if err := s.RecvMsg(new(mem.BufferSlice)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("end stream: %w", err)
	}
	return nil
}

// download asks once, counts the messages of the answer, and cancels the call when the round is done.
func (c *caller) download(round context.Context) error {
	s, err := c.open(round, raw.Download)
	if err == nil {
		err = s.SendMsg(&c.message)
	}
	if err == nil {
		err = s.CloseSend()
	}
	for err == nil {
		if err = c.receive(s); err == nil && c.counting.Load() {
			c.calls++
		}
	}
	if round.Err() != nil {
		return nil
	}
	return err
}

func (c *caller) receive(s grpc.ClientStream) error {
	var answer mem.BufferSlice
	if err := s.RecvMsg(&answer); err != nil {
		return fmt.Errorf("receive message: %w", err)
	}
	return c.check(answer)
}
