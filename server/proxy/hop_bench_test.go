package proxy_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/proxy"
	"github.com/capguard/capguard/server/telemetry"
)

// What a call costs in the guard and the kernel, with nothing else: its client and its back-end replay bytes that were prepared, sixteen
// calls at a time, and look only for the ends of calls.
func BenchmarkHop(b *testing.B) {
	for name, feature := range map[string]string{"admitted": "on", "refused": "off"} {
		b.Run(name, func(b *testing.B) {
			r := newReplay(b, feature)
			b.ReportAllocs()
			for n := 0; n < b.N; n += r.batch {
				r.turn()
			}
		})
	}
}

// replay is a client and a back-end of one guard, over unix sockets.
type replay struct {
	b        *testing.B
	batch    int
	refused  bool
	client   net.Conn
	backend  net.Conn
	id       uint32 // of the client's next stream
	request  *block
	headers  *block
	trailers *block
	buf, out []byte
}

// block is a header list as it is encoded when the table knows it.
type block struct {
	encoder *hpack.Encoder
	buf     *bytes.Buffer
	fields  []hpack.HeaderField
}

func (k *block) encode() []byte {
	k.buf.Reset()
	for _, f := range k.fields {
		_ = k.encoder.WriteField(f)
	}
	return k.buf.Bytes()
}

func newReplay(b *testing.B, feature string) *replay {
	dir := b.TempDir()
	r := &replay{b: b, batch: 16, refused: feature == "off", id: 1, buf: make([]byte, 64<<10)}
	at, err := net.Listen("unix", filepath.Join(dir, "backend"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = at.Close() })
	t, err := telemetry.New(b.Context(), telemetry.Settings{})
	if err != nil {
		b.Fatal(err)
	}
	s := guard.Default()
	s.Limit.Law, s.Limit.Initial = "fixed", 1000
	backend, err := proxy.NewBackend(&capguardv1.BackendConfig{Targets: []string{"unix:" + at.Addr().String()}}, s, proxy.BackendOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(backend.Close)
	backend.Guard().SetFeatures(map[string]guard.Feature{"on": {Percent: 100}, "off": {Percent: 0, Why: "INC-1"}})
	p := proxy.New(proxy.Options{Telemetry: t}, backend)
	lis, err := net.Listen("unix", filepath.Join(dir, "guard"))
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = p.Serve(lis) }() // Until the listener is closed.
	b.Cleanup(func() { _ = lis.Close() })
	if r.backend, err = at.Accept(); err != nil {
		b.Fatal(err)
	}
	if r.client, err = net.Dial("unix", lis.Addr().String()); err != nil {
		b.Fatal(err)
	}
	settings := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	r.write(r.client, append([]byte(http2.ClientPreface), settings...))
	r.write(r.backend, append(settings, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0x70, 0, 0, 0))
	window := []byte{0, 0, 4, 8, 0, 0, 0, 0, 0, 0x70, 0, 0, 0}
	r.write(r.client, window)
	r.request = newBlock(":method", "POST", ":scheme", "http", ":path", "/bench.Echo/Unary", ":authority", "127.0.0.1:9410", "content-type",
		"application/grpc", "user-agent", "grpc-go/1.85.0", "te", "trailers", "capguard-feature", feature)
	r.headers = newBlock(":status", "200", "content-type", "application/grpc")
	r.trailers = newBlock("grpc-status", "0", "grpc-message", "")
	r.trailers.encoder, r.trailers.buf = r.headers.encoder, r.headers.buf // They are on one connection.
	return r
}

func newBlock(pairs ...string) *block {
	k := &block{buf: new(bytes.Buffer)}
	k.encoder = hpack.NewEncoder(k.buf)
	for i := 0; i < len(pairs); i += 2 {
		k.fields = append(k.fields, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return k
}

func (r *replay) write(c net.Conn, p []byte) {
	if _, err := c.Write(p); err != nil {
		r.b.Fatal(err)
	}
}

func frame(out []byte, kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) []byte {
	n := len(payload)
	out = append(out, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	out = binary.BigEndian.AppendUint32(out, id)
	return append(out, payload...)
}

var message = append([]byte{0, 0, 0, 0, 16}, make([]byte, 16)...)

// turn sends a batch of calls there, and back.
func (r *replay) turn() {
	r.out = r.out[:0]
	for range r.batch {
		r.out = frame(r.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, r.id, r.request.encode())
		r.out = frame(r.out, http2.FrameData, http2.FlagDataEndStream, r.id, message)
		r.id += 2
	}
	r.write(r.client, r.out)
	if !r.refused {
		r.out = r.out[:0]
		for _, id := range r.ends(r.backend) {
			r.out = frame(r.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, r.headers.encode())
			r.out = frame(r.out, http2.FrameData, 0, id, message)
			r.out = frame(r.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id, r.trailers.encode())
		}
		r.write(r.backend, r.out)
	}
	r.ends(r.client)
}

// ends reads until so many streams have ended as are in a batch, and returns them.
func (r *replay) ends(c net.Conn) (ids []uint32) {
	have := 0
	for len(ids) < r.batch {
		n, err := c.Read(r.buf[have:])
		if err != nil {
			r.b.Fatal(err)
		}
		p := r.buf[:have+n]
		if len(p) >= len(http2.ClientPreface) && string(p[:3]) == "PRI" {
			p = p[len(http2.ClientPreface):]
		}
		for len(p) >= 9 {
			size := 9 + (int(p[0])<<16 | int(p[1])<<8 | int(p[2]))
			if len(p) < size {
				break
			}
			if kind := http2.FrameType(p[3]); (kind == http2.FrameHeaders || kind == http2.FrameData) && p[4]&1 != 0 {
				ids = append(ids, binary.BigEndian.Uint32(p[5:]))
			}
			p = p[size:]
		}
		have = copy(r.buf, p)
	}
	return ids
}
