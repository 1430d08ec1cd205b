package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	devices "github.com/latchkey-auth/latchkey/internal/device"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// slowHash takes about 50 ms, so that deadlines pass during it.
func slowHash() argon.Params { return argon.Params{MemoryKiB: 32 << 10, Time: 3, Threads: 1} }

// anyAddress trusts the test's own connection as a proxy, so that the test can name the client.
func anyAddress() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// from returns a context for a call of a client with that address.
func from(ctx context.Context, address string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", address)
}

// network returns the nth of many addresses.
func network(n int) string { return fmt.Sprintf("198.18.%d.%d", n/250, n%250+1) }

func tryDevice(ctx context.Context, s *testenv.Server, pass, deviceToken string) (*latchkeyv1.LoginResponse, error) {
	return s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: pass, DeviceToken: deviceToken})
}

// attacked starts two replicas that share stores and a clock.
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

// Of 500 wrong guesses at one account over two replicas, with deadlines, hang-ups and spellings of every kind, no more
// than the limit are compared. A password that is not in NFC is two candidates, and so at most two hashes. In the last
// two rounds no client waits for its answer: otherwise patient clients could use up the limit before the test sees
// whether the others count.
func TestAttack01GuessesCountWhateverTheDeadline(t *testing.T) {
	t.Parallel()
	both := attacked(t, testenv.Options{Argon2: slowHash()})
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
		if round >= 2 {
			// The server subtracts 50 ms, so these deadlines pass while the password is compared, or a little before.
			deadlines = rapid.SliceOfN(rapid.OneOf(rapid.IntRange(11, 19), rapid.IntRange(60, 100)), guesses, guesses).Example(round)
		}
		for range atOnce {
			wg.Go(func() {
				for i := range queue {
					guess := fmt.Sprintf("wrong guess %d", i)
					if !nfc && i%2 == 0 {
						guess = "\u212A" + guess // the Kelvin sign, which is K in NFC
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
		// A call that the client gave up may still compute its hash.
		testenv.Eventually(t, patience, "no hash is under way", func() bool {
			return both[0].Server.HashesInUse()+both[1].Server.HashesInUse() == 0
		})
		if n := hashes(both) - before; n > most {
			t.Fatalf("%d hashes were compared, want %d at most", n, most)
		}
	}
}

// If the time is over before the answer, right and wrong passwords have the same answers and the same counts. The
// client hangs up during the hash, which works on any machine (a deadline too short for a hash is refused before it).
// So the test reads the answers in the log. A bcrypt hash is always computed to its end, and then counts. Argon2 stops
// where internal/argon2 computes it, and then nothing was compared.
func TestAttack01HitLooksLikeMiss(t *testing.T) {
	t.Parallel()
	for name, stored := range map[string]string{"Argon2": "", "bcrypt": slowBcrypt(t, password)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{Argon2: argon.Params{MemoryKiB: 64 << 10, Time: 4, Threads: 1}})
			signUp(t, s, email)
			if stored != "" {
				execSQL(t, s, "UPDATE users SET password_hash = $1", stored)
			}
			for _, pass := range []string{password, "wrong" + password, "\u212A" + password, "wrong\u212A" + password} {
				hitLooksLikeMiss(t, s, pass, stored != "")
			}
		})
	}
}

func hitLooksLikeMiss(t *testing.T, s *testenv.Server, pass string, isCompared bool) {
	t.Helper()
	if err := s.Redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	told, hashed := len(loginAnswers(t, s)), s.Server.HashesMade()
	hangUpDuringHash(t, s, pass)
	testenv.Eventually(t, patience, "the call has come to an end", func() bool { return len(loginAnswers(t, s)) > told })
	wasCompared, counted := s.Server.HashesMade() > hashed, 0
	if isCompared && !wasCompared {
		t.Errorf("%q was compared with nothing", pass)
	}
	if wasCompared {
		counted = 1
	}
	if answer, failed := loginAnswers(t, s)[told], failuresKept(t, s); answer != "Canceled " || failed != counted {
		t.Errorf("%q is answered with %q and leaves %d failures, want Canceled and %d", pass, answer, failed, counted)
	}
}

// hangUpDuringHash sends a login and hangs up when its password is being hashed.
func hangUpDuringHash(t *testing.T, s *testenv.Server, pass string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tryLogin(ctx, s, email, pass)
	}()
	testenv.Eventually(t, patience, "the password is being hashed", func() bool { return s.Server.HashesInUse() > 0 })
	cancel()
	<-done
}

