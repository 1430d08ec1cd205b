package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// signUpBoth signs up over both contracts. It returns both answers as a client sees them: the message or the status,
// without the ids of the call.
func signUpBoth(ctx context.Context, s *testenv.Server, address, otherAddress string) (answers [2]string) {
	seen := func(m proto.Message, err error) string {
		if err != nil {
			return status.Code(err).String() + " " + reasonIn(err) + " " + status.Convert(err).Message()
		}
		return "OK " + fmt.Sprint(m)
	}
	resp, err := s.Auth.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: address, Password: password, FirstName: "Ada", LastName: "Lovelace"})
	answers[0] = seen(resp, err)
	old, err := authpb.NewAuthServiceClient(s.Conn).SignUp(ctx, &authpb.SignUpRequest{Email: otherAddress, Password: oldPassword, FirstName: "Ada", LastName: "Lovelace"})
	answers[1] = seen(old, err)
	return answers
}

// attempts returns the recipients of the mails about attempts to sign up.
func attempts(s *testenv.Server) (to []string) {
	for _, message := range s.Mailbox.Messages() {
		if strings.Contains(message.Subject, "already have an account") {
			to = append(to, message.To)
		}
	}
	return to
}

// Both contracts give the same answer for a taken address and a free one. The owner of the taken one gets a mail once
// an hour, and nothing of their account changes.
func TestAttack16HiddenAccounts(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Legacy: testenv.Existing(t), HideAccounts: true})
	free := signUpBoth(t.Context(), s, "owner@example.com", "other@example.com")
	owner := logIn(t, s, "owner@example.com")
	if got := attempts(s); len(got) != 0 {
		t.Errorf("mails for new accounts: %q", got)
	}
	for range 3 {
		for _, typed := range [][2]string{{"owner@example.com", "other@example.com"}, {"OWNER@example.com", "Other@Example.com"}, {"Other@example.com", "Owner@example.com"}} {
			if taken := signUpBoth(t.Context(), s, typed[0], typed[1]); taken != free {
				t.Errorf("%q: %q for a taken address, %q for a free one", typed, taken, free)
			}
		}
	}
	for i, contract := range []string{"latchkey.v1", "the older contract"} {
		if !strings.HasPrefix(free[i], "OK") || strings.Contains(free[i], "email") {
			t.Errorf("%s: %q", contract, free[i])
		}
	}
	told := func(want ...string) {
		t.Helper()
		testenv.Eventually(t, patience, "the owners are told", func() bool { return len(attempts(s)) >= len(want) })
		settledJobs(t, s)
		got := attempts(s)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	told("other@example.com", "owner@example.com")
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'sign_up_attempted'"); n != 2 {
		t.Errorf("%d events of attempts", n)
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE email_lookup IN ('owner@example.com', 'other@example.com')"); n != 2 {
		t.Errorf("%d accounts", n)
	}
	wantLive(t, s, owner)
	logIn(t, s, "owner@example.com")
	_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "other@example.com", Password: password})
	wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS") // the first password is still the one

	s.Clock.Advance(time.Hour)
	signUpBoth(t.Context(), s, "owner@example.com", "new@example.com")
	told("other@example.com", "owner@example.com", "owner@example.com")
}

// settledJobs waits until no mail waits to be sent.
func settledJobs(t *testing.T, s *testenv.Server) {
	t.Helper()
	testenv.Eventually(t, patience, "no job waits", func() bool {
		return count(t, s, "SELECT count(*) FROM river_job WHERE finalized_at IS NULL AND kind <> 'sweep'") == 0
	})
}

