package client_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/capguard/capguard/client"
	"github.com/capguard/capguard/internal/guard"
)

// wants is a service config that wants so many attempts of what fails with a code, soon.
func wants(attempts int, code codes.Code) string {
	return fmt.Sprintf(`{"methodConfig":[{"name":[{"service":"shop.Shop"}],"retryPolicy":{"maxAttempts":%d,"initialBackoff":"0.01s",`+
		`"maxBackoff":"0.04s","backoffMultiplier":2,"retryableStatusCodes":[%d]}}]}`, attempts, code)
}

// fives wants four retries.
var fives = wants(5, codes.Unavailable)

// A retry policy in the service config takes the place of ours, wherever it comes from: attempts never multiply.
func TestServiceConfigIsThePolicy(t *testing.T) {
	const down, internal = codes.Unavailable, codes.Internal
	byDefault := func(config string) client.Option { return client.WithGRPC(grpc.WithDefaultServiceConfig(config)) }
	for name, test := range map[string]struct {
		option   client.Option
		answer   handler
		attempts int
	}{
		"two, less than ours":         {byDefault(wants(2, down)), failing(down), 2},
		"five, more than ours":        {byDefault(fives), failing(down), 5},
		"nine, more than gRPC allows": {byDefault(wants(9, down)), failing(down), 5},
		"seven, and gRPC may": {client.WithGRPC(grpc.WithMaxCallAttempts(7), grpc.WithDefaultServiceConfig(wants(9, down))),
			failing(down), 7},
		"five, by our own option":         {client.WithServiceConfig(fives), failing(down), 5},
		"five, by the resolver":           {resolved(fives), failing(down), 5},
		"a resolver without a policy":     {resolved("{}"), failing(down), 3},
		"for other methods only":          {byDefault(`{"methodConfig":[{"name":[{"service":"x"}]}]}`), failing(down), 3},
		"its codes":                       {byDefault(wants(5, internal)), failing(internal), 5},
		"its codes alone":                 {byDefault(wants(5, internal)), failing(down), 1},
		"refusals that say when, besides": {byDefault(wants(5, internal)), refusing(guard.LimitReached, 0), 5},
		"of a breaker, too":               {byDefault(wants(5, internal)), refusing(guard.BreakerOpen, time.Millisecond), 5},
		"never is never":                  {byDefault(fives), failing(down, "-1"), 1},
		"a back-end that wants it":        {byDefault(wants(4, codes.ResourceExhausted)), failing(codes.ResourceExhausted, "10"), 4},
		"hedging is not done": {byDefault(`{"methodConfig":[{"name":[{}],"hedgingPolicy":{"maxAttempts":4,"hedgingDelay":"0s"}}]}`),
			failing(codes.Internal), 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := dialed(t, test.option)
				s.answers(test.answer)
				if got := calls(t, s, c, 1); got != test.attempts {
					t.Errorf("%d attempts, want %d", got, test.attempts)
				}
			})
		})
	}
}

// resolved lets a resolver bring the guard's address and a service config.
func resolved(config string) client.Option {
	r := manual.NewBuilderWithScheme("dns")
	r.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) {
		r.InitialState(resolver.State{
			Endpoints:     []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: "127.0.0.1:7070"}}}},
			ServiceConfig: cc.ParseServiceConfig(config),
		})
	}
	return client.WithGRPC(grpc.WithResolvers(r))
}

// Back-off is that of the policy, grows up to its bound, begins anew after a push-back, and is spread by as much as it is long.
func TestBackoffOfThePolicy(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		config      string
		answer      handler
		least, most time.Duration
	}{
		"10, 20, 40, 40 ms":          {fives, failing(codes.Unavailable), 55 * ms, 165 * ms},
		"more at first than at most": {strings.Replace(fives, "0.01s", "9s", 1), failing(codes.Unavailable), 80 * ms, 240*ms + 4},
		"push-backs have jitter":     {fives, failing(codes.Unavailable, "100"), 400*ms + 1, 480 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := dialed(t, client.WithServiceConfig(test.config))
				s.answers(test.answer)
				seen := map[time.Duration]bool{}
				for range 10 {
					s.answers(s.obey)
					calls(t, s, c, 50)
					s.answers(test.answer)
					start := time.Now()
					calls(t, s, c, 1)
					took := time.Since(start)
					if took < test.least || took > test.most {
						t.Errorf("took %v, want %v to %v", took, test.least, test.most)
					}
					seen[took] = true
				}
				if len(seen) < 9 {
					t.Errorf("only %d different times of 10", len(seen))
				}
			})
		})
	}
}

// After a push-back the back-off is the first again.
func TestBackoffBeginsAnewAfterAPushback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t, client.WithServiceConfig(fives))
		var pauses []time.Duration
		var last time.Time
		s.answers(func(stream grpc.ServerStream, md metadata.MD, in string) error {
			if n := len(s.received()); n > 1 {
				pauses = append(pauses, time.Since(last))
			}
			last = time.Now()
			if len(s.received()) == 3 {
				return failing(codes.Unavailable, "1000")(stream, md, in)
			}
			return errDown
		})
		calls(t, s, c, 1)
		const ms = time.Millisecond
		most := []time.Duration{15 * ms, 30 * ms, 1200 * ms, 15 * ms}
		for n, p := range pauses {
			if p > most[n]+1 || len(pauses) != len(most) {
				t.Errorf("pauses %v, want at most %v", pauses, most)
			}
		}
	})
}

// The timeout of a service config is that of the call, not of each attempt.
func TestTimeoutOfTheServiceConfigBoundsAllAttempts(t *testing.T) {
	const config = `{"methodConfig":[{"name":[{}],"timeout":"1s","retryPolicy":{"maxAttempts":5,"initialBackoff":"0.01s",` +
		`"maxBackoff":"0.01s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t, client.WithServiceConfig(config))
		s.answers(func(grpc.ServerStream, metadata.MD, string) error {
			time.Sleep(400 * time.Millisecond)
			return errDown
		})
		start := time.Now()
		if got := calls(t, s, c, 1); got != 3 || time.Since(start) != time.Second {
			t.Errorf("%d attempts in %v, want 3 in a second", got, time.Since(start))
		}
		settle(time.Second)
	})
}

func TestServiceConfigThatIsNone(t *testing.T) {
	for _, config := range []string{"", "{", `{"retryThrottling":{"maxTokens":0,"tokenRatio":0.1}}`, `{"retryThrottling":{"maxTokens":9}}`,
		`{"retryThrottling":{"maxTokens":1001,"tokenRatio":0.1}}`} {
		if c, err := client.Dial("127.0.0.1:7070", client.WithServiceConfig(config)); err == nil {
			c.Close()
			t.Errorf("service config %q was accepted", config)
		}
	}
}
