package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// ChangePassword implements latchkey.v1.AuthService. The access token alone is not
// enough: a thief who holds one must not get the account for good, so the current
// password is asked for, and guesses at it are counted.
func (s *Server) ChangePassword(ctx context.Context, req *latchkeyv1.ChangePasswordRequest) (*latchkeyv1.ChangePasswordResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	user, err := s.queries.FindUser(ctx, s.cfg.Pool, by.UserID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, refusal.New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND, "the account is gone")
	}
	if err != nil {
		return nil, fmt.Errorf("look the account up: %w", err)
	}
	words := passwordContext(user.Email, user.FirstName, user.LastName)
	if err := s.checkNewPassword("new_password", req.GetNewPassword(), words); err != nil {
		return nil, err
	}
	if err := s.checkCurrentPassword(ctx, by, user, req.GetCurrentPassword()); err != nil {
		return nil, err
	}
	hash, err := s.cfg.Passwords.Hash(ctx, hashClaim(ctx, true), req.GetNewPassword())
	if err != nil {
		return nil, hashError("hash the password", err)
	}
	if err := s.boundChanges(ctx, user.ID); err != nil {
		return nil, err
	}
	err = s.revoker.Sessions(ctx, by, revoke.Ending{
		Except: by.SessionID, Kind: audit.PasswordChanged,
		Change: func(ctx context.Context, tx pgx.Tx) error { return s.replacePassword(ctx, tx, user, hash) },
	})
	if err != nil {
		return nil, err
	}
	// The change has begun a new epoch; a row that plain SQL changes at this moment makes the token one of an older.
	epoch, err := s.queries.FindPasswordEpoch(ctx, s.cfg.Pool, by.UserID)
	if err != nil {
		return nil, fmt.Errorf("read the password's epoch: %w", err)
	}
	return &latchkeyv1.ChangePasswordResponse{DeviceToken: s.deviceToken(by.UserID, epoch, uuid.Nil)}, nil
}

// checkCurrentPassword counts by session: somebody who holds one of the account's cannot keep the owner's own from
// changing the password, nor its owner from logging in.
func (s *Server) checkCurrentPassword(ctx context.Context, by revoke.Authority, user db.User, typed string) error {
	a := &attempt{
		guesser: guesser{kind: guessChange, subject: "change " + user.ID.String(), source: by.SessionID.String(), known: true, client: by.SessionID},
		user:    user, lookup: emailLookup(user.Email), wrong: refusal.CurrentPassword(),
	}
	if err := s.openAttempt(ctx, a); err != nil {
		return err
	}
	_, err := s.check(ctx, a, typed)
	return err
}

// replacePassword sets the hash if the one that was verified is still there: whoever
// knew an older password, or the same one under a hash that a login has just
// rewritten, is asked again. The address stays as verified as it was.
func (s *Server) replacePassword(ctx context.Context, tx pgx.Tx, verified db.User, hash string) error {
	changed, err := s.queries.ChangePassword(ctx, tx, db.ChangePasswordParams{
		ID: verified.ID, OldHash: verified.PasswordHash, NewHash: hash,
	})
	if err != nil {
		return fmt.Errorf("set the password: %w", err)
	}
	if changed == 0 {
		return refusal.CurrentPassword()
	}
	return s.notifyOwner(ctx, tx, mail.PasswordChanged, verified.ID)
}
