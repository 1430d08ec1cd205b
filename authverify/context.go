package authverify

import (
	"context"
	"strings"
)

type claimsKey struct{}

// ClaimsFrom returns the claims of the caller, where an interceptor or the middleware has let a token pass.
// Methods that need no token have none.
func ClaimsFrom(ctx context.Context) (*Claims, bool) {
	claims, ok := ctx.Value(claimsKey{}).(*Claims)
	return claims, ok
}

// WithClaims returns a context that ClaimsFrom finds claims in: for a transport that calls Verify itself, and
// for tests of handlers.
func WithClaims(ctx context.Context, claims *Claims) context.Context {
	return context.WithValue(ctx, claimsKey{}, claims)
}

// bearer returns the token of an authorization value. The scheme compares without regard to letter case (RFC
// 9110, section 11.1).
func bearer(value string) (token string, ok bool) {
	const scheme = "bearer "
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return value[len(scheme):], true
}
