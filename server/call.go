package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

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
	// local says that the peer itself is on loopback and named nobody else.
	local bool
}

type callKey struct{}

func callFrom(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	return c
}

func newCall(ctx context.Context, trusted []netip.Prefix) call {
	c := call{id: newCallID()}
	c.traceID = c.id
	if sent := incoming(ctx, "traceparent"); len(sent) > 0 {
		if taken, ok := parseTraceparent(sent[0]); ok {
			c.traceID = taken
		}
	}
	c.address, c.local = clientAddress(ctx, trusted)
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
// written by the client and proves nothing.
func clientAddress(ctx context.Context, trusted []netip.Prefix) (client netip.Addr, local bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}, true
	}
	tcp, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, true
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	if !contains(trusted, address) {
		return address, address.IsLoopback()
	}
	direct := address
	hops := strings.Split(strings.Join(incoming(ctx, "x-forwarded-for"), ","), ",")
	for _, text := range slices.Backward(hops) {
		hop, err := parseHop(strings.TrimSpace(text))
		if err != nil {
			break
		}
		address = hop.Unmap().WithZone("")
		if !contains(trusted, address) {
			break
		}
	}
	return address, direct.IsLoopback() && address == direct
}

// parseHop takes an address, also with a port, as some gateways write it.
func parseHop(text string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr(), nil
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
