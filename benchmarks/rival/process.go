package rival

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a program that this one started and ends.
type process struct {
	cmd   *exec.Cmd
	said  bytes.Buffer // read only once it has ended
	ended chan struct{}
}

// start starts a program.
func start(path string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // Ends with the process.
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// patience is how long a program may take to listen, and to end.
const patience = 10 * time.Second

// ready waits until the program listens.
func (p *process) ready(ctx context.Context, l Link, address string) error {
	network := "tcp"
	if l == Unix {
		network = "unix"
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if conn, err := net.Dial(network, address); err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended early and said: %s", filepath.Base(p.cmd.Path), p.said.String())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w", filepath.Base(p.cmd.Path), address, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop asks the program to end, so that it ends its own children, and makes it when it does not.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}
