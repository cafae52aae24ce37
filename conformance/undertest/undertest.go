// Package undertest plays the program under test for connectconformance: it starts the real one and a middle beside it, and puts the
// address of the middle where the suite or the client expects the server's. So neither of them knows that something stands between.
//
// What this package does not do: it takes no part in the calls, and the results pass it unread.
package undertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/capguard/capguard/conformance/child"
	"github.com/capguard/capguard/conformance/middle"
)

// Fields of connectrpc.conformance.v1: ServerCompatRequest, ServerCompatResponse, ClientCompatRequest, TLSCreds.
const (
	serverUseTLS, serverClientCA, serverCreds      protowire.Number = 4, 5, 7
	answerHost, answerPort, answerCert             protowire.Number = 1, 2, 3
	callHost, callPort, callServerCert, callClient protowire.Number = 6, 7, 8, 9
	credsCert, credsKey                            protowire.Number = 1, 2
)

// Play is the part to play.
type Play struct {
	Kind    middle.Kind
	Bin     string   // where the guard's binary is
	Command []string // the real program
}

func (p Play) command() *exec.Cmd {
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Stderr = os.Stderr
	return cmd
}

// Server plays a server until ctx ends. The middle has the suite's certificate, and verifies client certificates; the server behind
// it has TLS, too, but sees the middle as its client and so asks for none.
func (p Play) Server(ctx context.Context) error {
	request, err := readMessage(os.Stdin)
	if err != nil {
		return fmt.Errorf("read the request for a server: %w", err)
	}
	server, answer, err := p.startServer(ctx, request.without(serverClientCA))
	if err != nil {
		return err
	}
	defer server.Stop()
	route := middle.Route{Target: target(answer, answerHost, answerPort)}
	if request.varint(serverUseTLS) != 0 {
		creds := message(request.bytes(serverCreds))
		route.Front = &middle.TLS{Cert: creds.bytes(credsCert), Key: creds.bytes(credsKey), CA: request.bytes(serverClientCA)}
		route.Back = &middle.TLS{CA: answer.bytes(answerCert)}
		answer = answer.withBytes(answerCert, route.Front.Cert)
	}
	m, err := middle.Start(ctx, p.Kind, p.Bin, route)
	if err != nil {
		return err
	}
	defer m.Stop()
	answer, err = redirect(answer, m.Address, answerHost, answerPort)
	if err == nil {
		err = answer.write(os.Stdout)
	}
	if err != nil {
		return fmt.Errorf("answer with the address: %w", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-server.Done():
		return errors.New("the server has ended by itself")
	case <-m.Done():
		return errors.New("the middle has ended by itself")
	}
}

// startServer starts the real server and returns its answer to the request.
func (p Play) startServer(ctx context.Context, request message) (*child.Child, message, error) {
	cmd := p.command()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	server, err := child.Start(ctx, cmd)
	if err != nil {
		return nil, nil, err
	}
	answer, err := message(nil), request.write(in)
	if err == nil {
		err = in.Close()
	}
	if err == nil {
		answer, err = readMessage(out)
	}
	if err != nil {
		server.Stop()
		return nil, nil, fmt.Errorf("ask the server for its address: %w", err)
	}
	return server, answer, nil
}

// Client plays a client: it hands on the calls that the suite asks for, each to the middle before the server that it is for.
func (p Play) Client(ctx context.Context) error {
	cmd := p.command()
	cmd.Stdout = os.Stdout
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	client, err := child.Start(ctx, cmd)
	if err != nil {
		return err
	}
	defer client.Stop()
	own, err := middle.NewTLS()
	if err != nil {
		return err
	}
	d := detour{play: p, own: own, middles: map[string]*middle.Middle{}}
	defer d.stop()
	if err := d.copy(ctx, in, os.Stdin); err != nil {
		return err
	}
	return client.Wait()
}

// detour leads calls through middles, one before each server.
type detour struct {
	play    Play
	own     *middle.TLS // the certificate of all the middles
	middles map[string]*middle.Middle
}

func (d *detour) copy(ctx context.Context, to io.WriteCloser, from io.Reader) error {
	for {
		call, err := readMessage(from)
		if err == io.EOF {
			return to.Close()
		}
		if err == nil && d.play.Kind != middle.None {
			call, err = d.lead(ctx, call)
		}
		if err == nil {
			err = call.write(to)
		}
		if err != nil {
			return fmt.Errorf("hand on a call: %w", err)
		}
	}
}

// lead returns the call with the address, and the certificate, of the middle before its server.
func (d *detour) lead(ctx context.Context, call message) (message, error) {
	to := target(call, callHost, callPort)
	secure := len(call.bytes(callServerCert)) > 0
	m := d.middles[to]
	if m == nil {
		var err error
		if m, err = middle.Start(ctx, d.play.Kind, d.play.Bin, d.route(to, call)); err != nil {
			return nil, err
		}
		d.middles[to] = m
	}
	if secure {
		call = call.withBytes(callServerCert, d.own.Cert)
	}
	return redirect(call, m.Address, callHost, callPort)
}

// route is the way to a server. If that wants a client certificate, the middle wants the same one, and shows it.
func (d *detour) route(to string, call message) middle.Route {
	route := middle.Route{Target: to}
	if ca := call.bytes(callServerCert); len(ca) > 0 {
		creds := message(call.bytes(callClient))
		route.Front = &middle.TLS{Cert: d.own.Cert, Key: d.own.Key, CA: creds.bytes(credsCert)}
		route.Back = &middle.TLS{CA: ca, Cert: creds.bytes(credsCert), Key: creds.bytes(credsKey)}
	}
	return route
}

func (d *detour) stop() {
	for _, m := range d.middles {
		m.Stop()
	}
}

func target(m message, host, port protowire.Number) string {
	return net.JoinHostPort(string(m.bytes(host)), strconv.FormatUint(m.varint(port), 10))
}

// redirect returns m with another address.
func redirect(m message, address string, host, port protowire.Number) (message, error) {
	h, p, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	return m.withBytes(host, []byte(h)).withVarint(port, n), err
}
