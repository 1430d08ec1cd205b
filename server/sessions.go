package server

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
)

const (
	// sessionsPage is the purpose of page tokens of ListSessions, userSessionsPage that of
	// ListUserSessions.
	sessionsPage     = "ListSessions"
	userSessionsPage = "ListUserSessions"
	// defaultPageSize is said in the contract.
	defaultPageSize = 50
)

// ListSessions implements latchkey.v1.SessionService.
func (s *Server) ListSessions(ctx context.Context, req *latchkeyv1.ListSessionsRequest) (*latchkeyv1.ListSessionsResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	sessions, next, err := s.pageOfSessions(ctx, by.UserID, by.SessionID, sessionsPage, req)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ListSessionsResponse{Sessions: sessions, NextPageToken: next}, nil
}

// pageRequest asks for a page of a list.
type pageRequest interface {
	GetPageSize() int32
	GetPageToken() string
}

// pageOfSessions is a page of the live sessions of an account, current among them or
// none, and the token of the next page of the list that purpose names. The whole list is read for each page: it has no
// more than LATCHKEY_SESSION_LIMIT entries.
func (s *Server) pageOfSessions(
	ctx context.Context, userID, current uuid.UUID, purpose string, req pageRequest,
) (page []*latchkeyv1.Session, next string, err error) {
	var after session.Session
	if req.GetPageToken() != "" {
		after.CreateTime, after.ID, err = s.openPage(purpose, userID.String(), req.GetPageToken())
		if err != nil {
			return nil, "", err
		}
	}
	live, err := s.logins.Sessions(ctx, userID)
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
		next = s.sealPage(purpose, userID.String(), last.CreateTime, last.ID)
	}
	for _, sess := range live {
		page = append(page, sessionMessage(sess, current))
	}
	return page, next, nil
}

// GetSession implements latchkey.v1.SessionService.
func (s *Server) GetSession(ctx context.Context, req *latchkeyv1.GetSessionRequest) (*latchkeyv1.GetSessionResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	id, err := sessionID(req.GetSessionId())
	if err != nil {
		return nil, err
	}
	found, err := s.logins.Session(ctx, by.UserID, id)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.GetSessionResponse{Session: sessionMessage(found, by.SessionID)}, nil
}

// RevokeSession implements latchkey.v1.SessionService.
func (s *Server) RevokeSession(ctx context.Context, req *latchkeyv1.RevokeSessionRequest) (*latchkeyv1.RevokeSessionResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	id, err := sessionID(req.GetSessionId())
	if err != nil {
		return nil, err
	}
	if err := s.revoker.OwnSession(ctx, by, id); err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeSessionResponse{}, nil
}

// RevokeOtherSessions implements latchkey.v1.SessionService.
func (s *Server) RevokeOtherSessions(ctx context.Context, _ *latchkeyv1.RevokeOtherSessionsRequest) (*latchkeyv1.RevokeOtherSessionsResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.revoker.OtherSessions(ctx, by); err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeOtherSessionsResponse{}, nil
}

// sessionID parses what the rules of the contract have let pass.
func sessionID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "session_id", "STRING_UUID", "must be a UUID")
	}
	return id, nil
}

func sessionMessage(sess session.Session, current uuid.UUID) *latchkeyv1.Session {
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
