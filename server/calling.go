package server

import (
	"context"
	"errors"

	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// callingSession is the session of a call to a method of AUTH_CLASS_SESSION.
func callingSession(ctx context.Context) (revoke.Authority, error) {
	v, ok := callerFrom(ctx)
	if !ok {
		return revoke.Authority{}, errors.New("the caller was not authenticated: the method's policy is not AUTH_CLASS_SESSION")
	}
	return revoke.Authority{UserID: v.claims.UserID, SessionID: v.claims.SessionID, Ledger: v.claims.Ledger, KeyID: v.keyID}, nil
}
