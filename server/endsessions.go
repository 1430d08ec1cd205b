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
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// authority is the session that speaks for its account, and how it was shown.
type authority struct {
	userID, sessionID uuid.UUID
	ledger            int64
	keyID             string // what signed the access token; "" when it was a refresh token
}

// callingSession is the session of a call to a method of AUTH_CLASS_SESSION.
func callingSession(ctx context.Context) (authority, error) {
	v, ok := callerFrom(ctx)
	if !ok {
		return authority{}, errors.New("the caller was not authenticated: the method's policy is not AUTH_CLASS_SESSION")
	}
	return authority{v.claims.UserID, v.claims.SessionID, v.claims.Ledger, v.keyID}, nil
}

// userEnding is one way of ending the sessions of an account.
type userEnding struct {
	// except is the session that goes on. uuid.Nil: none does.
	except uuid.UUID
	kind   audit.Kind
	// done says that nothing is left to be ended, once the account is locked: then what
	// was appended before is waited for, and no row is. Optional.
	done func(ctx context.Context, tx pgx.Tx) (bool, error)
	// change is what else is done in the transaction. Optional.
	change func(ctx context.Context, tx pgx.Tx) error
}

// endSessions ends the sessions of an account by the authority of one of them.
//
// What authenticated the call may be seconds old: hashes have a queue. So the
// authority is looked at again once the account is locked: a session that somebody
// has ended meanwhile ends no others and changes nothing. And once more after the row
// was appended: the end of one session waits for the ledger's head only, not for the
// account, so that it may have come in between.
func (s *Server) endSessions(ctx context.Context, by authority, ending userEnding) error {
	return s.revokeUser(ctx, ending.except, func(ctx context.Context, tx pgx.Tx) (uuid.UUID, int64, error) {
		if err := s.recheck(ctx, tx, by); err != nil {
			return uuid.Nil, 0, err
		}
		if ending.done != nil {
			switch done, err := ending.done(ctx, tx); {
			case err != nil:
				return uuid.Nil, 0, err
			case done:
				head, err := s.ledgerHead(ctx, tx)
				return uuid.Nil, head, err
			}
		}
		if ending.change != nil {
			if err := ending.change(ctx, tx); err != nil {
				return uuid.Nil, 0, err
			}
		}
		if err := s.trail.Record(ctx, tx, ending.kind, by.userID, by.sessionID); err != nil {
			return uuid.Nil, 0, fmt.Errorf("record the end of the sessions: %w", err)
		}
		position, err := s.queries.AppendUserRevocation(ctx, tx, db.AppendUserRevocationParams{
			UserID:          by.userID,
			ExceptSessionID: uuid.NullUUID{UUID: ending.except, Valid: ending.except != uuid.Nil},
		})
		if err != nil {
			return uuid.Nil, 0, fmt.Errorf("end the sessions: %w", err)
		}
		last := by
		if ending.except == uuid.Nil {
			last.ledger = position // the row itself ends the session too
		}
		return by.userID, position, s.refuseEnded(ctx, tx, last)
	})
}

// recheck locks the account and refuses what validate would refuse now. The account's
// row is locked first and the ledger's head last.
func (s *Server) recheck(ctx context.Context, tx pgx.Tx, by authority) error {
	if _, err := s.queries.LockUser(ctx, tx, by.userID); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("lock the account: %w", err)
	}
	return s.refuseEnded(ctx, tx, by)
}

// refuseEnded refuses what validate would refuse now.
func (s *Server) refuseEnded(ctx context.Context, tx pgx.Tx, by authority) error {
	found, err := s.queries.FindUserForSession(ctx, tx, db.FindUserForSessionParams{
		UserID: by.userID, SessionID: by.sessionID, Ledger: by.ledger, KeyID: by.keyID,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return refusal.New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND, "the account is gone")
	case err != nil:
		return fmt.Errorf("look the account up: %w", err)
	case found.KeyRevoked:
		return refusal.New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID, "the access token is not accepted any more: log in again")
	case !found.User.IsActive:
		return refusal.AccountDisabled()
	case found.Revoked:
		return refusal.SessionEnded()
	}
	return nil
}

// unlisting takes what the row at a position has ended out of the list, later logins
// spared. The ledger keeps them ended and out of what is shown, so a failure is only
// logged: until they expire they may push a session over the limit too early.
func (s *Server) unlisting(userID, except uuid.UUID, position int64) func(context.Context) {
	return func(ctx context.Context) {
		if err := s.cfg.Sessions.ClearIndex(ctx, userID, except, position); err != nil {
			s.log.WarnContext(ctx, "ended sessions stay in the index until they expire", "user_id", userID, "error", err)
		}
	}
}
