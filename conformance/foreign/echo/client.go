package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const soon = 20 * time.Second

// caller plays the cases over one connection.
type caller struct{ conn *grpc.ClientConn }

// client plays all cases and prints a line for each.
func client(address string, ca ...string) error {
	secure := insecure.NewCredentials()
	if len(ca) > 0 {
		var err error
		if secure, err = credentials.NewClientTLSFromFile(ca[0], ""); err != nil {
			return err
		}
	}
	conn, err := grpc.NewClient("passthrough:"+address, grpc.WithTransportCredentials(secure), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		return err
	}
	defer conn.Close()
	c := caller{conn}
	for _, x := range []struct {
		name string
		play func(context.Context) error
	}{
		{"unary", c.unary}, {"empty", c.empty}, {"client_stream", c.clientStream}, {"server_stream", c.serverStream}, {"bidi", c.bidi},
		{"metadata", c.metadata}, {"status_details", c.statusDetails}, {"unimplemented", c.unimplemented}, {"deadline", c.deadline},
		{"deadline_seen", c.deadlineSeen}, {"cancel", c.cancel}, {"gzip", c.gzip}, {"large", c.large}, {"many", c.many},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		if err := x.play(ctx); err != nil {
			fmt.Printf("FAIL %s: %.500s\n", x.name, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok", x.name)
		}
		cancel()
	}
	return nil
}

func (c caller) call(ctx context.Context, method string, request []byte, options ...grpc.CallOption) (answer []byte, err error) {
	err = c.conn.Invoke(ctx, "/"+service+"/"+method, &request, &answer, options...)
	return answer, err
}

func (c caller) open(ctx context.Context, method string) (grpc.ClientStream, error) {
	return c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+service+"/"+method)
}

// ask opens a stream with one message.
func (c caller) ask(ctx context.Context, method, request string) (grpc.ClientStream, error) {
	s, err := c.open(ctx, method)
	if err != nil {
		return nil, err
	}
	message := []byte(request)
	return s, errors.Join(s.SendMsg(&message), s.CloseSend())
}

// rest returns what a stream still sends, and how it ends.
func rest(s grpc.ClientStream) (got []string, err error) {
	for {
		var message []byte
		if err := s.RecvMsg(&message); errors.Is(err, io.EOF) {
			return got, nil
		} else if err != nil {
			return got, err
		}
		got = append(got, string(message))
	}
}

func equal(got, want any) error {
	if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
		return fmt.Errorf("got %.200s, want %.200s", g, w)
	}
	return nil
}

// echo sends a message and wants it back.
func (c caller) echo(ctx context.Context, message []byte, options ...grpc.CallOption) error {
	got, err := c.call(ctx, "Unary", message, options...)
	if err == nil && !bytes.Equal(got, message) {
		err = fmt.Errorf("%d bytes came back as %d others", len(message), len(got))
	}
	return err
}

func (c caller) unary(ctx context.Context) error { return c.echo(ctx, []byte{0, 1, 2, 255}) }

func (c caller) empty(ctx context.Context) error { return c.echo(ctx, nil) }

func (c caller) clientStream(ctx context.Context) error {
	s, err := c.open(ctx, "Collect")
	if err != nil {
		return err
	}
	var want strings.Builder
	for i := range 100 {
		part := fmt.Appendf(nil, "%d,", i)
		want.WriteString(string(part))
		if err := s.SendMsg(&part); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	got, err := rest(s)
	return errors.Join(err, equal(got, []string{want.String()}))
}

func (c caller) serverStream(ctx context.Context) error {
	s, err := c.ask(ctx, "Spread", "m")
	if err != nil {
		return err
	}
	got, err := rest(s)
	return errors.Join(err, equal(got, []string{"m0", "m1", "m2", "m3", "m4"}))
}

func (c caller) bidi(ctx context.Context) error {
	s, err := c.open(ctx, "Chat")
	if err != nil {
		return err
	}
	for i := range 20 {
		question, answer := fmt.Append(nil, i), []byte(nil)
		if err := s.SendMsg(&question); err != nil {
			return err
		}
		if err := errors.Join(s.RecvMsg(&answer), equal(answer, question)); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	got, err := rest(s)
	return errors.Join(err, equal(len(got), 0))
}

func (c caller) metadata(ctx context.Context) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-echo", "one", "x-echo", "two words", "x-echo-bin", "\x00\xc8\xff")
	var headers, trailers metadata.MD
	_, err := c.call(ctx, "Unary", []byte("m"), grpc.Header(&headers), grpc.Trailer(&trailers))
	return errors.Join(err, equal(strings.Join(headers["x-echo"], ", "), "one, two words"),
		equal(trailers["x-echo-bin"], []string{"\x00\xc8\xff"}))
}

func code(err error, want codes.Code) error {
	if status.Code(err) != want {
		return fmt.Errorf("got %w, want %s", err, want)
	}
	return nil
}

func (c caller) statusDetails(ctx context.Context) error {
	var trailers metadata.MD
	_, err := c.call(ctx, "Fail", []byte{8, 9, 250}, grpc.Trailer(&trailers))
	return errors.Join(code(err, codes.FailedPrecondition), equal(status.Convert(err).Message(), "nöt now: 100 %"),
		equal(trailers["grpc-status-details-bin"], []string{"\x08\x09\xfa"}), equal(trailers["x-why"], []string{"because"}))
}

func (c caller) unimplemented(ctx context.Context) error {
	_, err := c.call(ctx, "NoSuchMethod", nil)
	return code(err, codes.Unimplemented)
}

func (c caller) deadline(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
	defer cancel()
	s, err := c.ask(ctx, "Hang", "m")
	if err != nil {
		return err
	}
	got, err := rest(s)
	return errors.Join(code(err, codes.DeadlineExceeded), equal(got, []string{"m"}))
}

func (c caller) number(ctx context.Context, method string) (int, error) {
	answer, err := c.call(ctx, method, nil)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(answer))
}

func (c caller) deadlineSeen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 9*time.Second)
	defer cancel()
	ms, err := c.number(ctx, "Remaining")
	if err == nil && (ms <= 4000 || ms > 9100) {
		err = fmt.Errorf("the server sees %d ms of 9000", ms)
	}
	return err
}

func (c caller) cancel(ctx context.Context) error {
	before, err := c.number(ctx, "Ended")
	if err != nil {
		return err
	}
	hanging, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.ask(hanging, "Hang", "m")
	if err != nil {
		return err
	}
	var message []byte
	if err := s.RecvMsg(&message); err != nil {
		return err
	}
	cancel()
	if _, err := rest(s); status.Code(err) != codes.Canceled {
		return code(err, codes.Canceled)
	}
	for range 100 {
		if now, err := c.number(ctx, "Ended"); err != nil || now != before {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the server does not hear of it")
}

func (c caller) gzip(ctx context.Context) error {
	return c.echo(ctx, bytes.Repeat([]byte("all work and no play "), 5000), grpc.UseCompressor("gzip"))
}

func (c caller) large(ctx context.Context) error {
	return c.echo(ctx, bytes.Repeat([]byte("all work"), 1<<20))
}

func (c caller) many(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range 200 {
		g.Go(func() error { return c.echo(ctx, fmt.Append(nil, i)) })
	}
	return g.Wait()
}
