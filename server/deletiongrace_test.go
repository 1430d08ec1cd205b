package server_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const grace = 72 * time.Hour

var disabledReason = latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED //nolint:gochecknoglobals // a short name

// leavingUntil checks that a login is refused because the account is to be deleted, and returns when.
func leavingUntil(t *testing.T, err error) time.Time {
	t.Helper()
	wantRefused(t, err, codes.PermissionDenied, "ACCOUNT_DISABLED")
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			at, err := time.Parse(time.RFC3339, info.GetMetadata()["delete_time"])
			if err != nil {
				t.Fatalf("the metadata is %v", info.GetMetadata())
			}
			return at
		}
	}
	return time.Time{}
}

func keep(ctx context.Context, s *testenv.Server) (*latchkeyv1.LoginResponse, error) {
	return s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: password, CancelDeletion: true})
}

// With a grace the account is unusable at once, on every replica, and is deleted when the time has come: by one of the
// replicas, however many sweep.
func TestDeletionGrace(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: grace})
	replica := twin(t, s, testenv.Options{DeletionGrace: grace})
	tokens := account(t, s)
	id := wantValid(t, replica, tokens.GetAccessToken(), 0).GetUser().GetId()
	forgot(t, s, email)
	_, reset := resetMail(t, s, email)

	at := mustDelete(t, s, tokens.GetAccessToken())
	if want := s.Clock.Now().Add(grace); !at.Equal(want) {
		t.Errorf("deleted at %s, want %s", at, want)
	}
	for _, on := range []*testenv.Server{s, replica} {
		wantValid(t, on, tokens.GetAccessToken(), disabledReason)
		_, err := tryRefresh(t.Context(), on, tokens.GetRefreshToken(), "")
		if got := reasonOf(err); got != "SESSION_ENDED" && got != "REFRESH_TOKEN_INVALID" { // the first one drops it from Redis
			t.Errorf("a refresh: %s", got)
		}
		if until := leavingUntil(t, tryLogin(t.Context(), on, email, password)); !until.Equal(at.Truncate(time.Second)) {
			t.Errorf("until %s, want %s", until, at)
		}
		wantRefused(t, tryLogin(t.Context(), on, email, "wrong"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	wantRefused(t, tryReset(t.Context(), s, reset, "another horse battery"), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	if shown := getUser(t, s, byID(id)); !shown.GetDeleteTime().AsTime().Equal(at) || !shown.GetSuspended() {
		t.Errorf("operators see %v", shown)
	}
	if text := waitMail(t, s, "will be deleted"); !strings.Contains(text, at.UTC().Format("2 January 2006 at 15:04 UTC")) {
		t.Errorf("the mail does not say when:\n%s", text)
	}
	s.Clock.Advance(grace - time.Second)
	sweep(t, s)
	getUser(t, s, byID(id))
	s.Clock.Advance(time.Second) // nobody can keep it any more, though no sweep has come
	_, err := keep(t.Context(), s)
	wantRefused(t, err, codes.PermissionDenied, "ACCOUNT_DISABLED")
	var sweeping sync.WaitGroup
	for i := range 8 {
		sweeping.Go(func() {
			if err := []*testenv.Server{s, replica}[i%2].App.Accounts.DeleteDue(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	sweeping.Wait()
	wantValid(t, replica, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED)
	_, err = s.Admin.GetUser(asAdmin(t), byID(id))
	wantRefused(t, err, codes.NotFound, "USER_NOT_FOUND")
	events, _ := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: id, Kinds: []string{"account_deleted", "deletion_requested"}})
	if got := kindsOf(events); !slices.Equal(got, []string{"account_deleted", "deletion_requested"}) {
		t.Errorf("events %v", got)
	}
	waitMail(t, s, "was deleted")
	quiet(t, s)
	if left := leftOf(t, s, id, email); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if n := count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'farewell'"); n != 1 {
		t.Errorf("%d last mails", n)
	}
}

// The owner keeps the account by a login that says so, and nothing else does. What was ended stays ended.
func TestOwnerKeepsTheAccount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: grace})
	replica := twin(t, s, testenv.Options{DeletionGrace: grace})
	tokens := account(t, s)
	mustDelete(t, s, tokens.GetAccessToken())
	_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: "wrong", CancelDeletion: true})
	wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
	leavingUntil(t, tryLogin(t.Context(), replica, email, password))

	kept, err := keep(t.Context(), replica)
	if err != nil {
		t.Fatal(err)
	}
	for _, on := range []*testenv.Server{s, replica} {
		wantValid(t, on, kept.GetTokens().GetAccessToken(), 0)
		wantValid(t, on, tokens.GetAccessToken(), ended)
	}
	waitMail(t, s, "will not be deleted")
	s.Clock.Advance(2 * grace)
	sweep(t, s)
	logIn(t, s, email)
	if _, err := keep(t.Context(), s); err != nil { // changes nothing
		t.Error(err)
	}
	// It can be deleted again.
	again := logIn(t, s, email)
	if at := mustDelete(t, s, again.GetAccessToken()); !at.Equal(s.Clock.Now().Add(grace)) {
		t.Errorf("deleted at %s", at)
	}
}

