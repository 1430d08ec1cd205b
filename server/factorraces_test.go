package server_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/totp"
)

// held starts answers while a statement holds rows that they need, runs meanwhile when all of them wait, and returns the
// reasons with which they were refused, "" for those that got a session.
func held(t *testing.T, s *testenv.Server, hold string, meanwhile func(), answers ...*latchkeyv1.AnswerChallengeRequest) []string {
	t.Helper()
	tx, err := s.Pool.BeginTx(t.Context(), pgx.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it is over by then
	if _, err := tx.Exec(t.Context(), hold); err != nil {
		t.Fatal(err)
	}
	results := make(chan error, len(answers))
	for i, answer := range answers {
		go func() {
			_, err := tryAnswer(context.WithoutCancel(t.Context()), s, answer)
			results <- err
		}()
		testenv.Eventually(t, patience, "the answer waits", func() bool { return lockWaits(t, s) == i+1 })
	}
	meanwhile()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	reasons := make([]string, 0, len(answers))
	for range answers {
		reasons = append(reasons, reasonOf(<-results))
	}
	return reasons
}

// Two good codes that answer one challenge at the same time give one session, and the other code is neither used up nor
// counted as wrong.
func TestTwoCodesForOneChallenge(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, _, _ := guarded(t, s)
	token, early := challenge(t, s), phone.next(s)
	late := totp.Code(phone.seed, totp.Step(s.Clock.Now())+1) // the window has both
	reasons := held(t, s, "SELECT FROM totp_factors FOR UPDATE", func() {}, withCode(token, early), withCode(token, late))
	if (reasons[0] == "") == (reasons[1] == "") {
		t.Errorf("%q", reasons)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_in'"); n != 2 {
		t.Errorf("%d logins", n)
	}
	if n := count(t, s, "SELECT sum(failures) FROM factor_failures"); n != 0 {
		t.Errorf("%d wrong codes", n)
	}
	mustAnswer(t, s, withCode(challenge(t, s), late))
}

// One code that answers two challenges at the same time gives one session, and the other challenge stays good.
func TestOneCodeForTwoChallenges(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, _, _ := guarded(t, s)
	tokens, code := []string{challenge(t, s), challenge(t, s)}, phone.next(s)
	reasons := held(t, s, "SELECT FROM totp_factors FOR UPDATE", func() {}, withCode(tokens[0], code), withCode(tokens[1], code))
	if slices.Sort(reasons); !slices.Equal(reasons, []string{"", "CODE_INVALID"}) {
		t.Errorf("%q", reasons)
	}
	next, won := phone.next(s), 0
	for _, token := range tokens {
		if _, err := tryAnswer(t.Context(), s, withCode(token, next)); err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of the two challenges are left", won)
	}
}

// A code that is used up has its account locked, so a deletion waits for it, and neither holds rows that the other needs.
func TestCodeLocksItsAccount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, _, _ := guarded(t, s)
	var err error
	reasons := held(t, s, "SELECT FROM totp_factors FOR UPDATE", func() {
		_, err = s.Pool.Exec(t.Context(), "SELECT FROM users FOR UPDATE NOWAIT")
	}, withCode(challenge(t, s), phone.next(s)))
	if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "55P03" { // lock_not_available
		t.Errorf("the account is not locked: %v", err)
	}
	if reasons[0] != "" {
		t.Errorf("%q", reasons)
	}
}

// A challenge that ends while its answer is looked at gives no session, and the code stays good.
func TestChallengeEndsDuringItsAnswer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"the sessions end":     "UPDATE users SET password_hash = 'none'",
		"the account is ended": "UPDATE users SET is_active = false",
		"another answer":       "UPDATE challenges SET spent = true",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			phone, _, _ := guarded(t, s)
			token, code := challenge(t, s), phone.next(s)
			step := count(t, s, "SELECT last_step FROM totp_factors")
			if got := held(t, s, "LOCK TABLE totp_factors IN SHARE MODE", func() { execSQL(t, s, end) }, withCode(token, code)); got[0] != "CHALLENGE_INVALID" {
				t.Errorf("%q", got)
			}
			if now := count(t, s, "SELECT last_step FROM totp_factors"); now != step {
				t.Error("the code is used up")
			}
		})
	}
}
