package server_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func getAccount(ctx context.Context, s *testenv.Server) (*latchkeyv1.User, error) {
	resp, err := s.AccountService.GetAccount(ctx, &latchkeyv1.GetAccountRequest{})
	return resp.GetUser(), err
}

func rename(ctx context.Context, s *testenv.Server, first, last *string) (*latchkeyv1.User, error) {
	resp, err := s.AccountService.UpdateAccount(ctx, &latchkeyv1.UpdateAccountRequest{FirstName: first, LastName: last})
	return resp.GetUser(), err
}

// TestUpdateAccount checks that a new name is shown by every replica when the call returns, and that a name that is not
// set stays.
func TestUpdateAccount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	user := signUp(t, s, email)
	tokens := logIn(t, s, email)
	for _, at := range []*testenv.Server{s, replica} { // both have the account in memory
		wantValid(t, at, tokens.GetAccessToken(), 0)
	}
	for _, change := range []struct{ first, last *string }{
		{first: new("Augusta")},
		{last: new("King")},
		{first: new("Ada"), last: new("Byron")},
		{}, // changes nothing
	} {
		if change.first != nil {
			user.FirstName = *change.first
		}
		if change.last != nil {
			user.LastName = *change.last
		}
		got, err := rename(as(t, tokens), s, change.first, change.last)
		if err != nil || !proto.Equal(got, user) {
			t.Fatalf("renamed to %v, %v, want %v", got, err, user)
		}
		for _, at := range []*testenv.Server{s, replica} {
			if got := wantValid(t, at, tokens.GetAccessToken(), 0).GetUser(); !proto.Equal(got, user) {
				t.Errorf("ValidateToken shows %v, want %v", got, user)
			}
			if got, err := getAccount(as(t, tokens), at); err != nil || !proto.Equal(got, user) {
				t.Errorf("GetAccount shows %v, %v, want %v", got, err, user)
			}
		}
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'account_updated' AND session_id = $1", tokens.GetSessionId()); n != 3 {
		t.Errorf("%d events of three changes", n)
	}
	wantLive(t, s, tokens) // a new name ends nothing
}

// TestUpdateAccountRefused checks what changes nothing: names that SignUp refuses, no session, a session that has
// ended, also while the call waits for the account, and too many changes.
func TestUpdateAccountRefused(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	tokens := logIn(t, s, email)
	for field, change := range map[string]struct{ first, last *string }{
		"first_name": {first: new("")}, "last_name": {last: new("a\nb")},
	} {
		_, err := rename(as(t, tokens), s, change.first, change.last)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", field)
	}
	_, err := rename(t.Context(), s, new("Eve"), nil)
	wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")
	_, err = getAccount(t.Context(), s)
	wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")

	commit := holdAccount(t, s, "SELECT latchkey_append_revocation('user', NULL, id, NULL, NULL, NULL) FROM users WHERE id = $1 FOR UPDATE", user.GetId())
	refused := make(chan error, 1)
	go func() {
		_, err := rename(as(t, tokens), s, new("Eve"), nil)
		refused <- err
	}()
	commit()
	wantRefused(t, <-refused, codes.Unauthenticated, "SESSION_ENDED")

	tokens = logIn(t, s, email)
	for range 40 {
		if _, err = rename(as(t, tokens), s, new("Augusta"), nil); err != nil {
			break
		}
	}
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	if n := count(t, s, "SELECT count(*) FROM users WHERE first_name IN ('Ada', 'Augusta')"); n != 1 {
		t.Error("a refused call changed the name")
	}
}