// The second factor is asked for before the account is kept, by every kind of answer.
func TestKeepingAsksForTheFactor(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: grace, PasskeyOrigins: []string{"https://app.example.com"}})
	a, recovery, tokens := guarded(t, s)
	key := newAuthenticator(t)
	fresh, err := tryReauthenticate(t.Context(), s, tokens.GetAccessToken(), &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: a.next(s)},
	})
	if err != nil {
		t.Fatal(err)
	}
	addPasskey(t, s, fresh.GetAccessToken(), key)
	leaving := func() bool { return count(t, s, "SELECT count(*) FROM account_deletions") == 1 }
	mark := func(accessToken string) {
		t.Helper()
		mustDelete(t, s, accessToken)
		if !leaving() {
			t.Fatal("it is not marked")
		}
	}
	ask := func() *latchkeyv1.Challenge {
		t.Helper()
		resp, err := keep(t.Context(), s)
		if err != nil || resp.GetChallenge() == nil || resp.GetTokens() != nil || !leaving() {
			t.Fatalf("the answer to the password: %v, %v", resp, err)
		}
		return resp.GetChallenge()
	}
	mark(fresh.GetAccessToken())
	leavingUntil(t, tryLogin(t.Context(), s, email, password)) // no challenge for those who do not want to keep it
	for name, answer := range map[string]func(c *latchkeyv1.Challenge) *latchkeyv1.AnswerChallengeRequest{
		"app": func(c *latchkeyv1.Challenge) *latchkeyv1.AnswerChallengeRequest {
			return withCode(c.GetChallengeToken(), a.next(s))
		},
		"recovery code": func(c *latchkeyv1.Challenge) *latchkeyv1.AnswerChallengeRequest {
			return withRecovery(c.GetChallengeToken(), recovery[0])
		},
		"passkey after the password": func(c *latchkeyv1.Challenge) *latchkeyv1.AnswerChallengeRequest {
			return withPasskey(c.GetChallengeToken(), key.Get(t, c.GetOptionsJson()))
		},
		"passkey": func(*latchkeyv1.Challenge) *latchkeyv1.AnswerChallengeRequest {
			started := startPasskeyLogin(t, s)
			return withPasskey(started.GetChallengeToken(), key.Get(t, started.GetOptionsJson()))
		},
	} {
		c := ask()
		wrong := withCode(c.GetChallengeToken(), wrongTotp(a))
		wrong.CancelDeletion = true
		_, err := tryAnswer(t.Context(), s, wrong)
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
		wrongCodes := func() int { return count(t, s, "SELECT sum(in_a_row)::integer FROM factor_failures") }
		before, req := wrongCodes(), answer(c)
		_, err = tryAnswer(t.Context(), s, req)
		leavingUntil(t, err)
		if !leaving() {
			t.Fatalf("%s: kept by an answer that does not say so", name)
		}
		if after := wrongCodes(); after != before {
			t.Errorf("%s: an answer that was not compared was counted as wrong", name)
		}
		req.CancelDeletion = true
		kept := mustAnswer(t, s, req)
		if leaving() {
			t.Errorf("%s: not kept", name)
		}
		wantValid(t, s, kept.GetTokens().GetAccessToken(), 0)
		mark(kept.GetTokens().GetAccessToken())
	}
}

