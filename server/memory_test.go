package server_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestValidationCostsNoRoundTrip counts the calls of validations to the stores.
func TestValidationCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true, Lease: ledger.MaxLease})
	tokens := account(t, s)
	wantValid(t, s, tokens.GetAccessToken(), 0)
	const ofTheFirst = 1 // reads the account
	for range 2000 {
		wantValid(t, s, tokens.GetAccessToken(), 0)
	}
	if p, r := s.Calls.Of("ValidateToken"); p > ofTheFirst || r != 0 {
		t.Errorf("2,001 validations made %d statements and %d Redis commands", p, r)
	}
	// The counter does count.
	refresh(t, s, tokens.GetRefreshToken(), "")
	if p, r := s.Calls.Of("RefreshToken"); p == 0 || r == 0 {
		t.Error("a refresh is counted as nothing")
	}
}

// The data of an account in a replica's memory is never older than the last change that is final.
func TestWhatMemoryHolds(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	for _, name := range []string{"Augusta", "Ada", "Countess"} {
		wantValid(t, s, tokens.GetAccessToken(), 0)
		execSQL(t, s, "UPDATE users SET first_name = $1", name)
		settled(t, s)
		if got := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser().GetFirstName(); got != name {
			t.Errorf("the account is still called %s, not %s", got, name)
		}
	}
	execSQL(t, s, "TRUNCATE users CASCADE")
	settled(t, s)
	wantValid(t, s, tokens.GetAccessToken(), notFound)
}

// A session ends on one replica. From that answer on the other refuses its token, which it has in memory.
func TestFinalOnTheOtherReplica(t *testing.T) {
	t.Parallel()
	a := testenv.Start(t, testenv.Options{WallClock: true})
	b := testenv.Start(t, testenv.Options{WallClock: true, DatabaseURL: a.DatabaseURL, RedisURL: a.RedisURL})
	signUp(t, a, email)
	for range 30 {
		tokens := logIn(t, a, email)
		wantValid(t, b, tokens.GetAccessToken(), 0)
		logOut(t, a, tokens.GetRefreshToken())
		wantValid(t, b, tokens.GetAccessToken(), ended)
	}
	if stats := a.Ledger.Stats(); stats.TimedOut != 0 {
		t.Errorf("%d of 30 logouts waited a lease", stats.TimedOut)
	}
}

// The second call of a logout that is not final yet waits too.
func TestLogoutTwice(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true, Lease: 2 * time.Second})
	tokens := account(t, s)
	// A replica that does not follow the ledger: every revocation takes a lease.
	execSQL(t, s, "INSERT INTO replicas (id, applied_seq, lease_ms) VALUES ($1, 0, 2000)", uuid.New())
	began := time.Now()
	var calls sync.WaitGroup
	calls.Go(func() { logOut(t, s, tokens.GetRefreshToken()) })
	testenv.Eventually(t, patience, "the session has left Redis", func() bool { return len(sessionKeys(t, s)) == 0 })
	logOut(t, s, tokens.GetRefreshToken())
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("the second logout was answered after %s, before the first was final", took)
	}
	calls.Wait()
}

// A replica that cannot prove that it is up to date asks PostgreSQL, and refuses if PostgreSQL does not answer.
func TestWithoutLease(t *testing.T) {
	t.Parallel()
	database := testenv.Migrated(t)
	proxy := testenv.NewProxy(t, database)
	s := testenv.Start(t, testenv.Options{WallClock: true, DatabaseURL: proxy.URL(), Lease: time.Second})
	tokens := account(t, s)
	wantValid(t, s, tokens.GetAccessToken(), 0)
	proxy.Cut()
	testenv.Eventually(t, patience, "the lease has run out", func() bool { return !s.Ledger.Trusted() })
	_, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
	wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
	proxy.Restore()
	testenv.Eventually(t, patience, "the lease is back", s.Ledger.Trusted)
	wantValid(t, s, tokens.GetAccessToken(), 0)
}

// Sessions that started after a backup are ended by revocations after it was restored.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true})
	signUp(t, s, email)
	const appended = "SELECT latchkey_append_revocation('keys_changed', NULL, NULL, NULL, NULL, NULL)"
	execSQL(t, s, appended)
	backup := count(t, s, "SELECT seq FROM ledger_head")
	execSQL(t, s, appended)
	settled(t, s)
	tokens := logIn(t, s, email)
	execSQL(t, s, "DELETE FROM revocations WHERE seq > $1", backup)
	execSQL(t, s, "UPDATE ledger_head SET (seq, tip) = (SELECT seq, tip FROM revocations ORDER BY seq DESC LIMIT 1)")
	testenv.Eventually(t, patience, "the replica has noticed", func() bool { return s.Ledger.Stats().Applied == int64(backup) })
	if _, err := s.Admin.RevokeAllSessions(testenv.WithKey(t.Context(), testenv.AdminKey), &latchkeyv1.RevokeAllSessionsRequest{}); err != nil {
		t.Fatal(err)
	}
	wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
}
