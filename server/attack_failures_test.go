package server_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// Redis is flushed after every one to five guesses. Over both replicas and contracts, only a hundred wrong passwords in
// a row are compared. After that the right password is refused like a wrong one, at the same cost, until a reset. The
// owner gets a mail.
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
	for round := 0; compared < 100; round++ {
		size := min(1+round%5, 100-compared)
		for i := range size {
			err := tryLogin(t.Context(), both[i%2], email, "wrong horse battery")
			wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
		}
		compared += size
		testenv.Eventually(t, patience, "the failures are counted", func() bool { return failures() == compared })
		forget()
	}
	// The right password, from an unknown client.
	for _, at := range both {
		before := hashes(both)
		wantRefused(t, tryLogin(t.Context(), at, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
		if n := hashes(both) - before; n != 1 {
			t.Errorf("a closed account costs %d hashes", n)
		}
		forget()
	}
	// Strangers cannot shut out a known client.
	if _, err := tryDevice(t.Context(), s, password, first.GetDeviceToken()); err != nil {
		t.Errorf("a known client: %v", err)
	}
	forget()
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS") // and it opens nothing for unknown clients
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

// mailed returns whether the owner got a mail with these words in its subject.
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

// The limit of a hundred is exact even if all guesses come at once while Redis forgets.
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
	if n, want := count(t, both[0], "SELECT failures FROM password_failures"), min(100, 60+int(wrong.Load())); n != want {
		t.Errorf("%d failures in a row after %d answers, want %d", n, wrong.Load(), want)
	}
	testenv.Eventually(t, patience, "the password is closed once all hundred were used", func() bool {
		return count(t, both[0], "SELECT count(*) FROM password_failures WHERE failures < 100 OR closed_at IS NOT NULL") == 1
	})
}

// The older contract uses the same counts.
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

// Somebody who has a stolen session has a hundred guesses in a row at the current password too.
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
	logIn(t, s, email) // the guesses do not close the password for logins
}

// After a hundred guesses, a stolen session cannot change the password any more, and the owner's sessions can. A stolen
// device token counts as none, and the owner's devices keep their places. The owner gets a mail about each.
func TestAttack03OneClosesNoOther(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{TrustedProxies: anyAddress()})
	user := signUp(t, s, email)
	var stolen, own *latchkeyv1.LoginResponse
	for _, at := range []**latchkeyv1.LoginResponse{&stolen, &own} {
		var err error
		if *at, err = tryDevice(t.Context(), s, password, ""); err != nil {
			t.Fatal(err)
		}
	}
	guess := func() { // one guess is left of each hundred
		t.Helper()
		_, err := tryDevice(t.Context(), s, "wrong horse battery", stolen.GetDeviceToken())
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
		wantRefused(t, tryChange(t.Context(), s, stolen.GetTokens(), "wrong horse battery", newPassword), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	guess()
	testenv.Eventually(t, patience, "both are counted", func() bool { return count(t, s, "SELECT count(*) FROM password_failures") == 2 })
	execSQL(t, s, "UPDATE password_failures SET failures = 99")
	guess()
	testenv.Eventually(t, patience, "both are closed", func() bool {
		return count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_client_closed' AND user_id = $1", user.GetId()) == 2
	})
	testenv.Eventually(t, patience, "the owner is told", func() bool {
		return mailed([]*testenv.Server{s}, "all from one device or session that had signed in before")
	})
	wantRefused(t, tryChange(t.Context(), s, stolen.GetTokens(), password, newPassword), codes.Unauthenticated, "INVALID_CREDENTIALS")

	// The device counts as a stranger from now on, with five guesses for its network.
	for range 5 {
		_, err := tryDevice(t.Context(), s, "wrong horse battery", stolen.GetDeviceToken())
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.ResourceExhausted, "RATE_LIMITED")
	_, err := tryDevice(t.Context(), s, password, stolen.GetDeviceToken())
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")

	again, err := tryDevice(t.Context(), s, password, own.GetDeviceToken())
	if err != nil {
		t.Fatalf("the owner's device: %v", err)
	}
	if n := count(t, s, "SELECT count(*) FROM password_failures WHERE kind <> 'login' AND closed_at IS NOT NULL"); n != 2 {
		t.Errorf("%d are closed after a login elsewhere, want 2", n)
	}
	// From another network it may be the owner who has the worn-out device, so it gets a new id.
	fresh, err := tryDevice(from(t.Context(), "203.0.113.7"), s, password, stolen.GetDeviceToken())
	if err != nil {
		t.Fatalf("a worn device with the right password: %v", err)
	}
	if _, err := tryDevice(t.Context(), s, password, fresh.GetDeviceToken()); err != nil {
		t.Errorf("with its new token: %v", err)
	}
	if err := tryChange(t.Context(), s, again.GetTokens(), password, newPassword); err != nil {
		t.Errorf("the owner's session: %v", err)
	}
}

// A login clears the failures of strangers and of its own device, but not those of other devices and sessions.
// Otherwise somebody who has stolen one would get a hundred guesses with each login of the owner.
func TestAttack03OwnFailuresEndWithOwnSuccess(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	var devices []*latchkeyv1.LoginResponse
	for range 2 {
		login, err := tryDevice(t.Context(), s, password, "")
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, login)
		_, err = tryDevice(t.Context(), s, "wrong horse battery", login.GetDeviceToken())
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
		wantRefused(t, tryChange(t.Context(), s, login.GetTokens(), "wrong horse battery", newPassword), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	counts := func(kind string) int {
		return count(t, s, "SELECT count(*) FROM password_failures WHERE kind = $1", kind)
	}
	testenv.Eventually(t, patience, "all are counted", func() bool { return counts("device") == 2 && counts("change") == 2 })
	if _, err := tryDevice(t.Context(), s, password, devices[0].GetDeviceToken()); err != nil {
		t.Fatal(err)
	}
	if counts("device") != 1 || counts("change") != 2 {
		t.Errorf("%d counts of devices, %d of sessions, want 1 and 2", counts("device"), counts("change"))
	}
}

// While the queue for writes after answers is full, a guess for an address without an account waits as long as one for
// an account.
func TestAttack03AFullQueueTellsNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	free := s.Server.FillAfterwards()
	before := s.Server.HashesMade()
	answered := make(chan string, 2)
	var calls sync.WaitGroup
	for _, address := range []string{email, "nobody@example.com"} {
		calls.Go(func() {
			_ = tryLogin(t.Context(), s, address, "wrong horse battery")
			answered <- address
		})
	}
	testenv.Eventually(t, patience, "both were compared", func() bool { return s.Server.HashesMade() == before+2 })
	select {
	case address := <-answered:
		t.Errorf("%s did not wait", address)
	case <-time.After(200 * time.Millisecond):
	}
	free()
	calls.Wait()
}

// The hundred must be in a row.
func TestAttack03SuccessEndsTheCount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures) VALUES ($1, 'login', 99)", user.GetId())
	logIn(t, s, email)
	if n := count(t, s, "SELECT count(*) FROM password_failures"); n != 0 {
		t.Error("the right password did not end the count")
	}
	// A hash that plain SQL sets is a new password too. A hash that a login rewrites is not.
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

