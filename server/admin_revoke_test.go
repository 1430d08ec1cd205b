package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func suspend(t *testing.T, s *testenv.Server, userID string) *latchkeyv1.Account {
	t.Helper()
	resp, err := s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: userID})
	if err != nil {
		t.Fatalf("suspend: %v", err)
	}
	return resp.GetAccount()
}

func reactivate(t *testing.T, s *testenv.Server, userID string) *latchkeyv1.Account {
	t.Helper()
	resp, err := s.Admin.ReactivateUser(asAdmin(t), &latchkeyv1.ReactivateUserRequest{UserId: userID})
	if err != nil {
		t.Fatalf("reactivate: %v", err)
	}
	return resp.GetAccount()
}

// wantNoRefresh accepts two reasons: the first refusal deletes the session from Redis, and after that its token is only
// unknown.
func wantNoRefresh(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) {
	t.Helper()
	_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	if reason := reasonIn(err); status.Code(err) != codes.Unauthenticated || reason != "SESSION_ENDED" && reason != "REFRESH_TOKEN_INVALID" {
		t.Errorf("refresh: %v", err)
	}
}

// ledgerRows lists the rows, oldest first, with kind and account.
func ledgerRows(t *testing.T, s *testenv.Server) (rows []string) {
	t.Helper()
	found, err := s.Pool.Query(t.Context(), "SELECT kind || ' ' || coalesce(user_id::text, '') FROM revocations ORDER BY seq")
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		var row string
		if err := found.Scan(&row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if found.Err() != nil {
		t.Fatal(found.Err())
	}
	return rows
}

func audited(t *testing.T, s *testenv.Server, kind, userID string) int {
	t.Helper()
	return count(t, s, "SELECT count(*) FROM audit_events WHERE kind = $1 AND user_id = $2 AND trace_id <> '' AND address <> ''", kind, userID)
}

// TestSuspension suspends an account and reactivates it, with each call made twice.
func TestSuspension(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	user := signUp(t, s, email)
	tokens := logIn(t, s, email)
	wantValid(t, replica, tokens.GetAccessToken(), 0) // and now it is in memory
	bystander := "bystander@example.com"
	signUp(t, s, bystander)
	theirs := logIn(t, s, bystander)

	for call := range 2 {
		account := suspend(t, s, user.GetId())
		if !account.GetSuspended() || !proto.Equal(account.GetUser(), user) {
			t.Errorf("got %v", account)
		}
		if !getUser(t, s, byID(user.GetId())).GetSuspended() {
			t.Error("it is not shown as suspended")
		}
		// The call itself appends the row. The trigger adds none, and the second call neither.
		if rows := ledgerRows(t, s); len(rows) != 1 || rows[0] != "user "+user.GetId() {
			t.Errorf("after call %d: %v", call+1, rows)
		}
		if n := audited(t, s, "user_suspended", user.GetId()); n != 1 {
			t.Errorf("after call %d: %d events", call+1, n)
		}
	}
	wantValid(t, replica, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED)
	wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED)
	wantNoRefresh(t, s, tokens)
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.PermissionDenied, "ACCOUNT_DISABLED")
	wantRefused(t, tryLogin(t.Context(), s, email, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	wantValid(t, s, theirs.GetAccessToken(), 0)

	for call := range 2 {
		if account := reactivate(t, s, user.GetId()); account.GetSuspended() || !proto.Equal(account.GetUser(), user) {
			t.Errorf("got %v", account)
		}
		// A row here too, because caches still have the old account.
		if rows := ledgerRows(t, s); len(rows) != 2 || rows[1] != "user "+user.GetId() || audited(t, s, "user_reactivated", user.GetId()) != 1 {
			t.Errorf("after call %d: %v", call+1, rows)
		}
	}
	wantValid(t, replica, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	wantNoRefresh(t, s, tokens)
	again := logIn(t, s, email)
	wantValid(t, s, again.GetAccessToken(), 0)
	refresh(t, s, again.GetRefreshToken(), "")
	wantValid(t, s, theirs.GetAccessToken(), 0)
	refresh(t, s, theirs.GetRefreshToken(), "")
}

func TestRevokeUserSessions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	revoke := func() {
		t.Helper()
		if _, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: user.GetId()}); err != nil {
			t.Fatal(err)
		}
	}
	revoke() // without any session
	signUp(t, s, "bystander@example.com")
	theirs := logIn(t, s, "bystander@example.com")
	for range 2 {
		first, second := logIn(t, s, email), logIn(t, s, email)
		refreshed := refresh(t, s, second.GetRefreshToken(), "")
		revoke()
		for _, tokens := range []*latchkeyv1.Tokens{first, second, refreshed} {
			wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
			wantNoRefresh(t, s, tokens)
		}
	}
	if rows := ledgerRows(t, s); len(rows) != 3 || audited(t, s, "user_sessions_revoked", user.GetId()) != 3 {
		t.Errorf("ledger %v", rows)
	}
	wantValid(t, s, logIn(t, s, email).GetAccessToken(), 0)
	wantValid(t, s, theirs.GetAccessToken(), 0)
}

