package server_test

import (
	"context"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const newPassword = "another fine password"

func forgot(t *testing.T, s *testenv.Server, address string) {
	t.Helper()
	if _, err := s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: address}); err != nil {
		t.Fatalf("forgot %s: %v", address, err)
	}
}

func tryReset(ctx context.Context, s *testenv.Server, resetToken, pass string) error {
	_, err := s.Auth.ResetPassword(ctx, &latchkeyv1.ResetPasswordRequest{Token: resetToken, NewPassword: pass})
	return err
}

// resetMail asks for a mail and waits for it.
func resetMail(t *testing.T, s *testenv.Server, address string) (mail.Message, string) {
	t.Helper()
	links := func() (found []mail.Message) {
		for _, message := range s.Mailbox.Messages() {
			if strings.Contains(message.Text, testenv.ResetURL+"?") { // others mail links as well
				found = append(found, message)
			}
		}
		return found
	}
	before := len(links())
	forgot(t, s, address)
	testenv.Eventually(t, patience, "a mail with a link has come", func() bool { return len(links()) > before })
	message := links()[0]
	return message, linkToken(t, message)
}

// linkToken returns the token from the one link in the mail's text, which must also be in its HTML.
func linkToken(t *testing.T, message mail.Message) string {
	t.Helper()
	links := regexp.MustCompile(`https?://\S+`).FindAllString(message.Text, -1)
	if len(links) != 1 || !strings.HasPrefix(links[0], testenv.ResetURL+"?") {
		t.Fatalf("links %v in:\n%s", links, message.Text)
	}
	link, err := url.Parse(links[0])
	if err != nil {
		t.Fatal(err)
	}
	found := link.Query().Get("token")
	if len(found) != 43 || !strings.Contains(message.HTML, found) {
		t.Fatalf("token %q, HTML:\n%s", found, message.HTML)
	}
	return found
}

func TestForgotAndReset(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	sessions := []*latchkeyv1.Tokens{account(t, s), logIn(t, s, email)}
	message, resetToken := resetMail(t, s, strings.ToUpper(email))
	if message.To != email {
		t.Errorf("the mail went to %q, want the address as it was signed up", message.To)
	}
	if strings.Contains(message.Text+message.HTML+message.Subject, "Lovelace") {
		t.Error("a name that somebody typed is in the mail")
	}
	if err := tryReset(t.Context(), s, resetToken, newPassword); err != nil {
		t.Fatal(err)
	}
	for _, tokens := range sessions {
		wantValid(t, s, tokens.GetAccessToken(), ended)
		_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
		wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	}
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: newPassword})
	if err != nil {
		t.Fatal(err)
	}
	if !resp.GetUser().GetEmailVerified() {
		t.Error("whoever had the mail has the address")
	}
	wantValid(t, s, resp.GetTokens().GetAccessToken(), 0)
	testenv.Eventually(t, patience, "the owner is told", func() bool { return len(s.Mailbox.Messages()) == 2 })
	if told := s.Mailbox.Messages()[0]; told.To != email || !strings.Contains(told.Subject, "changed") || strings.Contains(told.Text, "token=") {
		t.Errorf("told %+v", told)
	}
	longest := s.Clock.Now().Add(testenv.MaxTTL)
	if n := count(t, s, "SELECT count(*) FROM revocations WHERE kind = 'user' AND keep_until >= $1", longest); n != 1 {
		t.Error("the revocation may be forgotten before what it refuses has expired")
	}
	for _, kind := range []string{"password_reset_requested", "password_reset"} {
		if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = $1", kind); n != 1 {
			t.Errorf("%d events %s", n, kind)
		}
	}
}

func TestResetRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	_, resetToken := resetMail(t, s, email)
	for name, test := range map[string]struct {
		token, password, reason string
		fields                  []string
	}{
		"nothing":       {"", "", "VALIDATION_FAILED", []string{"token", "new_password"}},
		"long":          {strings.Repeat("t", 513), newPassword, "VALIDATION_FAILED", []string{"token"}},
		"short":         {resetToken, "7 chars", "VALIDATION_FAILED", []string{"new_password"}},
		"too long":      {resetToken, strings.Repeat("p", 129), "VALIDATION_FAILED", []string{"new_password"}},
		"15 KiB":        {resetToken, strings.Repeat("p", 15<<10), "VALIDATION_FAILED", []string{"new_password"}},
		"NUL":           {resetToken, "correct\x00horse", "VALIDATION_FAILED", []string{"new_password"}},
		"common":        {resetToken, "password123", "PASSWORD_TOO_COMMON", []string{"new_password"}},
		"own address":   {resetToken, "Ada.Lovelace1", "PASSWORD_TOO_COMMON", []string{"new_password"}},
		"garbage":       {"garbage", newPassword, "RESET_TOKEN_INVALID", []string{"token"}},
		"NUL token":     {resetToken + "\x00", newPassword, "RESET_TOKEN_INVALID", []string{"token"}},
		"forged":        {flip(resetToken, 20), newPassword, "RESET_TOKEN_INVALID", []string{"token"}},
		"truncated":     {resetToken[:42], newPassword, "RESET_TOKEN_INVALID", []string{"token"}},
		"refresh token": {tokens.GetRefreshToken(), newPassword, "RESET_TOKEN_INVALID", []string{"token"}},
		"its hash":      {`\x` + strings.Repeat("00", 32), newPassword, "RESET_TOKEN_INVALID", []string{"token"}},
	} {
		t.Log(name)
		wantRefused(t, tryReset(t.Context(), s, test.token, test.password), codes.InvalidArgument, test.reason, test.fields...)
	}
	// All of that had no effect.
	wantValid(t, s, tokens.GetAccessToken(), 0)
	if err := tryReset(t.Context(), s, resetToken, newPassword); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, tryReset(t.Context(), s, resetToken, newPassword+"!"), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
}

func TestResetTokenExpires(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	_, resetToken := resetMail(t, s, email)
	s.Clock.Advance(testenv.ResetTTL)
	wantRefused(t, tryReset(t.Context(), s, resetToken, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	s.Clock.Advance(-time.Millisecond)
	if err := tryReset(t.Context(), s, resetToken, newPassword); err != nil {
		t.Errorf("a millisecond before: %v", err)
	}
}

// A link that is asked for again while it lives is the same link, and lives longer. It is replaced when it is one life
// old. Under another secret key it cannot be made again, so it is replaced too.
func TestLinksLast(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	_, first := resetMail(t, s, email)
	s.Clock.Advance(testenv.ResetTTL - time.Second)
	if _, again := resetMail(t, s, email); again != first {
		t.Error("asking again has ended the link")
	}
	s.Clock.Advance(testenv.ResetTTL - time.Second)
	_, next := resetMail(t, s, email)
	if next == first {
		t.Error("a link lives for ever when somebody asks for it all the time")
	}
	wantRefused(t, tryReset(t.Context(), s, first, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	_, other, _, err := resetsOf(s).IssueReset(t.Context(), mail.Link{
		UserID: uuid.MustParse(user.GetId()), Position: int64(count(t, s, "SELECT seq FROM ledger_head")),
	})
	if err != nil || other == next {
		t.Fatalf("another key: %v", err)
	}
	wantRefused(t, tryReset(t.Context(), s, next, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	if err := tryReset(t.Context(), s, other, newPassword); err != nil {
		t.Fatal(err)
	}
}

// If many have the token, one of them sets the password.
func TestResetsAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	_, resetToken := resetMail(t, s, email)
	const callers = 32
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { errs[i] = tryReset(t.Context(), s, resetToken, newPassword+string(rune('a'+i))) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		if err != nil {
			wantRefused(t, err, codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
			continue
		}
		if winner >= 0 {
			t.Fatal("two of them set it")
		}
		winner = i
	}
	if winner < 0 {
		t.Fatal("none of them set it")
	}
	if err := tryLogin(t.Context(), s, email, newPassword+string(rune('a'+winner))); err != nil {
		t.Error(err)
	}
	if n := count(t, s, "SELECT count(*) FROM revocations WHERE kind = 'user'"); n != 1 {
		t.Errorf("%d revocations", n)
	}
}

func TestForgotTellsNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	gone := signUp(t, s, "disabled@example.com")
	execSQL(t, s, "UPDATE users SET is_active = false WHERE id = $1", gone.GetId())
	for _, address := range []string{"nobody@example.com", "disabled@example.com", "not an address", email} {
		forgot(t, s, address)
	}
	testenv.Eventually(t, patience, "all are looked up and sent", func() bool {
		return count(t, s, "SELECT count(*) FROM reset_requests") == 0 &&
			count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'reset_link' AND state = 'completed'") == 1
	})
	// Nothing is stored about addresses that nobody has.
	if n := count(t, s, "SELECT count(*) FROM river_job WHERE queue LIKE 'mail%'"); n != 1 {
		t.Errorf("%d jobs", n)
	}
	if messages := s.Mailbox.Messages(); len(messages) != 1 || messages[0].To != email {
		t.Errorf("%d mails: %v", len(messages), messages)
	}
	_, err := s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "email")
	_, err = s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: "a\nb@example.com"})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "email")
}

func TestForgotIsLimited(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	for _, address := range []string{email, "nobody@example.com"} {
		const callers = 20
		errs := make([]error, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				variant := address
				if i%2 == 1 {
					variant = strings.ToUpper(address)
				}
				_, errs[i] = s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: variant})
			})
		}
		wg.Wait()
		passed := 0
		for _, err := range errs {
			if err == nil {
				passed++
				continue
			}
			wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
			if after := retryAfter(t, err); after != 15*time.Minute {
				t.Errorf("retry after %v", after)
			}
		}
		if passed != 5 {
			t.Errorf("%s: %d passed", address, passed)
		}
	}
	// Requests do not use up the attempts at a login.
	logIn(t, s, email)
}

