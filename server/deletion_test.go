package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/mail"
	sessions "github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const gone = latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND

func tryDelete(ctx context.Context, s *testenv.Server, accessToken string) (time.Time, error) {
	resp, err := s.AccountService.DeleteAccount(testenv.WithKey(ctx, accessToken), &latchkeyv1.DeleteAccountRequest{})
	return resp.GetDeleteTime().AsTime(), err
}

func mustDelete(t *testing.T, s *testenv.Server, accessToken string) time.Time {
	t.Helper()
	at, err := tryDelete(t.Context(), s, accessToken)
	if err != nil {
		t.Fatalf("delete: %v", err)
	}
	return at
}

// twin is another replica of a server, with the same mailbox.
func twin(t *testing.T, s *testenv.Server, o testenv.Options) *testenv.Server {
	t.Helper()
	o.DatabaseURL, o.RedisURL, o.Clock, o.Sender = s.DatabaseURL, s.RedisURL, s.Clock, s.Mailbox
	return testenv.Start(t, o)
}

// waitMail waits for a mail to the usual address whose subject has these words, and returns its text.
func waitMail(t *testing.T, s *testenv.Server, words string) (text string) {
	t.Helper()
	testenv.Eventually(t, patience, "a mail with "+words, func() bool {
		for _, m := range s.Mailbox.Messages() {
			if strings.EqualFold(m.To, email) && strings.Contains(m.Subject, words) {
				text = m.Text
				return true
			}
		}
		return false
	})
	return text
}

// quiet waits until no mail is under way, and nothing that was asked for.
func quiet(t *testing.T, s *testenv.Server) {
	t.Helper()
	testenv.Eventually(t, patience, "no job is under way", func() bool {
		return count(t, s, `SELECT (SELECT count(*) FROM river_job WHERE finalized_at IS NULL AND kind <> 'sweep')
			+ (SELECT count(*) FROM reset_requests) + (SELECT count(*) FROM mail_requests)`) == 0
	})
}

// sweep is what the hourly job does.
func sweep(t *testing.T, s *testenv.Server) {
	t.Helper()
	upkeep := jobs.Upkeep{Pool: s.Pool, AuditRetention: 90 * 24 * time.Hour, Now: s.Clock.Now}
	if err := errors.Join(s.App.Accounts.DeleteDue(t.Context()), upkeep.Sweep(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// An account is gone on every replica when the call returns, its sessions with it, and its address is free for a new
// account, to which nothing of the old one belongs.
func TestDeleteAccount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := twin(t, s, testenv.Options{})
	tokens := account(t, s)
	other := logIn(t, replica, email)
	id := wantValid(t, replica, tokens.GetAccessToken(), 0).GetUser().GetId()

	at := mustDelete(t, s, tokens.GetAccessToken())
	if off := time.Since(at).Abs(); off > time.Minute {
		t.Errorf("deleted at %s, which is off by %s", at, off)
	}
	for _, on := range []*testenv.Server{s, replica} {
		wantValid(t, on, tokens.GetAccessToken(), gone)
		wantValid(t, on, other.GetAccessToken(), gone)
		_, err := tryRefresh(t.Context(), on, other.GetRefreshToken(), "")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
		wantRefused(t, tryLogin(t.Context(), on, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
		_, err = tryDelete(t.Context(), on, tokens.GetAccessToken())
		wantRefused(t, err, codes.Unauthenticated, "USER_NOT_FOUND")
		_, err = on.Admin.GetUser(asAdmin(t), byID(id))
		wantRefused(t, err, codes.NotFound, "USER_NOT_FOUND")
	}
	waitMail(t, s, "was deleted")
	testenv.Eventually(t, patience, "the address goes with the mail", func() bool {
		return count(t, s, "SELECT count(*) FROM farewell_mails") == 0
	})
	for _, text := range []string{tokens.GetSessionId(), other.GetSessionId()} {
		if _, err := s.Sessions.Get(t.Context(), uuid.MustParse(id), uuid.MustParse(text)); !errors.Is(err, sessions.ErrUnknown) {
			t.Errorf("the session is still in Redis: %v", err)
		}
	}
	events, _ := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: id})
	if got := kindsOf(events); got[0] != "account_deleted" || events[0].GetSessionId() != tokens.GetSessionId() || events[0].GetActor() != "" {
		t.Errorf("the newest event of %v: %v", got, events[0])
	}
	for _, e := range events {
		if e.GetAddress() != "" {
			t.Errorf("an address stays: %v", e)
		}
	}

	anew := signUp(t, s, email)
	if anew.GetId() == id {
		t.Fatal("the id is used again")
	}
	fresh := logIn(t, s, email)
	wantValid(t, replica, fresh.GetAccessToken(), 0)
	wantValid(t, replica, tokens.GetAccessToken(), gone)
	list, err := s.AccountService.ListActivity(as(t, fresh), &latchkeyv1.ListActivityRequest{})
	if err != nil || len(list.GetEvents()) != 2 {
		t.Errorf("the new account's events: %v, %v", list, err)
	}
}

// Of a hundred deletions at once over two replicas one does the work, and all of them tell the truth: that the account was
// deleted, and when.
func TestOneOfAHundredDeletions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := twin(t, s, testenv.Options{})
	tokens := account(t, s)
	id := wantValid(t, replica, tokens.GetAccessToken(), 0).GetUser().GetId()
	const calls = 100
	var times [calls]time.Time
	var failed [calls]error
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			on := []*testenv.Server{s, replica}[i%2]
			if i%4 < 2 { // an operator too
				resp, err := on.Admin.DeleteUser(asAdmin(t), &latchkeyv1.DeleteUserRequest{UserId: id})
				times[i], failed[i] = resp.GetDeleteTime().AsTime(), err
				return
			}
			times[i], failed[i] = tryDelete(t.Context(), on, tokens.GetAccessToken())
		})
	}
	all.Wait()
	answered := map[time.Time]int{}
	for i := range calls {
		if failed[i] != nil { // it came when its token was refused already
			wantRefused(t, failed[i], codes.Unauthenticated, "USER_NOT_FOUND")
			continue
		}
		answered[times[i]]++
	}
	if len(answered) != 1 {
		t.Errorf("different times: %v", answered)
	}
	if n := count(t, s, "SELECT count(*) FROM revocations WHERE user_id = $1 AND kind = 'user' AND reason = 'user_deleted'", id); n != 1 {
		t.Errorf("%d rows of the ledger", n)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE user_id = $1 AND kind = 'account_deleted'", id); n != 1 {
		t.Errorf("%d events", n)
	}
	if n := count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'farewell'"); n != 1 {
		t.Errorf("%d mails", n)
	}
	waitMail(t, s, "was deleted")
}

