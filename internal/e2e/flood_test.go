package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"golang.org/x/net/http2"
)

// batch is how often an attacker does what it does before it takes breath.
const batch = 100

// control returns a flood of frames that do nothing for anybody. The first of them opens a call that others may name.
func control(write func(p *peer) error) act {
	return func(p *peer) (int, error) {
		if p.next == 1 {
			if _, err := p.request(waitMethod, false); err != nil {
				return 0, err
			}
		}
		return batch, repeat(batch, func() error { return write(p) })
	}
}

// Frames that do nothing are endured for a while; who goes on with them is thrown out.
func TestAbuseControlFloods(t *testing.T) {
	var many []byte // settings of one frame, which change the windows of all streams
	for i := range byte(255) {
		many = append(many, 0, byte(http2.SettingInitialWindowSize), 0, 0, i, 0)
	}
	ping := func(p *peer) error { return p.WritePing(false, [8]byte{}) }
	for name, kinds := range map[string][]func(p *peer) error{
		"PING":           {ping, ping},
		"SETTINGS":       {func(p *peer) error { return p.WriteSettings() }, func(p *peer) error { return p.WriteSettingsAck() }},
		"large SETTINGS": {func(p *peer) error { return p.WriteRawFrame(http2.FrameSettings, 0, 0, many) }},
		"WINDOW_UPDATE":  {func(p *peer) error { return p.WriteWindowUpdate(0, 1) }, func(p *peer) error { return p.WriteWindowUpdate(1, 1) }},
		"empty DATA": {
			func(p *peer) error { return p.WriteData(1, false, nil) },
			func(p *peer) error { return p.WriteDataPadded(1, false, nil, make([]byte, 10)) },
		},
		"others": {
			func(p *peer) error { return p.WritePing(true, [8]byte{}) },
			func(p *peer) error { return p.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
			func(p *peer) error { return p.WriteRawFrame(0x77, 0, 1, []byte("x")) },
			func(p *peer) error { return p.WriteGoAway(0, http2.ErrCodeNo, nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			then := wantGoAway(http2.ErrCodeEnhanceYourCalm, len(kinds))
			besiege(t, attack{breach: "control_frames", then: then, run: func(ctx context.Context, s *siege) {
				var floods []func()
				for _, write := range kinds {
					floods = append(floods, func() { s.flood(ctx, 1, control(write)) })
				}
				together(floods...)
			}})
		})
	}
}

// Who has answers made and does not read them is thrown out, even if there is something useful between the questions.
func TestAbuseQuestionsWithoutReading(t *testing.T) {
	const questions = 1000
	var ping bytes.Buffer
	_ = http2.NewFramer(&ping, nil).WritePing(false, [8]byte{}) // Into memory.
	pings := bytes.Repeat(ping.Bytes(), questions)
	besiege(t, attack{breach: "output", run: func(ctx context.Context, s *siege) {
		s.floodDeaf(ctx, 4, func(p *peer) (int, error) {
			var err error
			if p.next == 1 {
				_, err = p.request(waitMethod, false)
			}
			_, written := p.out.Write(pings)
			return questions + 1, errors.Join(err, written, p.WriteData(1, false, []byte{0}))
		})
	}})
}

// Streams that end before they are answered are endured in a burst, whoever ends them.
func TestAbuseResets(t *testing.T) {
	for name, kinds := range map[string][]func(p *peer) error{ // Each opens a stream, and sees to its end.
		"rapid reset": {func(p *peer) error {
			id, err := p.request(waitMethod, true)
			return errors.Join(err, p.WriteRSTStream(id, http2.ErrCodeCancel))
		}, func(p *peer) error {
			id, err := p.request(waitMethod, false)
			return errors.Join(err, p.WriteRSTStream(id, http2.ErrCodeNo))
		}},
		"made you reset by WINDOW_UPDATE": {func(p *peer) error {
			id, err := p.request(waitMethod, false)
			return errors.Join(err, p.WriteWindowUpdate(id, 0))
		}, func(p *peer) error {
			id, err := p.request(waitMethod, false)
			return errors.Join(err, p.WriteWindowUpdate(id, hugeWindow))
		}},
		"made you reset by DATA": {func(p *peer) error {
			id, err := p.request(waitMethod, false, "content-length", "5")
			return errors.Join(err, p.WriteData(id, true, []byte{0}))
		}, func(p *peer) error {
			id, err := p.request(waitMethod, true)
			return errors.Join(err, p.WriteData(id, false, []byte{0}))
		}},
		"made you reset by HEADERS": {func(p *peer) error {
			_, err := p.request(waitMethod, true, "connection", "close")
			return err
		}, func(p *peer) error {
			_, err := p.request(waitMethod, false) // Too many of these.
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			then := wantGoAway(http2.ErrCodeEnhanceYourCalm, len(kinds))
			besiege(t, attack{breach: "resets", then: then, run: func(ctx context.Context, s *siege) {
				var floods []func()
				for _, ruin := range kinds {
					floods = append(floods, func() {
						s.flood(ctx, 1, func(p *peer) (int, error) { return 2 * batch, repeat(batch, func() error { return ruin(p) }) })
					})
				}
				together(floods...)
			}})
		})
	}
}

// repeat does something n times, unless it fails.
func repeat(n int, do func() error) error {
	for range n {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}
