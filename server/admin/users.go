package admin

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// defaultUsersPage is the size of a page of ListUsers if the request does not say.
const defaultUsersPage = 100

// GetUser implements latchkey.v1.AdminService.
func (s *Service) GetUser(ctx context.Context, req *latchkeyv1.GetUserRequest) (*latchkeyv1.GetUserResponse, error) {
	user, err := s.askedUser(ctx, req)
	switch {
	case err != nil:
		return nil, err
	case user.ID == uuid.Nil:
		return nil, refusal.AccountNotFound()
	}
	return &latchkeyv1.GetUserResponse{Account: accountMessage(user)}, nil
}

func (s *Service) askedUser(ctx context.Context, req *latchkeyv1.GetUserRequest) (account.User, error) {
	if email := req.GetEmail(); email != "" {
		return s.Accounts.Find(ctx, email)
	}
	id, err := userID(req.GetUserId())
	if err != nil {
		return account.User{}, err
	}
	return s.Accounts.ByID(ctx, id)
}

// ListUsers implements latchkey.v1.AdminService.
func (s *Service) ListUsers(ctx context.Context, req *latchkeyv1.ListUsersRequest) (*latchkeyv1.ListUsersResponse, error) {
	const purpose = latchkeyv1.AdminService_ListUsers_FullMethodName
	var factor string
	switch req.GetFactor() {
	case latchkeyv1.FactorKind_FACTOR_KIND_UNSPECIFIED:
	case latchkeyv1.FactorKind_FACTOR_KIND_TOTP:
		factor = string(factors.TOTP)
	case latchkeyv1.FactorKind_FACTOR_KIND_PASSKEY:
		factor = string(factors.Passkey)
	default:
		return nil, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "factor", "ENUM_IN", "must be a kind of second factor")
	}
	size := req.GetPageSize()
	if size == 0 {
		size = defaultUsersPage
	}
	before := account.Newest()
	if text := req.GetPageToken(); text != "" {
		var err error
		before.Time, before.ID, err = s.Pages.Open(purpose, "", text)
		if err != nil {
			return nil, err
		}
	}
	// One more than the page has, to see whether there is a next page.
	users, err := s.Accounts.List(ctx, before, size+1, factor)
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.ListUsersResponse{}
	if len(users) > int(size) {
		users = users[:size]
		last := users[size-1]
		resp.NextPageToken = s.Pages.Seal(purpose, "", last.CreateTime, last.ID)
	}
	for _, u := range users {
		resp.Accounts = append(resp.Accounts, accountMessage(u))
	}
	return resp, nil
}

// accountMessage returns the account as the contract shows it to an operator.
func accountMessage(user account.User) *latchkeyv1.Account {
	message := &latchkeyv1.Account{User: user.Message(), Suspended: !user.Active}
	if !user.LastLoginTime.IsZero() {
		message.LastLoginTime = timestamppb.New(user.LastLoginTime)
	}
	return message
}
