package server_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// race is a call that runs while the account is deleted.
type race struct {
	// prepare returns the call.
	prepare func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(ctx context.Context) error
	// reasons are the answers that are true afterwards or before.
	reasons []string
	// mailed is true if the address is proved by mail.
	mailed bool
}

func deletionRaces() map[string]race {
	after := []string{"", "INVALID_CREDENTIALS", "USER_NOT_FOUND", "SESSION_ENDED", "RATE_LIMITED"}
	own := func(call func(ctx context.Context, s *testenv.Server) error) race {
		return race{reasons: after, prepare: func(_ *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			return func(ctx context.Context) error { return call(testenv.WithKey(ctx, tokens.GetAccessToken()), s) }
		}}
	}
	return map[string]race{
		"login": {reasons: after, prepare: func(_ *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) func(context.Context) error {
			return func(ctx context.Context) error { return tryLogin(ctx, s, email, password) }
		}},
		"wrong password": {reasons: after, prepare: func(_ *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) func(context.Context) error {
			return func(ctx context.Context) error { return tryLogin(ctx, s, email, "wrong") }
		}},
		"refresh": {reasons: append([]string{"REFRESH_TOKEN_INVALID"}, after...), prepare: func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			newest := logIn(t, s, email)
			return func(ctx context.Context) error {
				tokens, err := tryRefresh(ctx, s, newest.GetRefreshToken(), "")
				if err == nil {
					newest = tokens
				}
				return err
			}
		}},
		"reset": {reasons: append([]string{"RESET_TOKEN_INVALID"}, after...), prepare: func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			forgot(t, s, email)
			_, token := resetMail(t, s, email)
			return func(ctx context.Context) error { return tryReset(ctx, s, token, "another horse battery") }
		}},
		"forgot": {reasons: after, prepare: func(_ *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := s.Auth.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: email})
				return err
			}
		}},
		"verification": {mailed: true, reasons: append([]string{"LINK_INVALID"}, after...), prepare: func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			mailed := waitLetter(t, s, email, 1)
			return func(ctx context.Context) error { _, err := verifyLink(ctx, s, mailed.token); return err }
		}},
		"passkey registration": own(func(ctx context.Context, s *testenv.Server) error {
			_, err := s.AccountService.StartPasskeyRegistration(ctx, &latchkeyv1.StartPasskeyRegistrationRequest{})
			return err
		}),
		"passkey": {reasons: append([]string{"CODE_INVALID"}, after...), prepare: func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			key := newAuthenticator(t)
			ctx := testenv.WithKey(t.Context(), tokens.GetAccessToken())
			started, err := s.AccountService.StartPasskeyRegistration(ctx, &latchkeyv1.StartPasskeyRegistrationRequest{})
			if err != nil {
				t.Fatal(err)
			}
			answer := key.Create(t, started.GetOptionsJson())
			return func(ctx context.Context) error {
				_, err := s.AccountService.FinishPasskeyRegistration(testenv.WithKey(ctx, tokens.GetAccessToken()), &latchkeyv1.FinishPasskeyRegistrationRequest{
					ChallengeToken: started.GetChallengeToken(), CredentialJson: answer,
				})
				return err
			}
		}},
		"app": own(func(ctx context.Context, s *testenv.Server) error {
			_, err := s.AccountService.EnrollTotp(ctx, &latchkeyv1.EnrollTotpRequest{})
			return err
		}),
		"names": own(func(ctx context.Context, s *testenv.Server) error {
			name := "Augusta " + uuid.NewString()
			_, err := rename(ctx, s, &name, nil)
			return err
		}),
		"password": own(func(ctx context.Context, s *testenv.Server) error {
			_, err := s.Auth.ChangePassword(ctx, &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: "another horse battery"})
			return err
		}),
		"authentication": own(func(ctx context.Context, s *testenv.Server) error {
			_, err := s.AccountService.Reauthenticate(ctx, withPassword(password))
			return err
		}),
		"operator": {reasons: after, prepare: func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			id := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser().GetId()
			return func(ctx context.Context) error {
				_, err := s.Admin.RemoveUserFactors(testenv.WithKey(ctx, testenv.AdminKey), &latchkeyv1.RemoveUserFactorsRequest{UserId: id})
				return err
			}
		}},
	}
}

// A call that runs at the same moment leaves nothing of the account behind, and gets an answer that is true.
func TestNothingSurvivesADeletion(t *testing.T) {
	t.Parallel()
	for name, race := range deletionRaces() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := testenv.Options{PasskeyOrigins: []string{"https://app.example.com"}}
			if race.mailed {
				options.EmailVerification = "optional"
			}
			s := testenv.Start(t, options)
			replica := twin(t, s, options)
			tokens := account(t, s)
			id := wantValid(t, replica, tokens.GetAccessToken(), 0).GetUser().GetId()
			call := race.prepare(t, s, tokens)
			admin := testenv.WithKey(t.Context(), testenv.AdminKey)
			stop := make(chan struct{})
			var calling sync.WaitGroup
			var mu sync.Mutex
			wrong := map[string]bool{}
			calling.Go(func() { // over and over, until some calls have come after the deletion
				for left := 5; left > 0; {
					if reason := reasonOf(call(t.Context())); !slices.Contains(race.reasons, reason) {
						mu.Lock()
						wrong[reason] = true
						mu.Unlock()
					}
					select {
					case <-stop:
						left--
					default:
					}
				}
			})
			if _, err := replica.Admin.DeleteUser(admin, &latchkeyv1.DeleteUserRequest{UserId: id}); err != nil {
				t.Error(err)
			}
			close(stop)
			calling.Wait()
			if len(wrong) > 0 {
				t.Errorf("answers: %v", wrong)
			}
			quiet(t, s)
			if left := leftOf(t, s, id, email); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if indexed, err := s.Sessions.List(t.Context(), uuid.MustParse(id)); err != nil || len(indexed) > 0 {
				t.Errorf("sessions: %v, %v", indexed, err)
			}
		})
	}
}
