package e2e_test

import (
	"strings"
	"testing"
)

// On an admin port that verifies certificates, the certificate says who commands, and nobody commands without one.
func TestTheCertificateIsTheActor(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue(t, "localhost")
	g := serve(t, nil, fragileBackend(t), "--admin-tls-cert", cert, "--admin-tls-key", key, "--admin-tls-client-ca", a.file)
	command := []string{"-H", "capguard-actor: mallory", "-d", `{"name":"recs","allow_missing":true}`, g.admin, "capguard.v1.FlagService/DisableFlag"}
	annaCert, annaKey := a.issue(t, "anna")

	out, err := run(t.Context(), tool(t, "grpcurl"), append([]string{"-cacert", a.file, "-cert", annaCert, "-key", annaKey}, command...)...)
	if err != nil || !strings.Contains(out, `"actor": "anna"`) {
		t.Errorf("with a certificate: %v\n%s", err, out)
	}
	for name, flags := range map[string][]string{"no certificate": {"-cacert", a.file}, "plain text": {"-plaintext"}} {
		out, err := run(t.Context(), tool(t, "grpcurl"), append(append([]string{"-connect-timeout", "3"}, flags...), command...)...)
		if err == nil {
			t.Errorf("%s: the command was carried out\n%s", name, out)
		}
	}
}
