// Package config reads the configuration of the guard.
//
// The file is YAML; its schema is the message capguard.v1.Config. Decoding is strict: an unknown field, one that is there twice, a wrong
// type, a value out of its range is an error with file, line and column, and all errors are reported at once. What is left out gets the
// default that the schema names; a 0 that would count as left out is an error. The file is bounded to 1 MiB.
//
// What this package does not do: it opens no port and starts nothing; it does not watch the file.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"buf.build/go/protoyaml"
	"google.golang.org/protobuf/types/known/durationpb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// Defaults of what the schema leaves open.
const (
	DefaultListen  = "127.0.0.1:7070"
	DefaultAdmin   = "127.0.0.1:7071"
	DefaultDataDir = "./capguard-data"
	DefaultBackend = "default"
	DefaultDrain   = 30 * time.Second

	defaultHeaderBytes       = 64 << 10
	defaultConnectionStreams = 250
	defaultConnections       = 10_000
)

const maxFileBytes = 1 << 20

// Load reads a file. Call Complete on what it returns.
func Load(path string) (*capguardv1.Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("read configuration %s: %d bytes are more than the %d allowed", path, info.Size(), maxFileBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse decodes and checks the content of a file; path stands in the errors.
func Parse(path string, data []byte) (_ *capguardv1.Config, err error) {
	// The decoder is fuzzed; should it still panic on some input, that input is a bad file, not the end of a running guard.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: not a configuration: %v", path, p)
		}
	}()
	c := new(capguardv1.Config)
	r := new(reader)
	options := protoyaml.UnmarshalOptions{Path: path, Validator: r, CustomUnmarshaler: r}
	if err := options.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("configuration %s is wrong:\n%w", path, withoutEchoes(path, err, r.found))
	}
	return c, nil
}

// withoutEchoes leaves out violations, which are the last n errors, of values that could not be read in the first place.
func withoutEchoes(path string, err error, n int) error {
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	place := func(err error) string {
		at, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), path), " ")
		return at
	}
	errs := all.Unwrap()
	unread := errs[:len(errs)-n]
	return errors.Join(slices.DeleteFunc(slices.Clone(errs), func(err error) bool {
		return !slices.Contains(unread, err) && slices.ContainsFunc(unread, func(u error) bool { return place(u) == place(err) })
	})...)
}

// Complete fills in the defaults and checks what only the whole can tell, after the command line had its say.
func Complete(c *capguardv1.Config) error {
	c.Listen = cmp.Or(c.GetListen(), DefaultListen)
	c.DataDir = cmp.Or(c.GetDataDir(), DefaultDataDir)
	c.Mode = cmp.Or(c.GetMode(), "enforce")
	if c.Admin == nil {
		c.Admin = new(capguardv1.Admin)
	}
	c.Admin.Listen = cmp.Or(c.Admin.GetListen(), DefaultAdmin)
	if c.DrainTimeout == nil {
		c.DrainTimeout = durationpb.New(DefaultDrain)
	}
	c.Bounds = completeBounds(c.GetBounds())
	for _, b := range c.GetBackends() {
		b.Name = cmp.Or(b.GetName(), DefaultBackend)
		b.Mode = cmp.Or(b.GetMode(), c.GetMode())
		if len(b.GetRoutes()) == 0 {
			b.Routes = []string{"*"}
		}
	}
	return checkWhole(c)
}

func completeBounds(b *capguardv1.Bounds) *capguardv1.Bounds {
	if b == nil {
		b = new(capguardv1.Bounds)
	}
	b.MaxHeaderBytes = cmp.Or(b.GetMaxHeaderBytes(), defaultHeaderBytes)
	b.MaxConnectionStreams = cmp.Or(b.GetMaxConnectionStreams(), defaultConnectionStreams)
	b.MaxConnections = cmp.Or(b.GetMaxConnections(), defaultConnections)
	return b
}

// checkWhole reports what no single field of the file can be blamed for.
func checkWhole(c *capguardv1.Config) error {
	var errs []error
	if len(c.GetBackends()) == 0 {
		errs = append(errs, errors.New("no back-end: give --backend host:port, or backends in the configuration file"))
	}
	for _, v := range check(c) {
		errs = append(errs, errors.New(v.String()))
	}
	if err := checkAdminExposure(c.GetAdmin()); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
