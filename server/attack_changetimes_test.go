package server_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// separation returns how well times tell two kinds of calls apart: the probability that a call of the first kind took
// longer than one of the second (the area under the ROC curve). 0.5 means not at all.
func separation(first, second []time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(second))
	var above float64
	for _, took := range first {
		below, _ := slices.BinarySearch(sorted, took)
		upTo, _ := slices.BinarySearch(sorted, took+1)
		above += float64(below) + float64(upTo-below)/2
	}
	return above / float64(len(first)) / float64(len(second))
}

// wantInseparable makes n calls of each of two kinds in random order, and checks that their times do not tell them
// apart. between runs before each. With 700 calls of a kind, equal times lie within 0.45 and 0.55 in 998 of 1,000
// measurements, so the second of two decides.
func wantInseparable(t *testing.T, what string, n int, between func(), call func(kind, i int)) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the order of calls
	for try := range 2 {
		kinds := slices.Repeat([]int{0, 1}, n)
		random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		var took [2][]time.Duration
		for _, kind := range kinds {
			between()
			began := time.Now()
			call(kind, try*n+len(took[kind]))
			took[kind] = append(took[kind], time.Since(began))
		}
		found := separation(took[0], took[1])
		t.Logf("%s: AUC %.3f of %d calls of each kind", what, found, n)
		if found > 0.45 && found < 0.55 {
			return
		}
		if try == 1 {
			t.Errorf("%s: times tell the two apart: AUC %.3f", what, found)
		}
	}
}

// TestTimesOfChangesTellNothing checks that ChangeEmail takes as long for an address that an account has as for a free
// one, and ConfirmEmailChange as long for an address that somebody wants to change to as for any other.
func TestTimesOfChangesTellNothing(t *testing.T) {
	t.Parallel()
	const calls = 700
	s := testenv.Start(t, testenv.Options{})
	execSQL(t, s, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name)
		SELECT 'taken' || i || '@example.com', 'taken' || i || '@example.com', '!', 'A', 'B' FROM generate_series(0, $1::integer) i`, 2*calls)
	_, tokens := provenAccount(t, s, email)
	ctx := as(t, tokens)
	asks := 0
	between := func() { // one account may ask ten times at once and once a minute, and must have logged in lately
		if asks++; asks%10 == 0 {
			s.Clock.Advance(10 * time.Minute)
			ctx = as(t, logIn(t, s, email))
		}
	}
	wantInseparable(t, "ChangeEmail, taken and free", calls, between, func(kind, i int) {
		if err := askChange(ctx, s, fmt.Sprintf("%s%d@example.com", []string{"taken", "free"}[kind], i)); err != nil {
			t.Fatal(err)
		}
	})

	execSQL(t, s, `INSERT INTO one_time_secrets (
			user_id, purpose, asker, address, token_hash, nonce, ledger, created_at, expires_at, new_email, code_nonce, code_hash
		) SELECT u.id, 'change_email', '', 'to-' || u.email, sha256(u.email::bytea), sha256('n'), (SELECT seq FROM ledger_head),
			$1, $1::timestamptz + interval '1 hour', 'to-' || u.email, sha256('n'), sha256('c')
		FROM users u WHERE u.email LIKE 'taken%'`, s.Clock.Now())
	execSQL(t, s, "ANALYZE")
	wantInseparable(t, "ConfirmEmailChange, with and without a change", calls, func() {}, func(kind, i int) {
		address := fmt.Sprintf("%s%d@example.com", []string{"to-taken", "to-other"}[kind], i)
		if err := confirmCode(t.Context(), s, address, "123456"); status.Code(err) != codes.InvalidArgument {
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
