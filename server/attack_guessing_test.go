package server_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// slowHash takes some 50 ms, so that deadlines end during it.
func slowHash() argon.Params { return argon.Params{MemoryKiB: 32 << 10, Time: 3, Threads: 1} }

// anyAddress trusts the test's own connection to name the client, as a proxy does.
func anyAddress() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// from is ctx for a call of a client at that address.
func from(ctx context.Context, address string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", address)
}

// network is the nth of many.
func network(n int) string { return fmt.Sprintf("198.18.%d.%d", n/250, n%250+1) }

func tryDevice(ctx context.Context, s *testenv.Server, pass, deviceToken string) (*latchkeyv1.LoginResponse, error) {
	return s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: pass, DeviceToken: deviceToken})
}

// attacked are two replicas that share stores and a clock.
func attacked(t *testing.T, o testenv.Options) []*testenv.Server {
	t.Helper()
	s := testenv.Start(t, o)
	o.DatabaseURL, o.RedisURL, o.Clock = s.DatabaseURL, s.RedisURL, s.Clock
	return []*testenv.Server{s, testenv.Start(t, o)}
}

func hashes(servers []*testenv.Server) (n int) {
	for _, s := range servers {
		n += s.Server.HashesMade()
	}
	return n
}

// TestAttack01GuessesCountWhateverTheDeadline: of 500 wrong guesses at one account over two replicas, with deadlines,
// hang-ups and spellings of every kind, no more are compared than the limit. A password that is not in NFC is two
// candidates, and so two hashes at most.
func TestAttack01GuessesCountWhateverTheDeadline(t *testing.T) {
	t.Parallel()
	both := attacked(t, testenv.Options{Argon2: argon.Params{MemoryKiB: 8 << 10, Time: 2, Threads: 1}})
	signUp(t, both[0], email)
	for round := range 4 {
		both[0].Clock.Advance(time.Hour)
		if err := both[0].Redis.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		execSQL(t, both[0], "DELETE FROM password_failures")
		nfc := round%2 == 0
		before := hashes(both)
		const guesses, atOnce = 500, 25
		var wg sync.WaitGroup
		queue := make(chan int)
		deadlines := rapid.SliceOfN(rapid.IntRange(0, 200), guesses, guesses).Example(round)
		for range atOnce {
			wg.Go(func() {
				for i := range queue {
					guess := fmt.Sprintf("wrong guess %d", i)
					if !nfc && i%2 == 0 {
						guess = "\u212A" + guess // the Kelvin sign: K in NFC
					}
					ctx, cancel := context.WithCancel(t.Context())
					if ms := deadlines[i]; ms >= 20 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
					} else if ms > 10 {
						time.AfterFunc(time.Duration(ms)*time.Millisecond, cancel) // hangs up
					}
					_, _ = both[i%2].Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: guess})
					cancel()
				}
			})
		}
		for i := range guesses {
			queue <- i
		}
		close(queue)
		wg.Wait()
		most := 5
		if !nfc {
			most = 10
		}
		// A call that the client gave up may still be at its hash.
		testenv.Eventually(t, patience, "no hash is under way", func() bool {
			return both[0].Server.HashesInUse()+both[1].Server.HashesInUse() == 0
		})
		if n := hashes(both) - before; n > most {
			t.Fatalf("%d hashes were compared, want %d at most", n, most)
		}
	}
}

// TestAttack01HitLooksLikeMiss: when the time is over before the answer, right and wrong passwords have the same
// answers, and count alike.
func TestAttack01HitLooksLikeMiss(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Argon2: slowHash(), HashSlots: 1})
	signUp(t, s, email)
	for _, ms := range []int{55, 60, 70, 80} {
		deadline := time.Duration(ms) * time.Millisecond
		for _, typed := range []string{password, "\u212A" + password} {
			answers := func(pass string) map[string]bool {
				got := map[string]bool{}
				for range 4 {
					s.Clock.Advance(time.Hour)
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					_, err := s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: pass})
					cancel()
					got[status.Code(err).String()] = true
				}
				return got
			}
			hit, miss := answers(typed), answers("wrong"+typed)
			for code := range hit {
				if code != codes.OK.String() && !miss[code] && !lateCode(code) {
					t.Errorf("%v: the right password is answered with %v, a wrong one with %v", deadline, hit, miss)
				}
			}
		}
	}
}

