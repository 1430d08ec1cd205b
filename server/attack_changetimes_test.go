package server_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestTimesOfChangesTellNothing checks that ChangeEmail takes as long for an address that an account has as for a free
// one, and ConfirmEmailChange as long for an address that somebody wants to change to as for any other.
func TestTimesOfChangesTellNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	execSQL(t, s, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name)
		SELECT 'taken' || i || '@example.com', 'taken' || i || '@example.com', '!', 'A', 'B' FROM generate_series(0, $1::integer) i`, timingTries*timedCalls)
	_, tokens := provenAccount(t, s, email)
	ctx := as(t, tokens)
	asks := 0
	before := func() { // one account may ask ten times at once and once a minute, and must have logged in lately
		if asks++; asks%10 == 0 {
			s.Clock.Advance(10 * time.Minute)
			ctx = as(t, logIn(t, s, email)) //nolint:contextcheck,fatcontext // a new one in place of the one before
		}
	}
	wantSameTimes(t, "ChangeEmail", func(known bool, n int) {
		kind := "free"
		if known {
			kind = "taken"
		}
		if err := askChange(ctx, s, fmt.Sprintf("%s%d@example.com", kind, n)); err != nil {
			t.Fatal(err)
		}
	}, before)

	execSQL(t, s, `INSERT INTO one_time_secrets (
			user_id, purpose, asker, address, token_hash, nonce, ledger, created_at, expires_at, new_email, code_nonce, code_hash
		) SELECT u.id, 'change_email', '', 'to-' || u.email, sha256(u.email::bytea), sha256('n'), (SELECT seq FROM ledger_head),
			$1, $1::timestamptz + interval '1 hour', 'to-' || u.email, sha256('n'), sha256('c')
		FROM users u WHERE u.email LIKE 'taken%'`, s.Clock.Now())
	execSQL(t, s, "ANALYZE")
	wantSameTimes(t, "ConfirmEmailChange", func(known bool, n int) {
		kind := "to-other"
		if known {
			kind = "to-taken"
		}
		if err := confirmCode(t.Context(), s, fmt.Sprintf("%s%d@example.com", kind, n), "123456"); status.Code(err) != codes.InvalidArgument {
			t.Fatal(err)
		}
	})
}

// TestSameWorkForATakenAddress checks that ChangeEmail sends the same statements for a taken address and a free one, and
// queues the same mails.
func TestSameWorkForATakenAddress(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, "taken@example.com")
	work := func(address, from string) (counts [3]int) {
		_, tokens := provenAccount(t, s, from)
		ask := func() {
			t.Helper()
			if err := askChange(as(t, tokens), s, address); err != nil {
				t.Fatal(err)
			}
			settledJobs(t, s)
		}
		settledJobs(t, s)
		jobs := count(t, s, "SELECT count(*) FROM river_job WHERE kind <> 'sweep'")
		ask()
		counts[2] = count(t, s, "SELECT count(*) FROM river_job WHERE kind <> 'sweep'") - jobs
		// The second request within a minute queues no mail, so all statements are those of the call.
		postgres, redis := s.Calls.Postgres(), s.Calls.Redis()
		ask()
		counts[0], counts[1] = int(s.Calls.Postgres()-postgres), int(s.Calls.Redis()-redis)
		return counts
	}
	taken, free := work("taken@example.com", "one@example.com"), work("free@example.com", "two@example.com")
	if taken != free || taken[2] != 2 {
		t.Errorf("statements, commands and jobs: %v for a taken address, %v for a free one", taken, free)
	}
}
