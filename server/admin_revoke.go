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
	"github.com/latchkey-auth/latchkey/internal/revoke"
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
	account, err := revoke.InTx(ctx, s.revoker, func(ctx context.Context, tx pgx.Tx) (db.User, revoke.Ended, error) {
		return s.changeStatus(ctx, tx, userID, active, kind)
	})
	if err != nil {
		return nil, err
	}
	return accountMessage(account), nil
}

// changeStatus returns the account as it is then, and what was ended. When the status is what was asked for already,
// another call may still be waiting for its row to become final: the head that is read here, after the lock, is at or past
// that row, and is waited for instead.
func (s *Server) changeStatus(ctx context.Context, tx pgx.Tx, userID string, active bool, kind audit.Kind) (db.User, revoke.Ended, error) {
	account, err := s.lockAccount(ctx, tx, userID)
	if err != nil {
		return account, revoke.Ended{}, err
	}
	if account.IsActive == active {
		head, err := s.revoker.Head(ctx, tx)
		return account, head, err
	}
	account, err = s.queries.SetUserActive(ctx, tx, db.SetUserActiveParams{ID: account.ID, IsActive: active})
	if err != nil {
		return account, revoke.Ended{}, fmt.Errorf("change the account's status: %w", err)
	}
	ended, err := s.revoker.AppendUser(ctx, tx, kind, account.ID)
	return account, ended, err
}

// RevokeUserSessions implements latchkey.v1.AdminService.
func (s *Server) RevokeUserSessions(ctx context.Context, req *latchkeyv1.RevokeUserSessionsRequest) (*latchkeyv1.RevokeUserSessionsResponse, error) {
	id, err := uuid.Parse(req.GetUserId())
	if err != nil {
		return nil, fmt.Errorf("the rules let pass an identifier that is none: %w", err)
	}
	if err := s.revoker.User(ctx, id); err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeUserSessionsResponse{}, nil
}

// RevokeAllSessions implements latchkey.v1.AdminService.
func (s *Server) RevokeAllSessions(ctx context.Context, _ *latchkeyv1.RevokeAllSessionsRequest) (*latchkeyv1.RevokeAllSessionsResponse, error) {
	if err := s.revoker.All(ctx); err != nil {
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