// slowBcrypt returns a hash that takes some 200 ms.
func slowBcrypt(t *testing.T, pass string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(pass), 12)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// loginAnswers returns the codes and reasons of the server's answers to logins, whether or not anybody waited for them.
func loginAnswers(t *testing.T, s *testenv.Server) (answers []string) {
	t.Helper()
	for line := range strings.Lines(string(s.Logs.Bytes())) {
		var entry struct{ Msg, Method, Code, Reason string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if entry.Msg == "rpc" && strings.HasSuffix(entry.Method, "/Login") {
			answers = append(answers, entry.Code+" "+entry.Reason)
		}
	}
	return answers
}

// failuresKept returns how many failed logins Redis has, without reservations.
func failuresKept(t *testing.T, s *testenv.Server) (n int) {
	t.Helper()
	for _, key := range s.Redis.Keys(t.Context(), "latchkey:attempts:login:*").Val() {
		for _, value := range s.Redis.HVals(t.Context(), key).Val() {
			if strings.HasPrefix(value, "f") {
				n++
			}
		}
	}
	return n
}

// The right password, sent five times by a client that hangs up during the hash, makes five failures like a wrong one.
// So the counts reveal nothing either. The hash is bcrypt, which does not stop when the client hangs up.
func TestAttack01HitsWithoutTimeCount(t *testing.T) {
	t.Parallel()
	for name, pass := range map[string]string{"right": password, "wrong": "wrong horse battery"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			signUp(t, s, email)
			execSQL(t, s, "UPDATE users SET password_hash = $1", slowBcrypt(t, password))
			for range 5 {
				before := s.Server.HashesMade()
				hangUpDuringHash(t, s, pass)
				testenv.Eventually(t, patience, "it was hashed", func() bool { return s.Server.HashesMade() > before })
			}
			// It looks once, after all five are written: further guesses would count too.
			testenv.Eventually(t, patience, "five failures are written", func() bool { return failuresKept(t, s) == 5 })
			wantRefused(t, tryLogin(t.Context(), s, email, "wrong horse battery"), codes.ResourceExhausted, "RATE_LIMITED")
			if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_in'"); n != 0 {
				t.Errorf("%d logins were recorded", n)
			}
		})
	}
}

// Ten networks guess all the time, many call ForgotPassword, and a thief has a session. Still the owner can log in with
// a known client, recover the account, and use it after a reset.
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
		resp, err := tryDevice(from(t.Context(), "192.0.2.44"), s, password, deviceToken) // in whatever network the client is now
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

// newestReset returns the token of the newest reset mail, from any replica.
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

// A token of another account, a forged one and one of another secret count as none, and reveal nothing.
func TestAttack02DeviceTokensOfOthers(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{TrustedProxies: anyAddress()})
	signUp(t, s, email)
	signUp(t, s, "mallory@example.com")
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "mallory@example.com", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	owner, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	genuine := owner.GetDeviceToken()
	foreign, err := devices.New([][]byte{[]byte(strings.Repeat("another secret's", 2))}, s.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	tokens := []string{
		resp.GetDeviceToken(), flip(resp.GetDeviceToken(), 30),
		flip(genuine, 50), flip(genuine, 90), // of this account: another device, another MAC
		foreign.Issue(devices.Token{UserID: uuid.MustParse(owner.GetUser().GetId()), ID: uuid.New()}),
		strings.Repeat("A", len(genuine)), "x",
	}
	for i := range 5 {
		_, err := tryDevice(t.Context(), s, "wrong horse battery", tokens[i])
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	for _, token := range tokens {
		_, err := tryDevice(t.Context(), s, password, token)
		wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	}
	_, err = tryDevice(t.Context(), s, password, strings.Repeat("A", 257))
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "device_token")
}

// Strangers must not learn when the failures of others end.
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
