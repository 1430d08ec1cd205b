package server_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func tryLogin(ctx context.Context, s *testenv.Server, address, pass string) error {
	_, err := s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: address, Password: pass})
	return err
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: strings.ToUpper(email), Password: password})
	if err != nil {
		t.Fatal(err)
	}
	tokens, now := resp.GetTokens(), s.Clock.Now()
	if resp.GetUser().GetId() != user.GetId() || tokens.GetAccessToken() == "" || tokens.GetRefreshToken() == "" {
		t.Errorf("got %v", resp)
	}
	if got := tokens.GetAccessExpireTime().AsTime(); !got.Equal(now.Add(testenv.AccessTokenTTL)) {
		t.Errorf("access token until %v", got)
	}
	if got := tokens.GetRefreshExpireTime().AsTime(); !got.Equal(now.Add(testenv.IdleTTL)) {
		t.Errorf("refresh token until %v", got)
	}
	valid := wantValid(t, s, tokens.GetAccessToken(), 0)
	if valid.GetUser().GetId() != user.GetId() || valid.GetSessionId() != tokens.GetSessionId() ||
		!valid.GetExpireTime().AsTime().Equal(tokens.GetAccessExpireTime().AsTime()) {
		t.Errorf("validates as %v", valid)
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE last_login_at = $1", now); n != 1 {
		t.Error("the login was not recorded")
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_in' AND session_id = $1", tokens.GetSessionId()); n != 1 {
		t.Error("no audit event")
	}
}

func TestLoginRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	disabled := signUp(t, s, "disabled@example.com")
	execSQL(t, s, "UPDATE users SET is_active = false WHERE id = $1", disabled.GetId())
	broken := signUp(t, s, "broken@example.com")
	execSQL(t, s, "UPDATE users SET password_hash = 'not a hash' WHERE id = $1", broken.GetId())
	for name, test := range map[string]struct {
		address, password string
		code              codes.Code
		reason            string
		fields            []string
	}{
		"wrong password":           {email, "wrong horse battery", codes.Unauthenticated, "INVALID_CREDENTIALS", nil},
		"other letter case":        {email, strings.ToUpper(password), codes.Unauthenticated, "INVALID_CREDENTIALS", nil},
		"shortened":                {email, password[:len(password)-1], codes.Unauthenticated, "INVALID_CREDENTIALS", nil},
		"unknown address":          {"nobody@example.com", password, codes.Unauthenticated, "INVALID_CREDENTIALS", nil},
		"not an address":           {"' OR 1=1 --", password, codes.Unauthenticated, "INVALID_CREDENTIALS", nil},
		"disabled":                 {"disabled@example.com", password, codes.PermissionDenied, "ACCOUNT_DISABLED", nil},
		"disabled, wrong password": {"disabled@example.com", "wrong horse battery", codes.Unauthenticated, "INVALID_CREDENTIALS", nil},
		"unusable hash":            {"broken@example.com", password, codes.Unauthenticated, "INVALID_CREDENTIALS", nil},
		"nothing":                  {"", "", codes.InvalidArgument, "VALIDATION_FAILED", []string{"email", "password"}},
		"NUL":                      {"a\x00b", "c\x00d", codes.InvalidArgument, "VALIDATION_FAILED", []string{"email", "password"}},
		"long":                     {strings.Repeat("a", 256), strings.Repeat("p", 129), codes.InvalidArgument, "VALIDATION_FAILED", []string{"email", "password"}},
		"15 KiB":                   {email, strings.Repeat("p", 15<<10), codes.InvalidArgument, "VALIDATION_FAILED", []string{"password"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: test.address, Password: test.password})
			wantRefused(t, err, test.code, test.reason, test.fields...)
		})
	}
	_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password, DeviceName: strings.Repeat("d", 101)})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "device_name")
}

