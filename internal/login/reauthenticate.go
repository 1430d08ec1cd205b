package login

import (
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// ReauthenticatePassword authenticates the owner of a session again, by the password, and returns access tokens with the
// new time. The session has one factor afterwards, also if it had two: "a second factor within five minutes" must not be
// true of a session whose second factor is an hour old. Wrong passwords are counted with those of ChangePassword.
func (f *Flow) ReauthenticatePassword(ctx context.Context, by revoke.Authority, typed string) (Tokens, error) {
	return f.reauthenticate(ctx, by, func(owner account.Credential, _ session.Session) ([]string, error) {
		return []string{AMRPassword}, f.CheckCurrent(ctx, by.SessionID, owner, typed)
	})
}

// reauthenticate renews the authentication of a session if prove returns no error. prove returns the methods of the
// authentication.
//
// It does not look into the ledger: the session keeps its position, so a revocation that came meanwhile refuses the new
// access token as it refuses the old one.
func (f *Flow) reauthenticate(
	ctx context.Context, by revoke.Authority, prove func(account.Credential, session.Session) (amr []string, err error),
) (Tokens, error) {
	if err := f.CheckClock(); err != nil {
		return Tokens{}, err
	}
	sess, err := f.cfg.Sessions.Get(ctx, by.UserID, by.SessionID)
	if err != nil {
		return Tokens{}, f.renewError(ctx, err)
	}
	owner, err := account.FindOwner(ctx, f.cfg.Pool, by.UserID)
	if err != nil {
		return Tokens{}, err
	}
	amr, err := prove(owner, sess)
	if err != nil {
		return Tokens{}, err
	}
	ctx, cancel := besteffort.Detach(ctx) // the proof is given, and a recovery code is spent: see LogIn
	defer cancel()
	sess, err = f.cfg.Sessions.Renew(ctx, sess, amr)
	if err != nil {
		return Tokens{}, f.renewError(ctx, err)
	}
	if err := f.cfg.Trail.RecordRepeated(ctx, f.cfg.Pool, audit.Reauthenticated, by.UserID, by.SessionID); err != nil {
		return Tokens{}, fmt.Errorf("record the authentication: %w", err)
	}
	return f.Issue(ctx, sess, HolderOf(owner.User), sess.AuthTime, "")
}

// renewError returns the answer to an error of the store of sessions. A session that it does not have cannot be renewed,
// although its access token may still be good: the owner has to log in again.
func (f *Flow) renewError(ctx context.Context, err error) error {
	if errors.Is(err, session.ErrUnknown) {
		return f.cfg.Revoker.RefuseEnded(ctx)
	}
	return fmt.Errorf("renew the session's authentication: %w", err)
}
