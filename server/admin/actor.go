package admin

import (
	"context"
	"crypto/x509"
	"net"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// ActorKey is the metadata key by which an operator without a client certificate says who they are.
const ActorKey = "capguard-actor"

const maxActor = 100 // bytes

// actor returns who commands: the name in the verified client certificate; without one what the metadata say, which is a statement and no
// proof; without that `anonymous@` and the peer's host.
func actor(ctx context.Context) string {
	p, _ := peer.FromContext(ctx)
	if p != nil {
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.VerifiedChains) > 0 {
			if name := certified(t.State.VerifiedChains[0][0]); name != "" {
				return name
			}
		}
	}
	if said := metadata.ValueFromIncomingContext(ctx, ActorKey); len(said) > 0 && presentable(said[0]) {
		return strings.TrimSpace(said[0])
	}
	return "anonymous@" + host(p)
}

// certified returns the common name of c, else its first alternative name.
func certified(c *x509.Certificate) string {
	names := append([]string{c.Subject.CommonName}, c.EmailAddresses...)
	names = append(names, c.DNSNames...)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	for _, name := range names {
		if presentable(name) {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// presentable tells whether s can stand in a log line and a history as a name.
func presentable(s string) bool {
	return strings.TrimSpace(s) != "" && len(s) <= maxActor && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func host(p *peer.Peer) string {
	if p == nil || p.Addr == nil {
		return "unknown"
	}
	address := p.Addr.String()
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	if address == "" || address == "@" {
		return "local"
	}
	return address
}
