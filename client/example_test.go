package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/client"
)

// These two stand for a message that protoc generates.
type (
	Customer = wrapperspb.StringValue
	Books    = wrapperspb.StringValue
)

// Shop stands for a client that protoc generates: NewShopClient(guard).
type Shop struct{ conn grpc.ClientConnInterface }

// Recommend asks the fragile back-end.
func (s Shop) Recommend(ctx context.Context, in *Customer, opts ...grpc.CallOption) (*Books, error) {
	out := new(Books)
	return out, s.conn.Invoke(ctx, "/shop.Shop/Recommend", in, out, opts...)
}

// bestsellers is what the page shows without the back-end.
func bestsellers(_ context.Context, _ *Customer, cause error) (*Books, error) {
	if r, ok := client.Rejected(cause); ok {
		fmt.Println("fallback:", r.Reason)
	}
	return wrapperspb.String("the bestsellers"), nil
}

// Everything at once: dial through the guard, name the feature, say what happens without it.
func Example() {
	site := newSite() // The guard and the back-end, in memory.
	defer site.close()
	ctx := context.Background()

	guard, err := client.Dial("127.0.0.1:7070", client.WithAdmin("127.0.0.1:7071"), client.WithDialer(site.dial))
	if err != nil {
		panic(err)
	}
	defer guard.Close()
	shop := Shop{guard}
	recs := guard.Feature("recs")
	recommend := client.Fallback(recs, shop.Recommend, bestsellers)

	books, err := recommend(ctx, wrapperspb.String("ann"))
	fmt.Println(books.GetValue(), err)

	site.disable("recs", "INC-4821") // The operator's command.

	books, err = recommend(ctx, wrapperspb.String("ann"))
	fmt.Println(books.GetValue(), err)
	// Output:
	// books for ann <nil>
	// fallback: FEATURE_OFF
	// the bestsellers <nil>
}

// Work that does not go through the guard asks the handle: a nanosecond, no network.
func ExampleFeature_On() {
	site := newSite()
	defer site.close()
	guard, _ := client.Dial("127.0.0.1:7070", client.WithAdmin("127.0.0.1:7071"), client.WithDialer(site.dial))
	defer guard.Close()

	recs := guard.Feature("recs") // Make it once and keep it.
	fmt.Println("show the recommendations:", recs.On())
	// Output:
	// show the recommendations: true
}

// Calls of any kind, streams too, belong to a feature once they are tagged; the guard decides on them.
func ExampleFeature_Tag() {
	site := newSite()
	defer site.close()
	guard, _ := client.Dial("127.0.0.1:7070", client.WithDialer(site.dial))
	defer guard.Close()
	shop, recs := Shop{guard}, guard.Feature("recs")

	books, err := shop.Recommend(recs.Tag(context.Background()), wrapperspb.String("ann"))
	fmt.Println(books.GetValue(), err)
	// Output:
	// books for ann <nil>
}

// A refusal says why, for whom, and when it is worth trying again.
func ExampleRejected() {
	site := newSite()
	defer site.close()
	site.disable("recs", "INC-4821")
	guard, _ := client.Dial("127.0.0.1:7070", client.WithDialer(site.dial))
	defer guard.Close()
	shop, recs := Shop{guard}, guard.Feature("recs")

	_, err := shop.Recommend(recs.Tag(context.Background()), wrapperspb.String("ann"))
	if r, ok := client.Rejected(err); ok {
		fmt.Println(r.Reason, "because", r.Metadata["why"])
		fmt.Println("worth trying again:", r.RetryAfter >= 0)
	}
	fmt.Println("off:", errors.Is(err, client.FeatureOff))
	// Output:
	// FEATURE_OFF because INC-4821
	// worth trying again: false
	// off: true
}

// Without its guard a program goes on: calls fail at once, flags keep their last values.
func ExampleUnreachableError() {
	site := newSite()
	site.close() // The guard is dead.
	guard, _ := client.Dial("127.0.0.1:7070", client.WithDialer(site.dial))
	defer guard.Close()
	shop := Shop{guard}

	_, err := shop.Recommend(context.Background(), wrapperspb.String("ann"))
	if gone, ok := errors.AsType[*client.UnreachableError](err); ok {
		fmt.Println("the guard at", gone.Address, "is gone; was the call sent?", gone.Sent)
	}
	// Output:
	// the guard at 127.0.0.1:7070 is gone; was the call sent? false
}

// Who is shed last, and whose calls they are, travels with the context.
func ExampleWithCriticality() {
	site := newSite()
	defer site.close()
	guard, _ := client.Dial("127.0.0.1:7070", client.WithDialer(site.dial))
	defer guard.Close()
	shop := Shop{guard}

	ctx := client.WithCriticality(context.Background(), client.Sheddable)
	ctx = client.WithTenant(ctx, "acme")
	books, err := shop.Recommend(ctx, wrapperspb.String("ann"))
	fmt.Println(books.GetValue(), err)
	// Output:
	// books for ann <nil>
}

// A program that must not start with unknown flags waits for them, within bounds; a page of its own shows how fresh they are.
func ExampleConn_WaitForFlags() {
	site := newSite()
	defer site.close()
	guard, _ := client.Dial("127.0.0.1:7070", client.WithAdmin("127.0.0.1:7071"), client.WithDialer(site.dial))
	defer guard.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := guard.WaitForFlags(ctx); err != nil {
		panic(err)
	}
	h := guard.Health()
	fmt.Println(h.Live, h.Source, h.Revision)
	// Output:
	// true stream 1
}
