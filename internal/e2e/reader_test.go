package e2e_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// bufferedMemory is what the guard needs, in MiB, when as much DATA waits in it as may: 128 MiB, and as much again until it is collected.
const bufferedMemory = 480

const (
	hugeWindow   = 1<<31 - 1
	firstWindow  = 1<<16 - 1
	idlePerConn  = 250 // as many streams as the guard allows on one connection
	largeWindows = hugeWindow - firstWindow
)

// floods opens, one by one, as many calls as are allowed whose back-end sends without end, and then goes on with more.
func floods(more act) act {
	return func(p *peer) (int, error) {
		switch {
		case p.next > 2*idlePerConn:
			return more(p)
		case p.next == 1:
			if err := p.WriteWindowUpdate(0, largeWindows); err != nil {
				return 0, err
			}
		}
		time.Sleep(4 * breath) // Each call fills 64 KiB at once: all together would be a flood of the back-end's bytes.
		_, err := p.request(floodMethod, true)
		return 1, err
	}
}

func nothing(*peer) (int, error) { return 0, nil }

// Clients that open all windows and read nothing get what a socket and a buffer hold; the rest waits, up to a bound of the whole process.
func TestAbuseClientsThatNeverRead(t *testing.T) {
	besiege(t, attack{time: 2 * attackTime, memory: bufferedMemory, run: func(ctx context.Context, s *siege) {
		s.floodDeaf(ctx, 12, floods(nothing), http2.Setting{ID: http2.SettingInitialWindowSize, Val: hugeWindow})
	}})
}

// Clients that give all streams no window leave everything waiting.
func TestAbuseClientsWithoutWindows(t *testing.T) {
	besiege(t, attack{time: 2 * attackTime, memory: bufferedMemory, run: func(ctx context.Context, s *siege) {
		s.flood(ctx, 12, floods(nothing), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	}})
}

// Clients that take one byte at a time from each of many streams cost a frame for each byte, and hurt nobody else.
func TestAbuseTinyWindows(t *testing.T) {
	besiege(t, attack{time: 2 * attackTime, memory: bufferedMemory, run: func(ctx context.Context, s *siege) {
		byByte := func(p *peer) (int, error) {
			return batch, repeat(batch, func() error {
				p.next += 2
				return p.WriteWindowUpdate(p.next%(2*idlePerConn), 1)
			})
		}
		s.flood(ctx, 2, floods(byByte), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	}})
}
