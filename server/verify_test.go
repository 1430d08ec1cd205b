package server_test

import (
	"context"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// letter is what somebody reads in a mail with a link and a code.
type letter struct{ token, code string }

// lettersTo returns the mails to an address that have the subject, newest first.
func lettersTo(s *testenv.Server, address, subject string) (found []mail.Message) {
	for _, message := range s.Mailbox.Messages() {
		if strings.EqualFold(message.To, address) && strings.Contains(message.Subject, subject) {
			found = append(found, message)
		}
	}
	return found
}

// waitLetter waits for the n-th mail with a code to an address.
func waitLetter(t *testing.T, s *testenv.Server, address string, n int) letter {
	t.Helper()
	const subject = "Confirm your email address"
	testenv.Eventually(t, patience, "a mail with a code has come", func() bool { return len(lettersTo(s, address, subject)) >= n })
	return readLetter(t, lettersTo(s, address, subject)[0])
}

func readLetter(t *testing.T, message mail.Message) letter {
	t.Helper()
	code := regexp.MustCompile(`(?m)^[0-9]{6}$`).FindString(message.Text)
	links := regexp.MustCompile(`https?://\S+`).FindAllString(message.Text, -1)
	if len(links) != 1 {
		t.Fatalf("links %q", links)
	}
	link, err := url.Parse(links[0])
	if err != nil || link.RawQuery != "" { // servers and their logs must not see the token
		t.Fatalf("the token is in the query of %s, %v", link, err)
	}
	_, query, _ := strings.Cut(link.Fragment, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	token := values.Get("token")
	if len(token) != 43 || !strings.Contains(message.HTML, token) || code != "" && !strings.Contains(message.HTML, code) {
		t.Fatalf("token %q, code %q, HTML:\n%s", token, code, message.HTML)
	}
	return letter{token, code}
}

func verifyLink(ctx context.Context, s *testenv.Server, token string) (*latchkeyv1.VerifyEmailResponse, error) {
	return s.Auth.VerifyEmail(ctx, &latchkeyv1.VerifyEmailRequest{Token: new(token)})
}

func verifyCode(ctx context.Context, s *testenv.Server, address, code string) (*latchkeyv1.VerifyEmailResponse, error) {
	return s.Auth.VerifyEmail(ctx, &latchkeyv1.VerifyEmailRequest{Email: new(address), Code: new(code)})
}

func resend(t *testing.T, s *testenv.Server, address string) {
	t.Helper()
	if _, err := s.Auth.ResendVerification(t.Context(), &latchkeyv1.ResendVerificationRequest{Email: address}); err != nil {
		t.Fatalf("resend: %v", err)
	}
}

// wrongCode returns another code.
func wrongCode(code string) string {
	return string('0'+(code[0]-'0'+1)%10) + code[1:]
}

// wantProved checks what GetAccount says about the address.
func wantProved(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens, want bool) {
	t.Helper()
	user, err := getAccount(as(t, tokens), s)
	if err != nil || user.GetEmailVerified() != want {
		t.Errorf("proved: %v, %v, want %v", user.GetEmailVerified(), err, want)
	}
}

// optional starts a server that mails links and codes at sign-up.
func optional(t *testing.T) *testenv.Server {
	t.Helper()
	return testenv.Start(t, testenv.Options{EmailVerification: "optional"})
}

// mailingReplica starts a replica of a server, which sends mails to the same mailbox.
func mailingReplica(t *testing.T, s *testenv.Server) *testenv.Server {
	t.Helper()
	return testenv.Start(t, testenv.Options{
		DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, Sender: s.Mailbox, EmailVerification: "optional",
	})
}

// TestOwnersKeepAllWhenTheyProve proves an address with the link or the code, and with the password or a session: the
// account keeps its password, names and sessions, and every replica shows the proof.
func TestOwnersKeepAllWhenTheyProve(t *testing.T) {
	t.Parallel()
	s := optional(t)
	replica := mailingReplica(t, s)
	for name, prove := range map[string]func(address string, by *latchkeyv1.Tokens, l letter) (*latchkeyv1.VerifyEmailResponse, error){
		"link-password": func(_ string, _ *latchkeyv1.Tokens, l letter) (*latchkeyv1.VerifyEmailResponse, error) {
			return s.Auth.VerifyEmail(t.Context(), &latchkeyv1.VerifyEmailRequest{Token: &l.token, Password: new(password)})
		},
		"code-password": func(address string, _ *latchkeyv1.Tokens, l letter) (*latchkeyv1.VerifyEmailResponse, error) {
			return s.Auth.VerifyEmail(t.Context(), &latchkeyv1.VerifyEmailRequest{Email: &address, Code: &l.code, Password: new(password)})
		},
		"link-session": func(_ string, by *latchkeyv1.Tokens, l letter) (*latchkeyv1.VerifyEmailResponse, error) {
			return verifyLink(as(t, by), s, l.token)
		},
		"code-session": func(address string, by *latchkeyv1.Tokens, l letter) (*latchkeyv1.VerifyEmailResponse, error) {
			return verifyCode(as(t, by), s, strings.ToUpper(address)+" ", l.code)
		},
	} {
		address := name + "@example.com"
		user := signUp(t, s, address)
		tokens := logIn(t, s, address)
		wantProved(t, replica, tokens, false)
		resp, err := prove(address, tokens, waitLetter(t, s, address, 1))
		if err != nil || resp.GetPasswordRemoved() || !resp.GetUser().GetEmailVerified() || resp.GetUser().GetFirstName() != "Ada" {
			t.Errorf("%s: %v, %v", name, resp, err)
			continue
		}
		if shown := wantValid(t, replica, tokens.GetAccessToken(), 0).GetUser(); !shown.GetEmailVerified() {
			t.Errorf("%s: a replica shows %v", name, shown)
		}
		wantLive(t, s, tokens)
		logIn(t, s, address)
		if n := count(t, s, "SELECT count(*) FROM unproved_sign_ups WHERE user_id = $1", user.GetId()); n != 0 {
			t.Errorf("%s: still counts as unproved", name)
		}
	}
}

// TestSquatterLosesAllToTheOwner signs up with the address of somebody else, keeps sessions, and waits: whoever proves
// the address by its mail alone gets an account in which nothing of that is left.
func TestSquatterLosesAllToTheOwner(t *testing.T) {
	t.Parallel()
	s := optional(t)
	replica := mailingReplica(t, s)
	for name, prove := range map[string]func(t *testing.T, address string, l letter){
		"link": func(t *testing.T, _ string, l letter) {
			t.Helper()
			resp, err := verifyLink(t.Context(), s, l.token)
			if err != nil || !resp.GetPasswordRemoved() || resp.GetUser().GetFirstName()+resp.GetUser().GetLastName() != "" {
				t.Errorf("verified: %v, %v", resp, err)
			}
		},
		"code": func(t *testing.T, address string, l letter) {
			t.Helper()
			resp, err := verifyCode(t.Context(), s, address, l.code)
			if err != nil || !resp.GetPasswordRemoved() || resp.GetUser().GetFirstName()+resp.GetUser().GetLastName() != "" {
				t.Errorf("verified: %v, %v", resp, err)
			}
		},
		"reset": func(t *testing.T, address string, _ letter) {
			t.Helper()
			_, token := resetMail(t, s, address)
			if err := tryReset(t.Context(), s, token, newPassword); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := name + "@example.com"
			user := signUp(t, s, address)
			l := waitLetter(t, s, address, 1)
			planted := logIn(t, s, address)
			for _, at := range []*testenv.Server{s, replica} {
				wantValid(t, at, planted.GetAccessToken(), 0)
			}
			prove(t, address, l)
			wantValid(t, replica, planted.GetAccessToken(), ended)
			wantEnded(t, s, planted)
			wantRefused(t, tryLogin(t.Context(), s, address, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
			if n := count(t, s, "SELECT count(*) FROM users WHERE id = $1 AND is_verified AND first_name = '' AND last_name = ''", user.GetId()); n != 1 {
				t.Error("the account still has the names, or is not proved")
			}
			if n := count(t, s, "SELECT count(*) FROM one_time_secrets WHERE user_id = $1", user.GetId()); n != 0 {
				t.Errorf("%d mailed secrets are still good", n)
			}
			_, err := verifyLink(t.Context(), s, l.token)
			wantRefused(t, err, codes.InvalidArgument, "LINK_INVALID", "token")
		})
	}
}

// TestProvedAccountLosesNothing checks that a mail alone takes nothing from an account that was proved before, and that
// one which an operator imported keeps its names.
func TestProvedAccountLosesNothing(t *testing.T) {
	t.Parallel()
	s := optional(t)
	user := signUp(t, s, email)
	l := waitLetter(t, s, email, 1)
	tokens := logIn(t, s, email)
	execSQL(t, s, "UPDATE users SET is_verified = true WHERE id = $1", user.GetId())
	resp, err := verifyLink(t.Context(), s, l.token)
	if err != nil || resp.GetPasswordRemoved() {
		t.Fatalf("%v, %v", resp, err)
	}
	wantLive(t, s, tokens)

	execSQL(t, s, "DELETE FROM unproved_sign_ups") // as accounts from before the rule, and imported ones
	execSQL(t, s, "UPDATE users SET is_verified = false WHERE id = $1", user.GetId())
	_, token := resetMail(t, s, email)
	if err := tryReset(t.Context(), s, token, newPassword); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE is_verified AND first_name = 'Ada'"); n != 1 {
		t.Error("the names that an operator imported are gone")
	}
}

// TestNothingBadProves checks what proves nothing and spends nothing: a wrong password, an access token that is not
// good, and the mail of another account. A session of somebody else is no session of the account.
func TestNothingBadProves(t *testing.T) {
	t.Parallel()
	s := optional(t)
	signUp(t, s, email)
	l := waitLetter(t, s, email, 1)
	tokens := logIn(t, s, email)
	_, err := s.Auth.VerifyEmail(t.Context(), &latchkeyv1.VerifyEmailRequest{Token: &l.token, Password: new("not the password")})
	wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
	_, err = verifyLink(testenv.WithKey(t.Context(), flip(tokens.GetAccessToken(), len(tokens.GetAccessToken())-5)), s, l.token)
	wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")
	_, err = verifyLink(t.Context(), s, flip(l.token, 5))
	wantRefused(t, err, codes.InvalidArgument, "LINK_INVALID", "token")
	signUp(t, s, "eve@example.com")
	eve := waitLetter(t, s, "eve@example.com", 1)
	_, err = verifyCode(t.Context(), s, email, eve.code)
	if eve.code != l.code {
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
	}
	for _, bad := range []*latchkeyv1.VerifyEmailRequest{
		{}, {Token: &l.token, Email: new(email), Code: &l.code}, {Email: new(email)}, {Code: &l.code}, {Token: &l.token, Code: &l.code},
	} {
		_, err := s.Auth.VerifyEmail(t.Context(), bad)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "token")
	}
	wantProved(t, s, tokens, false)

	ended := logIn(t, s, email)
	logOut(t, s, ended.GetRefreshToken())
	_, err = verifyLink(as(t, ended), s, l.token)
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	resp, err := verifyLink(as(t, logIn(t, s, "eve@example.com")), s, l.token)
	if err != nil || !resp.GetPasswordRemoved() {
		t.Errorf("with a session of somebody else: %v, %v", resp, err)
	}
}

// TestCodeHasFiveTries checks that the sixth guess finds nothing, at any replica, that the link is not affected, and that
// a new mail has a new code and the same link.
func TestCodeHasFiveTries(t *testing.T) {
	t.Parallel()
	s := optional(t)
	replica := mailingReplica(t, s)
	signUp(t, s, email)
	l := waitLetter(t, s, email, 1)
	for i := range 5 {
		at := []*testenv.Server{s, replica}[i%2]
		_, err := verifyCode(t.Context(), at, email, wrongCode(l.code))
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
	}
	_, err := verifyCode(t.Context(), s, email, l.code)
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")

	s.Clock.Advance(time.Minute)
	resend(t, s, email)
	next := waitLetter(t, s, email, 2)
	if next.token != l.token || next.code == l.code {
		t.Errorf("the next mail has the same link: %v, the same code: %v", next.token == l.token, next.code == l.code)
	}
	if resp, err := verifyCode(t.Context(), replica, email, next.code); err != nil || !resp.GetUser().GetEmailVerified() {
		t.Errorf("the new code: %v, %v", resp, err)
	}
}

// TestGuessedOutCodesLeaveTheLink checks that an address gets ten codes a day, so that somebody who can ask for mails
// and guess has fifty tries. The mails go on, with the link alone.
func TestGuessedOutCodesLeaveTheLink(t *testing.T) {
	t.Parallel()
	s := optional(t)
	signUp(t, s, email)
	l := waitLetter(t, s, email, 1)
	for n := 2; l.code != ""; n++ {
		if n > 11 {
			t.Fatalf("%d codes in a day", n-1)
		}
		execSQL(t, s, "UPDATE one_time_secrets SET tries = 5")
		s.Clock.Advance(16 * time.Minute)
		resend(t, s, email)
		l = waitLetter(t, s, email, n)
	}
	if resp, err := verifyLink(t.Context(), s, l.token); err != nil || !resp.GetUser().GetEmailVerified() {
		t.Errorf("the link: %v, %v", resp, err)
	}
}

// TestOneOfManyProves spends one link, and one code, a hundred times at once at two replicas: one call succeeds.
func TestOneOfManyProves(t *testing.T) {
	t.Parallel()
	s := optional(t)
	replica := mailingReplica(t, s)
	for name, prove := range map[string]func(at *testenv.Server, address string, l letter) error{
		"link": func(at *testenv.Server, _ string, l letter) error {
			_, err := verifyLink(t.Context(), at, l.token)
			return err
		},
		"code": func(at *testenv.Server, address string, l letter) error {
			_, err := verifyCode(t.Context(), at, address, l.code)
			return err
		},
	} {
		address := name + "@example.com"
		signUp(t, s, address)
		l := waitLetter(t, s, address, 1)
		wantOneWinner(t, name, func(i int) error { return prove([]*testenv.Server{s, replica}[i%2], address, l) })
	}
}

// wantOneWinner makes a hundred calls at once, of which exactly one must succeed. The others must be refused.
func wantOneWinner(t *testing.T, name string, call func(i int) error) {
	t.Helper()
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			err := call(i)
			switch code := status.Code(err); {
			case err == nil:
				won.Add(1)
			case code != codes.InvalidArgument && code != codes.Unauthenticated && code != codes.AlreadyExists:
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%s: %d of 100 calls succeeded", name, won.Load())
	}
}

// TestLoginWaitsForProof checks LATCHKEY_EMAIL_VERIFICATION=required: the right password alone gets no session, and mails
// anew within the limits; a wrong one learns nothing.
func TestLoginWaitsForProof(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{EmailVerification: "required", Legacy: testenv.Existing(t)})
	signUp(t, s, email)
	first := waitLetter(t, s, email, 1)
	wantRefused(t, tryLogin(t.Context(), s, email, "not the password"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	for range 3 { // one mail a minute
		wantRefused(t, tryLogin(t.Context(), s, email, password), codes.FailedPrecondition, "EMAIL_NOT_VERIFIED")
	}
	s.Clock.Advance(time.Minute)
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.FailedPrecondition, "EMAIL_NOT_VERIFIED")
	if second := waitLetter(t, s, email, 2); second != first {
		t.Error("the second mail has another link or code")
	}
	_, err := authpb.NewAuthServiceClient(s.Conn).Login(t.Context(), &authpb.LoginRequest{Email: email, Password: password})
	wantRefused(t, err, codes.FailedPrecondition, "EMAIL_NOT_VERIFIED")
	if keys := sessionKeys(t, s); len(keys) != 0 {
		t.Errorf("sessions %v", keys)
	}
	if resp, err := s.Auth.VerifyEmail(t.Context(), &latchkeyv1.VerifyEmailRequest{
		Token: &first.token, Password: new(password),
	}); err != nil || resp.GetPasswordRemoved() {
		t.Fatalf("%v, %v", resp, err)
	}
	logIn(t, s, email)
	if n := len(lettersTo(s, email, "Confirm")); n != 2 {
		t.Errorf("%d mails", n)
	}
}

// TestMailsToOneAddressAreBounded checks the limits over all networks: one a minute, five in 15 minutes.
func TestMailsToOneAddressAreBounded(t *testing.T) {
	t.Parallel()
	s := optional(t)
	signUp(t, s, email)
	waitLetter(t, s, email, 1)
	for range 14 {
		s.Clock.Advance(59 * time.Second)
		execSQL(t, s, "INSERT INTO mail_requests (kind, email, priority, trace_id, call_id) VALUES ('verify_email', $1, 1, '', '')", email)
		testenv.Eventually(t, patience, "the request was looked up", func() bool {
			return count(t, s, "SELECT count(*) FROM mail_requests") == 0
		})
	}
	waitLetter(t, s, email, 5)
	testenv.Eventually(t, patience, "all mails were sent", func() bool {
		return count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'letter' AND finalized_at IS NULL") == 0
	})
	if n := len(lettersTo(s, email, "Confirm")); n != 5 {
		t.Errorf("%d mails in 14 minutes", n)
	}
}

// TestEndedSessionsEndVerification checks that a link which somebody could read before the owner changed the password is
// dead, and so is the code.
func TestEndedSessionsEndVerification(t *testing.T) {
	t.Parallel()
	s := optional(t)
	tokens := account(t, s)
	l := waitLetter(t, s, email, 1)
	if err := tryChange(t.Context(), s, tokens, password, newPassword); err != nil {
		t.Fatal(err)
	}
	_, err := verifyLink(t.Context(), s, l.token)
	wantRefused(t, err, codes.InvalidArgument, "LINK_INVALID", "token")
	_, err = verifyCode(t.Context(), s, email, l.code)
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
	s.Clock.Advance(time.Minute)
	resend(t, s, email)
	l = waitLetter(t, s, email, 2)
	s.Clock.Advance(24*time.Hour + time.Second)
	_, err = verifyLink(t.Context(), s, l.token)
	wantRefused(t, err, codes.InvalidArgument, "LINK_INVALID", "token")
}

// TestNobodyMarksAnAddressAsProved sends every request of both contracts with fields that look like the mark. Only a
// proof sets it.
func TestNobodyMarksAnAddressAsProved(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{EmailVerification: "optional", Legacy: testenv.Existing(t)})
	unknown := func(m proto.Message) {
		raw := []byte{}
		for number := 5; number < 15; number++ { // field numbers that no request has, each true
			raw = append(raw, byte(number<<3), 1)
		}
		m.ProtoReflect().SetUnknown(raw)
	}
	up := &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "L"}
	unknown(up)
	if _, err := s.Auth.SignUp(t.Context(), up); err != nil {
		t.Fatal(err)
	}
	old := &authpb.SignUpRequest{Email: "bob@example.com", Password: oldPassword, FirstName: "Bob", LastName: "Builder"}
	unknown(old)
	if _, err := authpb.NewAuthServiceClient(s.Conn).SignUp(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	tokens := logIn(t, s, email)
	update := &latchkeyv1.UpdateAccountRequest{FirstName: new("Eve")}
	unknown(update)
	if _, err := s.AccountService.UpdateAccount(as(t, tokens), update); err != nil {
		t.Fatal(err)
	}
	wantProved(t, s, tokens, false)
	if n := count(t, s, "SELECT count(*) FROM users WHERE is_verified AND email IN ($1, 'bob@example.com')", email); n != 0 {
		t.Errorf("%d accounts are proved", n)
	}
}

// TestResendWhileOff checks that a service which asks nobody for a proof says so and mails nothing.
func TestResendWhileOff(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	_, err := s.Auth.ResendVerification(t.Context(), &latchkeyv1.ResendVerificationRequest{Email: email})
	wantRefused(t, err, codes.FailedPrecondition, "NOT_ENABLED")
	if n := count(t, s, "SELECT count(*) FROM mail_requests"); n != 0 {
		t.Errorf("%d requests", n)
	}
}
