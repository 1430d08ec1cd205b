package server_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func tryChange(ctx context.Context, s *testenv.Server, by *latchkeyv1.Tokens, current, pass string) error {
	_, err := s.Auth.ChangePassword(testenv.WithKey(ctx, by.GetAccessToken()), &latchkeyv1.ChangePasswordRequest{
		CurrentPassword: current, NewPassword: pass,
	})
	return err
}

// wantPassword checks which of two passwords logs in.
func wantPassword(t *testing.T, s *testenv.Server, good, bad string) {
	t.Helper()
	wantRefused(t, tryLogin(t.Context(), s, email, bad), codes.Unauthenticated, "INVALID_CREDENTIALS")
	if err := tryLogin(t.Context(), s, email, good); err != nil {
		t.Errorf("log in: %v", err)
	}
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	signUp(t, s, email)
	laptop, phone := device(t, s, "laptop"), device(t, s, "phone")
	for _, at := range []*testenv.Server{s, replica} {
		wantValid(t, at, phone.GetAccessToken(), 0)
	}
	if err := tryChange(t.Context(), s, laptop, password, newPassword); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*testenv.Server{s, replica} {
		wantValid(t, at, phone.GetAccessToken(), ended)
		laptop = wantLive(t, at, laptop)
	}
	_, err := tryRefresh(t.Context(), s, phone.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	wantListed(t, s, laptop, laptop)
	// One row, with the exception: the trigger sees it and appends none of its own.
	if n := count(t, s, "SELECT count(*) FROM revocations"); n != 1 {
		t.Errorf("%d rows", n)
	}
	if n := count(t, s, "SELECT count(*) FROM revocations WHERE kind = 'user' AND except_session_id = $1", laptop.GetSessionId()); n != 1 {
		t.Errorf("%d rows with the exception", n)
	}
	wantPassword(t, s, newPassword, password)
	if n := count(t, s, "SELECT count(*) FROM users WHERE NOT is_verified"); n != 1 {
		t.Error("a changed password says nothing about the address")
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_changed' AND session_id = $1", laptop.GetSessionId()); n != 1 {
		t.Errorf("%d audit events", n)
	}
	// The same password again is a change too.
	if err := tryChange(t.Context(), s, laptop, newPassword, newPassword); err != nil {
		t.Error(err)
	}
	wantLive(t, s, laptop)
}

func TestChangePasswordAndMails(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	by := account(t, s)
	_, resetToken := resetMail(t, s, email)
	if err := tryChange(t.Context(), s, by, password, newPassword); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "the owner is told", func() bool { return len(s.Mailbox.Messages()) == 2 })
	if told := s.Mailbox.Messages()[0]; told.To != email || !strings.Contains(told.Subject, "changed") || strings.Contains(told.Text, "token=") {
		t.Errorf("told %+v", told)
	}
	// A link that was mailed before may have gone to somebody else who read the mails.
	wantRefused(t, tryReset(t.Context(), s, resetToken, password), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	wantLive(t, s, by)
}

func TestChangePasswordRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	by := account(t, s)
	wrong := "wrong horse battery"
	for name, test := range map[string]struct {
		current, password string
		code              codes.Code
		reason            string
		fields            []string
		hashes            int
	}{
		"nothing":       {"", "", codes.InvalidArgument, "VALIDATION_FAILED", []string{"current_password", "new_password"}, 0},
		"long":          {strings.Repeat("p", 129), strings.Repeat("p", 129), codes.InvalidArgument, "VALIDATION_FAILED", []string{"current_password", "new_password"}, 0},
		"NUL":           {"a\x00b", "correct\x00horse", codes.InvalidArgument, "VALIDATION_FAILED", []string{"current_password", "new_password"}, 0},
		"short":         {password, "7 chars", codes.InvalidArgument, "VALIDATION_FAILED", []string{"new_password"}, 0},
		"common":        {password, "password123", codes.InvalidArgument, "PASSWORD_TOO_COMMON", []string{"new_password"}, 0},
		"own address":   {password, "Ada.Lovelace1", codes.InvalidArgument, "PASSWORD_TOO_COMMON", []string{"new_password"}, 0},
		"wrong, common": {wrong, "password123", codes.InvalidArgument, "PASSWORD_TOO_COMMON", []string{"new_password"}, 0},
		"wrong":         {wrong, newPassword, codes.Unauthenticated, "INVALID_CREDENTIALS", nil, 1},
		"shortened":     {password[:len(password)-1], newPassword, codes.Unauthenticated, "INVALID_CREDENTIALS", nil, 1},
	} {
		t.Log(name)
		before := s.Server.HashesMade()
		wantRefused(t, tryChange(t.Context(), s, by, test.current, test.password), test.code, test.reason, test.fields...)
		if got := s.Server.HashesMade() - before; got != test.hashes {
			t.Errorf("it cost %d hashes, want %d", got, test.hashes)
		}
	}
	wantLive(t, s, by)
	if n := count(t, s, "SELECT count(*) FROM revocations"); n != 0 {
		t.Errorf("%d rows", n)
	}
	wantPassword(t, s, password, newPassword)
}

