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

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/inbound"
)

var errNoHop = errors.New("not an address")

// callerOf reads the data about the caller from the metadata and the connection of a call.
func callerOf(ctx context.Context, trusted []netip.Prefix) *caller.Caller {
	c := &caller.Caller{CallID: newCallID(), Address: clientAddress(ctx, trusted), Credential: bearer(ctx)}
	c.TraceID = c.CallID
	if sent := incoming(ctx, "traceparent"); len(sent) > 0 {
		if taken, ok := parseTraceparent(sent[0]); ok {
			c.TraceID = taken
		}
	}
	return c
}

// bearerScheme is compared in any letter case (RFC 9110, section 11.1).
const bearerScheme = "bearer "

// bearer returns the credential in the metadata `authorization: Bearer CREDENTIAL`. If there are several it returns
// none: which one counts must not depend on the code that reads them.
func bearer(ctx context.Context) string { return credentialIn(incoming(ctx, "authorization")) }

// credentialIn is bearer for the values of the header.
func credentialIn(values []string) string {
	if len(values) != 1 || len(values[0]) < len(bearerScheme) || !strings.EqualFold(values[0][:len(bearerScheme)], bearerScheme) {
		return ""
	}
	return values[0][len(bearerScheme):]
}

// incoming returns the values of one header. metadata.FromIncomingContext would copy all headers.
func incoming(ctx context.Context, name string) []string {
	return metadata.ValueFromIncomingContext(ctx, name)
}

func newCallID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand, since Go 1.24)
	return hex.EncodeToString(id[:])
}

// parseTraceparent returns the trace id in a traceparent header (W3C Trace Context, section 3.2):
// version-traceid-parentid-flags, lower-case hex, neither id all zero. Later versions may append fields. Version ff is
// invalid.
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

// clientAddress returns the address of the peer. If the peer is a trusted proxy, it returns the last address in
// x-forwarded-for that is not a trusted proxy: the client may have written everything to the left of that. If a proxy
// names no client, or the name does not parse, its clients have the address of the proxy. So have those of a proxy
// whose PROXY header names no client, because the client itself may have written the headers that follow.
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

// peerAddress returns the address of the other end of the connection. It is invalid on transports that have no
// addresses.
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

// parseHop parses an address, also with a port or in brackets, as some gateways write it.
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
