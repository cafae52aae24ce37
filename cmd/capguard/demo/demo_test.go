package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// wire is a network in memory.
type wire struct {
	mu    sync.Mutex
	ports map[string]*bufconn.Listener
	last  int
}

// place is the address of a port of a wire.
type place string

func (place) Network() string  { return "memory" }
func (p place) String() string { return string(p) }

// port listens at a place.
type port struct {
	*bufconn.Listener
	wire *wire
	at   place
}

func (p port) Addr() net.Addr { return p.at }

func (p port) Close() error {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	if p.wire.ports[p.at.String()] == p.Listener {
		delete(p.wire.ports, p.at.String())
	}
	return p.Listener.Close()
}

func (w *wire) listen(address string) (net.Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if address == anyPort {
		w.last++
		address = fmt.Sprintf("127.0.0.1:%d", 40000+w.last)
	}
	if w.ports[address] != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, syscall.EADDRINUSE)
	}
	if w.ports == nil {
		w.ports = map[string]*bufconn.Listener{}
	}
	w.ports[address] = bufconn.Listen(1 << 16)
	return port{w.ports[address], w, place(address)}, nil
}

func (w *wire) dial(ctx context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	lis := w.ports[address]
	w.mu.Unlock()
	if lis == nil {
		return nil, fmt.Errorf("dial %s: %w", address, syscall.ECONNREFUSED)
	}
	return lis.DialContext(ctx)
}

// told collects a story and tells of its progress.
type told struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *told) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *told) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// listenFor waits until the story says something.
func (o *told) listenFor(ctx context.Context, words string) {
	for !strings.Contains(o.String(), words) && ctx.Err() == nil {
		pause(ctx, time.Second/10)
	}
}

// stagehand has what a test needs of a story: its options, and what it has told.
func stagehand(t *testing.T, d time.Duration) (Options, *told, *wire) {
	t.Setenv("TMPDIR", t.TempDir())
	out, w := &told{}, &wire{}
	return Options{Duration: d, Out: out, Listen: w.listen, Dial: w.dial}, out, w
}

// clean checks that a story left nothing behind; goroutines are the bubble's matter.
func clean(t *testing.T, w *wire) {
	t.Helper()
	if len(w.ports) > 0 {
		t.Errorf("ports are left open: %v", w.ports)
	}
	if left, _ := filepath.Glob(os.Getenv("TMPDIR") + "/*"); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

// protected checks what every whole story must show.
func protected(t *testing.T, f facts) {
	t.Helper()
	if f.bare.crashes == 0 || f.bare.base.Good > f.bare.base.Offered*3/4 {
		t.Errorf("without the guard: %d crashes, base %d of %d", f.bare.crashes, f.bare.base.Good, f.bare.base.Offered)
	}
	if f.guarded.crashes > 0 || f.guarded.base.Good < f.guarded.base.Offered*97/100 {
		t.Errorf("with the guard: %d crashes, base %d of %d", f.guarded.crashes, f.guarded.base.Good, f.guarded.base.Offered)
	}
	if f.guarded.recs.Good < f.guarded.recs.Offered/8 { // it is off for up to half of the time
		t.Errorf("the feature got %d of %d, although something was left for it", f.guarded.recs.Good, f.guarded.recs.Offered)
	}
	if f.leaked != 0 {
		t.Errorf("%d calls of the feature reached the back-end while it was off", f.leaked)
	}
	if f.back == 0 {
		t.Error("the feature did not come back")
	}
}

func TestStory(t *testing.T) {
	const d = 30 * time.Second
	o, out, w := stagehand(t, d)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f, err := play(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		protected(t, f)
		if took := time.Since(begin); took < d-2*time.Second || took > d+4*time.Second {
			t.Errorf("it took %v", took)
		}
		if !f.byDemo {
			t.Error("the demo did not switch the feature off, but nobody else could")
		}
	})
	clean(t, w)
	for _, words := range []string{
		"HAS CRASHED", "127.0.0.1:7070", "http://127.0.0.1:7071/metrics", "0 of its calls reached", "on again, by itself",
		`-d '{"name":"recs","reason":"stock system near its limit","ttl":"`, "with the guard",
	} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("it does not say %q:\n%v", words, out)
		}
	}
}

