// Package sessions serves latchkey.v1.SessionService: it translates messages and calls flows.
package sessions

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/server/page"
)

const (
	// sessionsPage is the purpose of page tokens of ListSessions.
	sessionsPage = "ListSessions"
	// defaultPageSize is the value in the contract.
	defaultPageSize = 50
)

// Service implements latchkey.v1.SessionService. All fields are required.
type Service struct {
	latchkeyv1.UnimplementedSessionServiceServer

	Logins  *login.Flow
	Revoker *revoke.Revoker
	Pages   page.Tokens
}

// ListSessions implements latchkey.v1.SessionService.
func (s *Service) ListSessions(ctx context.Context, req *latchkeyv1.ListSessionsRequest) (*latchkeyv1.ListSessionsResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	sessions, next, err := Page(ctx, s.Logins, s.Pages, List{by.UserID, by.SessionID, sessionsPage}, req)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ListSessionsResponse{Sessions: sessions, NextPageToken: next}, nil
}

// PageRequest asks for a page of a list.
type PageRequest interface {
	GetPageSize() int32
	GetPageToken() string
}

// List names a list of sessions.
type List struct {
	// UserID is the account of the sessions. Current is the session that asks, or uuid.Nil.
	UserID, Current uuid.UUID
	// Purpose is the purpose of its page tokens.
	Purpose string
}

// Page returns a page of the live sessions of an account, and the token of the next page. It reads the whole list for
// each page, because that has at most LATCHKEY_SESSION_LIMIT entries.
func Page(ctx context.Context, logins *login.Flow, pages page.Tokens, list List, req PageRequest) (shown []*latchkeyv1.Session, next string, err error) {
	var after session.Session
	if req.GetPageToken() != "" {
		after.CreateTime, after.ID, err = pages.Open(list.Purpose, list.UserID.String(), req.GetPageToken())
		if err != nil {
			return nil, "", err
		}
	}
	live, err := logins.Sessions(ctx, list.UserID)
	if err != nil {
		return nil, "", err
	}
	if req.GetPageToken() != "" {
		live = slices.DeleteFunc(live, func(sess session.Session) bool { return sess.Compare(after) >= 0 })
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	if len(live) > size {
		live = live[:size]
		last := live[size-1]
		next = pages.Seal(list.Purpose, list.UserID.String(), last.CreateTime, last.ID)
	}
	for _, sess := range live {
		shown = append(shown, message(sess, list.Current))
	}
	return shown, next, nil
}

// GetSession implements latchkey.v1.SessionService.
func (s *Service) GetSession(ctx context.Context, req *latchkeyv1.GetSessionRequest) (*latchkeyv1.GetSessionResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	id, err := ParseID(req.GetSessionId())
	if err != nil {
		return nil, err
	}
	found, err := s.Logins.Session(ctx, by.UserID, id)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.GetSessionResponse{Session: message(found, by.SessionID)}, nil
}

// RevokeSession implements latchkey.v1.SessionService.
func (s *Service) RevokeSession(ctx context.Context, req *latchkeyv1.RevokeSessionRequest) (*latchkeyv1.RevokeSessionResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	id, err := ParseID(req.GetSessionId())
	if err != nil {
		return nil, err
	}
	if err := s.Revoker.OwnSession(ctx, by, id); err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeSessionResponse{}, nil
}

// RevokeOtherSessions implements latchkey.v1.SessionService.
func (s *Service) RevokeOtherSessions(ctx context.Context, _ *latchkeyv1.RevokeOtherSessionsRequest) (*latchkeyv1.RevokeOtherSessionsResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Revoker.OtherSessions(ctx, by); err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeOtherSessionsResponse{}, nil
}

// ParseID parses a session_id that the rules of the contract have accepted.
func ParseID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "session_id", "STRING_UUID", "must be a UUID")
	}
	return id, nil
}

func message(sess session.Session, current uuid.UUID) *latchkeyv1.Session {
	return &latchkeyv1.Session{
		Id:          sess.ID.String(),
		DeviceName:  sess.DeviceName,
		Address:     sess.Address,
		CreateTime:  timestamppb.New(sess.CreateTime),
		LastUseTime: timestamppb.New(sess.RotateTime),
		ExpireTime:  timestamppb.New(sess.IdleEnd),
		Current:     sess.ID == current,
	}
}
