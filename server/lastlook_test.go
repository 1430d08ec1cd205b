package server_test

import (
	"context"
	"fmt"
	"testing"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// stopAt makes every call wait where it does this to a table ("DELETE ON factors"). waited returns when one waits, and
// goOn lets all go on.
func stopAt(t *testing.T, s *testenv.Server, event string) (waited, goOn func()) {
	t.Helper()
	return stopBy(t, s, event, "CREATE TRIGGER stop_here BEFORE "+event+" FOR EACH STATEMENT EXECUTE FUNCTION stop_here()")
}

// stopAtCommit makes every call that has done this to a table wait before its commit, when it has all its locks.
func stopAtCommit(t *testing.T, s *testenv.Server, event string) (waited, goOn func()) {
	t.Helper()
	return stopBy(t, s, event, "CREATE CONSTRAINT TRIGGER stop_here AFTER "+event+" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stop_here()")
}

func stopBy(t *testing.T, s *testenv.Server, event, trigger string) (waited, goOn func()) {
	t.Helper()
	const id = 271828 // of an advisory lock that nothing else takes
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }) // a failed test must not hold its server up
	if _, err := tx.Exec(t.Context(), fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", id)); err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, fmt.Sprintf(`CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_advisory_xact_lock_shared(%d); RETURN NULL; END'`, id))
	execSQL(t, s, trigger)
	waited = func() {
		t.Helper()
		testenv.Eventually(t, patience, "a call waits at "+event, func() bool {
			return count(t, s, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", id) > 0
		})
	}
	return waited, func() {
		t.Helper()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// lateChange is a change on the authority of a session.
type lateChange struct {
	// stop is where the call waits, after the session was looked at.
	stop string
	// prepare returns the call.
	prepare func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(ctx context.Context) error
	// same is a query whose number must not change.
	same string
}

func lateChanges() map[string]lateChange {
	own := func(call func(ctx context.Context, s *testenv.Server) error) func(*testing.T, *testenv.Server, *latchkeyv1.Tokens) func(context.Context) error {
		return func(_ *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) func(context.Context) error {
			return func(ctx context.Context) error { return call(ctx, s) }
		}
	}
	const factors = "SELECT count(*) FROM factors"
	return map[string]lateChange{
		"names": {stop: "UPDATE ON users", same: "SELECT count(*) FROM users WHERE first_name = 'Augusta'", prepare: own(func(ctx context.Context, s *testenv.Server) error {
			name := "Augusta"
			_, err := rename(ctx, s, &name, nil)
			return err
		})},
		"address": {stop: "INSERT ON one_time_secrets", same: "SELECT count(*) FROM one_time_secrets WHERE purpose = 'change_email'", prepare: own(func(ctx context.Context, s *testenv.Server) error {
			return askChange(ctx, s, "new@example.com")
		})},
		"proof": {stop: "DELETE ON one_time_secrets", same: "SELECT count(*) FROM users WHERE is_verified", prepare: func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			mailed := waitLetter(t, s, email, 1)
			return func(ctx context.Context) error { _, err := verifyLink(ctx, s, mailed.token); return err }
		}},
		"app": {stop: "INSERT ON totp_enrolments", same: "SELECT count(*) FROM totp_enrolments", prepare: own(func(ctx context.Context, s *testenv.Server) error {
			_, err := s.AccountService.EnrollTotp(ctx, &latchkeyv1.EnrollTotpRequest{})
			return err
		})},
		"confirmed app": {stop: "INSERT ON totp_factors", same: factors, prepare: func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			a := shownApp(t, s, tokens.GetAccessToken())
			return func(ctx context.Context) error {
				_, err := s.AccountService.ConfirmTotp(ctx, &latchkeyv1.ConfirmTotpRequest{Code: a.code()})
				return err
			}
		}},
		"removed app": {stop: "DELETE ON factors", same: factors, prepare: func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			enrol(t, s, tokens.GetAccessToken())
			return func(ctx context.Context) error {
				_, err := s.AccountService.RemoveTotp(ctx, &latchkeyv1.RemoveTotpRequest{})
				return err
			}
		}},
		"recovery codes": {stop: "DELETE ON recovery_sets", same: "SELECT hashtext(id::text) FROM recovery_sets", prepare: func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			enrol(t, s, tokens.GetAccessToken())
			return func(ctx context.Context) error {
				_, err := s.AccountService.RegenerateRecoveryCodes(ctx, &latchkeyv1.RegenerateRecoveryCodesRequest{})
				return err
			}
		}},
		"passkey registration": {stop: "INSERT ON challenges", same: "SELECT count(*) FROM challenges", prepare: own(func(ctx context.Context, s *testenv.Server) error {
			_, err := s.AccountService.StartPasskeyRegistration(ctx, &latchkeyv1.StartPasskeyRegistrationRequest{})
			return err
		})},
		"passkey": {stop: "INSERT ON passkeys", same: factors, prepare: func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			started, err := s.AccountService.StartPasskeyRegistration(testenv.WithKey(t.Context(), tokens.GetAccessToken()), &latchkeyv1.StartPasskeyRegistrationRequest{})
			if err != nil {
				t.Fatal(err)
			}
			answer := newAuthenticator(t).Create(t, started.GetOptionsJson())
			return func(ctx context.Context) error {
				_, err := s.AccountService.FinishPasskeyRegistration(ctx, &latchkeyv1.FinishPasskeyRegistrationRequest{
					ChallengeToken: started.GetChallengeToken(), CredentialJson: answer,
				})
				return err
			}
		}},
		"renamed passkey": {stop: "UPDATE ON factors", same: "SELECT count(*) FROM factors WHERE name = 'mine'", prepare: func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			added := addPasskey(t, s, tokens.GetAccessToken(), newAuthenticator(t))
			return func(ctx context.Context) error {
				_, err := s.AccountService.RenamePasskey(ctx, &latchkeyv1.RenamePasskeyRequest{PasskeyId: added.GetPasskey().GetId(), Name: "mine"})
				return err
			}
		}},
		"removed passkey": {stop: "DELETE ON factors", same: factors, prepare: func(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) func(context.Context) error {
			t.Helper()
			added := addPasskey(t, s, tokens.GetAccessToken(), newAuthenticator(t))
			return func(ctx context.Context) error {
				_, err := s.AccountService.RemovePasskey(ctx, &latchkeyv1.RemovePasskeyRequest{PasskeyId: added.GetPasskey().GetId()})
				return err
			}
		}},
	}
}