// A password that was replaced after it was compared keeps nothing.
func TestAnOldPasswordKeepsNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: grace})
	mustDelete(t, s, account(t, s).GetAccessToken())
	commit := holdAccount(t, s, "UPDATE users SET password_hash = '!'")
	answered := make(chan error, 1)
	go func() {
		_, err := keep(context.WithoutCancel(t.Context()), s)
		answered <- err
	}()
	testenv.Eventually(t, patience, "the login waits for the account", func() bool { return lockWaits(t, s) == 1 })
	commit()
	wantRefused(t, <-answered, codes.Unauthenticated, "INVALID_CREDENTIALS")
	if n := count(t, s, "SELECT count(*) FROM account_deletions d JOIN users u ON u.id = d.user_id WHERE NOT u.is_active"); n != 1 {
		t.Errorf("%d accounts are to be deleted", n)
	}
}

// Operators restore, suspend, reactivate and hurry; plain SQL counts too.
func TestOperatorsAndTheGrace(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: grace})
	admin := asAdmin(t)
	user := signUp(t, s, email)
	id := user.GetId()
	mark := func() {
		t.Helper()
		if _, err := s.Admin.DeleteUser(admin, &latchkeyv1.DeleteUserRequest{UserId: id}); err != nil {
			t.Fatal(err)
		}
	}
	restore := func() *latchkeyv1.Account {
		t.Helper()
		resp, err := s.Admin.RestoreUser(admin, &latchkeyv1.RestoreUserRequest{UserId: id})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetAccount()
	}
	if shown := restore(); shown.GetSuspended() || shown.GetDeleteTime() != nil { // there is nothing to do
		t.Errorf("%v", shown)
	}
	mark()
	leavingUntil(t, tryLogin(t.Context(), s, email, password))
	first := getUser(t, s, byID(id)).GetDeleteTime().AsTime()
	s.Clock.Advance(time.Hour)
	mark() // the time stays
	if again := getUser(t, s, byID(id)).GetDeleteTime().AsTime(); !again.Equal(first) {
		t.Errorf("moved from %s to %s", first, again)
	}
	if shown := restore(); shown.GetSuspended() || shown.GetDeleteTime() != nil {
		t.Errorf("restored: %v", shown)
	}
	logIn(t, s, email)

	mark() // suspended meanwhile: the owner cannot keep it, and it stays suspended when it is restored
	if _, err := s.Admin.SuspendUser(admin, &latchkeyv1.SuspendUserRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	_, err := keep(t.Context(), s)
	wantRefused(t, err, codes.PermissionDenied, "ACCOUNT_DISABLED")
	if shown := restore(); !shown.GetSuspended() || shown.GetDeleteTime() != nil {
		t.Errorf("restored: %v", shown)
	}
	mark() // suspended before
	if shown := restore(); !shown.GetSuspended() {
		t.Errorf("restored: %v", shown)
	}
	mark()
	reactivated, err := s.Admin.ReactivateUser(admin, &latchkeyv1.ReactivateUserRequest{UserId: id})
	if err != nil || reactivated.GetAccount().GetSuspended() || reactivated.GetAccount().GetDeleteTime() != nil {
		t.Errorf("reactivated: %v, %v", reactivated, err)
	}
	logIn(t, s, email)

	mark()
	execSQL(t, s, "UPDATE users SET is_active = true WHERE id = $1", id)
	s.Clock.Advance(2 * grace)
	sweep(t, s)
	logIn(t, s, email)

	mark()
	at, err := s.Admin.DeleteUser(admin, &latchkeyv1.DeleteUserRequest{UserId: id, Immediately: true})
	if err != nil || time.Since(at.GetDeleteTime().AsTime()).Abs() > time.Minute {
		t.Errorf("at once: %v, %v", at, err)
	}
	again, err := s.Admin.DeleteUser(admin, &latchkeyv1.DeleteUserRequest{UserId: id})
	if err != nil || !again.GetDeleteTime().AsTime().Equal(at.GetDeleteTime().AsTime()) {
		t.Errorf("repeated: %v, %v", again, err)
	}
	_, err = s.Admin.RestoreUser(admin, &latchkeyv1.RestoreUserRequest{UserId: id})
	wantRefused(t, err, codes.NotFound, "USER_NOT_FOUND")
	events, _ := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: id, Kinds: []string{"deletion_requested", "deletion_cancelled", "account_deleted"}})
	for _, e := range events {
		if !strings.HasPrefix(e.GetActor(), "operator:") {
			t.Errorf("no operator is named: %v", e)
		}
	}
	if n := len(events); n != 11 { // six requests, four that were cancelled by Latchkey, one deletion
		t.Errorf("%d events: %v", n, kindsOf(events))
	}
}

