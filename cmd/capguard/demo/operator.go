package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// operator commands the guard through its admin port and sees what others command.
type operator struct {
	conn     *grpc.ClientConn
	flags    capguardv1.FlagServiceClient
	backends capguardv1.GuardServiceClient
	stop     func() error

	mu      sync.Mutex
	flag    *capguardv1.Flag // the feature's; nil when it has none
	changed chan struct{}    // closed at the next change of flag
}

// newOperator connects to the admin port and begins to watch.
func (d *demo) newOperator(ctx context.Context, admin string) (*operator, error) {
	conn, err := d.connect(admin)
	if err != nil {
		return nil, err
	}
	o := &operator{
		conn:     conn,
		flags:    capguardv1.NewFlagServiceClient(conn),
		backends: capguardv1.NewGuardServiceClient(conn),
		changed:  make(chan struct{}),
	}
	o.stop = background(ctx, func(ctx context.Context) error { o.watch(ctx); return conn.Close() })
	return o, nil
}

// connect opens a plain connection.
func (d *demo) connect(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(d.options.Dial))
}

// watch follows the flags until ctx ends, also over lost streams.
func (o *operator) watch(ctx context.Context) {
	for ctx.Err() == nil {
		stream, err := o.flags.WatchFlags(ctx, &capguardv1.WatchFlagsRequest{Client: "capguard demo"}, grpc.WaitForReady(true))
		for err == nil {
			var m *capguardv1.WatchFlagsResponse
			if m, err = stream.Recv(); err == nil {
				o.take(m)
			}
		}
		pause(ctx, time.Second/10)
	}
}

// take keeps what a message says of the feature.
func (o *operator) take(m *capguardv1.WatchFlagsResponse) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m.GetKind() == capguardv1.WatchFlagsResponse_KIND_SNAPSHOT {
		o.flag = nil
	}
	for _, name := range m.GetDeleted() {
		if name == flagName {
			o.flag = nil
		}
	}
	for _, f := range m.GetFlags() {
		if f.GetName() == flagName {
			o.flag = f
		}
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

const flagName = "flags/" + feature

// await waits until the feature is on, or is not, and returns its flag, which is nil if it has none.
func (o *operator) await(ctx context.Context, on bool) (*capguardv1.Flag, error) {
	for {
		o.mu.Lock()
		flag, changed := o.flag, o.changed
		o.mu.Unlock()
		if isOn(flag) == on {
			return flag, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func isOn(f *capguardv1.Flag) bool {
	return f == nil || f.GetState() == capguardv1.Flag_STATE_ON
}

// disable switches the feature off for a while.
func (o *operator) disable(ctx context.Context, ttl time.Duration) (*capguardv1.Flag, error) {
	r, err := o.flags.DisableFlag(ctx, &capguardv1.DisableFlagRequest{Name: feature, Reason: reason, Ttl: durationpb.New(ttl)})
	if err != nil {
		return nil, fmt.Errorf("switch %s off: %w", feature, err)
	}
	return r.GetFlag(), nil
}

// enable switches the feature on.
func (o *operator) enable(ctx context.Context) error {
	if _, err := o.flags.EnableFlag(ctx, &capguardv1.EnableFlagRequest{Name: feature, Reason: "the demo goes on"}); err != nil {
		return fmt.Errorf("switch %s on: %w", feature, err)
	}
	return nil
}

// reason is the one given for switching the feature off.
const reason = "stock system near its limit"

// command is what an operator types to do the same as disable.
func command(admin string, ttl time.Duration) string {
	return fmt.Sprintf(`grpcurl -plaintext -d '{"name":"%s","reason":"%s","ttl":"%.0fs"}' \
  %s capguard.v1.FlagService/DisableFlag`, feature, reason, ttl.Seconds(), admin)
}

// status returns the guard's figures for a line of the load.
func (o *operator) status(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second/4)
	defer cancel()
	r, err := o.backends.GetBackend(ctx, &capguardv1.GetBackendRequest{})
	if err != nil {
		return ""
	}
	b := r.GetBackend()
	text := fmt.Sprintf("        limit %d, queued %d", b.GetLimit().GetCurrent(), b.GetQueued())
	if s := b.GetBreaker().GetState(); s != capguardv1.Breaker_STATE_CLOSED {
		text += ", breaker " + s.String()
	}
	return text
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