// The answers for known and unknown addresses have the same bytes, except the trace id.
func TestRefusalsLookAlike(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	known := status.Convert(tryLogin(t.Context(), s, email, "wrong horse battery"))
	unknown := status.Convert(tryLogin(t.Context(), s, "nobody@example.com", "wrong horse battery"))
	if known.Message() != unknown.Message() || known.Code() != unknown.Code() || len(known.Details()) != len(unknown.Details()) {
		t.Errorf("%v\n%v", known.Proto(), unknown.Proto())
	}
}

func TestFiveFailuresInFifteenMinutes(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	for _, address := range []string{email, "nobody@example.com"} {
		for range 5 {
			wantRefused(t, tryLogin(t.Context(), s, address, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
			s.Clock.Advance(time.Minute)
		}
		// The right password is refused too, in any letter case of the address.
		for _, variant := range []string{address, strings.ToUpper(address)} {
			err := tryLogin(t.Context(), s, variant, password)
			wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
			if after := retryAfter(t, err); after != 10*time.Minute {
				t.Errorf("%s: retry after %v, want what is left of the first failure's 15 minutes", variant, after)
			}
		}
		s.Clock.Advance(10*time.Minute - time.Millisecond)
		wantRefused(t, tryLogin(t.Context(), s, address, password), codes.ResourceExhausted, "RATE_LIMITED")
		s.Clock.Advance(time.Millisecond)
		wantRefused(t, tryLogin(t.Context(), s, address, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
		s.Clock.Advance(time.Hour)
	}
	if err := tryLogin(t.Context(), s, email, password); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestTheRightPasswordClearsFailures(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	for range 3 {
		for range 4 {
			wantRefused(t, tryLogin(t.Context(), s, email, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
		}
		if err := tryLogin(t.Context(), s, email, password); err != nil {
			t.Fatal(err)
		}
	}
}

// A hundred guesses at once get five tries, as five guesses in turn do.
func TestFailuresAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	const callers = 100
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() { errs[i] = tryLogin(t.Context(), s, email, "wrong horse battery") })
	}
	wg.Wait()
	tries := 0
	for _, err := range errs {
		if status.Code(err) == codes.Unauthenticated {
			tries++
			continue
		}
		wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	}
	if tries != 5 {
		t.Errorf("%d guesses were checked, want 5", tries)
	}
}

// The limit is for failures, however many log in.
func TestRightPasswordsAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	const callers = 40
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() { errs[i] = tryLogin(t.Context(), s, email, password) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestExactAddressWins(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	// Two accounts of an older backend whose addresses differ in letter case: the trigger gives the lookup value to the
	// first.
	lower := signUp(t, s, "case@example.com")
	var hash string
	if err := s.Pool.QueryRow(t.Context(), "SELECT password_hash FROM users").Scan(&hash); err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ('Case@Example.com', $1, 'C', 'U')", hash)
	for address, same := range map[string]bool{"case@example.com": true, "Case@Example.com": false, "CASE@example.com": true} {
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address, Password: password})
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		if got := resp.GetUser().GetId() == lower.GetId(); got != same {
			t.Errorf("%s logs in as %s", address, resp.GetUser().GetEmail())
		}
	}
	_, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: "cASE@example.com", Password: password, FirstName: "A", LastName: "B"})
	wantRefused(t, err, codes.AlreadyExists, "EMAIL_TAKEN")
}

// The owner of an account whose address differs only in letter case cannot clear the failures of the other by logging
// in.
func TestVariantsDoNotShareFailures(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, "victim@example.com")
	var hash string
	if err := s.Pool.QueryRow(t.Context(), "SELECT password_hash FROM users").Scan(&hash); err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ('VICTIM@example.com', $1, 'C', 'U')", hash)
	for range 5 {
		wantRefused(t, tryLogin(t.Context(), s, "victim@example.com", "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
		logIn(t, s, "VICTIM@example.com")
	}
	wantRefused(t, tryLogin(t.Context(), s, "Victim@example.com", password), codes.ResourceExhausted, "RATE_LIMITED")
}

func TestRehash(t *testing.T) {
	t.Parallel()
	params := argon.Params{MemoryKiB: 128, Time: 2, Threads: 1}
	s := testenv.Start(t, testenv.Options{Argon2: params})
	other := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL}) // weaker hashes
	strong := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Argon2: argon.Params{MemoryKiB: 256, Time: 3, Threads: 2}})
	weak, kept := signUp(t, other, "weak@example.com"), signUp(t, strong, "strong@example.com")
	prefix := func(id string) string {
		var hash string
		if err := s.Pool.QueryRow(t.Context(), "SELECT password_hash FROM users WHERE id = $1", id).Scan(&hash); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Split(hash, "$")[:4], "$")
	}
	// A wrong password rewrites nothing.
	wantRefused(t, tryLogin(t.Context(), s, weak.GetEmail(), "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	if got := prefix(weak.GetId()); got != "$argon2id$v=19$m=64,t=1,p=1" {
		t.Errorf("before: %s", got)
	}
	for range 2 {
		logIn(t, s, weak.GetEmail())
		logIn(t, s, kept.GetEmail())
		if got := prefix(weak.GetId()); got != "$argon2id$v=19$m=128,t=2,p=1" {
			t.Errorf("the weak one: %s", got)
		}
		if got := prefix(kept.GetId()); got != "$argon2id$v=19$m=256,t=3,p=2" {
			t.Errorf("the strong one: %s", got)
		}
	}
}

