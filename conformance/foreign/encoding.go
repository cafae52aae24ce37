package foreign

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/capguard/capguard/conformance/backend"
)

// rot is the encoding that nobody has registered. That the guard could not read it must make no difference.
const rot = "x-rot"

// exchange is a call in an encoding of its own, both ways.
type exchange struct {
	name              string
	question, answer  []byte // with the five bytes before each message
	status, grpcError string // trailers of the answer
}

func exchanges() []exchange {
	return []exchange{
		{"one message", frames(1000), frames(2000), "0", ""},
		{"many large messages", frames(1, 0, 300_000, 70_000), frames(500_000, 5, 0, 80_000), "0", ""},
		{"an error after a message", frames(10), frames(10), "9", "no%C3%B6 %25"},
		{"an error at once", frames(10), nil, "13", "it is so"},
	}
}

// frames are random messages of the given sizes, marked as compressed.
func frames(sizes ...int) (all []byte) {
	for _, size := range sizes {
		all = binary.BigEndian.AppendUint32(append(all, 1), uint32(size))
		for range size {
			all = append(all, byte(rand.Uint32()))
		}
	}
	return all
}

// encoding plays the exchanges between a client and a server of net/http, which know nothing of gRPC, and so change nothing of it.
func (s Suite) encoding(ctx context.Context, w io.Writer, c *credentials) (ok bool, err error) {
	all := exchanges()
	address, stop, err := backend.Start(handler(all), c.own)
	if err != nil {
		return false, err
	}
	defer stop()
	m, err := s.open(ctx, address, c)
	if err != nil {
		return false, err
	}
	defer m.Stop()
	client, url := &http.Client{Transport: c.transport(), Timeout: 10 * time.Second}, "http://"+m.Address
	if c.own != nil {
		url = "https://" + m.Address
	}
	defer client.CloseIdleConnections()
	passed := 0
	var faults []error
	for i, x := range all {
		if err := x.ask(ctx, client, fmt.Sprintf("%s/capguard.conformance.Rot/%d", url, i)); err != nil {
			faults = append(faults, fmt.Errorf("  %s: %w", x.name, err))
			continue
		}
		passed++
	}
	fmt.Fprintf(w, "foreign, %s, an encoding nobody registered: %d of %d\n", c.name, passed, len(all))
	if err := errors.Join(faults...); err != nil {
		fmt.Fprintln(w, err)
	}
	return passed == len(all), nil
}

// handler serves the exchanges, each by its number.
func handler(all []exchange) http.Handler {
	mux := http.NewServeMux()
	for i, x := range all {
		mux.Handle(fmt.Sprintf("POST /capguard.conformance.Rot/%d", i), x)
	}
	return mux
}

func (c *credentials) transport() *http.Transport {
	t := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	t.Protocols.SetUnencryptedHTTP2(c.own == nil)
	t.Protocols.SetHTTP2(c.own != nil)
	if c.own != nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(c.own.Cert)
		t.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return t
}

// ServeHTTP answers with x.answer if the question came as it was sent, and else says in a trailer what was wrong.
func (x exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = errors.Join(same("question", body, x.question), known("request", r.Header), r.Context().Err())
	}
	h := w.Header()
	h.Set("content-type", "application/grpc+rot")
	h.Set("grpc-encoding", rot)
	h.Set("x-fault", fmt.Sprint(err))
	if x.answer != nil {
		_, _ = w.Write(x.answer)
	}
	for _, trailer := range []struct{ name, value string }{{"grpc-status", x.status}, {"grpc-message", x.grpcError}, {"x-end-bin", "AAEC"}} {
		h.Set(http.TrailerPrefix+trailer.name, trailer.value)
	}
}

// ask sends the question and checks all of the answer.
func (x exchange) ask(ctx context.Context, client *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(bytes.NewReader(x.question))) // of unknown length
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"content-type": "application/grpc+rot", "te": "trailers", "grpc-encoding": rot,
		"grpc-accept-encoding": rot} {
		r.Header.Set(name, value)
	}
	got, err := client.Do(r)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if fault := got.Header.Get("x-fault"); fault != "<nil>" {
		return fmt.Errorf("the server met %q, grpc-status %q, grpc-message %q", fault,
			got.Header.Get("grpc-status")+got.Trailer.Get("grpc-status"), got.Header.Get("grpc-message")+got.Trailer.Get("grpc-message"))
	}
	return errors.Join(same("answer", body, x.answer), known("answer", got.Header), field(got.Trailer, "grpc-status", x.status),
		field(got.Trailer, "grpc-message", x.grpcError), field(got.Trailer, "x-end-bin", "AAEC"))
}

func same(what string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the %s of %d bytes came as %d others", what, len(want), len(got))
	}
	return nil
}

// known checks the headers that both directions have.
func known(what string, h http.Header) error {
	if err := errors.Join(field(h, "content-type", "application/grpc+rot"), field(h, "grpc-encoding", rot)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func field(h http.Header, name, want string) error {
	if got := h.Get(name); got != want {
		return fmt.Errorf("%s is %q, want %q", name, got, want)
	}
	return nil
}