func TestRevokeAllSessions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	revoke := func() {
		t.Helper()
		if _, err := s.Admin.RevokeAllSessions(asAdmin(t), &latchkeyv1.RevokeAllSessionsRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	revoke() // without any account
	addresses := []string{"a@example.com", "b@example.com", "c@example.com"}
	var ended []*latchkeyv1.Tokens
	for _, address := range addresses {
		signUp(t, s, address)
		tokens := logIn(t, s, address)
		ended = append(ended, tokens, refresh(t, s, tokens.GetRefreshToken(), ""))
	}
	revoke()
	for _, tokens := range ended {
		wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
		wantNoRefresh(t, s, tokens)
	}
	for _, address := range addresses {
		wantValid(t, s, logIn(t, s, address).GetAccessToken(), 0)
	}
	if rows := ledgerRows(t, s); len(rows) != 2 || rows[0] != "all " || rows[1] != "all " || audited(t, s, "all_sessions_revoked", uuid.Nil.String()) != 2 {
		t.Errorf("ledger %v", rows)
	}
}

// Nothing is appended for them, and nothing recorded.
func TestAdminOfUnknownAccounts(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	gone := signUp(t, s, email).GetId()
	execSQL(t, s, "DELETE FROM users")
	before := len(ledgerRows(t, s))
	calls := map[string]func(id string) error{
		"suspend": func(id string) error {
			_, err := s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: id})
			return err
		},
		"reactivate": func(id string) error {
			_, err := s.Admin.ReactivateUser(asAdmin(t), &latchkeyv1.ReactivateUserRequest{UserId: id})
			return err
		},
		"revoke": func(id string) error {
			_, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: id})
			return err
		},
	}
	for name, call := range calls {
		for _, id := range []string{uuid.NewString(), uuid.Nil.String(), gone} {
			t.Log(name)
			wantRefused(t, call(id), codes.NotFound, "USER_NOT_FOUND")
		}
		for _, id := range []string{"", "x", email, strings.Repeat("0", 32)} {
			wantRefused(t, call(id), codes.InvalidArgument, "VALIDATION_FAILED", "user_id")
		}
	}
	if after := len(ledgerRows(t, s)); after != before {
		t.Errorf("%d rows of nobody", after-before)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind LIKE 'user%'"); n != 0 {
		t.Errorf("%d events of nobody", n)
	}
}

// A call that finds the account already suspended waits for a position at or after the row of the call that suspended
// it, even if that one commits while this one runs.
func TestSuspendingTheSuspendedWaits(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	commit := holdAccount(t, s, "UPDATE users SET is_active = false WHERE id = $1", user.GetId())
	type result struct {
		position int64
		err      error
	}
	done := make(chan result, 1)
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing was written
	go func() {
		_, ended, err := s.App.Accounts.ChangeStatus(t.Context(), tx, uuid.MustParse(user.GetId()), false, audit.UserSuspended)
		done <- result{ended.Position, err}
	}()
	commit() // and with it the trigger's row
	got := <-done
	row := count(t, s, "SELECT seq FROM revocations WHERE user_id = $1", user.GetId())
	if got.err != nil || got.position < int64(row) {
		t.Errorf("it waits for %d, the row is %d: %v", got.position, row, got.err)
	}
	if rows := ledgerRows(t, s); len(rows) != 1 || audited(t, s, "user_suspended", user.GetId()) != 0 {
		t.Errorf("ledger %v", rows)
	}
}