func TestResetForgivesFailures(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	for range 5 {
		wantRefused(t, tryLogin(t.Context(), s, email, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.ResourceExhausted, "RATE_LIMITED")
	_, resetToken := resetMail(t, s, email)
	if err := tryReset(t.Context(), s, resetToken, newPassword); err != nil {
		t.Fatal(err)
	}
	if err := tryLogin(t.Context(), s, email, newPassword); err != nil {
		t.Error(err)
	}
}

func TestDisabledAccountCannotReset(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	_, resetToken := resetMail(t, s, email)
	execSQL(t, s, "UPDATE users SET is_active = false")
	wantRefused(t, tryReset(t.Context(), s, resetToken, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
}

// The result of a login that started before the reset is not good after it.
func TestLoginThatRacesWithAReset(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	_, resetToken := resetMail(t, s, email)
	const callers = 30
	answers := make([]*latchkeyv1.LoginResponse, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			var err error
			answers[i], err = s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
			if code := status.Code(err); code != codes.OK && code != codes.Unauthenticated && code != codes.ResourceExhausted {
				t.Errorf("%v", err)
			}
		})
	}
	if err := tryReset(t.Context(), s, resetToken, newPassword); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for _, answer := range answers {
		if tokens := answer.GetTokens(); tokens != nil {
			wantValid(t, s, tokens.GetAccessToken(), ended)
			_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
		}
	}
}

// If its last step fails, nothing of a reset is left, and the same link works later.
func TestResetIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	_, resetToken := resetMail(t, s, email)
	jobs := count(t, s, "SELECT count(*) FROM river_job WHERE queue LIKE 'mail%'")
	execSQL(t, s, "ALTER TABLE revocations RENAME TO revocations_gone")
	if code := status.Code(tryReset(t.Context(), s, resetToken, newPassword)); code != codes.Internal {
		t.Fatalf("got %v", code)
	}
	execSQL(t, s, "ALTER TABLE revocations_gone RENAME TO revocations")
	if n := count(t, s, "SELECT count(*) FROM river_job WHERE queue LIKE 'mail%'"); n != jobs {
		t.Error("the owner is told of a reset that did not happen")
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_reset'"); n != 0 {
		t.Error("the audit tells of a reset that did not happen")
	}
	if err := tryLogin(t.Context(), s, email, password); err != nil {
		t.Errorf("the old password: %v", err)
	}
	wantValid(t, s, tokens.GetAccessToken(), 0)
	if err := tryReset(t.Context(), s, resetToken, newPassword); err != nil {
		t.Errorf("the same link: %v", err)
	}
	wantValid(t, s, tokens.GetAccessToken(), ended)
}

// A change between the check of the token and its use counts.
func TestResetIsOvertaken(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  string
		advance time.Duration
		rows    int // in the ledger, from the change itself
	}{
		"disabled": {"UPDATE users SET is_active = false", 0, 1},
		"deleted":  {"DELETE FROM users", 0, 1},
		"expired":  {"SELECT id FROM users FOR UPDATE", testenv.ResetTTL, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			signUp(t, s, email)
			_, resetToken := resetMail(t, s, email)
			commit := holdAccount(t, s, test.change)
			answer := make(chan error, 1)
			go func() { answer <- tryReset(t.Context(), s, resetToken, newPassword) }()
			testenv.Eventually(t, patience, "the reset waits", func() bool {
				return lockWaits(t, s) > 0
			})
			s.Clock.Advance(test.advance)
			commit()
			wantRefused(t, <-answer, codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
			if n := count(t, s, "SELECT count(*) FROM revocations"); n != test.rows {
				t.Error("the refused reset ended the sessions")
			}
		})
	}
}