// The replica that compared the hundredth password died before it closed the account. A login of a known client does
// not open the account, and the next guess closes it and sends the owner a mail.
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
	testenv.Eventually(t, patience, "the account is closed once, and its owner gets a mail", func() bool {
		return count(t, s, "SELECT count(*) FROM password_failures WHERE failures = 100 AND closed_at IS NOT NULL") == 1 &&
			count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_login_closed'") == 1 &&
			mailed([]*testenv.Server{s}, "too many wrong passwords in a row")
	})
}

// A right password that is refused for another reason is not one of the hundred failures.
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

// Each guess writes one row before its answer, whether the address has an account, a count or neither. A write takes
// longer than a read, and everybody could measure that.
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
	for _, guess := range []struct {
		address string
		rows    int
	}{
		{"counted@example.com", 1},
		{"closed@example.com", 1},
		{email, 2}, // the second row starts the count, after the answer
		{email, 1},
		{"nobody@example.com", 1},
	} {
		before := written()
		wantRefused(t, tryLogin(t.Context(), s, guess.address, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
		testenv.Eventually(t, patience, "the rows are written", func() bool { return written()-before >= guess.rows })
		if n := written() - before; n != guess.rows {
			t.Errorf("a wrong password for %s writes %d rows, want %d", guess.address, n, guess.rows)
		}
	}
}

// A guess at a closed account costs as much as its stored hash. Otherwise the time of an answer would reveal that it is
// closed, and so that it exists. The right password is not compared with anything.
func TestAttack03ClosedCostsItsKind(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	noError(t, err)
	insertHash(t, s, email, string(hash))
	cost := func(address, typed string) (all, foreign int) {
		all, foreign = s.Server.HashesMade(), s.Server.ForeignHashesMade()
		wantRefused(t, tryLogin(t.Context(), s, address, typed), codes.Unauthenticated, "INVALID_CREDENTIALS")
		return s.Server.HashesMade() - all, s.Server.ForeignHashesMade() - foreign
	}
	if all, foreign := cost("nobody@example.com", password); all != 1 || foreign != 0 {
		t.Fatalf("an unknown address costs %d hashes, %d of them bcrypt: the test needs it to be Argon2", all, foreign)
	}
	if all, foreign := cost(email, "wrong horse battery"); all != 1 || foreign != 1 {
		t.Errorf("open, a wrong password: %d hashes, %d of them bcrypt", all, foreign)
	}
	execSQL(t, s, "INSERT INTO password_failures (user_id, kind, failures, closed_at) SELECT id, 'login', 100, now() FROM users ON CONFLICT ON CONSTRAINT password_failures_pkey DO UPDATE SET failures = 100, closed_at = now()")
	for _, typed := range []string{"wrong horse battery", password} {
		if all, foreign := cost(email, typed); all != 1 || foreign != 1 {
			t.Errorf("closed, %q: %d hashes, %d of them bcrypt", typed, all, foreign)
		}
	}
	if got := storedHash(t, s, email); got != string(hash) {
		t.Errorf("rewritten to %s", got)
	}
}

// Failures are in the audit trail, as a sample, and the log names the account. The owner gets one mail about a
// lock-out, a reuse, or a login from a new device.
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

	// A login from a known device makes no mail, one from another device does.
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