// Other programs hash the typed text, Latchkey hashes its NFC.
func TestHashOfTheBytesAsTyped(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	nfc, nfd := "caf\u00e9 correct horse", "cafe\u0301 correct horse"
	_, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: nfd, FirstName: "A", LastName: "B"})
	if err != nil {
		t.Fatal(err)
	}
	for _, typed := range []string{nfc, nfd} {
		if err := tryLogin(t.Context(), s, email, typed); err != nil {
			t.Errorf("%+q: %v", typed, err)
		}
	}
}

// With the only slot taken and no queue, calls are refused at once, with a time to try again, and do not count as
// failures.
func TestOverload(t *testing.T) {
	t.Parallel()
	slow := argon.Params{MemoryKiB: 64 << 10, Time: 16, Threads: 1}
	s := testenv.Start(t, testenv.Options{Argon2: slow, HashSlots: 1, HashQueue: 1})
	const callers = 12
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			errs[i] = tryLogin(ctx, s, string(rune('a'+i))+"@example.com", password)
		})
	}
	wg.Wait()
	turnedAway := 0
	for _, err := range errs {
		if status.Code(err) == codes.Unauthenticated {
			continue
		}
		wantRefused(t, err, codes.ResourceExhausted, "OVERLOADED")
		retryAfter(t, err)
		turnedAway++
	}
	if turnedAway == 0 || turnedAway == callers {
		t.Errorf("%d of %d turned away", turnedAway, callers)
	}
	if keys, err := s.Redis.Keys(t.Context(), "latchkey:attempts:login:*").Result(); err != nil || len(keys) != callers-turnedAway {
		t.Errorf("%d addresses have failures (%v), want %d", len(keys), err, callers-turnedAway)
	}
}

