package admin

import (
	"context"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/server/events"
)

// ListAuditEvents implements latchkey.v1.AdminService. It does not ask whether the account exists: events outlive it.
func (s *Service) ListAuditEvents(ctx context.Context, req *latchkeyv1.ListAuditEventsRequest) (*latchkeyv1.ListAuditEventsResponse, error) {
	list := events.List{Purpose: latchkeyv1.AdminService_ListAuditEvents_FullMethodName, DefaultSize: 100}
	if text := req.GetUserId(); text != "" {
		id, err := userID(text)
		if err != nil {
			return nil, err
		}
		list.UserID = uuid.NullUUID{UUID: id, Valid: true}
	}
	shown, next, err := events.Page(ctx, s.Accounts, s.Pages, list, req)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ListAuditEventsResponse{Events: shown, NextPageToken: next}, nil
}
