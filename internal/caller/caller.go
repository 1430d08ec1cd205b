// Package caller has the facts that the service knows about the caller of a request before anything is checked: where
// the request comes from, the ids that find it in the logs, and the credential that it shows. The transport reads these
// once. Flows and handlers take them from the context, so they do not depend on gRPC or HTTP.
package caller

import (
	"context"
	"net/netip"

	"github.com/google/uuid"
)

// Caller is the source of one request.
type Caller struct {
	// CallID is 32 random hex digits, which the transport makes. A caller cannot choose it, and no two calls have the
	// same.
	CallID string
	// TraceID is 32 hex digits: the id from the caller's traceparent (W3C Trace Context), or else the CallID. Callers
	// may send any id, even one of somebody else. So it helps to find a call in the log and proves nothing.
	TraceID string
	// Address is the client's address according to the trusted-proxy setting. It is invalid on transports that have
	// none.
	Address netip.Addr
	// Credential is the CREDENTIAL in `authorization: Bearer CREDENTIAL`, unchecked. It is "" if the request shows
	// none, or more than one: which one counts must not depend on the code that reads them.
	Credential string

	// userID is the account of the call, or uuid.Nil if none is known.
	userID uuid.UUID
	// operator is the id of the admin key that the call has shown, or "".
	operator string
}

type key struct{}

// With returns a context that has the caller c.
func With(ctx context.Context, c *Caller) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the caller of the request. Outside a request all its fields are zero.
func From(ctx context.Context) Caller {
	if c, ok := ctx.Value(key{}).(*Caller); ok {
		return *c
	}
	return Caller{}
}

// NoteUser records the account of the request for the access log. Only the goroutine of the request may call it, and
// only before it starts other goroutines.
func NoteUser(ctx context.Context, id uuid.UUID) {
	if c, ok := ctx.Value(key{}).(*Caller); ok {
		c.userID = id
	}
}

// NoteOperator records that the request has shown an admin key, by the id of that key: the first 8 hex digits of its
// SHA-256, as in LATCHKEY_ADMIN_KEY_SHA256. The rules are those of NoteUser.
func NoteOperator(ctx context.Context, keyID string) {
	if c, ok := ctx.Value(key{}).(*Caller); ok {
		c.operator = keyID
	}
}

// Operator returns the id of the admin key that the request has shown, for a method for operators, or "".
func (c Caller) Operator() string { return c.operator }

// UserID returns the account that NoteUser was given, or uuid.Nil.
func (c Caller) UserID() uuid.UUID { return c.userID }

// AddressText returns the address as text, or "" if there is none.
func (c Caller) AddressText() string {
	if !c.Address.IsValid() {
		return ""
	}
	return c.Address.String()
}

// Site returns the block that a rate limit counts: an IPv4 address, or the /64 that an IPv6 customer usually has alone.
func (c Caller) Site() string {
	if c.Address.Is6() {
		prefix, err := c.Address.Prefix(64)
		if err == nil {
			return prefix.String()
		}
	}
	return c.Address.String()
}

// Network returns the block that fair queues count: the smallest block that the Internet routes by itself, so that
// nobody gets more blocks without renting them. That is a /48 of IPv6, or a /24 of IPv4. All callers without an address
// share one.
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

// Source returns the block that may fail a few times by itself: an IPv4 address, or a /48 of IPv6. Providers give a
// customer at most one /48.
func (c Caller) Source() string {
	if c.Address.Is6() {
		return c.Network()
	}
	return c.Address.String()
}
