package relay_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/capguard/capguard/server/relay"
)

// without returns a gRPC request without one of its fields, and with more.
func without(name string, more ...string) []string {
	lines := slices.DeleteFunc(request(), func(l string) bool { return strings.HasPrefix(l, name+": ") })
	return append(lines, more...)
}

// badRequests are header lists that no client may send.
var badRequests = map[string][]string{
	"no method":                     without(":method"),
	"no scheme":                     without(":scheme"),
	"no path":                       without(":path"),
	"an empty path":                 slices.Concat([]string{":path: "}, without(":path")),
	"a path without a slash":        slices.Concat([]string{":path: a"}, without(":path")),
	"a path with a blank":           slices.Concat([]string{":path: /a b"}, without(":path")),
	"another scheme":                slices.Concat([]string{":scheme: ftp"}, without(":scheme")),
	"a method with a blank":         slices.Concat([]string{":method: GET /"}, without(":method")),
	"a method twice":                slices.Concat([]string{":method: POST"}, request()),
	"a path twice":                  slices.Concat([]string{":path: /test.Service/Call"}, request()),
	"an authority twice":            slices.Concat([]string{":authority: stock"}, request()),
	"a scheme twice":                slices.Concat([]string{":scheme: http"}, request()),
	"a status":                      slices.Concat([]string{":status: 200"}, request()),
	"an unknown pseudo-header":      slices.Concat([]string{":version: 2"}, request()),
	"a protocol":                    slices.Concat([]string{":protocol: websocket"}, request()),
	"CONNECT":                       {":method: CONNECT", ":authority: stock:80"},
	"a late pseudo-header":          without(":path", ":path: /a"),
	"a pseudo-header without name":  slices.Concat([]string{":: x"}, request()),
	"an upper-case name":            request("X-Up: 1"),
	"an upper-case pseudo-header":   slices.Concat([]string{":Path: /"}, request()),
	"a blank in a name":             request("x y: 1"),
	"a colon in a name":             request("x:y: 1"),
	"no name":                       request(""),
	"a NUL in a name":               request("x\x00y: 1"),
	"a byte above 127 in a name":    request("x\xe9: 1"),
	"a line break in a name":        request("x\r\ny: 1"),
	"CR LF in a value":              request("x: a\r\nb: c"),
	"LF in a value":                 request("x: a\nb"),
	"CR in a value":                 request("x: a\rb"),
	"NUL in a value":                request("x: a\x00b"),
	"LF in a path":                  slices.Concat([]string{":path: /a\nb"}, without(":path")),
	"a blank before a value":        request("x:  a"),
	"a blank after a value":         request("x: a "),
	"a tab after a value":           request("x: a\t"),
	"connection":                    request("connection: close"),
	"keep-alive":                    request("keep-alive: 1"),
	"proxy-connection":              request("proxy-connection: close"),
	"transfer-encoding":             request("transfer-encoding: chunked"),
	"upgrade":                       request("upgrade: h2c"),
	"te other than trailers":        without("te", "te: gzip"),
	"te of two":                     without("te", "te: trailers, gzip"),
	"another host":                  request("host: other"),
	"two hosts":                     without(":authority", "host: a", "host: b"),
	"userinfo":                      slices.Concat([]string{":authority: user@stock"}, without(":authority")),
	"userinfo in host":              without(":authority", "host: user@stock"),
	"a path in host":                without(":authority", "host: stock/x"),
	"a content-length with sign":    request("content-length: +4"),
	"a negative content-length":     request("content-length: -4"),
	"an empty content-length":       request("content-length: "),
	"a list of content-lengths":     request("content-length: 4, 4"),
	"a hexadecimal content-length":  request("content-length: 0x4"),
	"content-length twice":          request("content-length: 4", "content-length: 4"),
	"two content-lengths":           request("content-length: 4", "content-length: 5"),
	"a content-length beyond int64": request("content-length: 9223372036854775808"),
}

func TestBadRequestIsRefused(t *testing.T) {
	for name, lines := range badRequests {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.headers(1, false, lines...)
				client.wantReset(1, http2.ErrCodeProtocol)
				r.wantBreaches(relay.BadHeaders, 1)
				backend.wantQuiet()
				serve(client, 3, backend, 1) // The header table is still in step.
			})
		})
	}
}

// badFields are fields that nobody may send, in no header block.
var badFields = map[string]string{
	"an upper-case name": "X-Up: 1", "a blank in a name": "x y: 1", "a colon in a name": "x:y: 1", "no name": "",
	"CR LF in a value": "x: a\r\nb: c", "LF in a value": "x: a\nb", "NUL in a value": "x: a\x00b",
	"connection": "connection: close", "transfer-encoding": "transfer-encoding: chunked", "upgrade": "upgrade: h2c",
	"keep-alive": "keep-alive: 1", "proxy-connection": "proxy-connection: close", "te": "te: gzip",
	"a path": ":path: /", "an unknown pseudo-header": ":x: y",
}