// A mark whose replica dies is swept by any other one, in the time that it says, whatever the setting is then.
func TestMarkOutlivesItsReplica(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: grace})
	later := twin(t, s, testenv.Options{}) // without a grace
	tokens := account(t, s)
	bob := signUp(t, s, "bob@example.com")
	mustDelete(t, s, tokens.GetAccessToken())
	// The sweep fails after the mark: the transaction of the deletion is taken back as a whole.
	execSQL(t, s, `CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$`)
	execSQL(t, s, "CREATE TRIGGER break BEFORE INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION break()")
	s.Clock.Advance(grace)
	if err := s.App.Accounts.DeleteDue(t.Context()); err == nil {
		t.Error("a sweep that fails says nothing")
	}
	if n := count(t, s, "SELECT count(*) FROM users u JOIN account_deletions d ON d.user_id = u.id WHERE NOT u.is_active"); n != 1 {
		t.Errorf("%d accounts are marked", n)
	}
	if n := count(t, s, "SELECT (SELECT count(*) FROM farewell_mails) + (SELECT count(*) FROM river_job WHERE kind = 'farewell')"); n != 0 {
		t.Errorf("a mail about what did not happen: %d", n)
	}
	execSQL(t, s, "DROP TRIGGER break ON revocations")
	if err := later.App.Accounts.DeleteDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM users"); n != 1 {
		t.Errorf("%d accounts are left, want that of %s", n, bob.GetEmail())
	}
	waitMail(t, s, "was deleted")
}

// Hundreds of accounts whose time has come are deleted in batches, and one that fails does not keep the others.
func TestManyDueDeletions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	insertUsers(t, s, "due", 0, 230)
	execSQL(t, s, "UPDATE users SET is_active = false")
	execSQL(t, s, "INSERT INTO account_deletions SELECT id, $1, $1, false FROM users", s.Clock.Now())
	execSQL(t, s, `CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF OLD.email LIKE '%7@%' THEN RAISE 'held'; END IF; RETURN OLD; END $$`)
	execSQL(t, s, "CREATE TRIGGER hold BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION hold()")
	held := count(t, s, "SELECT count(*) FROM users WHERE email LIKE '%7@%'")
	if err := s.App.Accounts.DeleteDue(t.Context()); err == nil {
		t.Error("no error for those that failed")
	}
	if n := count(t, s, "SELECT count(*) FROM users"); n != held || held == 0 {
		t.Errorf("%d are left, want %d", n, held)
	}
	execSQL(t, s, "DROP TRIGGER hold ON users")
	if err := s.App.Accounts.DeleteDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM users"); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// A file of all accounts has none that is to be deleted: where it is imported, nothing would delete it.
func TestExportsLeaveOutWhoLeaves(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: grace})
	tokens := account(t, s)
	signUp(t, s, "bob@example.com")
	listed := func() int {
		t.Helper()
		rows, err := db.New().ExportUsers(t.Context(), s.Pool, db.ExportUsersParams{PageSize: 10})
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	before := listed()
	mustDelete(t, s, tokens.GetAccessToken())
	if after := listed(); before != 2 || after != 1 {
		t.Errorf("%d accounts, and then %d", before, after)
	}
}