// TestOperatorTypesTheCommand disables the feature from outside, once for less time than the story has and once without end.
func TestOperatorTypesTheCommand(t *testing.T) {
	for name, tc := range map[string]struct {
		ttl  *durationpb.Duration
		want string
	}{
		"with a ttl that ends in time": {durationpb.New(2 * time.Second), "on again, by itself"},
		"without a ttl":                {nil, "so the demo has switched it on"},
	} {
		t.Run(name, func(t *testing.T) {
			o, out, w := stagehand(t, MinDuration)
			synctest.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				wg.Go(func() {
					out.listenFor(t.Context(), "your turn")
					typeDisable(t, w, tc.ttl)
				})
				f, err := play(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				wg.Wait()
				protected(t, f)
				if f.byDemo {
					t.Error("the demo switched the feature off itself")
				}
			})
			clean(t, w)
			for _, words := range []string{"Somebody at the keyboard did it: recs is OFF", "because: INC-4821", tc.want} {
				if !strings.Contains(out.String(), words) {
					t.Errorf("it does not say %q:\n%v", words, out)
				}
			}
		})
	}
}

func typeDisable(t *testing.T, w *wire, ttl *durationpb.Duration) {
	cc, err := (&demo{options: Options{Dial: w.dial}}).connect("127.0.0.1:7071")
	if err != nil {
		t.Error(err)
		return
	}
	defer cc.Close()
	req := &capguardv1.DisableFlagRequest{Name: "recs", Reason: "INC-4821", Ttl: ttl}
	if _, err := capguardv1.NewFlagServiceClient(cc).DisableFlag(t.Context(), req); err != nil {
		t.Error(err)
	}
}

// TestStop interrupts the story at moments in all its parts.
func TestStop(t *testing.T) {
	for _, at := range []time.Duration{0, 3100 * time.Millisecond, 9100 * time.Millisecond, 16 * time.Second} {
		t.Run(at.String(), func(t *testing.T) {
			o, out, w := stagehand(t, MinDuration)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), at)
				defer cancel()
				begin := time.Now()
				if err := Run(ctx, o); err != nil {
					t.Errorf("it ended with %v", err)
				}
				if late := time.Since(begin) - at; late > 3*time.Second {
					t.Errorf("it ended %v after it was stopped", late)
				}
			})
			clean(t, w)
			if !strings.Contains(out.String(), "Stopped.") {
				t.Errorf("it does not say that it stopped:\n%v", out)
			}
		})
	}
}

func TestTakenPortsAreLeftAlone(t *testing.T) {
	o, out, w := stagehand(t, MinDuration)
	synctest.Test(t, func(t *testing.T) {
		other, err := w.listen("127.0.0.1:7071")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		if err := Run(ctx, o); err != nil {
			t.Error(err)
		}
	})
	if s := out.String(); !strings.Contains(s, "ports were taken") || !strings.Contains(s, "data port   127.0.0.1:7070") ||
		!strings.Contains(s, "admin port  127.0.0.1:400") {
		t.Errorf("it does not say where it is:\n%v", s)
	}
}

func TestAddressThatWasAskedForMustBeFree(t *testing.T) {
	o, _, w := stagehand(t, MinDuration)
	o.AdminAddress = "127.0.0.1:9"
	synctest.Test(t, func(t *testing.T) {
		other, err := w.listen(o.AdminAddress)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := Run(t.Context(), o); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("it ended with %v", err)
		}
	})
	clean(t, w)
}

func TestTooShort(t *testing.T) {
	if err := Run(t.Context(), Options{Duration: time.Second}); err == nil || !strings.Contains(err.Error(), "20s or more") {
		t.Errorf("a second: %v", err)
	}
}

func TestScriptTakesTheTimeItIsGiven(t *testing.T) {
	for d := MinDuration; d < 3*time.Minute; d += 700 * time.Millisecond {
		s, err := write(d)
		sum := s.calm1 + s.storm1 + s.calm2 + s.storm2 + s.wait + s.off + s.back
		if err != nil || sum != d || s.wait < time.Second/2 || s.storm1 < 8*time.Second || s.off%time.Second != 0 || s.off < time.Second {
			t.Errorf("%v: %v, %+v", d, err, s)
		}
	}
}
