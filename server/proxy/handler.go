package proxy

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// anyStream describes every call: whether a method streams is known only to those who talk.
var anyStream = grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// handle is the handler of every call.
func (p *Proxy) handle(_ any, in grpc.ServerStream) (err error) {
	method, _ := grpc.MethodFromServerStream(in)
	if !utf8.ValidString(method) { // Traces and metrics take nothing but text; no method is named so.
		return status.Errorf(codes.Unimplemented, "malformed method name: %+q", method[:min(len(method), 256)])
	}
	b, unguarded := p.route(method)
	if b == nil {
		return p.noRoute(method).Err()
	}
	defer func() {
		if r := recover(); r != nil { // One call may fail; the others must not.
			b.log.ErrorContext(in.Context(), "call panicked", "method", method, "panic", r, "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "the guard failed on this call; please report this bug")
		}
	}()
	r := readRequest(in.Context())
	c := p.arrive(in.Context(), b, method, r.md)
	c.unguarded = unguarded
	defer c.leave()
	if refused, trailer := c.admit(r.md); refused != nil {
		in.SetTrailer(trailer)
		return refused.Err()
	}
	st, byCaller := p.forward(in, c, r)
	c.end(st, byCaller)
	return st.Err()
}

// errDrained ends what passed unguarded when the guard stops.
var errDrained = status.Error(codes.Unavailable, "the guard is shutting down; try again at once, elsewhere")

// forward moves the frames of a call until it ends, and returns how it ended, and whether somebody else than the back-end ended it.
func (p *Proxy) forward(in grpc.ServerStream, c *passage, r request) (st *status.Status, byCaller bool) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	if c.unguarded {
		defer context.AfterFunc(p.drained, func() { cancel(errDrained) })()
	}
	ctx, encoded := withEncoding(ctx)
	out, err := c.endpoint.connection(r.userAgent).NewStream(metadata.NewOutgoingContext(ctx, r.md), &anyStream, c.method, r.options...)
	if err != nil {
		return c.notSent(in, err)
	}
	fault := make(chan error, 1)
	go func() { // Ends with the call: both streams end when the handler returns.
		defer close(fault)
		if err := pumpRequests(in, out, c); err != nil {
			fault <- err
			cancel(err)
		}
	}()
	st, byCaller = pumpAnswers(in, out, c, encoded)
	if st.Code() != codes.Canceled {
		return st, byCaller
	}
	if context.Cause(ctx) == errDrained {
		return statusOf(errDrained), true
	}
	if ctx.Err() == nil {
		return st, byCaller
	}
	return c.canceled(st, fault)
}

// canceled returns what is behind the end of a call that was cancelled on this side of the back-end: a fault in its request, its deadline,
// or its caller.
//
// A deadline often looks like a cancellation: the caller's clock strikes first, and the caller resets the call. So what comes within a
// tenth of the call's time, 50 ms at most, before its deadline, is taken for the deadline. The back-end had the call, and was too slow.
func (c *passage) canceled(st *status.Status, fault <-chan error) (_ *status.Status, byCaller bool) {
	if err := <-fault; err != nil { // Both streams are over, and so is the pump.
		if own := statusOf(err); own.Code() != codes.Canceled && own.Code() != codes.DeadlineExceeded {
			return own, true
		}
	}
	if d := c.call.Deadline; !d.IsZero() && time.Until(d) <= min(d.Sub(c.began)/10, maxSlack) {
		return status.New(codes.DeadlineExceeded, "the deadline passed while the back-end had the call"), false
	}
	return st, true
}

// maxSlack is the most that a caller's clock is taken to strike before the guard's.
const maxSlack = 50 * time.Millisecond

// notSent returns the end of a call that did not get as far as the back-end.
func (c *passage) notSent(in grpc.ServerStream, err error) (*status.Status, bool) {
	if st := statusOf(err); st.Code() != codes.Unavailable || c.ctx.Err() != nil {
		return st, true
	}
	c.backend.log.DebugContext(c.ctx, "call not sent", "target", c.endpoint.target, "error", err)
	st, trailer := c.unreachable()
	in.SetTrailer(trailer)
	return st, c.byCaller
}

// pumpRequests moves the messages of the request until it is complete or the back-end wants no more; its error is that its caller is gone,
// or the fault in the request.
func pumpRequests(in grpc.ServerStream, out grpc.ClientStream, c *passage) error {
	for {
		var f frame
		switch err := in.RecvMsg(&f); {
		case errors.Is(err, io.EOF):
			c.halfClose()
			return out.CloseSend() // It never fails, by its contract.
		case err != nil:
			return err
		}
		c.request()
		err := out.SendMsg(&f)
		f.free()
		if err != nil {
			return nil // The answer says why.
		}
	}
}

// pumpAnswers moves the answer: headers at once, messages as they come, trailers at the end.
func pumpAnswers(in grpc.ServerStream, out grpc.ClientStream, c *passage, encoded <-chan string) (st *status.Status, byCaller bool) {
	header, _ := out.Header() // Its errors come again from RecvMsg; then, and for Trailers-Only, there is no header.
	if header != nil {
		c.answered()
		select {
		case e := <-encoded:
			answerEncoding(in.Context(), e)
		case <-out.Context().Done():
		}
		if err := in.SendHeader(forwarded(header)); err != nil {
			return statusOf(err), true
		}
	}
	for {
		var f frame
		if err := out.RecvMsg(&f); err != nil {
			in.SetTrailer(forwarded(out.Trailer()))
			return ending(err)
		}
		c.response()
		err := in.SendMsg(&f)
		f.free()
		if err != nil {
			return statusOf(err), true
		}
	}
}

// ending returns what the error that ended an answer means.
func ending(err error) (st *status.Status, byCaller bool) {
	if errors.Is(err, io.EOF) {
		return status.New(codes.OK, ""), false
	}
	st = statusOf(err)
	// Too large for the guard or for the back-end: it blames the message, not the load.
	return st, st.Code() == codes.ResourceExhausted && strings.Contains(st.Message(), "larger than max")
}

// statusOf returns the status of an error of grpc-go, which is one, or else not UNKNOWN: that would blame the back-end.
func statusOf(err error) *status.Status {
	if st, ok := status.FromError(err); ok {
		return st
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err)
	}
	return status.New(codes.Internal, err.Error())
}
