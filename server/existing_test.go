package server_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestExistingUsersLogIn logs everybody in with the password that they had, and the
// address as they signed up with it.
func TestExistingUsersLogIn(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	for _, user := range backend.Users {
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
		switch {
		case user.Disabled:
			wantRefused(t, err, codes.PermissionDenied, "ACCOUNT_DISABLED")
		case err != nil:
			t.Errorf("%s: %v", user.Email, err)
		case resp.GetUser().GetId() != user.ID.String():
			t.Errorf("%s logged in as %s", user.Email, resp.GetUser().GetId())
		}
	}
}