func TestBadRequestTrailersEndTheCall(t *testing.T) {
	bad := map[string]string{"a blank before a value": "x:  a", "a blank after a value": "x: a ", "a status": ":status: 200"}
	maps.Copy(bad, badFields)
	for name, l := range bad {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, false)
				backend.wantHeaders(1)
				client.headers(1, true, l)
				client.wantReset(1, http2.ErrCodeProtocol)
				backend.wantReset(1, http2.ErrCodeCancel)
				r.wantBreaches(relay.BadHeaders, 1)
				if e := r.call(0).end(t); e.By != relay.ByCaller || !e.Broken {
					t.Errorf("the observer heard %+v", e)
				}
				serve(client, 3, backend, 3)
			})
		})
	}
}

func TestRequestTrailersThatDoNotEnd(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, false)
		backend.wantHeaders(1)
		client.headers(1, false, "x: y")
		client.wantReset(1, http2.ErrCodeProtocol)
		backend.wantReset(1, http2.ErrCodeCancel)
		serve(client, 3, backend, 3)
	})
}

// badAnswers are header lists that no back-end may begin an answer with.
var badAnswers = map[string][]string{
	"no status":            {"content-type: application/grpc"},
	"a status twice":       {":status: 200", ":status: 200"},
	"a late status":        {"content-type: application/grpc", ":status: 200"},
	"a status of letters":  {":status: abc"},
	"a short status":       {":status: 20"},
	"a long status":        {":status: 2000"},
	"status 0":             {":status: 000"},
	"a change of protocol": {":status: 101"},
	"a path":               {":status: 200", ":path: /"},
	"content-length twice": response("content-length: 4", "content-length: 4"),
	"a signed length":      response("content-length: -4"),
	"an empty length":      response("content-length: "),
}

func TestBadAnswerBreaksTheCall(t *testing.T) {
	all := maps.Clone(badAnswers)
	for name, l := range badFields {
		all[name] = response(l)
	}
	for name, lines := range all {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				backend.wantHeaders(1)
				backend.headers(1, false, lines...)
				backend.wantReset(1, http2.ErrCodeProtocol)
				client.wantReset(1, http2.ErrCodeInternal)
				r.wantBreaches(relay.BadHeaders, 1)
				serve(client, 3, backend, 3)
			})
		})
	}
}

func TestBadAnswerTrailersBreakTheCall(t *testing.T) {
	for name, l := range badFields {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.request(1, true)
				backend.wantHeaders(1)
				backend.response(1)
				client.wantHeaders(1)
				backend.headers(1, true, l)
				backend.wantReset(1, http2.ErrCodeProtocol)
				client.wantReset(1, http2.ErrCodeInternal)
				serve(client, 3, backend, 3)
			})
		})
	}
}

func TestAnswerTrailersThatDoNotEnd(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		backend.response(1)
		backend.headers(1, false, "grpc-status: 0")
		client.wantReset(1, http2.ErrCodeInternal)
		backend.wantReset(1, http2.ErrCodeProtocol)
		serve(client, 3, backend, 3)
	})
}

// Blanks around a value are taken off an answer, as lenient back-ends send them.
func TestBlanksAroundAnswers(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		client.request(1, true)
		backend.wantHeaders(1)
		backend.fields(1, false, hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: "x", Value: "\t a "})
		backend.headers(1, true, "grpc-status: 3", "grpc-message:  no ")
		client.wantHeaders(1, "x: a")
		client.wantTrailers(1, "grpc-status: 3", "grpc-message: %20no%20")
	})
}

// Who is asked is said once: in :authority.
func TestHostAndAuthority(t *testing.T) {
	for name, c := range map[string]struct{ sent, want []string }{
		"both, equal":     {request("host: stock"), []string{":authority: stock", "-host"}},
		"in another case": {request("host: STOCK"), []string{":authority: stock", "-host"}},
		"host alone":      {without(":authority", "host: stock:80"), []string{":authority: stock:80", "-host"}},
		"neither":         {without(":authority"), []string{"-:authority", "-host"}},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, setup{}, func(r *rig, client, backend *peer) {
				client.headers(1, true, c.sent...)
				backend.wantHeaders(1, c.want...)
				trailersOnly(client, 1, backend, 1)
			})
		})
	}
}

// What must never be indexed stays so on both hops, and what may be indexed is.
func TestNeverIndexedFieldsStaySo(t *testing.T) {
	inRig(t, setup{}, func(r *rig, client, backend *peer) {
		for id := uint32(1); id < 6; id += 2 {
			client.request(id, false, "!authorization: secret", "!traceparent: 00-11-22-33", "x: plain")
			client.headers(id, true, "!x-end: secret")
			backend.wantHeaders(id, "!authorization: secret", "!traceparent: 00-11-22-33", "x: plain")
			backend.wantTrailers(id, "!x-end: secret")
			backend.response(id, "!set-cookie: secret", "x: plain")
			backend.headers(id, true, "grpc-status: 0", "!grpc-message: secret")
			client.wantHeaders(id, "!set-cookie: secret", "x: plain")
			client.wantTrailers(id, "grpc-status: 0", "!grpc-message: secret")
		}
	})
}
