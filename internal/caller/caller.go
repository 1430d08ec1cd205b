// Package caller holds what the service knows of the caller of a request before anything is checked: where the request
// comes from, how it is found in the logs, and which credential it shows. The transport reads it once; flows and handlers
// take it from the context, so that they do not depend on gRPC or HTTP.
package caller

import (
	"context"
	"net/netip"

	"github.com/google/uuid"
)

// Caller is the source of one request.
type Caller struct {
	// CallID is 32 hex digits, random and made by the transport: a caller can neither choose it nor make another call's
	// equal to it.
	CallID string
	// TraceID is 32 hex digits: taken up from the caller's traceparent (W3C Trace Context), else the CallID. Callers may
	// send what they like, somebody else's too: it finds a call in the logs and proves nothing.
	TraceID string
	// Address is the client's, by the trusted-proxy setting; invalid on transports that have none.
	Address netip.Addr
	// Credential is what the request shows as `authorization: Bearer CREDENTIAL`, unchecked; "" when it shows none, or
	// more than one: which of them counts must not depend on who reads them.
	Credential string

	// userID is the account that the call was about; uuid.Nil: none is known.
	userID uuid.UUID
}

type key struct{}

// With returns a context for the request of c.
func With(ctx context.Context, c *Caller) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the caller of the request. Outside a request all its fields are zero.
func From(ctx context.Context) Caller {
	if c, ok := ctx.Value(key{}).(*Caller); ok {
		return *c
	}
	return Caller{}
}

// NoteUser lets the access log say whose account the request was about. Only the goroutine of the request may call it,
// before it leaves work to others.
func NoteUser(ctx context.Context, id uuid.UUID) {
	if c, ok := ctx.Value(key{}).(*Caller); ok {
		c.userID = id
	}
}

// UserID returns the account that NoteUser was given; uuid.Nil: none.
func (c Caller) UserID() uuid.UUID { return c.userID }

// AddressText returns the address as text; "" when there is none.
func (c Caller) AddressText() string {
	if !c.Address.IsValid() {
		return ""
	}
	return c.Address.String()
}

// Site returns what a rate limit counts: an IPv4 address, or the /64 that an IPv6 customer usually has for itself.
func (c Caller) Site() string {
	if c.Address.Is6() {
		prefix, err := c.Address.Prefix(64)
		if err == nil {
			return prefix.String()
		}
	}
	return c.Address.String()
}

// Network returns what fair queues count: the smallest block that the Internet routes by itself, so that nobody has more
// than one without renting more. That is a /48 of IPv6, and a /24 of IPv4. Callers without an address share one.
func (c Caller) Network() string {
	bits := 24
	if c.Address.Is6() {
		bits = 48
	}
	prefix, err := c.Address.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}

// Source returns what may fail a few times by itself: an IPv4 address, or a /48 of IPv6, of which providers give one to a
// customer at most.
func (c Caller) Source() string {
	if c.Address.Is6() {
		return c.Network()
	}
	return c.Address.String()
}
