package server_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// timedCalls of each kind are timed, up to timingTries times.
const timedCalls, timingTries = 800, 3

// auc returns the probability that a call of the first kind took longer than one of the second: 0.5 if nobody can tell
// the kinds apart by their times.
func auc(first, second []time.Duration) float64 {
	first, second = slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(second))
	longer := 0.0
	for _, d := range first {
		below, found := slices.BinarySearch(second, d)
		longer += float64(below)
		for i := below; found && i < len(second) && second[i] == d; i++ {
			longer += 0.5
		}
	}
	return longer / float64(len(first)*len(second))
}

// wantSameTimes calls for known and unknown addresses in turn, known or not for the n-th time, and requires that the
// times do not tell them apart. With 800 calls of each kind, chance alone gives 0.5 +- 0.014; three in a row must be off.
//
// What a call leaves to be done afterwards slows the next one down. So the order is A B B A: each kind comes as often
// after itself as after the other.
//
// before runs before each call, and is not timed.
func wantSameTimes(t *testing.T, name string, call func(known bool, n int), before ...func()) {
	t.Helper()
	seen := make([]float64, 0, timingTries)
	for try := range timingTries {
		var took [2][]time.Duration
		for n := range timedCalls {
			for turn := range 2 {
				kind := (n + turn) % 2
				for _, prepare := range before {
					prepare()
				}
				began := time.Now()
				call(kind == 0, try*timedCalls+n)
				took[kind] = append(took[kind], time.Since(began))
			}
		}
		seen = append(seen, auc(took[0], took[1]))
		if last := seen[try]; last > 0.45 && last < 0.55 {
			t.Logf("%s: AUC %.3f", name, seen)
			return
		}
	}
	t.Errorf("%s: the times tell known from unknown addresses: AUC %.3f", name, seen)
}

// Nobody can tell from the time of a call whether an address has an account.
func TestTimesDoNotTellAddressesApart(t *testing.T) {
	t.Parallel()
	const people = 3000
	s := testenv.Start(t, testenv.Options{LoginByCode: true, EmailVerification: "optional", WallClock: true})
	execSQL(t, s, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name)
		SELECT 'known' || n || '@example.com', 'known' || n || '@example.com', '!', 'A', 'Person' FROM generate_series(0, $1::integer) n`, people)
	address := func(known bool, n int) string {
		if known {
			return fmt.Sprintf("known%d@example.com", n)
		}
		return fmt.Sprintf("other%d@example.com", n)
	}
	wantSameTimes(t, "SendLoginCode", func(known bool, n int) {
		if _, err := s.Auth.SendLoginCode(t.Context(), &latchkeyv1.SendLoginCodeRequest{Email: address(known, n)}); err != nil {
			t.Fatal(err)
		}
	})
	// A wrong code, for addresses to which one was mailed a moment ago, and for others.
	const challenges = 200
	var tokens [2][challenges]string
	for kind := range tokens {
		for n := range challenges {
			resp, err := s.Auth.SendLoginCode(t.Context(), &latchkeyv1.SendLoginCodeRequest{Email: address(kind == 0, people-n)})
			if err != nil {
				t.Fatal(err)
			}
			tokens[kind][n] = resp.GetChallengeToken()
		}
	}
	testenv.Eventually(t, time.Minute, "the codes were mailed", func() bool {
		return count(t, s, "SELECT count(*) FROM mail_requests")+
			count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'letter' AND state <> 'completed'") == 0
	})
	if n := count(t, s, "SELECT count(*) FROM one_time_secrets WHERE purpose = 'login_code'"); n < challenges {
		t.Fatalf("%d codes", n)
	}
	wantSameTimes(t, "AnswerChallenge", func(known bool, n int) {
		if known && n > 0 && n%(4*challenges) == 0 { // before the fifth try of each
			execSQL(t, s, "UPDATE one_time_secrets SET tries = 0")
		}
		kind := 1
		if known {
			kind = 0
		}
		_, err := tryAnswer(t.Context(), s, withMailed(tokens[kind][n%challenges], "012345"))
		if reasonOf(err) != "CODE_INVALID" {
			t.Fatal(err)
		}
	})
	// The codes that prove addresses. An address has one for all askers.
	execSQL(t, s, `INSERT INTO one_time_secrets (user_id, purpose, asker, address, token_hash, ledger, created_at, expires_at, code_nonce, code_hash)
		SELECT id, 'verify_email', '', email, sha256(email::bytea), latchkey_ledger_position(), now(), now() + interval '1 hour', ''::bytea, sha256(email::bytea) FROM users`)
	wantSameTimes(t, "VerifyEmail", func(known bool, n int) {
		if _, err := verifyCode(t.Context(), s, address(known, n), "012345"); reasonOf(err) != "CODE_INVALID" {
			t.Fatal(err)
		}
	})
}
