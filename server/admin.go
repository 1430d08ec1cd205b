package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// defaultUsersPage is the size of a page of ListUsers where none is asked for.
const defaultUsersPage = 100

// newestUser is before the first account of the list: accounts are younger than the
// year 9999.
func newestUser() (time.Time, uuid.UUID) {
	return time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC), uuid.Max
}

// GetUser implements latchkey.v1.AdminService.
func (s *Server) GetUser(ctx context.Context, req *latchkeyv1.GetUserRequest) (*latchkeyv1.GetUserResponse, error) {
	var account db.User
	var err error
	if email := req.GetEmail(); email != "" {
		var found db.FindUserByEmailRow
		found, _, err = s.findAccount(ctx, email)
		account = found.User
	} else {
		account, err = s.findAccountByID(ctx, req.GetUserId())
	}
	switch {
	case err != nil:
		return nil, err
	case account.ID == uuid.Nil:
		return nil, refusal.AccountNotFound()
	}
	return &latchkeyv1.GetUserResponse{Account: accountMessage(account)}, nil
}

// findAccountByID is findAccount for an identifier.
func (s *Server) findAccountByID(ctx context.Context, userID string) (db.User, error) {
	id, err := uuid.Parse(userID)
	if err != nil {
		return db.User{}, fmt.Errorf("the rules let pass an identifier that is none: %w", err)
	}
	account, err := s.queries.FindUser(ctx, s.cfg.Pool, id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return db.User{}, fmt.Errorf("look the account up: %w", err)
	}
	return account, nil
}

// ListUsers implements latchkey.v1.AdminService. A page begins after the last
// account of the one before, not at a number of accounts: one that is made or
// deleted meanwhile neither hides another nor shows it twice.
func (s *Server) ListUsers(ctx context.Context, req *latchkeyv1.ListUsersRequest) (*latchkeyv1.ListUsersResponse, error) {
	const purpose = latchkeyv1.AdminService_ListUsers_FullMethodName
	size := req.GetPageSize()
	if size == 0 {
		size = defaultUsersPage
	}
	before, beforeID := newestUser()
	if text := req.GetPageToken(); text != "" {
		var err error
		before, beforeID, err = s.openPage(purpose, "", text)
		if err != nil {
			return nil, err
		}
	}
	// One more than is returned says whether there is a next page.
	users, err := s.queries.ListUsers(ctx, s.cfg.Pool, db.ListUsersParams{Before: before, BeforeID: beforeID, PageSize: size + 1})
	if err != nil {
		return nil, fmt.Errorf("list the accounts: %w", err)
	}
	resp := &latchkeyv1.ListUsersResponse{}
	if len(users) > int(size) {
		users = users[:size]
		last := users[size-1]
		resp.NextPageToken = s.sealPage(purpose, "", last.CreatedAt, last.ID)
	}
	for _, u := range users {
		resp.Accounts = append(resp.Accounts, accountMessage(u))
	}
	return resp, nil
}

func accountMessage(u db.User) *latchkeyv1.Account {
	account := &latchkeyv1.Account{User: userMessage(u), Suspended: !u.IsActive}
	if u.LastLoginAt != nil {
		account.LastLoginTime = timestamppb.New(*u.LastLoginAt)
	}
	return account
}