// lateCode says that an answer only tells that time was short: which of them depends on the queue.
func lateCode(code string) bool {
	return slices.Contains([]string{
		codes.DeadlineExceeded.String(), codes.ResourceExhausted.String(), codes.Unauthenticated.String(), codes.Unavailable.String(),
	}, code)
}

// TestAttack01HitsWithoutTimeCount: the right password, sent five times by a client that hangs up during the hash, is
// five failures like a wrong one: what is counted tells nothing either.
func TestAttack01HitsWithoutTimeCount(t *testing.T) {
	t.Parallel()
	for name, pass := range map[string]string{"right": password, "wrong": "wrong horse battery"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{Argon2: slowHash()})
			signUp(t, s, email)
			for range 5 {
				before := s.Server.HashesMade()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = tryLogin(ctx, s, email, pass)
				}()
				testenv.Eventually(t, patience, "the password is being hashed", func() bool { return s.Server.HashesInUse() > 0 })
				cancel()
				<-done
				testenv.Eventually(t, patience, "it was hashed", func() bool { return s.Server.HashesMade() > before })
			}
			testenv.Eventually(t, patience, "five failures count", func() bool {
				return status.Code(tryLogin(t.Context(), s, email, "wrong horse battery")) == codes.ResourceExhausted
			})
			if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_in'"); n != 0 {
				t.Errorf("%d logins were recorded", n)
			}
		})
	}
}

// TestAttack02LockOutIsNoWeapon: ten networks that guess all the time, ForgotPassword calls from many, and a thief with a
// session keep the owner out of nothing: not a known client, not recovery, not what follows a reset.
func TestAttack02LockOutIsNoWeapon(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{TrustedProxies: anyAddress()})
	signUp(t, s, email)
	home := from(t.Context(), "203.0.113.7")
	first, err := tryDevice(home, s, password, "")
	if err != nil {
		t.Fatal(err)
	}
	deviceToken := first.GetDeviceToken()
	attack := func() {
		t.Helper()
		for n := range 10 {
			for range 6 {
				_ = tryLogin(from(t.Context(), network(n)), s, email, "wrong horse battery")
			}
		}
	}
	attack()
	wantRefused(t, tryLogin(from(t.Context(), network(99)), s, email, password), codes.ResourceExhausted, "RATE_LIMITED")
	for range 20 {
		resp, err := tryDevice(from(t.Context(), "192.0.2.44"), s, password, deviceToken) // wherever the client is now
		if err != nil {
			t.Fatalf("a known client: %v", err)
		}
		deviceToken = resp.GetDeviceToken()
		attack()
	}
	// A known client has a limit too.
	for range 5 {
		_, err := tryDevice(home, s, "wrong horse battery", deviceToken)
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	_, err = tryDevice(home, s, password, deviceToken)
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")

	// Recovery: others ask for links all the time.
	for n := range 10 {
		for range 6 {
			_, _ = s.Auth.ForgotPassword(from(t.Context(), network(n)), &latchkeyv1.ForgotPasswordRequest{Email: email})
		}
	}
	if _, err := s.Auth.ForgotPassword(home, &latchkeyv1.ForgotPasswordRequest{Email: email}); err != nil {
		t.Fatalf("the owner asks for a link: %v", err)
	}
	token := newestReset(t, s)
	if _, err := s.Auth.ResetPassword(home, &latchkeyv1.ResetPasswordRequest{Token: token, NewPassword: newPassword}); err != nil {
		t.Fatalf("the owner's link: %v", err)
	}
	attack()
	if err := tryLogin(home, s, email, newPassword); err != nil {
		t.Fatalf("the owner after the reset: %v", err)
	}
	if _, err := tryDevice(from(t.Context(), "192.0.2.44"), s, newPassword, deviceToken); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a device token of the old password: %v, want it to be as good as none", err)
	}
}

// newestReset is the token of the newest reset mail, whichever replica sent it.
func newestReset(t *testing.T, servers ...*testenv.Server) (token string) {
	t.Helper()
	testenv.Eventually(t, patience, "a reset mail", func() bool {
		for _, s := range servers {
			for _, m := range s.Mailbox.Messages() {
				if _, after, ok := strings.Cut(m.Text, "token="); ok {
					token, _, _ = strings.Cut(after, "\n")
					return true
				}
			}
		}
		return false
	})
	return token
}