// A bad request has the same answer for a taken address and a free one, hidden or not.
func TestAttack16RefusalsComeFirst(t *testing.T) {
	t.Parallel()
	for _, hide := range []bool{false, true} {
		s := testenv.Start(t, testenv.Options{HideAccounts: hide})
		if err := trySignUp(t.Context(), s, "taken@example.com", password); err != nil {
			t.Fatal(err)
		}
		for _, req := range []*latchkeyv1.SignUpRequest{
			{Password: "short", FirstName: "A", LastName: "B"},
			{Password: "password", FirstName: "A", LastName: "B"},
			{Password: password, LastName: "B"},
			{Password: strings.Repeat("x", 129), FirstName: "A", LastName: "B"},
		} {
			var seen []string
			for _, address := range []string{"taken@example.com", "fresh@example.com"} {
				r, _ := proto.Clone(req).(*latchkeyv1.SignUpRequest)
				r.Email = address
				_, err := s.Auth.SignUp(t.Context(), r)
				seen = append(seen, reasonIn(err)+" "+status.Convert(err).Message())
			}
			if seen[0] != seen[1] || !strings.HasPrefix(seen[0], "VALIDATION_FAILED") && !strings.HasPrefix(seen[0], "PASSWORD_TOO_COMMON") {
				t.Errorf("hidden %v: %q", hide, seen)
			}
		}
	}
}

// A deadline that is too short for the hash does not reveal whether the address is taken.
func TestAttack16ShortDeadlines(t *testing.T) {
	t.Parallel()
	for _, hide := range []bool{false, true} {
		s := testenv.Start(t, testenv.Options{
			Legacy: testenv.Existing(t), HideAccounts: hide, HashSlots: 1,
			Argon2: argon.Params{MemoryKiB: 64 << 10, Time: 16, Threads: 1}, // half a second at least
		})
		execSQL(t, s, "INSERT INTO users (email, email_lookup, password_hash, first_name, last_name) VALUES ('taken@example.com', 'taken@example.com', '!', 'F', 'L')")
		for n, ms := range []int{20, 60, 80, 100, 120, 150, 200} {
			within := time.Duration(ms) * time.Millisecond
			for _, address := range []string{"taken@example.com", fmt.Sprintf("fresh%d@example.com", n)} {
				ctx, cancel := context.WithTimeout(t.Context(), within)
				for _, answer := range signUpBoth(ctx, s, address, address) {
					// One call a second may run to measure the hash, and its client is gone before it ends.
					if !strings.HasPrefix(answer, "ResourceExhausted OVERLOADED") && !strings.HasPrefix(answer, "DeadlineExceeded") {
						t.Errorf("hidden %v, %s within %v: %s", hide, address, within, answer)
					}
				}
				cancel()
			}
		}
	}
}

// After the hash the account is made, even if the deadline passes. So a call that learns that an address is taken would
// have made an account if the address were free.
func TestAttack16DeadlineAfterTheHash(t *testing.T) {
	t.Parallel()
	for _, hide := range []bool{false, true} {
		s := testenv.Start(t, testenv.Options{HideAccounts: hide})
		release := holdUsers(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		if err := trySignUp(ctx, s, "fresh@example.com", password); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("hidden %v: %v", hide, err)
		}
		release()
		testenv.Eventually(t, patience, "the account is made", func() bool {
			return count(t, s, "SELECT count(*) FROM users WHERE email = 'fresh@example.com'") == 1
		})
		logIn(t, s, "fresh@example.com")
	}
}

