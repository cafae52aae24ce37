// Package child runs the programs of the suites as processes of their own, and ends each of them by its process id.
//
// What this package does not do: it knows nothing of what the programs are for, and reads nothing that they print.
package child

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	grace   = 4 * time.Second       // from SIGTERM to SIGKILL
	startUp = 15 * time.Second      // until a program must listen
	retry   = 20 * time.Millisecond // between two looks whether it does
)

// Child is a program that runs.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// Start starts cmd as a process group of its own. It is ended when ctx is, or by Stop.
func Start(ctx context.Context, cmd *exec.Cmd) (*Child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	c := &Child{cmd: cmd, done: make(chan struct{})}
	go func() { // ends with the process
		c.err = cmd.Wait()
		close(c.done)
	}()
	context.AfterFunc(ctx, c.Stop)
	return c, nil
}

// Output runs cmd and returns what it printed, and how it ended.
func Output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	c, err := Start(ctx, cmd)
	if err != nil {
		return "", err
	}
	err = errors.Join(c.Wait(), ctx.Err())
	return text.String(), err
}

// Stop asks the program, and what it started in its group, to end, ends them if they do not, and waits until it has. Twice does no harm.
func (c *Child) Stop() {
	c.signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(grace):
		c.signal(syscall.SIGKILL)
		<-c.done
	}
}

// signal reaches nobody once the program has ended: its number may then be another's.
func (c *Child) signal(s syscall.Signal) {
	select {
	case <-c.done:
	default:
		_ = syscall.Kill(-c.cmd.Process.Pid, s)
	}
}

// Done is closed when the program has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait waits for the end of the program and tells how it ended.
func (c *Child) Wait() error {
	<-c.done
	return c.err
}

// AwaitListener returns when somebody listens at address, or with an error when the program ends first.
func (c *Child) AwaitListener(address string) error {
	name := filepath.Base(c.cmd.Path)
	for end := time.Now().Add(startUp); time.Now().Before(end); {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-c.done:
			return errors.Join(fmt.Errorf("%s ended before it listened at %s", name, address), c.err)
		case <-time.After(retry):
		}
	}
	return fmt.Errorf("%s does not listen at %s after %v", name, address, startUp)
}

// FreeAddress returns a loopback address at which nobody listens now.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