// TestAttack02DeviceTokensOfOthers: a token of another account, a forged one and one of another secret are as good as
// none, and tell nothing.
func TestAttack02DeviceTokensOfOthers(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{TrustedProxies: anyAddress()})
	signUp(t, s, email)
	signUp(t, s, "mallory@example.com")
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "mallory@example.com", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	tokens := []string{resp.GetDeviceToken(), flip(resp.GetDeviceToken(), 30), strings.Repeat("A", 108), "x"}
	for i := range 5 {
		_, err := tryDevice(t.Context(), s, "wrong horse battery", tokens[i%len(tokens)])
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	for _, token := range tokens {
		_, err := tryDevice(t.Context(), s, password, token)
		wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	}
	_, err = tryDevice(t.Context(), s, password, strings.Repeat("A", 257))
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "device_token")
}

// TestAttack02StrangersAreToldRoundTimes: when the failures of others end is nobody's business.
func TestAttack02StrangersAreToldRoundTimes(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{TrustedProxies: anyAddress()})
	signUp(t, s, email)
	for range 5 {
		s.Clock.Advance(17 * time.Second)
		_ = tryLogin(t.Context(), s, email, "wrong horse battery")
	}
	for _, pause := range []time.Duration{0, 4 * time.Minute, 5*time.Minute + 11*time.Second, 4 * time.Minute} {
		s.Clock.Advance(pause)
		err := tryLogin(t.Context(), s, email, password)
		wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
		if after := retryAfter(t, err); after%(5*time.Minute) != 0 && after != time.Minute {
			t.Errorf("again in %v", after)
		}
	}
}

// TestAttack03MemoryBeyondRedis: with Redis emptied after every round, a hundred wrong passwords in a row are compared
// and no more, over both replicas and contracts; then the right one is refused as a wrong one is, at the same cost, until
// a reset. The owner gets a mail.
func TestAttack03MemoryBeyondRedis(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	both := []*testenv.Server{s, replica}
	signUp(t, s, email)
	first, err := tryDevice(t.Context(), s, password, "")
	if err != nil {
		t.Fatal(err)
	}
	forget := func() {
		t.Helper()
		if err := s.Redis.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		s.Clock.Advance(time.Minute)
	}
	failures := func() int {
		return count(t, s, "SELECT coalesce(sum(failures), 0)::int FROM password_failures WHERE kind = 'login'")
	}
	compared := 0
	for round := range 25 {
		for i := range 5 {
			err := tryLogin(t.Context(), both[i%2], email, "wrong horse battery")
			wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
		}
		compared = min(5*(round+1), 100)
		testenv.Eventually(t, patience, "the failures are counted", func() bool { return failures() == compared })
		forget()
	}
	// The right password, from a client that nobody knows.
	for _, at := range both {
		before := hashes(both)
		wantRefused(t, tryLogin(t.Context(), at, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
		if n := hashes(both) - before; n != 1 {
			t.Errorf("a closed account costs %d hashes", n)
		}
		forget()
	}
	// A known client is not shut out by strangers.
	if _, err := tryDevice(t.Context(), s, password, first.GetDeviceToken()); err != nil {
		t.Errorf("a known client: %v", err)
	}
	forget()
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS") // and opens nothing
	testenv.Eventually(t, patience, "the owner is told", func() bool {
		return count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_login_closed'") == 1 && mailed(both, "too many wrong passwords in a row")
	})
	forget()
	if _, err := s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: email}); err != nil {
		t.Fatal(err)
	}
	if err := tryReset(t.Context(), s, newestReset(t, both...), newPassword); err != nil {
		t.Fatal(err)
	}
	if err := tryLogin(t.Context(), s, email, newPassword); err != nil {
		t.Errorf("after the reset: %v", err)
	}
}

// mailed says whether the owner got a mail with these words in its subject.
func mailed(servers []*testenv.Server, words string) bool {
	for _, s := range servers {
		for _, m := range s.Mailbox.Messages() {
			if strings.Contains(strings.Join(strings.Fields(strings.ToLower(m.Text)), " "), words) {
				return true
			}
		}
	}
	return false
}