// Each of the changes, made for the first time or again, answers only when a replica that does not follow the ledger
// has no lease any more.
func TestAdminWaitsUntilFinal(t *testing.T) {
	t.Parallel()
	const lease = 400 * time.Millisecond
	s := testenv.Start(t, testenv.Options{Lease: lease})
	id := signUp(t, s, email).GetId()
	suspendIt := func() error {
		_, err := s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: id})
		return err
	}
	reactivateIt := func() error {
		_, err := s.Admin.ReactivateUser(asAdmin(t), &latchkeyv1.ReactivateUserRequest{UserId: id})
		return err
	}
	for _, step := range []struct {
		name string
		call func() error
	}{
		{"suspend", suspendIt},
		{"suspend again", suspendIt},
		{"reactivate", reactivateIt},
		{"reactivate again", reactivateIt},
		{"revoke the account's sessions", func() error {
			_, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: id})
			return err
		}},
		{"revoke all sessions", func() error {
			_, err := s.Admin.RevokeAllSessions(asAdmin(t), &latchkeyv1.RevokeAllSessionsRequest{})
			return err
		}},
	} {
		execSQL(t, s, "INSERT INTO replicas (id, applied_seq, lease_ms) VALUES ($1, 0, $2)", uuid.New(), lease.Milliseconds())
		began := time.Now()
		if err := step.call(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if took := time.Since(began); took < lease {
			t.Errorf("%s answers after %v", step.name, took)
		}
	}
}

// A login that read the account before the suspension and finished after the reactivation gets tokens that are refused.
func TestSuspensionAndLoginRace(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	// The login waits for the account's row, to record itself, when everything else is done.
	commit := holdAccount(t, s, "UPDATE users SET is_verified = true WHERE id = $1", user.GetId())
	type result struct {
		resp *latchkeyv1.LoginResponse
		err  error
	}
	done := make(chan result, 1)
	ctx := t.Context()
	go func() {
		resp, err := s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: password})
		done <- result{resp, err}
	}()
	testenv.Eventually(t, patience, "the login waits", func() bool { return lockWaits(t, s) == 1 })
	changed := make(chan error, 1)
	admin := asAdmin(t)
	go func() {
		_, err := s.Admin.SuspendUser(admin, &latchkeyv1.SuspendUserRequest{UserId: user.GetId()})
		_, again := s.Admin.ReactivateUser(admin, &latchkeyv1.ReactivateUserRequest{UserId: user.GetId()})
		changed <- errors.Join(err, again)
	}()
	testenv.Eventually(t, patience, "the suspension waits too", func() bool { return lockWaits(t, s) == 2 })
	commit()
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	login := <-done
	if login.err != nil { // the suspension was first, which is fine too
		wantRefused(t, login.err, codes.Unauthenticated, "INVALID_CREDENTIALS")
		return
	}
	wantValid(t, s, login.resp.GetTokens().GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	wantNoRefresh(t, s, login.resp.GetTokens())
}

// If any part of a change fails, none of it is stored.
func TestAdminChangesAreWhole(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"audit_events", "revocations"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			user := signUp(t, s, email)
			tokens := logIn(t, s, email)
			execSQL(t, s, "ALTER TABLE "+table+" RENAME TO gone")
			_, err := s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: user.GetId()})
			_, errUser := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: user.GetId()})
			_, errAll := s.Admin.RevokeAllSessions(asAdmin(t), &latchkeyv1.RevokeAllSessionsRequest{})
			for _, err := range []error{err, errUser, errAll} {
				if code := status.Code(err); code != codes.Internal {
					t.Errorf("without %s: %v", table, err)
				}
			}
			execSQL(t, s, "ALTER TABLE gone RENAME TO "+table)
			if getUser(t, s, byID(user.GetId())).GetSuspended() || len(ledgerRows(t, s)) != 0 || count(t, s, "SELECT count(*) FROM audit_events WHERE kind LIKE '%s_revoked' OR kind = 'user_suspended'") != 0 {
				t.Error("half of a change is there")
			}
			wantValid(t, s, tokens.GetAccessToken(), 0)
		})
	}
}