// A stolen access token gives five guesses. It keeps neither the account's other sessions from changing the password
// nor anybody from logging in.
func TestChangePasswordCountsAlone(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	stolen := account(t, s)
	wrong := func(n int) {
		t.Helper()
		for range n {
			wantRefused(t, tryChange(t.Context(), s, stolen, "wrong horse battery", newPassword), codes.Unauthenticated, "INVALID_CREDENTIALS")
		}
	}
	wrong(4)
	if err := tryChange(t.Context(), s, stolen, password, password); err != nil { // clears them
		t.Fatal(err)
	}
	wrong(5)
	err := tryChange(t.Context(), s, stolen, password, newPassword)
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	own := logIn(t, s, email)
	if err := tryChange(t.Context(), s, own, password, password); err != nil {
		t.Errorf("the owner's own session: %v", err)
	}
	own = logIn(t, s, email)
	s.Clock.Advance(retryAfter(t, err))
	own = refresh(t, s, own.GetRefreshToken(), "")
	// Guesses at a login do not count against sessions either.
	for range 5 {
		wantRefused(t, tryLogin(t.Context(), s, email, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.ResourceExhausted, "RATE_LIMITED")
	if err := tryChange(t.Context(), s, own, password, newPassword); err != nil {
		t.Error(err)
	}
}

// A session that is ended while the password is hashed changes nothing.
func TestChangePasswordIsOvertaken(t *testing.T) {
	t.Parallel()
	for name, test := range overtaken() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			signUp(t, s, email)
			thief, owner := device(t, s, "thief"), device(t, s, "owner")
			answer := make(chan error, 1)
			test.hold(t, s, thief, owner, func() { answer <- tryChange(t.Context(), s, thief, password, newPassword) })
			wantRefused(t, <-answer, test.code, test.reason)
			if n := count(t, s, "SELECT count(*) FROM revocations WHERE except_session_id = $1", thief.GetSessionId()); n != 0 {
				t.Error("the other sessions were ended")
			}
			if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_changed'"); n != 0 {
				t.Error("the audit tells of a change that did not happen")
			}
			if n := count(t, s, "SELECT count(*) FROM river_job WHERE queue LIKE 'mail%'"); n != 0 {
				t.Error("the owner is told of a change that did not happen")
			}
			if test.reason == "SESSION_ENDED" {
				wantLive(t, s, owner)
				wantPassword(t, s, password, newPassword)
			}
		})
	}
}

// Of two changes one is made. For the other, the password or the session is no longer the current one.
func TestChangesAtOnce(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{true, false} {
		t.Run(map[bool]string{true: "one session", false: "two sessions"}[same], func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			signUp(t, s, email)
			sessions := [2]*latchkeyv1.Tokens{device(t, s, "laptop"), device(t, s, "phone")}
			reason := "SESSION_ENDED"
			if same {
				sessions[1] = sessions[0]
				reason = "INVALID_CREDENTIALS"
			}
			passwords := [2]string{newPassword, "yet another password"}
			commit := holdAccount(t, s, "SELECT id FROM users FOR UPDATE")
			answers := [2]chan error{make(chan error, 1), make(chan error, 1)}
			for i := range answers {
				go func() { answers[i] <- tryChange(t.Context(), s, sessions[i], password, passwords[i]) }()
			}
			testenv.Eventually(t, patience, "both wait", func() bool { return lockWaits(t, s) == 2 })
			commit()
			errs := [2]error{<-answers[0], <-answers[1]}
			winner := 0
			if errs[0] != nil {
				winner = 1
			}
			if errs[winner] != nil {
				t.Fatalf("neither was made: %v", errs)
			}
			wantRefused(t, errs[1-winner], codes.Unauthenticated, reason)
			wantLive(t, s, sessions[winner])
			wantPassword(t, s, passwords[winner], passwords[1-winner])
			if n := count(t, s, "SELECT count(*) FROM revocations"); n != 1 {
				t.Errorf("%d rows", n)
			}
		})
	}
}

