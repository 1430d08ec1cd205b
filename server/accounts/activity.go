package accounts

import (
	"context"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/server/events"
)

// ListActivity implements latchkey.v1.AccountService. The account is that of the access token, and nothing in the
// request can name another.
func (s *Service) ListActivity(ctx context.Context, req *latchkeyv1.ListActivityRequest) (*latchkeyv1.ListActivityResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	list := events.List{
		UserID: uuid.NullUUID{UUID: by.UserID, Valid: true}, Owner: true,
		Purpose: latchkeyv1.AccountService_ListActivity_FullMethodName, DefaultSize: 50,
	}
	shown, next, err := events.Page(ctx, s.Accounts, s.Pages, list, req)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ListActivityResponse{Events: shown, NextPageToken: next}, nil
}