// A change that is under way when its session is logged out is not made after that logout has returned.
func TestNothingChangesAfterALogout(t *testing.T) {
	t.Parallel()
	for name, change := range lateChanges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{PasskeyOrigins: []string{passkeyOrigin}, EmailVerification: "optional"})
			tokens := account(t, s)
			call := change.prepare(t, s, tokens)
			before := count(t, s, change.same)
			waited, goOn := stopAt(t, s, change.stop)
			answer := make(chan error, 1)
			go func() { answer <- call(testenv.WithKey(t.Context(), tokens.GetAccessToken())) }()
			waited()
			logOut(t, s, tokens.GetRefreshToken())
			goOn()
			if reason := reasonOf(<-answer); reason != "SESSION_ENDED" {
				t.Errorf("the call of an ended session: %q", reason)
			}
			if after := count(t, s, change.same); after != before {
				t.Errorf("%s: %d before the logout, %d after", change.same, before, after)
			}
		})
	}
}

// A logout that comes between the last look at its session and the commit of a change waits for the commit.
func TestLogoutWaitsForAChange(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	enrol(t, s, tokens.GetAccessToken())
	waited, goOn := stopAtCommit(t, s, "DELETE ON factors")
	removed, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.AccountService.RemoveTotp(testenv.WithKey(t.Context(), tokens.GetAccessToken()), &latchkeyv1.RemoveTotpRequest{})
		removed <- err
	}()
	waited()
	go func() { ended <- tryLogout(t.Context(), s, tokens.GetRefreshToken()) }()
	testenv.Eventually(t, patience, "the logout waits for the change", func() bool { return lockWaits(t, s) > 1 })
	goOn()
	if err := <-removed; err != nil {
		t.Error("the change that came first:", err)
	}
	if err := <-ended; err != nil {
		t.Error("the logout:", err)
	}
}
