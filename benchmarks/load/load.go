// Package load calls the echo back-end, directly or through a rival, from a number of callers that each wait for an answer before they ask
// again, and tells how often and how fast they were answered.
//
// What this package does not do: it keeps no open load, whose callers do not wait (that is package loadtest), and it looks at the length of
// an answer only.
package load

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/capguard/capguard/benchmarks/raw"
	"github.com/capguard/capguard/loadtest"
)

// Kind is what callers do.
type Kind string

// The kinds of calls.
const (
	Unary    Kind = "unary"    // one message there, one back
	Chat     Kind = "chat"     // one long stream a caller, on which each message is answered before the next is sent
	Download Kind = "download" // one long answer a caller, of messages as fast as they come
	Refusal  Kind = "refusal"  // unary calls that must be refused
)

// Shape is what a load looks like.
type Shape struct {
	Kind    Kind
	Callers int
	Size    int // bytes of each message
}

// Endpoint is where callers connect to.
type Endpoint struct {
	Target string      // of gRPC
	TLS    *tls.Config // nil for plain text
}

// Round is when a load is measured.
type Round struct {
	Warm   time.Duration // before it
	Length time.Duration
	Grace  time.Duration                 // for the calls in flight, after it
	CPU    func() (time.Duration, error) // read at the begin and at the end
}

// Result is what a round measured.
type Result struct {
	Calls   int64 // for streams: messages, or pairs of messages if each was answered
	Took    time.Duration
	CPU     time.Duration
	Latency loadtest.Histogram // empty for downloads
}

// perConnection is how many callers share a connection.
const perConnection = 16

// errOver ends the callers of a round.
var errOver = errors.New("the round is over")

// Run loads an endpoint for a round. It ends early with the first error that a caller sees. A call that does not end when the round is over
// is an error too.
func Run(parent context.Context, e Endpoint, s Shape, r Round) (Result, error) {
	conns, err := e.connect((s.Callers + perConnection - 1) / perConnection)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	round, end := context.WithCancelCause(parent)
	calls, cut := context.WithCancel(parent)
	defer cut()
	var counting atomic.Bool
	var wg sync.WaitGroup
	failed := make(chan error, s.Callers)
	callers := make([]*caller, s.Callers)
	for i := range callers {
		callers[i] = &caller{conn: conns[i/perConnection], shape: s, message: raw.Message(s.Size), counting: &counting}
		wg.Go(func() {
			if err := callers[i].run(round, calls); err != nil {
				failed <- err
				end(err)
			}
		})
	}
	result, err := r.measure(round, &counting)
	end(errOver)
	defer time.AfterFunc(r.Grace, cut).Stop()
	wg.Wait()
	close(failed)
	if err := cmp.Or(<-failed, err); err != nil {
		return Result{}, err
	}
	for _, c := range callers {
		result.Calls += c.calls
		result.Latency.Merge(&c.latency)
	}
	return result, nil
}

// measure waits until the round is over, and lets callers count while it is on.
func (r Round) measure(ctx context.Context, counting *atomic.Bool) (Result, error) {
	if err := sleep(ctx, r.Warm); err != nil {
		return Result{}, err
	}
	before, err := r.CPU()
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	counting.Store(true)
	if err := sleep(ctx, r.Length); err != nil {
		return Result{}, err
	}
	counting.Store(false)
	took := time.Since(began)
	after, err := r.CPU()
	return Result{Took: took, CPU: after - before}, err
}

// sleep waits, but no longer than ctx lasts.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// connect returns so many connections, each with a socket of its own.
func (e Endpoint) connect(n int) (conns []*grpc.ClientConn, _ error) {
	creds := insecure.NewCredentials()
	if e.TLS != nil {
		creds = credentials.NewTLS(e.TLS)
	}
	for range n {
		conn, err := grpc.NewClient(e.Target, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(raw.Codec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)))
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", e.Target, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}
