package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func userByID(t *testing.T, backend *testenv.ExistingBackend, id uuid.UUID) testenv.ExistingUser {
	t.Helper()
	for _, user := range backend.Users {
		if user.ID == id {
			return user
		}
	}
	t.Fatalf("no user %s", id)
	return testenv.ExistingUser{}
}

// keepReset stores a reset token in the same way as a backend.
func keepReset(t *testing.T, s *testenv.Server, key, userID string) {
	t.Helper()
	if err := s.Redis.Set(t.Context(), key, userID, 30*time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
}

// A reset token of either backend sets the password once, and ends everything from before.
func TestLegacyReset(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	for _, reset := range backend.ResetTokens {
		user := userByID(t, backend, reset.UserID)
		session := legacyLogin(t, s, user)
		// A password that is refused leaves the token good.
		wantRefused(t, tryReset(t.Context(), s, reset.Token, "password123"), codes.InvalidArgument, "PASSWORD_TOO_COMMON", "new_password")
		if err := tryReset(t.Context(), replica, reset.Token, newPassword); err != nil {
			t.Fatalf("%s: %v", reset.Key, err)
		}
		wantValid(t, s, session.GetAccessToken(), ended)
		wantRefused(t, tryLogin(t.Context(), s, user.Email, user.Password), codes.Unauthenticated, "INVALID_CREDENTIALS")
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: newPassword})
		if err != nil || !resp.GetUser().GetEmailVerified() {
			t.Fatalf("log in with the new password: %v, %v", resp.GetUser(), err)
		}
		if n := s.Redis.Exists(t.Context(), reset.Key).Val(); n != 0 {
			t.Errorf("%s is still there for its backend", reset.Key)
		}
		for _, restored := range []bool{false, true} {
			if restored {
				keepReset(t, s, reset.Key, reset.UserID.String())
			}
			// Also when no row in the ledger refuses it any more.
			execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '2 hours'")
			for _, at := range []*testenv.Server{s, replica} {
				wantRefused(t, tryReset(t.Context(), at, reset.Token, "a third fine password"), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
			}
		}
		if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_reset' AND user_id = $1", reset.UserID); n != 1 {
			t.Errorf("%d audit events", n)
		}
	}
	// Redis may be restored at any time, so the rows stay.
	if n := count(t, s, "SELECT count(*) FROM legacy_spent WHERE kind = 'reset' AND keep_until > now() + interval '1000 years'"); n != 2 {
		t.Errorf("%d rows", n)
	}
	testenv.Eventually(t, patience, "the owners are told", func() bool { return len(s.Mailbox.Messages())+len(replica.Mailbox.Messages()) == 2 })
}

func TestLegacyResetAtOnce(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	for _, reset := range backend.ResetTokens {
		_, errs := allAtOnce(50, func(i int) (struct{}, error) {
			return struct{}{}, tryReset(t.Context(), []*testenv.Server{s, replica}[i%2], reset.Token, newPassword)
		})
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			wantRefused(t, err, codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
		}
		if won != 1 {
			t.Errorf("%s was used %d times", reset.Key, won)
		}
	}
}

// A token that may have been asked for before the last change of the password is refused, for the hour that it can
// live.
func TestLegacyResetIsOlder(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	reset := backend.ResetTokens[0]
	second, both := uuid.NewString(), uuid.NewString()
	keepReset(t, s, "reset_token:"+second, reset.UserID.String())
	keepReset(t, s, "reset_token:"+both, reset.UserID.String())
	keepReset(t, s, "password_reset:"+both, reset.UserID.String())
	if err := tryReset(t.Context(), s, reset.Token, newPassword); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{second, both} {
		wantRefused(t, tryReset(t.Context(), s, other, "a third fine password"), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	}
	execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '1 hour'")
	if err := tryReset(t.Context(), s, both, "a third fine password"); err != nil {
		t.Fatal(err)
	}
	if n := s.Redis.Exists(t.Context(), "reset_token:"+both, "password_reset:"+both).Val(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '1 hour'")
	wantRefused(t, tryReset(t.Context(), s, both, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	// Changed by an older backend, or by hand, while the new password was being hashed.
	execSQL(t, s, "UPDATE users SET first_name = 'Other' WHERE id = $1", reset.UserID) // does not count as a change of the password
	commit := holdAccount(t, s, "UPDATE users SET password_hash = 'another' WHERE id = $1", reset.UserID)
	answer := make(chan error, 1)
	go func() { answer <- tryReset(t.Context(), s, second, newPassword) }()
	commit()
	wantRefused(t, <-answer, codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
}

func TestLegacyResetRefusals(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	disabled := userByID(t, backend, backend.User(t, "nora7@example.com").ID).ID.String()
	nora, other := backend.User(t, "nora0@example.com").ID.String(), backend.User(t, "nora1@example.com").ID.String()
	keep := func(userID string) string {
		id := uuid.NewString()
		keepReset(t, s, "password_reset:"+id, userID)
		return id
	}
	disagreeing := keep(nora)
	keepReset(t, s, "reset_token:"+disagreeing, other)
	notUUID := "no-uuid"
	keepReset(t, s, "password_reset:"+notUUID, nora)
	upper := strings.ToUpper(keep(nora))
	keepReset(t, s, "password_reset:"+upper, nora)
	expired := uuid.NewString()
	if err := s.Redis.Set(t.Context(), "reset_token:"+expired, nora, time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "the key is gone", func() bool { return s.Redis.Exists(t.Context(), "reset_token:"+expired).Val() == 0 })
	hashes := s.Server.HashesMade()
	for name, bad := range map[string]string{
		"unknown": uuid.NewString(), "expired": expired, "no UUID": notUUID, "upper case": upper,
		"two accounts": disagreeing, "disabled": keep(disabled), "nobody": keep(uuid.NewString()),
		"not an id": keep("nora0@example.com"), "nothing": keep(""), "nil": uuid.Nil.String(),
		"a key of another kind": "*", "urn": "urn:uuid:" + keep(nora), "braces": "{" + keep(nora) + "}",
	} {
		t.Log(name)
		wantRefused(t, tryReset(t.Context(), s, bad, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	}
	if n := s.Server.HashesMade(); n != hashes {
		t.Errorf("%d passwords were hashed for nothing", n-hashes)
	}
	if n := count(t, s, "SELECT count(*) FROM legacy_spent"); n != 0 {
		t.Errorf("%d spent", n)
	}
	// Without a takeover none of it counts.
	plain := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	wantRefused(t, tryReset(t.Context(), plain, keep(nora), newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	if err := tryReset(t.Context(), s, keep(nora), newPassword); err != nil {
		t.Fatal(err)
	}
}

func TestLegacyWithoutRedis(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	store := testenv.NewProxy(t, backend.RedisURL)
	backend.RedisURL = store.URL()
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	store.Cut()
	wantRefused(t, tryReset(t.Context(), s, backend.ResetTokens[0].Token, newPassword), codes.Unavailable, "STORE_UNAVAILABLE")
	wantRefused(t, tryReset(t.Context(), s, "no UUID", newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	user := backend.User(t, "nora6@example.com")
	wantRefused(t, tryLogin(t.Context(), s, user.Email, user.Password), codes.Unavailable, "STORE_UNAVAILABLE")
	wantRefused(t, tryLogout(t.Context(), s, backend.Sessions[0].RefreshToken), codes.Unavailable, "STORE_UNAVAILABLE")
}
