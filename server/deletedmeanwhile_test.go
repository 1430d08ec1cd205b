package server_test

import (
	"bytes"
	"context"
	"testing"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// meanwhile is a call that has read the account when it is deleted.
type meanwhile struct {
	// prepare returns the call.
	prepare func(t *testing.T, s *testenv.Server) func(ctx context.Context) error
	// held is the answer if the deletion is committed while the call waits for the account's row, or "" if the call has
	// nothing to wait for.
	held string
	// at is the statement before which the call stops while the account is deleted, and stopped is the answer. "": the call
	// has the account locked by then, so the deletion waits.
	at, stopped string
}

func deletedMeanwhile() map[string]meanwhile {
	own := func(call func(ctx context.Context, s *testenv.Server) error) func(*testing.T, *testenv.Server) func(context.Context) error {
		return func(t *testing.T, s *testenv.Server) func(context.Context) error {
			t.Helper()
			tokens := account(t, s)
			return func(ctx context.Context) error { return call(testenv.WithKey(ctx, tokens.GetAccessToken()), s) }
		}
	}
	keyed := func(t *testing.T, s *testenv.Server) (*testenv.Authenticator, *latchkeyv1.Tokens) {
		t.Helper()
		tokens, key := account(t, s), newAuthenticator(t)
		addPasskey(t, s, tokens.GetAccessToken(), key)
		return key, tokens
	}
	return map[string]meanwhile{
		"login": {held: "INVALID_CREDENTIALS", at: "UPDATE ON users", stopped: "INVALID_CREDENTIALS", prepare: func(t *testing.T, s *testenv.Server) func(context.Context) error {
			t.Helper()
			signUp(t, s, email)
			return func(ctx context.Context) error { return tryLogin(ctx, s, email, password) }
		}},
		"app": {held: "CHALLENGE_INVALID", prepare: func(t *testing.T, s *testenv.Server) func(context.Context) error {
			t.Helper()
			a, _, _ := guarded(t, s)
			asked, code := challenge(t, s), a.next(s)
			return func(ctx context.Context) error { _, err := tryAnswer(ctx, s, withCode(asked, code)); return err }
		}},
		"app of a session": {held: "USER_NOT_FOUND", at: "INSERT ON factor_failures", stopped: "USER_NOT_FOUND", prepare: func(t *testing.T, s *testenv.Server) func(context.Context) error {
			t.Helper()
			a, _, tokens := guarded(t, s)
			proof := &latchkeyv1.ReauthenticateRequest{Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: a.next(s)}}
			return func(ctx context.Context) error {
				_, err := tryReauthenticate(ctx, s, tokens.GetAccessToken(), proof)
				return err
			}
		}},
		"passkey": {held: "CODE_INVALID", prepare: func(t *testing.T, s *testenv.Server) func(context.Context) error {
			t.Helper()
			key, _ := keyed(t, s)
			begun := startPasskeyLogin(t, s)
			answer := withPasskey(begun.GetChallengeToken(), key.Get(t, begun.GetOptionsJson()))
			return func(ctx context.Context) error { _, err := tryAnswer(ctx, s, answer); return err }
		}},
		"passkey of a session": {held: "USER_NOT_FOUND", prepare: func(t *testing.T, s *testenv.Server) func(context.Context) error {
			t.Helper()
			key, tokens := keyed(t, s)
			begun := startPasskeyLogin(t, s)
			proof := &latchkeyv1.ReauthenticateRequest{
				Proof:          &latchkeyv1.ReauthenticateRequest_PasskeyJson{PasskeyJson: key.Get(t, begun.GetOptionsJson())},
				ChallengeToken: begun.GetChallengeToken(),
			}
			return func(ctx context.Context) error {
				_, err := tryReauthenticate(ctx, s, tokens.GetAccessToken(), proof)
				return err
			}
		}},
		"wrong password": {at: "INSERT ON password_failures", stopped: "INVALID_CREDENTIALS", prepare: func(t *testing.T, s *testenv.Server) func(context.Context) error {
			t.Helper()
			signUp(t, s, email)
			return func(ctx context.Context) error { return tryLogin(ctx, s, email, "wrong") }
		}},
		"enrolment": {held: "USER_NOT_FOUND", prepare: own(func(ctx context.Context, s *testenv.Server) error {
			_, err := s.AccountService.EnrollTotp(ctx, &latchkeyv1.EnrollTotpRequest{})
			return err
		})},
		"passkey registration": {held: "USER_NOT_FOUND", prepare: own(func(ctx context.Context, s *testenv.Server) error {
			_, err := s.AccountService.StartPasskeyRegistration(ctx, &latchkeyv1.StartPasskeyRegistrationRequest{})
			return err
		})},
		"secret of a change of address": {held: "USER_NOT_FOUND", prepare: own(func(ctx context.Context, s *testenv.Server) error {
			return askChange(ctx, s, "new@example.com")
		})},
		"names, with their event": {held: "USER_NOT_FOUND", prepare: own(func(ctx context.Context, s *testenv.Server) error {
			name := "Augusta"
			_, err := rename(ctx, s, &name, nil)
			return err
		})},
	}
}

// A call that has read the account before its deletion was committed has the answer of an account that does not exist: no
// store is to blame, and the same call again would have no other answer.
func TestAccountDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	const remove = "DELETE FROM users WHERE email = $1"
	options := testenv.Options{PasskeyOrigins: []string{passkeyOrigin}, LoginByCode: true}
	check := func(t *testing.T, s *testenv.Server, answer <-chan error, want string) {
		t.Helper()
		if reason := reasonOf(<-answer); reason != want {
			t.Errorf("answer %q, want %q", reason, want)
		}
		s.Server.FillAfterwards()() // so that the work after the call is done
		for _, fault := range []string{"foreign key", "internal error", "was not done"} {
			if logged := s.Logs.Bytes(); bytes.Contains(logged, []byte(fault)) {
				t.Errorf("the log has %q: %s", fault, logged)
			}
		}
	}
	start := func(t *testing.T, call func(ctx context.Context) error) <-chan error {
		t.Helper()
		answer := make(chan error, 1)
		go func() { answer <- call(t.Context()) }()
		return answer
	}
	for name, m := range deletedMeanwhile() {
		if m.held != "" {
			t.Run(name+", held", func(t *testing.T) {
				t.Parallel()
				s := testenv.Start(t, options)
				call := m.prepare(t, s)
				commit := holdAccount(t, s, remove, email)
				answer := start(t, call)
				commit()
				check(t, s, answer, m.held)
			})
		}
		if m.at != "" {
			t.Run(name+", stopped", func(t *testing.T) {
				t.Parallel()
				s := testenv.Start(t, options)
				call := m.prepare(t, s)
				waited, goOn := stopAt(t, s, m.at)
				answer := start(t, call)
				waited()
				execSQL(t, s, remove, email)
				goOn()
				check(t, s, answer, m.stopped)
			})
		}
	}
}