// DeleteAccount and ExportAccount want a fresh authentication, with the second factor of the account.
func TestDeletionAsksWhoItIs(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	a, _, _ := guarded(t, s)
	tokens := mustAnswer(t, s, withCode(challenge(t, s), a.next(s))).GetTokens()
	export := func(accessToken string) error {
		_, err := s.AccountService.ExportAccount(testenv.WithKey(t.Context(), accessToken), &latchkeyv1.ExportAccountRequest{})
		return err
	}
	remove := func(accessToken string) error { _, err := tryDelete(t.Context(), s, accessToken); return err }
	s.Clock.Advance(11 * time.Minute)
	stale := refresh(t, s, tokens.GetRefreshToken(), "").GetAccessToken()
	for name, call := range map[string]func(string) error{"export": export, "delete": remove} {
		if got := reasonOf(call(stale)); got != "FRESH_LOGIN_REQUIRED" {
			t.Errorf("%s with an old authentication: %s", name, got)
		}
	}
	weak := reauthenticate(t, s, stale)
	for name, call := range map[string]func(string) error{"export": export, "delete": remove} {
		if got := reasonOf(call(weak)); got != "FACTOR_REQUIRED" {
			t.Errorf("%s with one factor: %s", name, got)
		}
	}
	strong, err := tryReauthenticate(t.Context(), s, weak, &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: a.next(s)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := export(strong.GetAccessToken()); err != nil {
		t.Error(err)
	}
	mustDelete(t, s, strong.GetAccessToken())
}

// Services that follow the ledger hear that the account was deleted, and not only that its sessions ended; a suspension says
// no such thing. An older reader takes the row for the end of the sessions.
func TestDeletionIsHeard(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true})
	replica := testenv.Start(t, testenv.Options{WallClock: true, DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	tokens := account(t, s)
	bob := signUp(t, s, "bob@example.com")
	id := wantValid(t, replica, tokens.GetAccessToken(), 0).GetUser().GetId()
	heard := make(chan uuid.UUID, 10)
	var verifiers []*authverify.Verifier
	var streams []revocationStream
	for _, on := range []*testenv.Server{s, replica} {
		v, err := authverify.NewVerifier(authverify.Config{
			Issuer: testenv.Issuer, Audience: testenv.Audience, JWKSURL: on.HTTP + "/.well-known/jwks.json",
			Conn: testenv.Dial(t, on.Addr), ServiceKey: testenv.ServiceKey, OnUserDeleted: func(user uuid.UUID) { heard <- user },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(v.Close)
		if err := v.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		verifiers = append(verifiers, v)
		stream := watch(t, on, "")
		catchUp(t, stream)
		streams = append(streams, stream)
	}
	if _, err := s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: bob.GetId()}); err != nil {
		t.Fatal(err)
	}
	mustDelete(t, s, tokens.GetAccessToken())
	returned := time.Now()
	for i, stream := range streams {
		var rows []*latchkeyv1.Revocation
		for len(rows) < 2 {
			more, _ := catchUp(t, stream)
			rows = append(rows, more...)
		}
		if rows[0].GetUserId() != bob.GetId() || rows[0].GetReason() != 0 {
			t.Errorf("stream %d: the suspension is %v", i, rows[0])
		}
		if rows[1].GetUserId() != id || rows[1].GetKind() != latchkeyv1.RevocationKind_REVOCATION_KIND_USER ||
			rows[1].GetReason() != latchkeyv1.RevocationReason_REVOCATION_REASON_USER_DELETED || rows[1].GetExceptSessionId() != "" {
			t.Errorf("stream %d: the deletion is %v", i, rows[1])
		}
	}
	for range verifiers {
		if user := <-heard; user.String() != id {
			t.Errorf("told of %s", user)
		}
	}
	t.Logf("all have heard %s after the call returned", time.Since(returned))
	for _, v := range verifiers {
		if _, err := v.Verify(t.Context(), tokens.GetAccessToken()); !errors.Is(err, authverify.ErrRevoked) {
			t.Errorf("verify: %v", err)
		}
	}
	// Plain SQL says it too.
	execSQL(t, s, "DELETE FROM users WHERE id = $1", bob.GetId())
	for i, stream := range streams {
		rows, _ := catchUp(t, stream)
		for len(rows) == 0 {
			rows, _ = catchUp(t, stream)
		}
		if rows[0].GetUserId() != bob.GetId() || rows[0].GetReason() != latchkeyv1.RevocationReason_REVOCATION_REASON_USER_DELETED {
			t.Errorf("stream %d: %v", i, rows)
		}
	}
}

// mayStay has the tables that may name a deleted account, and why: docs/decisions/2026-11-30-deletion.md.
func mayStay() []string {
	return []string{
		"audit_events",   // ids only
		"audit_erasures", // the list of accounts whose events lose their addresses
		"revocations",    // refuses the tokens
		"legacy_spent",   // refuses spent tokens of older backends
		"river_job",      // done jobs, with ids only, for an hour
		"mail_notices",   // the count of a mail that was asked for at the same moment, for a day
	}
}

// leftOf returns the tables in which a row has one of the texts, such as an id or an address, except those of mayStay.
func leftOf(t *testing.T, s *testenv.Server, texts ...string) (tables []string) {
	t.Helper()
	rows, err := s.Pool.Query(t.Context(), "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	for _, name := range names {
		allowed := slices.Contains(mayStay(), name)
		for i, text := range texts {
			found := count(t, s, fmt.Sprintf("SELECT count(*) FROM %s AS r WHERE r::text ILIKE '%%' || $1::text || '%%'", name), text)
			if found > 0 && (!allowed || i > 0) { // only ids may stay
				tables = append(tables, fmt.Sprintf("%s has %s", name, text))
			}
		}
	}
	return tables
}

// tablesWithAUser returns the tables that name a user, by a column of that name or by a foreign key to users.
func tablesWithAUser(t *testing.T, s *testenv.Server) (tables []string) {
	t.Helper()
	rows, err := s.Pool.Query(t.Context(), `
		SELECT DISTINCT c.relname FROM pg_class c
		WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'users' AND (
			EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname LIKE '%user_id%' AND NOT a.attisdropped)
			OR EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.confrelid = 'users'::regclass)
		) ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	return tables
}

// fillEveryTable gives an account a row in each table that can have one, by SQL.
func fillEveryTable(t *testing.T, s *testenv.Server, id string) {
	t.Helper()
	for _, insert := range []string{
		"INSERT INTO password_resets (user_id, token_hash, created_at, expires_at) VALUES ($1, 'hash', now(), now())",
		`INSERT INTO one_time_secrets (user_id, purpose, asker, token_hash, ledger, created_at, expires_at, address)
			VALUES ($1, 'verify_email', '', 'hash', 1, now(), now() + interval '1 day', 'ada.lovelace@example.com')`,
		"INSERT INTO session_marks VALUES (gen_random_uuid(), $1, 7, now(), now() + interval '1 day')",
		"INSERT INTO mail_notices VALUES ($1, 'reset_link', now(), now(), 1)",
		"INSERT INTO password_guards (user_id, epoch) VALUES ($1, 3) ON CONFLICT DO NOTHING",
		"INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 3)",
		"INSERT INTO address_changes VALUES ($1, 5, now())",
		"INSERT INTO unproved_sign_ups VALUES ($1) ON CONFLICT DO NOTHING",
		"INSERT INTO factors VALUES ('00000000-0000-4000-8000-00000000f00d', $1, 'passkey', 'mine', now(), now())",
		`INSERT INTO passkeys SELECT id, 'example.com', 'credential', 'key', 0, 0, gen_random_uuid(), '{}' FROM factors WHERE user_id = $1`,
		"INSERT INTO totp_enrolments VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'sealed', now() + interval '1 day')",
		"INSERT INTO recovery_sets VALUES ($1, gen_random_uuid(), 'sealed', now())",
		"INSERT INTO recovery_codes VALUES ($1, 'hash')",
		"INSERT INTO factor_failures VALUES ($1, gen_random_uuid(), 0, now(), 1, 1)",
		"INSERT INTO challenges (token_hash, purpose, user_id, ledger, created_at, expires_at) VALUES ('hash', 'login', $1, 1, now(), now() + interval '1 day')",
		"INSERT INTO account_deletions VALUES ($1, now(), now() + interval '1 day', true)",
		"INSERT INTO legacy_spent (token_hash, kind, user_id, spent_at, keep_until) VALUES ('spent', 'reset', $1, now(), now() + interval '1 day')",
		"INSERT INTO reset_requests (email, priority, trace_id) SELECT upper(email), 1, '' FROM users WHERE id = $1",
		"INSERT INTO mail_requests (kind, email, priority, trace_id, call_id) SELECT 'of a newer version', email, 1, '', '' FROM users WHERE id = $1",
	} {
		execSQL(t, s, insert, id)
	}
}

// No table keeps a deleted account, by its id or its address, except those of mayStay. The tables come from the catalogue:
// one that a later migration adds must get a row above, or be on that list.
func TestNoTableKeepsADeletedUser(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	id := signUp(t, s, email).GetId()
	logIn(t, s, email)
	fillEveryTable(t, s, id)
	for _, table := range tablesWithAUser(t, s) {
		if slices.Contains(mayStay(), table) {
			continue
		}
		if count(t, s, fmt.Sprintf("SELECT count(*) FROM %s AS r WHERE r::text LIKE '%%' || $1::text || '%%'", table), id) == 0 {
			t.Errorf("%s names users, and this test has no row for it", table)
		}
	}
	if _, err := s.Admin.DeleteUser(asAdmin(t), &latchkeyv1.DeleteUserRequest{UserId: id, Immediately: true}); err != nil {
		t.Fatal(err)
	}
	waitMail(t, s, "was deleted")
	quiet(t, s)
	if left := leftOf(t, s, id, email, "lovelace", "00000000-0000-4000-8000-00000000f00d"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if n := count(t, s, "SELECT count(*) FROM mail_notices WHERE user_id = $1", id); n != 0 {
		t.Errorf("%d counts of mails", n)
	}
}

// The last mail is sent though the account is gone, and its address goes with it; one that cannot be sent is swept.
func TestFarewellKeepsNoAddress(t *testing.T) {
	t.Parallel()
	var sent []mail.Message
	var mu sync.Mutex
	refusing := true
	s := testenv.Start(t, testenv.Options{Sender: senderFunc(func(_ context.Context, m mail.Message) error {
		mu.Lock()
		defer mu.Unlock()
		if refusing {
			return &mail.SendError{Op: "recipient", Permanent: true}
		}
		sent = append(sent, m)
		return nil
	})})
	tokens := account(t, s)
	mustDelete(t, s, tokens.GetAccessToken())
	testenv.Eventually(t, patience, "the mail is given up", func() bool {
		return count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'farewell' AND finalized_at IS NOT NULL") == 1
	})
	if n := count(t, s, "SELECT count(*) FROM farewell_mails"); n != 1 {
		t.Errorf("%d addresses", n)
	}
	s.Clock.Advance(27 * time.Hour)
	sweep(t, s)
	if left := leftOf(t, s, email); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	mu.Lock()
	refusing = false
	mu.Unlock()
	mustDelete(t, s, account(t, s).GetAccessToken())
	testenv.Eventually(t, patience, "the mail is sent", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(sent) == 1
	})
	quiet(t, s)
	if left := leftOf(t, s, uuid.NewString(), email); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Nobody fills a stranger's mailbox by sign-ups and deletions with the same address, over and over.
func TestDeletionsOfAnAddressAreBounded(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	for range 5 {
		mustDelete(t, s, account(t, s).GetAccessToken())
		s.Clock.Advance(time.Minute)
	}
	tokens := account(t, s)
	_, err := tryDelete(t.Context(), s, tokens.GetAccessToken())
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	wantValid(t, s, tokens.GetAccessToken(), 0)
	bob := signUp(t, s, "bob@example.com") // others are not limited
	mustDelete(t, s, logIn(t, s, bob.GetEmail()).GetAccessToken())
	s.Clock.Advance(24 * time.Hour)
	fresh := logIn(t, s, email)
	mustDelete(t, s, fresh.GetAccessToken())
}