// A login with the old password rewrites its weak hash while the password is changed. In either order, the old password
// does not return.
func TestChangeAndRehash(t *testing.T) {
	t.Parallel()
	for _, changeFirst := range []bool{true, false} {
		t.Run(map[bool]string{true: "change first", false: "rehash first"}[changeFirst], func(t *testing.T) {
			t.Parallel()
			weak := testenv.Start(t, testenv.Options{})
			s := testenv.Start(t, testenv.Options{
				DatabaseURL: weak.DatabaseURL, RedisURL: weak.RedisURL, Clock: weak.Clock, Argon2: argon.Params{MemoryKiB: 128, Time: 1, Threads: 1},
			})
			by := account(t, weak)
			commit := holdAccount(t, s, "SELECT id FROM users FOR UPDATE")
			changed, loggedIn := make(chan error, 1), make(chan error, 1)
			var late *latchkeyv1.LoginResponse
			calls := []func(){
				func() { changed <- tryChange(t.Context(), s, by, password, newPassword) },
				func() {
					resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
					late = resp
					loggedIn <- err
				},
			}
			if !changeFirst {
				calls[0], calls[1] = calls[1], calls[0]
			}
			for i, call := range calls { // calls that wait for a row get it in their order
				go call()
				testenv.Eventually(t, patience, "it waits", func() bool { return lockWaits(t, s) == i+1 })
			}
			commit()
			err := <-changed
			if changeFirst && err != nil {
				t.Fatal(err)
			}
			if !changeFirst {
				// The password is right but its hash has changed: the caller must show it again.
				wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
			}
			if err := <-loggedIn; err != nil {
				t.Fatal(err)
			}
			by = wantLive(t, s, by)
			if !changeFirst {
				if err := tryChange(t.Context(), s, by, password, newPassword); err != nil {
					t.Fatal(err)
				}
			}
			wantValid(t, s, late.GetTokens().GetAccessToken(), ended)
			wantPassword(t, s, newPassword, password)
		})
	}
}

// If its last step fails, nothing of a change is left.
func TestChangeIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	by := account(t, s)
	execSQL(t, s, "ALTER FUNCTION latchkey_append_revocation RENAME TO latchkey_gone")
	if code := status.Code(tryChange(t.Context(), s, by, password, newPassword)); code != codes.Internal {
		t.Fatalf("got %v", code)
	}
	execSQL(t, s, "ALTER FUNCTION latchkey_gone RENAME TO latchkey_append_revocation")
	if n := count(t, s, "SELECT count(*) FROM river_job WHERE queue LIKE 'mail%'"); n != 0 {
		t.Error("the owner is told of a change that did not happen")
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_changed'"); n != 0 {
		t.Error("the audit tells of a change that did not happen")
	}
	wantLive(t, s, by)
	wantPassword(t, s, password, newPassword)
}

// A hasher without room refuses a change, and counts no failure.
func TestChangeOverload(t *testing.T) {
	t.Parallel()
	slow := argon.Params{MemoryKiB: 64 << 10, Time: 16, Threads: 1}
	weak := testenv.Start(t, testenv.Options{})
	s := testenv.Start(t, testenv.Options{DatabaseURL: weak.DatabaseURL, RedisURL: weak.RedisURL, Clock: weak.Clock, Argon2: slow, HashSlots: 1, HashQueue: 1})
	by := account(t, weak)
	const callers = 8
	errs := make(chan error, callers)
	for range callers {
		go func() { errs <- tryChange(t.Context(), s, by, password, newPassword) }()
	}
	turnedAway := 0
	for range callers {
		err := <-errs
		switch status.Code(err) {
		case codes.OK, codes.Unauthenticated: // made, or overtaken by the one that was made
		default:
			wantRefused(t, err, codes.ResourceExhausted, "OVERLOADED")
			turnedAway++
		}
	}
	if turnedAway == 0 {
		t.Error("nobody was turned away")
	}
}
