package fragile

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
)

// The work that the calls cost, in units.
const (
	checkWeight     = 1.0
	recommendWeight = 5.0 // when the request does not say
	maxWeight       = 100.0
	messageWeight   = 0.25 // of one message of a stream
)

// The times between two messages of a stream: when the request does not say, and the least.
const (
	watchInterval    = time.Second
	minWatchInterval = 10 * time.Millisecond
)

// stock answers capguard.fragile.v1.StockService with the work of a model.
type stock struct {
	fragilev1.UnimplementedStockServiceServer
	model *Model
}

func (s *stock) Check(ctx context.Context, r *fragilev1.CheckRequest) (*fragilev1.CheckResponse, error) {
	if err := s.work(ctx, checkWeight); err != nil {
		return nil, err
	}
	return &fragilev1.CheckResponse{Sku: r.GetSku(), Quantity: quantity(r.GetSku())}, nil
}

func (s *stock) Recommend(ctx context.Context, r *fragilev1.RecommendRequest) (*fragilev1.RecommendResponse, error) {
	weight := cmp.Or(r.GetWeight(), recommendWeight)
	if !(weight > 0 && weight <= maxWeight) { // also refuses NaN
		return nil, status.Errorf(codes.InvalidArgument, "weight must be above 0 and at most %v, not %v", maxWeight, weight)
	}
	if err := s.work(ctx, weight); err != nil {
		return nil, err
	}
	return &fragilev1.RecommendResponse{Skus: []string{r.GetSku() + "-sleeve", r.GetSku() + "-lid"}}, nil
}

func (s *stock) Watch(r *fragilev1.WatchRequest, stream grpc.ServerStreamingServer[fragilev1.WatchResponse]) error {
	if r.GetMessages() < 0 {
		return status.Errorf(codes.InvalidArgument, "messages must not be negative, not %d", r.GetMessages())
	}
	interval := max(minWatchInterval, cmp.Or(r.GetInterval().AsDuration(), watchInterval))
	ctx := stream.Context()
	for n := int32(1); ; n++ {
		if err := s.work(ctx, messageWeight); err != nil {
			return err
		}
		if err := stream.Send(&fragilev1.WatchResponse{Sku: r.GetSku(), Quantity: quantity(r.GetSku())}); err != nil {
			return err
		}
		if n == r.GetMessages() {
			return nil
		}
		if err := s.idle(ctx, interval); err != nil {
			return err
		}
	}
}

// work has the model do weight units of work and puts its error into gRPC's words.
func (s *stock) work(ctx context.Context, weight float64) error {
	return Status(s.model.Do(ctx, weight))
}

// Status puts an error of Do into gRPC's words.
func Status(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrFull):
		return status.Error(codes.ResourceExhausted, "the stock system's queue is full")
	case errors.Is(err, ErrCrashed):
		return status.Error(codes.Unavailable, "the stock system has crashed")
	default:
		return status.FromContextError(err).Err()
	}
}

// idle waits between two messages; a crash ends the stream.
func (s *stock) idle(ctx context.Context, d time.Duration) error {
	_, changed := s.model.life()
	select {
	case <-time.After(d):
		return nil
	case <-changed:
		return status.Error(codes.Unavailable, "the stock system has crashed")
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// quantity is a number that looks like stock and is always the same for the same article.
func quantity(sku string) int32 {
	h := fnv.New32a()
	h.Write([]byte(sku))
	return int32(h.Sum32() % 100)
}
