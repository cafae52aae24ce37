package rival

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/capguard/capguard/benchmarks/load"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// Guard is a Capacity Guard, from the program at path, with all that it does switched on but tracing.
func Guard(name, path string) Rival {
	return Rival{Name: name, Refuses: true, Passes: true, launch: func(_ *Ground, s site) (*process, error) {
		admin, err := freePort()
		if err != nil {
			return nil, err
		}
		args := []string{"serve", "--backend", s.backend(), "--listen", s.listen(), "--admin", admin, "--data-dir", s.Dir, "--log-level", "ERROR"}
		if s.Secure() {
			args = append(args, "--tls-cert", s.Cert, "--tls-key", s.Key)
		}
		p, err := start(path, args...)
		if err != nil {
			return nil, err
		}
		if err := prepare(admin); err != nil {
			p.stop()
			return nil, fmt.Errorf("prepare guard: %w", err)
		}
		return p, nil
	}}
}

// prepare switches one feature on and one off, and sets a limit that never binds: what the guard costs is measured, not what it protects.
func prepare(admin string) error {
	conn, err := grpc.NewClient("passthrough:///"+admin, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	flags := capguardv1.NewFlagServiceClient(conn)
	_, on := flags.EnableFlag(ctx, &capguardv1.EnableFlagRequest{Name: load.FeatureOn, AllowMissing: true})
	_, off := flags.DisableFlag(ctx, &capguardv1.DisableFlagRequest{Name: load.FeatureOff, AllowMissing: true})
	_, limit := capguardv1.NewGuardServiceClient(conn).SetLimit(ctx, &capguardv1.SetLimitRequest{Min: new(int32(500)), Max: new(int32(500))})
	return errors.Join(on, off, limit)
}