// TestAttack03AtOnce: the hundred are exact when guesses come all at once while Redis forgets.
func TestAttack03AtOnce(t *testing.T) {
	t.Parallel()
	both := attacked(t, testenv.Options{TrustedProxies: anyAddress()})
	user := signUp(t, both[0], email)
	execSQL(t, both[0], "INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 60)", user.GetId())
	var wrong atomic.Int64
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			if n%20 == 0 {
				_ = both[0].Redis.FlushAll(t.Context())
			}
			err := tryLogin(from(t.Context(), network(n)), both[n%2], email, "wrong horse battery")
			if status.Code(err) == codes.Unauthenticated {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	if n := count(t, both[0], "SELECT failures FROM password_failures"); n > 100 {
		t.Errorf("%d failures in a row", n)
	}
	testenv.Eventually(t, patience, "the password is closed once all hundred were used", func() bool {
		return count(t, both[0], "SELECT count(*) FROM password_failures WHERE failures < 100 OR closed_at IS NOT NULL") == 1
	})
}

// TestAttack03TheOlderContract counts with the same counts.
func TestAttack03TheOlderContract(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	user := backend.User(t, "nora0@example.com")
	old := authpb.NewAuthServiceClient(s.Conn)
	for i := range 105 {
		_, err := old.Login(t.Context(), &authpb.LoginRequest{Email: user.Email, Password: "wrong horse battery"})
		if status.Code(err) != codes.Unauthenticated {
			t.Fatalf("guess %d: %v", i, err)
		}
		if i%5 == 4 {
			want := min(i+1, 100)
			testenv.Eventually(t, patience, "the failures are counted", func() bool {
				return count(t, s, "SELECT coalesce(sum(failures), 0)::int FROM password_failures") == want
			})
			s.Redis.FlushAll(t.Context())
			s.Clock.Advance(time.Second)
		}
	}
	_, err := old.Login(t.Context(), &authpb.LoginRequest{Email: user.Email, Password: user.Password})
	if st := status.Convert(err); st.Code() != codes.Unauthenticated || st.Message() != "invalid email or password" {
		t.Errorf("the right password after a hundred wrong ones: %v", err)
	}
}

// TestAttack03ASessionsGuesses: who holds a stolen session has a hundred guesses at the current password in a row too.
func TestAttack03ASessionsGuesses(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	stolen := account(t, s)
	for i := range 100 {
		wantRefused(t, tryChange(t.Context(), s, stolen, "wrong horse battery", newPassword), codes.Unauthenticated, "INVALID_CREDENTIALS")
		if i%5 == 4 {
			testenv.Eventually(t, patience, "the failures are counted", func() bool {
				return count(t, s, "SELECT coalesce(sum(failures), 0)::int FROM password_failures WHERE kind = 'change'") == i+1
			})
			s.Redis.Del(t.Context(), s.Redis.Keys(t.Context(), "latchkey:attempts:*").Val()...)
		}
	}
	wantRefused(t, tryChange(t.Context(), s, stolen, password, newPassword), codes.Unauthenticated, "INVALID_CREDENTIALS")
	logIn(t, s, email) // which it does not close
}

// TestAttack03SuccessEndsTheCount: a hundred in a row are meant.
func TestAttack03SuccessEndsTheCount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 99)", user.GetId())
	logIn(t, s, email)
	if n := count(t, s, "SELECT count(*) FROM password_failures"); n != 0 {
		t.Error("the right password did not end the count")
	}
	// What plain SQL sets is a new password too, and what a login rewrites is none.
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 7)", user.GetId())
	epoch := func() int { return count(t, s, "SELECT coalesce(max(epoch), 0)::int FROM password_guards") }
	stronger := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, Argon2: argon.Params{MemoryKiB: 128, Time: 1, Threads: 1}})
	logIn(t, stronger, email)
	if epoch() != 0 {
		t.Error("a rewritten hash began an epoch")
	}
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 7)", user.GetId())
	execSQL(t, s, "UPDATE users SET password_hash = 'another'")
	if n := count(t, s, "SELECT count(*) FROM password_failures"); n != 0 || epoch() != 1 {
		t.Errorf("after a new hash by plain SQL: %d counts, epoch %d", n, epoch())
	}
}

// TestAttack03FullAndNotClosed: the replica that compared the hundredth password died before it closed the account. A
// known client's login does not open it, and the next guess closes it and tells the owner.
func TestAttack03FullAndNotClosed(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	known, err := tryDevice(t.Context(), s, password, "")
	if err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 100)", user.GetId())
	if _, err := tryDevice(t.Context(), s, password, known.GetDeviceToken()); err != nil {
		t.Fatalf("a known client: %v", err)
	}
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
	testenv.Eventually(t, patience, "the account is closed, once, and the owner is told", func() bool {
		return count(t, s, "SELECT count(*) FROM password_failures WHERE failures = 100 AND closed_at IS NOT NULL") == 1 &&
			count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_login_closed'") == 1 &&
			mailed([]*testenv.Server{s}, "too many wrong passwords in a row")
	})
}

