package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// SuspendUser implements latchkey.v1.AdminService.
func (s *Server) SuspendUser(ctx context.Context, req *latchkeyv1.SuspendUserRequest) (*latchkeyv1.SuspendUserResponse, error) {
	account, err := s.setActive(ctx, req.GetUserId(), false, audit.UserSuspended)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.SuspendUserResponse{Account: account}, nil
}

// ReactivateUser implements latchkey.v1.AdminService. It appends too: what caches
// know of the account is out of date.
func (s *Server) ReactivateUser(ctx context.Context, req *latchkeyv1.ReactivateUserRequest) (*latchkeyv1.ReactivateUserResponse, error) {
	account, err := s.setActive(ctx, req.GetUserId(), true, audit.UserReactivated)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ReactivateUserResponse{Account: account}, nil
}

func (s *Server) setActive(ctx context.Context, userID string, active bool, kind audit.Kind) (*latchkeyv1.Account, error) {
	var account db.User
	err := s.revokeUser(ctx, uuid.Nil, func(ctx context.Context, tx pgx.Tx) (ended uuid.UUID, position int64, err error) {
		account, ended, position, err = s.changeStatus(ctx, tx, userID, active, kind)
		return ended, position, err
	})
	if err != nil {
		return nil, err // the change may still be under way, and account be written to
	}
	return accountMessage(account), nil
}

// changeStatus returns the account as it is then, whose sessions it has ended, and the
// position to wait for. When the status is what was asked for already, another call may still be waiting for its
// row to become final: the head that is read here, after the lock, is at or past that
// row, and is waited for instead.
func (s *Server) changeStatus(
	ctx context.Context, tx pgx.Tx, userID string, active bool, kind audit.Kind,
) (account db.User, ended uuid.UUID, position int64, err error) {
	if account, err = s.lockAccount(ctx, tx, userID); err != nil {
		return account, uuid.Nil, 0, err
	}
	if account.IsActive == active {
		position, err = s.ledgerHead(ctx, tx)
		return account, uuid.Nil, position, err
	}
	account, err = s.queries.SetUserActive(ctx, tx, db.SetUserActiveParams{ID: account.ID, IsActive: active})
	if err != nil {
		return account, uuid.Nil, 0, fmt.Errorf("change the account's status: %w", err)
	}
	position, err = s.endUserSessions(ctx, tx, account.ID, kind)
	return account, account.ID, position, err
}

// RevokeUserSessions implements latchkey.v1.AdminService. Every call appends: what
// was minted since the last one is ended too.
func (s *Server) RevokeUserSessions(ctx context.Context, req *latchkeyv1.RevokeUserSessionsRequest) (*latchkeyv1.RevokeUserSessionsResponse, error) {
	var account db.User
	err := s.revokeUser(ctx, uuid.Nil, func(ctx context.Context, tx pgx.Tx) (_ uuid.UUID, position int64, err error) {
		if account, err = s.lockAccount(ctx, tx, req.GetUserId()); err != nil {
			return uuid.Nil, 0, err
		}
		position, err = s.endUserSessions(ctx, tx, account.ID, audit.UserSessionsRevoked)
		return account.ID, position, err
	})
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeUserSessionsResponse{}, nil
}

// RevokeAllSessions implements latchkey.v1.AdminService. Its event is of no account.
func (s *Server) RevokeAllSessions(ctx context.Context, _ *latchkeyv1.RevokeAllSessionsRequest) (*latchkeyv1.RevokeAllSessionsResponse, error) {
	err := s.revoke(ctx, func(ctx context.Context, tx pgx.Tx) (int64, error) {
		if err := s.trail.Record(ctx, tx, audit.AllSessionsRevoked, uuid.Nil, uuid.Nil); err != nil {
			return 0, fmt.Errorf("record the revocation: %w", err)
		}
		position, err := s.queries.AppendAllRevocation(ctx, tx)
		if err != nil {
			return 0, fmt.Errorf("end all sessions: %w", err)
		}
		return position, nil
	})
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeAllSessionsResponse{}, nil
}

// lockAccount locks the account's row: the first lock that a change takes.
func (s *Server) lockAccount(ctx context.Context, tx pgx.Tx, userID string) (db.User, error) {
	id, err := uuid.Parse(userID)
	if err != nil {
		return db.User{}, fmt.Errorf("the rules let pass an identifier that is none: %w", err)
	}
	account, err := s.queries.LockUser(ctx, tx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return db.User{}, refusal.AccountNotFound()
	}
	if err != nil {
		return db.User{}, fmt.Errorf("lock the account: %w", err)
	}
	return account, nil
}

// endUserSessions records why and appends the row, which locks the ledger's head: it
// is the last statement of its transaction.
func (s *Server) endUserSessions(ctx context.Context, tx pgx.Tx, userID uuid.UUID, kind audit.Kind) (int64, error) {
	if err := s.trail.Record(ctx, tx, kind, userID, uuid.Nil); err != nil {
		return 0, fmt.Errorf("record the change: %w", err)
	}
	position, err := s.queries.AppendUserRevocation(ctx, tx, db.AppendUserRevocationParams{UserID: userID})
	if err != nil {
		return 0, fmt.Errorf("end the sessions: %w", err)
	}
	return position, nil
}
