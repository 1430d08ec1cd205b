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
	shown, err := s.accountMessage(ctx, user)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.GetUserResponse{Account: shown}, nil
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
	case latchkeyv1.FactorKind_FACTOR_KIND_RECOVERY_CODES:
		factor = string(factors.RecoveryCodes)
	default:
		return nil, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "factor", "ENUM_IN", "must be a kind of second factor, or recovery codes")
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
	resp.Accounts, err = s.accountMessages(ctx, users)
	return resp, err
}

// accountMessage returns the account as the contract shows it to an operator.
func (s *Service) accountMessage(ctx context.Context, user account.User) (*latchkeyv1.Account, error) {
	shown, err := s.accountMessages(ctx, []account.User{user})
	if err != nil {
		return nil, err
	}
	return shown[0], nil
}

// accountMessages is accountMessage for several accounts. An account that is to be deleted is not active, so most lists
// need no look at the marks.
func (s *Service) accountMessages(ctx context.Context, users []account.User) ([]*latchkeyv1.Account, error) {
	var inactive []uuid.UUID
	for _, u := range users {
		if !u.Active {
			inactive = append(inactive, u.ID)
		}
	}
	leaving, err := s.Accounts.DeleteTimes(ctx, inactive...)
	if err != nil {
		return nil, err
	}
	messages := make([]*latchkeyv1.Account, len(users))
	for i, u := range users {
		messages[i] = &latchkeyv1.Account{User: u.Message(), Suspended: !u.Active}
		if !u.LastLoginTime.IsZero() {
			messages[i].LastLoginTime = timestamppb.New(u.LastLoginTime)
		}
		if at, marked := leaving[u.ID]; marked {
			messages[i].DeleteTime = timestamppb.New(at)
		}
	}
	return messages, nil
}

// ChangeUserEmail implements latchkey.v1.AdminService.
func (s *Service) ChangeUserEmail(ctx context.Context, req *latchkeyv1.ChangeUserEmailRequest) (*latchkeyv1.ChangeUserEmailResponse, error) {
	shown, err := s.changed(ctx, req.GetUserId(), func(ctx context.Context, id uuid.UUID) (account.User, error) {
		return s.Accounts.ChangeAddress(ctx, id, req.GetNewEmail())
	})
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ChangeUserEmailResponse{Account: shown}, nil
}