// TestAttack03RightPasswordsAreNoFailures: a right password that is refused for another reason is not one of the hundred.
func TestAttack03RightPasswordsAreNoFailures(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 7)", user.GetId())
	execSQL(t, s, "UPDATE users SET is_active = false")
	for range 3 {
		if err := tryLogin(t.Context(), s, email, password); status.Code(err) == codes.OK {
			t.Fatal("a suspended account logs in")
		}
	}
	if n := count(t, s, "SELECT failures FROM password_failures"); n != 7 {
		t.Errorf("%d failures in a row after right passwords, want 7", n)
	}
}

// TestAttack03CountsTellNothing: each guess writes one row, whether the address has an account, a count or neither: a
// write takes longer than a reading, which everybody could measure.
func TestAttack03CountsTellNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	counted := signUp(t, s, "counted@example.com")
	closed := signUp(t, s, "closed@example.com")
	signUp(t, s, email)
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 7)", counted.GetId())
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures, closed_at) VALUES ($1, 'login', 100, now())", closed.GetId())
	written := func() int {
		return count(t, s, `SELECT ((SELECT coalesce(sum(failures), 0) FROM password_failures)
			+ (SELECT sum(failures) FROM password_failure_decoys))::int`)
	}
	for _, address := range []string{"counted@example.com", "closed@example.com", email, "nobody@example.com"} {
		before := written()
		wantRefused(t, tryLogin(t.Context(), s, address, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
		if n := written() - before; n != 1 {
			t.Errorf("a wrong password for %s writes %d rows, want 1", address, n)
		}
	}
}

// TestAttack04SomebodySeesIt: failures are in the audit trail, sampled, and the log says whose; a lock-out, a reuse and a
// login from a new device are mailed, once.
func TestAttack04SomebodySeesIt(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{NewDeviceMails: true, TrustedProxies: anyAddress()})
	user := signUp(t, s, email)
	first, err := tryDevice(t.Context(), s, password, "")
	if err != nil {
		t.Fatal(err)
	}
	events := func(kind string) int {
		return count(t, s, "SELECT count(*) FROM audit_events WHERE kind = $1 AND user_id = $2", kind, user.GetId())
	}
	for n := range 10 {
		for range 7 {
			_ = tryLogin(from(t.Context(), network(n)), s, email, "wrong horse battery")
		}
	}
	testenv.Eventually(t, patience, "failures are events", func() bool {
		return events("login_failed") >= 4 && events("logins_limited") == 10
	})
	if n := events("login_failed"); n > 15 {
		t.Errorf("%d events of 50 failures", n)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logins_limited' AND address = $1", network(3)); n != 1 {
		t.Error("the event does not say where from")
	}
	if !strings.Contains(string(s.Logs.Bytes()), `"user_id":"`+user.GetId()+`","reason":"INVALID_CREDENTIALS"`) {
		t.Error("the log does not say whose login failed")
	}
	if strings.Contains(string(s.Logs.Bytes()), strings.ToLower(email)) {
		t.Error("the log has the address")
	}
	testenv.Eventually(t, patience, "the owner is told of the lock-out", func() bool { return mailed([]*testenv.Server{s}, "many wrong passwords were tried") })

	// A known device is no news, another one is.
	s.Clock.Advance(time.Hour)
	if _, err := tryDevice(t.Context(), s, password, first.GetDeviceToken()); err != nil {
		t.Fatal(err)
	}
	if mailed([]*testenv.Server{s}, "had not signed in before") {
		t.Error("told of the device that was there before")
	}
	other, err := tryDevice(from(t.Context(), "203.0.113.9"), s, password, "")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "the owner is told of a new device", func() bool { return mailed([]*testenv.Server{s}, "had not signed in before") })

	// Reuse of a refresh token.
	stolen := other.GetTokens().GetRefreshToken()
	next := refresh(t, s, stolen, "")
	refresh(t, s, next.GetRefreshToken(), "")
	s.Clock.Advance(time.Minute)
	_, err = tryRefresh(t.Context(), s, stolen, "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
	testenv.Eventually(t, patience, "the owner is told of the reuse", func() bool { return mailed([]*testenv.Server{s}, "for the second time") })
}