// holdUsers keeps everybody from writing to users.
func holdUsers(t *testing.T, s *testenv.Server) (release func()) {
	t.Helper()
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	if _, err := tx.Exec(t.Context(), "LOCK TABLE users IN SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// With deadlines around the time of a hash, calls for taken and for free addresses succeed equally often and take
// equally long. They alternate, so that both have the same load of the machine.
func TestAttack16DeadlinesAndTimes(t *testing.T) {
	t.Parallel()
	for _, hide := range []bool{false, true} {
		s := testenv.Start(t, testenv.Options{HideAccounts: hide, HashSlots: 1, Argon2: argon.Params{MemoryKiB: 19456, Time: 2, Threads: 1}})
		if err := trySignUp(t.Context(), s, "taken@example.com", password); err != nil {
			t.Fatal(err)
		}
		const rounds = 40
		kinds := [2]string{"taken", "free"}
		var answered [2]int
		var took [2][]time.Duration
		ask := func(kind, n int, within time.Duration) (code codes.Code, needed time.Duration) {
			address := "taken@example.com"
			if kind == 1 {
				address = fmt.Sprintf("free%d-%d@example.com", n, within)
			}
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			began := time.Now()
			err := trySignUp(ctx, s, address, password)
			return status.Code(err), time.Since(began)
		}
		for n := range rounds {
			for turn := range 2 {
				kind := (n + turn) % 2
				code, _ := ask(kind, n, time.Duration(55+n%10*15)*time.Millisecond) // 55 to 190 ms, of which the server keeps 50
				if code == codes.OK || code == codes.AlreadyExists {
					answered[kind]++
				}
				if code, needed := ask(kind, n, time.Minute); code == codes.OK || code == codes.AlreadyExists {
					took[kind] = append(took[kind], needed)
				} else {
					t.Errorf("hidden %v, %s: %v", hide, kinds[kind], code)
				}
			}
		}
		for kind := range took {
			slices.Sort(took[kind])
		}
		taken, free := took[0][rounds/2], took[1][rounds/2]
		t.Logf("hidden %v: of %d short deadlines answered %d taken, %d free; medians without: %s taken, %s free", hide, rounds, answered[0], answered[1], taken, free)
		if diff := answered[0] - answered[1]; diff > 2*rounds/5 || -diff > 2*rounds/5 {
			t.Errorf("hidden %v: %v of %d are answered", hide, answered, rounds)
		}
		if taken < free/2 || free < taken/2 {
			t.Errorf("hidden %v: a taken address takes %s, a free one %s", hide, taken, free)
		}
	}
}

// Of many sign-ups at once with one address, one makes the account. With hidden accounts all have the same answer.
func TestAttack16AtOnce(t *testing.T) {
	t.Parallel()
	for _, hide := range []bool{false, true} {
		s := testenv.Start(t, testenv.Options{HideAccounts: hide})
		const calls = 12
		var wg sync.WaitGroup
		answers := make([]codes.Code, calls)
		for i := range calls {
			wg.Go(func() {
				address := "Same@example.com"
				if i%2 == 1 {
					address = "same@EXAMPLE.com"
				}
				answers[i] = status.Code(trySignUp(t.Context(), s, address, password))
			})
		}
		wg.Wait()
		ok := 0
		for _, code := range answers {
			if code == codes.OK {
				ok++
			} else if hide || code != codes.AlreadyExists {
				t.Errorf("hidden %v: %v", hide, code)
			}
		}
		if !hide && ok != 1 {
			t.Errorf("%d made the account", ok)
		}
		if n := count(t, s, "SELECT count(*) FROM users WHERE email_lookup = 'same@example.com'"); n != 1 {
			t.Errorf("hidden %v: %d accounts", hide, n)
		}
		if !hide {
			continue
		}
		testenv.Eventually(t, patience, "the owner is told", func() bool { return len(attempts(s)) > 0 })
		settledJobs(t, s)
		if got := attempts(s); len(got) != 1 {
			t.Errorf("told %q", got)
		}
	}
}

// With hidden accounts, a taken address and a free one cost the same statements, including those for the mail later.
func TestAttack16SameWork(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{HideAccounts: true})
	signUp(t, s, "taken@example.com")
	work := func(address string) [3]int64 {
		settledJobs(t, s)
		jobs := int64(count(t, s, "SELECT count(*) FROM river_job WHERE kind <> 'sweep'"))
		postgres, redis := s.Calls.Postgres(), s.Calls.Redis()
		if err := trySignUp(t.Context(), s, address, password); err != nil {
			t.Fatal(err)
		}
		settledJobs(t, s)
		jobs = int64(count(t, s, "SELECT count(*) FROM river_job WHERE kind <> 'sweep'")) - jobs
		return [3]int64{s.Calls.Postgres() - postgres, s.Calls.Redis() - redis, jobs}
	}
	if taken, free := work("taken@example.com"), work("free@example.com"); taken != free || taken[2] != 1 {
		t.Errorf("statements, commands and jobs: %v for a taken address, %v for a free one", taken, free)
	}
}
