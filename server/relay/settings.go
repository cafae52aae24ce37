package relay

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// takeSettings takes what the peer asks for. All of it is in force with the acknowledgement, which goes before anything that is sent under it.
func (c *conn) takeSettings(h frameHeader, payload []byte) *connError {
	switch {
	case h.id != 0:
		return violation(http2.ErrCodeProtocol, "SETTINGS on a stream")
	case h.flags&http2.FlagSettingsAck != 0 && len(payload) > 0, len(payload)%6 != 0:
		return violation(http2.ErrCodeFrameSize, "SETTINGS of a wrong length")
	case h.flags&http2.FlagSettingsAck != 0:
		if !c.greeted.Load() {
			return violation(http2.ErrCodeProtocol, "a first frame that acknowledges")
		}
		return nil
	}
	first := !c.greeted.Swap(true)
	if err := c.applySettings(payload); err != nil {
		return err
	}
	if first && c.endpoint != nil {
		c.endpoint.ready(c)
	}
	return nil
}

func (c *conn) applySettings(payload []byte) *connError {
	c.mu.Lock()
	defer c.mu.Unlock()
	window := c.window
	for ; len(payload) > 0; payload = payload[6:] {
		id, value := http2.SettingID(binary.BigEndian.Uint16(payload)), binary.BigEndian.Uint32(payload[2:])
		if err := c.settingLocked(id, value); err != nil {
			return err
		}
		if id == http2.SettingInitialWindowSize {
			window = int64(value)
		}
	}
	if err := c.resizeWindowsLocked(window); err != nil { // Once: a frame may hold thousands of settings, and a connection hundreds of streams.
		return err
	}
	c.out.set(appendFrameHeader(c.out.open(), frameHeader{kind: http2.FrameSettings, flags: http2.FlagSettingsAck}))
	c.pumpLocked()
	return nil
}

func (c *conn) settingLocked(id http2.SettingID, value uint32) *connError {
	switch id {
	case http2.SettingHeaderTableSize:
		c.encoder.resize(value)
	case http2.SettingEnablePush:
		if value > 1 || value == 1 && c.endpoint != nil {
			return violation(http2.ErrCodeProtocol, "a wrong SETTINGS_ENABLE_PUSH")
		}
	case http2.SettingMaxConcurrentStreams:
		c.streamMax = int64(value)
	case http2.SettingInitialWindowSize:
		if value > maxWindow {
			return violation(http2.ErrCodeFlowControl, "a SETTINGS_INITIAL_WINDOW_SIZE beyond 2^31-1")
		}
	case http2.SettingMaxFrameSize:
		if value < maxFrame || value > 1<<24-1 {
			return violation(http2.ErrCodeProtocol, "a wrong SETTINGS_MAX_FRAME_SIZE")
		}
		c.frame = min(int(value), softOutput)
	}
	return nil
}

// resizeWindowsLocked changes the windows of all streams by the difference to the first window so far; they may become negative.
func (c *conn) resizeWindowsLocked(window int64) *connError {
	change := window - c.window
	if change == 0 {
		return nil
	}
	c.window = window
	for _, p := range c.streams {
		if p.send += change; p.send > maxWindow {
			return violation(http2.ErrCodeFlowControl, "a window beyond 2^31-1")
		}
		c.queueLocked(p)
	}
	return nil
}

func (c *conn) takeWindowUpdate(h frameHeader, payload []byte) *connError {
	if len(payload) != 4 {
		return violation(http2.ErrCodeFrameSize, "WINDOW_UPDATE that is not of 4 bytes")
	}
	n := int64(binary.BigEndian.Uint32(payload) & maxID)
	if h.id == 0 {
		return c.widen(n)
	}
	c.mu.Lock()
	p := c.streams[h.id]
	idle := p == nil && c.idleLocked(h.id)
	bad := p != nil && (n == 0 || p.send+n > maxWindow)
	if p != nil && !bad {
		p.send += n
		c.queueLocked(p)
		c.pumpLocked()
	}
	c.mu.Unlock()
	switch {
	case idle:
		return violation(http2.ErrCodeProtocol, "WINDOW_UPDATE of a stream that was never opened")
	case bad && n == 0:
		return c.streamError(h.id, http2.ErrCodeProtocol)
	case bad:
		return c.streamError(h.id, http2.ErrCodeFlowControl)
	}
	return nil
}

// widen takes n bytes of credit for the whole connection.
func (c *conn) widen(n int64) *connError {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n == 0:
		return violation(http2.ErrCodeProtocol, "WINDOW_UPDATE by nothing")
	case c.send+n > maxWindow:
		return violation(http2.ErrCodeFlowControl, "a window beyond 2^31-1")
	}
	c.send += n
	c.pumpLocked()
	return nil
}

// idleLocked tells whether stream id was never opened.
func (c *conn) idleLocked(id uint32) bool {
	if c.relay != nil {
		return id&1 == 0 || id > c.lastID
	}
	return id&1 == 0 || id >= c.nextID
}
