package server_test

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"google.golang.org/grpc/codes"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	passwords "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestExistingUsersLogIn logs all users in with their old passwords and the addresses of their sign-ups, over both
// contracts. Two of them have addresses that differ only in letter case, and one is disabled.
func TestExistingUsersLogIn(t *testing.T) {
	t.Parallel()
	s, backend, old := oldContract(t)
	for _, user := range backend.Users {
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
		oldResp, oldErr := old.Login(t.Context(), &authpb.LoginRequest{Email: user.Email, Password: user.Password})
		if user.Disabled {
			wantRefused(t, err, codes.PermissionDenied, "ACCOUNT_DISABLED")
			wantText(t, oldErr, codes.PermissionDenied, "account is disabled")
			continue
		}
		if err != nil || oldErr != nil {
			t.Errorf("%s: %v, %v", user.Email, err, oldErr)
			continue
		}
		if got := resp.GetUser(); got.GetId() != user.ID.String() || got.GetEmail() != user.Email || got.GetEmailVerified() != existingVerified(user) {
			t.Errorf("%s logged in as %v", user.Email, got)
		}
		if got := oldResp.GetUser(); got.GetId() != user.ID.String() || got.GetEmail() != user.Email || got.GetLastName() != user.LastName {
			t.Errorf("%s logged in as %v", user.Email, got)
		}
		wantValid(t, s, resp.GetTokens().GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
		wantValid(t, s, oldResp.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
	}
	if left := count(t, s, "SELECT count(*) FROM users WHERE email_lookup IS NULL"); left != 1 {
		t.Errorf("%d accounts without a lookup value, want the younger of the two that share one", left)
	}
}

// existingVerified returns whether the dump verifies an account. It verifies one more than the list says.
func existingVerified(user testenv.ExistingUser) bool {
	return user.Verified || user.Email == "rust1.nora@example.org"
}

// The settings have the cost of the Go backend. A login rewrites hashes of the Rust backend, and keeps those of the Go
// backend. Either backend can read all of them.
func TestExistingHashesAreRewrittenWhereWeaker(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend, Argon2: passwords.Params{MemoryKiB: 65536, Time: 3, Threads: 1}})
	for _, user := range backend.Users {
		if user.Disabled {
			continue
		}
		before := storedHash(t, s, user.Email)
		for range 2 { // the second is checked against the hash that the first has written
			resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
			if err != nil {
				t.Fatalf("%s: %v", user.Email, err)
			}
			wantValid(t, s, resp.GetTokens().GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
		}
		after := storedHash(t, s, user.Email)
		if kept := after == before; kept != (user.HashBy == "go") {
			t.Errorf("%s, hashed by %s: kept is %v: %.30s", user.Email, user.HashBy, kept, after)
		}
		if !oldBackendReads(t, after, user.Password) {
			t.Errorf("%s: an older backend does not read %.30s", user.Email, after)
		}
	}
}

// oldBackendReads is a stand-in for the older backends. It reads the parameters of a PHC string and computes Argon2id
// with them.
func oldBackendReads(t *testing.T, hash, pass string) bool {
	t.Helper()
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != "v=19" {
		return false
	}
	var memory, passes uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &threads); err != nil {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false
	}
	key, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		return false
	}
	got := argon2.IDKey([]byte(pass), salt, passes, memory, threads, uint32(len(key)))
	return subtle.ConstantTimeCompare(got, key) == 1
}
