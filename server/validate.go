package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/token"
)

// untrustedValidations are those that ask PostgreSQL at once, while memory is not
// trusted. More would take the connections of logins and revocations.
const untrustedValidations = 8

// ValidateToken implements latchkey.v1.AuthService.
func (s *Server) ValidateToken(ctx context.Context, req *latchkeyv1.ValidateTokenRequest) (*latchkeyv1.ValidateTokenResponse, error) {
	v, err := s.validate(ctx, req.GetAccessToken(), forServices)
	if err != nil {
		return nil, err
	}
	if v.reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return &latchkeyv1.ValidateTokenResponse{Reason: v.reason}, nil
	}
	return &latchkeyv1.ValidateTokenResponse{
		Valid: true, User: v.message, SessionId: v.session, ExpireTime: v.expire,
	}, nil
}

// purpose is what an access token is shown for. A service that is shown one could show
// it here in its turn and end its owner's sessions, so that the two can be told apart by
// their audience (LATCHKEY_ACCOUNT_AUDIENCE).
type purpose bool

const (
	forServices purpose = false
	forAccount  purpose = true
)

// fits says whether the token is for the purpose. Where audiences are not told apart,
// all tokens are for both.
func (s *Server) fits(v *verified, p purpose) bool {
	return v.forAccount == (p == forAccount && s.cfg.Keyring.SeparatesAccounts())
}

// verdict is what was found of an access token. With a reason it is not good, and
// nothing else in it is to be used.
type verdict struct {
	reason latchkeyv1.ErrorReason
	// misused: the token is genuine, for another purpose.
	misused bool
	*verified
	*account
}

func refused(reason latchkeyv1.ErrorReason) (verdict, error) { return verdict{reason: reason}, nil }

// validate checks the signature and times, then the account, then the ledger. An
// error means that it could not be found out.
//
// The lease is looked at first: memory then holds every revocation that was final
// when the call began. One that comes while it looks may be missed, which is right
// either way.
func (s *Server) validate(ctx context.Context, accessToken string, p purpose) (verdict, error) {
	trusted := s.cfg.Ledger.Trusted()
	v, err := s.cfg.Memory.verify(ctx, s.cfg.Now(), accessToken)
	switch {
	case errors.Is(err, token.ErrInvalid):
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
	case errors.Is(err, token.ErrExpired):
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED)
	case err != nil:
		return verdict{}, fmt.Errorf("verify the access token: %w", err)
	}
	if !s.fits(v, p) {
		return verdict{reason: latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID, misused: true}, nil
	}
	switch forgotten, err := s.forgotten(v); {
	case err != nil:
		return verdict{}, err
	case forgotten:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	}
	if !trusted {
		return s.validateInStore(ctx, v)
	}
	if s.cfg.Ledger.RefusesKey(v.keyID) {
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
	}
	found, err := s.cfg.Memory.account(ctx, v.claims.UserID)
	if err != nil {
		return verdict{}, err
	}
	revoked := s.cfg.Ledger.Refuses(v.claims.UserID, v.claims.SessionID, v.claims.Ledger, v.keyID)
	return judge(v, found, revoked)
}

// validateInStore asks the primary, which knows everything at any time. A few at a
// time: when all replicas lose their leases at once, PostgreSQL is hardly well.
func (s *Server) validateInStore(ctx context.Context, v *verified) (verdict, error) {
	select {
	case s.untrusted <- struct{}{}:
		defer func() { <-s.untrusted }()
	default:
		return verdict{}, refusal.NotUpToDate()
	}
	s.validatedInStore.Add(1)
	found, err := s.queries.FindUserForSession(ctx, s.cfg.Pool, db.FindUserForSessionParams{
		UserID: v.claims.UserID, SessionID: v.claims.SessionID, Ledger: v.claims.Ledger, KeyID: v.keyID,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return judge(v, nil, true)
	case err != nil:
		return verdict{}, fmt.Errorf("look the account up: %w", err)
	case found.KeyRevoked:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
	}
	return judge(v, newAccount(found.User), found.Revoked)
}

func judge(v *verified, found *account, revoked bool) (verdict, error) {
	switch {
	case found == nil:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND)
	case !found.user.IsActive:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED)
	case revoked:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	}
	return verdict{verified: v, account: found}, nil
}

// authenticate is the credential check of methods with AUTH_CLASS_SESSION.
func (s *Server) authenticate(ctx context.Context) (context.Context, error) {
	accessToken := caller.From(ctx).Credential
	if accessToken == "" {
		return nil, refusal.New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID,
			"this method needs an access token: send the metadata authorization: Bearer TOKEN once")
	}
	v, err := s.validate(ctx, accessToken, forAccount)
	if err != nil {
		return nil, err
	}
	if v.misused {
		return nil, refusal.New(codes.Unauthenticated, v.reason,
			"this access token is for services: send the account_token that Login and RefreshToken answer beside it")
	}
	if v.reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		code := codes.Unauthenticated
		if v.reason == latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED {
			code = codes.PermissionDenied
		}
		return nil, refusal.New(code, v.reason, "the access token is not accepted: refresh it or log in again")
	}
	return context.WithValue(ctx, callerKey{}, v), nil
}

type callerKey struct{}

// callerFrom is the account and the claims of a call that authenticate let pass.
func callerFrom(ctx context.Context) (verdict, bool) {
	v, ok := ctx.Value(callerKey{}).(verdict)
	return v, ok
}
