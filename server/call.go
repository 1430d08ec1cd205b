package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/latchkey-auth/latchkey/internal/inbound"
	"github.com/latchkey-auth/latchkey/internal/password"
)

// call is what the interceptors learn of a call and handlers use.
type call struct {
	// id is 32 hex digits, random and made here: whoever calls can neither choose it nor
	// make another call's equal to it.
	id string
	// traceID is 32 hex digits: taken up from the caller's traceparent (W3C Trace
	// Context), else the id. Callers may send what they like, somebody else's too: it
	// finds a call in the logs and proves nothing.
	traceID string
	// address is the client's, by the trusted-proxy setting; invalid on transports
	// that have none.
	address netip.Addr
	// userID is the account that the call was about, for the log; uuid.Nil: none is known.
	userID uuid.UUID
}

type callKey struct{}

var errNoHop = errors.New("not an address")

func callFrom(ctx context.Context) call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return *c
	}
	return call{}
}

// noteUser has the log say whose account the call was about. Only the handler calls it, before it leaves work to others.
func noteUser(ctx context.Context, id uuid.UUID) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.userID = id
	}
}

func newCall(ctx context.Context, trusted []netip.Prefix) *call {
	c := &call{id: newCallID()}
	c.traceID = c.id
	if sent := incoming(ctx, "traceparent"); len(sent) > 0 {
		if taken, ok := parseTraceparent(sent[0]); ok {
			c.traceID = taken
		}
	}
	c.address = clientAddress(ctx, trusted)
	return c
}

// incoming is one of the headers. metadata.FromIncomingContext would copy all of them.
func incoming(ctx context.Context, name string) []string {
	return metadata.ValueFromIncomingContext(ctx, name)
}

func newCallID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand, since Go 1.24)
	return hex.EncodeToString(id[:])
}

// parseTraceparent takes the trace id from a traceparent header (W3C Trace
// Context, section 3.2): version-traceid-parentid-flags, lower-case hex, neither
// id all zero. Later versions may append fields, version ff is invalid.
func parseTraceparent(header string) (string, bool) {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(header) < length || header[2] != '-' || header[35] != '-' || header[52] != '-' {
		return "", false
	}
	version, trace, parent, flags := header[:2], header[3:35], header[36:52], header[53:55]
	if !isLowerHex(version) || !isLowerHex(trace) || !isLowerHex(parent) || !isLowerHex(flags) || version == "ff" {
		return "", false
	}
	if version == "00" && len(header) != length || len(header) > length && header[length] != '-' {
		return "", false
	}
	if strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" {
		return "", false
	}
	return trace, true
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// clientAddress is the peer's address, or where the peer is a trusted proxy the
// nearest address in x-forwarded-for that is not one: what stands left of it was
// written by the client and proves nothing. A proxy that names nobody, or somebody
// who cannot be read, answers for its clients by its own address; so does one whose PROXY
// header names nobody, which has not written what follows it.
func clientAddress(ctx context.Context, trusted []netip.Prefix) netip.Addr {
	address := peerAddress(ctx)
	if !contains(trusted, address) || inbound.Unnamed(ctx) {
		return address
	}
	for _, hops := range slices.Backward(incoming(ctx, "x-forwarded-for")) {
		for more := true; more; {
			var text string
			if i := strings.LastIndexByte(hops, ','); i >= 0 {
				hops, text = hops[:i], hops[i+1:]
			} else {
				text, more = hops, false
			}
			hop, err := parseHop(strings.TrimSpace(text))
			if err != nil {
				return address
			}
			address = hop.Unmap().WithZone("")
			if !contains(trusted, address) {
				return address
			}
		}
	}
	return address
}

// peerAddress is who holds the other end of the connection; invalid on transports
// that have no addresses.
func peerAddress(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	tcp, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// parseHop takes an address, also with a port or in brackets, as some gateways write it.
func parseHop(text string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr(), nil
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text, ok = strings.CutSuffix(inner, "]")
		if !ok || !strings.Contains(text, ":") {
			return netip.Addr{}, errNoHop
		}
	}
	return netip.ParseAddr(text)
}

func contains(prefixes []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// addressKey is what a rate limit counts: an IPv4 address, or the /64 that an IPv6
// customer usually has for itself.
func addressKey(address netip.Addr) string {
	if address.Is6() {
		prefix, err := address.Prefix(64)
		if err == nil {
			return prefix.String()
		}
	}
	return address.String()
}

// hashClaim is for whom this call has passwords hashed. Known says that the client has
// shown what only an account's owner was given: a live session, a device's or a
// reset's token.
func hashClaim(ctx context.Context, known bool) password.Claim {
	address := callFrom(ctx).address
	return password.Claim{Network: networkKey(address), Address: addressKey(address), Known: known}
}

// networkKey is what fair queues count: the smallest block that the Internet routes by
// itself, so that nobody has more than one without renting more. That is a /48 of
// IPv6, and a /24 of IPv4.
func networkKey(address netip.Addr) string {
	bits := 24
	if address.Is6() {
		bits = 48
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}