// The right password of a disabled account can be sent any number of times and has the same answer.
func TestDisabledAccountIsNoFailure(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	execSQL(t, s, "UPDATE users SET is_active = false")
	for range 2 {
		for range 4 {
			wantRefused(t, tryLogin(t.Context(), s, email, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
		}
		for range 6 {
			wantRefused(t, tryLogin(t.Context(), s, email, password), codes.PermissionDenied, "ACCOUNT_DISABLED")
		}
	}
}

// The password changes while a login rewrites its weak hash, and stays changed.
func TestRehashBringsNoPasswordBack(t *testing.T) {
	t.Parallel()
	weak := testenv.Start(t, testenv.Options{})
	s := testenv.Start(t, testenv.Options{DatabaseURL: weak.DatabaseURL, RedisURL: weak.RedisURL, Argon2: argon.Params{MemoryKiB: 128, Time: 1, Threads: 1}})
	signUp(t, weak, email)
	commit := holdAccount(t, s, "UPDATE users SET password_hash = 'a newer one'")
	answer := make(chan error, 1)
	go func() { answer <- tryLogin(t.Context(), s, email, password) }()
	commit()
	if err := <-answer; err != nil {
		t.Error(err)
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE password_hash = 'a newer one'"); n != 1 {
		t.Error("the login wrote over the newer hash")
	}
}

// A login that is overtaken gets no session, and leaves none behind.
func TestDisabledDuringALogin(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	commit := holdAccount(t, s, "UPDATE users SET is_active = false")
	answer := make(chan error, 1)
	go func() { answer <- tryLogin(t.Context(), s, email, password) }()
	commit()
	wantRefused(t, <-answer, codes.Unauthenticated, "INVALID_CREDENTIALS")
	if keys := sessionKeys(t, s); len(keys) != 0 {
		t.Errorf("left in Redis: %v", keys)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_in'"); n != 0 {
		t.Error("the login was recorded")
	}
}

// A revocation while a login's password is being checked revokes that login too.
func TestRevocationDuringTheHash(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Argon2: argon.Params{MemoryKiB: 64 << 10, Time: 16, Threads: 1}})
	user := signUp(t, s, email)
	var resp *latchkeyv1.LoginResponse
	answer := make(chan error, 1)
	go func() {
		var err error
		resp, err = s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
		answer <- err
	}()
	testenv.Eventually(t, patience, "the password is being hashed", func() bool { return s.Server.HashesInUse() > 0 })
	execSQL(t, s, "SELECT latchkey_append_revocation('user', NULL, $1, NULL, NULL, now() + interval '1 hour')", user.GetId())
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	wantValid(t, s, resp.GetTokens().GetAccessToken(), ended)
	_, err := tryRefresh(t.Context(), s, resp.GetTokens().GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
}

// Every wrong password of a login costs the same as the right one. A refusal that needs no hash costs none.
func TestWhatCostsAHash(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	broken := signUp(t, s, "broken@example.com")
	execSQL(t, s, "UPDATE users SET password_hash = 'not a hash' WHERE id = $1", broken.GetId())
	_, resetToken := resetMail(t, s, email)
	s.Clock.Advance(testenv.ResetTTL)
	for name, test := range map[string]struct {
		hashes int
		call   func() error
	}{
		"right password":   {1, func() error { return tryLogin(t.Context(), s, email, password) }},
		"wrong password":   {1, func() error { return tryLogin(t.Context(), s, email, "wrong horse battery") }},
		"unknown address":  {1, func() error { return tryLogin(t.Context(), s, "nobody@example.com", password) }},
		"unusable hash":    {1, func() error { return tryLogin(t.Context(), s, "broken@example.com", password) }},
		"expired token":    {0, func() error { return tryReset(t.Context(), s, resetToken, newPassword) }},
		"unknown token":    {0, func() error { return tryReset(t.Context(), s, "garbage", newPassword) }},
		"taken address":    {1, func() error { return trySignUp(t.Context(), s, strings.ToUpper(email), password) }},
		"refused password": {0, func() error { return trySignUp(t.Context(), s, "new@example.com", "password123") }},
	} {
		before := s.Server.HashesMade()
		err := test.call()
		if (err == nil) != (name == "right password") {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.Server.HashesMade() - before; got != test.hashes {
			t.Errorf("%s cost %d hashes, want %d", name, got, test.hashes)
		}
	}
}

// A replica with a wrong clock issues no tokens, which would outlive revocations elsewhere, and spends none.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	clock := testenv.NewClock(time.Now())
	s := testenv.Start(t, testenv.Options{Clock: clock, CheckClock: true})
	tokens := account(t, s)
	clock.Set(time.Now().Add(time.Hour))
	testenv.Eventually(t, patience, "the replica has compared the clocks", func() bool { return !s.Ledger.ClockRight() })
	_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	wantRefused(t, err, codes.Unavailable, "CLOCK_WRONG")
	_, err = tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unavailable, "CLOCK_WRONG")
	clock.Set(time.Now())
	testenv.Eventually(t, patience, "the replica has compared the clocks", s.Ledger.ClockRight)
	refresh(t, s, tokens.GetRefreshToken(), "")
}
