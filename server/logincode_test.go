package server_test

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// byCode starts a server on which mailed codes log in, and a replica that sends mails to the same mailbox.
func byCode(t *testing.T, o testenv.Options) (s, replica *testenv.Server) {
	t.Helper()
	o.LoginByCode = true
	s = testenv.Start(t, o)
	o.DatabaseURL, o.RedisURL, o.Clock, o.Sender = s.DatabaseURL, s.RedisURL, s.Clock, s.Mailbox
	return s, testenv.Start(t, o)
}

// proved makes an account whose address is proved.
func proved(t *testing.T, s *testenv.Server, address string) *latchkeyv1.User {
	t.Helper()
	user := signUp(t, s, address)
	execSQL(t, s, "UPDATE users SET is_verified = true WHERE id = $1", user.GetId())
	return user
}

// sendCode asks for a code, and returns the token of its challenge. It lets a minute pass before, so that a mail is sent.
func sendCode(t testing.TB, s *testenv.Server, address string) string {
	t.Helper()
	s.Clock.Advance(time.Minute)
	resp, err := s.Auth.SendLoginCode(t.Context(), &latchkeyv1.SendLoginCodeRequest{Email: address})
	if err != nil || resp.GetChallengeToken() == "" {
		t.Fatalf("%v, %v", resp, err)
	}
	return resp.GetChallengeToken()
}

// mailedCode waits for the n-th mail with a code that logs in, and returns its code.
func mailedCode(t *testing.T, s *testenv.Server, address string, n int) string {
	t.Helper()
	const subject = "Your code to log in"
	testenv.Eventually(t, patience, "a mail with a code has come", func() bool { return len(lettersTo(s, address, subject)) >= n })
	message := lettersTo(s, address, subject)[0]
	code := regexp.MustCompile(`(?m)^[0-9]{6}$`).FindString(message.Text)
	if code == "" || !strings.Contains(message.HTML, code) || strings.Contains(message.Subject, code) || strings.Contains(message.Text, "http") {
		t.Fatalf("the mail: %s\n%s\n%s", message.Subject, message.Text, message.HTML)
	}
	return code
}

func withMailed(challengeToken, code string) *latchkeyv1.AnswerChallengeRequest {
	return &latchkeyv1.AnswerChallengeRequest{
		ChallengeToken: challengeToken, Answer: &latchkeyv1.AnswerChallengeRequest_EmailCode{EmailCode: code}, DeviceName: "test",
	}
}

// The whole of a login by code, from the mail to the session.
func TestLoginByCode(t *testing.T) {
	t.Parallel()
	s, replica := byCode(t, testenv.Options{})
	user := proved(t, s, email)
	before := logIn(t, s, email)
	token := sendCode(t, s, strings.ToUpper(email)+" ")
	code := mailedCode(t, s, email, 1)
	_, err := tryAnswer(t.Context(), s, withMailed(token, wrongCode(code)))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
	in := mustAnswer(t, replica, withMailed(token, code))
	if in.GetUser().GetId() != user.GetId() || in.GetPasswordRemoved() || in.GetDeviceToken() == "" || in.GetChallenge() != nil {
		t.Errorf("%v", in)
	}
	claims := claimsOf(t, s, in.GetTokens().GetAccessToken())
	if claims.ACR != "aal1" || !slices.Equal(claims.AMR, []string{"otp"}) || !claims.AuthTime.Equal(s.Clock.Now()) {
		t.Errorf("%v %s %v", claims.AMR, claims.ACR, claims.AuthTime)
	}
	wantLive(t, s, in.GetTokens())
	wantLive(t, s, before)
	_, err = tryAnswer(t.Context(), s, withMailed(token, code))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
	testenv.Eventually(t, patience, "the wrong code is recorded", func() bool {
		return count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'login_code_failed' AND user_id = $1", user.GetId()) == 1
	})
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'login_code_requested' AND user_id = $1", user.GetId()); n != 1 {
		t.Errorf("%d events of mailed codes", n)
	}

	late := sendCode(t, s, email)
	code = mailedCode(t, s, email, 2)
	s.Clock.Advance(10 * time.Minute)
	_, err = tryAnswer(t.Context(), s, withMailed(late, code))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
	s.Clock.Advance(50 * time.Minute)
	for _, token := range []string{late, "x", flip(token, 3), flip(token, 40), strings.Repeat("A", 75)} {
		_, err := tryAnswer(t.Context(), s, withMailed(token, code))
		wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
	}
	if n := count(t, s, "SELECT count(*) FROM challenges"); n != 0 {
		t.Errorf("%d rows for challenges that nothing is stored of", n)
	}
}

func TestLoginByCodeWhileOff(t *testing.T) {
	t.Parallel()
	on, _ := byCode(t, testenv.Options{})
	s := testenv.Start(t, testenv.Options{DatabaseURL: on.DatabaseURL, RedisURL: on.RedisURL, Clock: on.Clock, Sender: on.Mailbox})
	proved(t, on, email)
	token := sendCode(t, on, email)
	code := mailedCode(t, on, email, 1)
	_, err := s.Auth.SendLoginCode(t.Context(), &latchkeyv1.SendLoginCodeRequest{Email: email})
	wantRefused(t, err, codes.FailedPrecondition, "NOT_ENABLED")
	_, err = tryAnswer(t.Context(), s, withMailed(token, code))
	wantRefused(t, err, codes.FailedPrecondition, "NOT_ENABLED")
	mustAnswer(t, on, withMailed(token, code))
}

// A code works only with the challenge of the client that asked for it, for five tries of all replicas. Tries with other
// challenges take none of them away.
func TestLoginCodeIsBoundToTheAsker(t *testing.T) {
	t.Parallel()
	s, replica := byCode(t, testenv.Options{})
	proved(t, s, email)
	mine := sendCode(t, s, email)
	code := mailedCode(t, s, email, 1)
	theirs := sendCode(t, s, email)
	theirCode := mailedCode(t, s, email, 2)
	for i := range 7 {
		_, err := tryAnswer(t.Context(), []*testenv.Server{s, replica}[i%2], withMailed(theirs, code))
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
	}
	_, err := tryAnswer(t.Context(), s, withMailed(theirs, theirCode)) // tried five times
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
	for range 4 {
		_, err := tryAnswer(t.Context(), replica, withMailed(mine, wrongCode(code)))
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
	}
	mustAnswer(t, s, withMailed(mine, code))
	// Nor is it a code that proves the address, or the reverse.
	signUp(t, s, "eve@example.com")
	token := sendCode(t, s, "eve@example.com")
	_, err = verifyCode(t.Context(), s, "eve@example.com", mailedCode(t, s, "eve@example.com", 1))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
	// And the token opens no challenge of another kind.
	_, err = tryAnswer(t.Context(), s, withCode(token, "123456"))
	wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
}

// The mail proves the address: what a stranger planted in an account that nobody had proved is gone when the call returns.
func TestLoginByCodeTakesTheAccountBack(t *testing.T) {
	t.Parallel()
	s, replica := byCode(t, testenv.Options{EmailVerification: "required"})
	user := signUp(t, s, email)
	link := waitLetter(t, s, email, 1)
	lax := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, Sender: s.Mailbox})
	planted := logIn(t, lax, email)
	enrol(t, s, planted.GetAccessToken())
	wantValid(t, replica, planted.GetAccessToken(), 0)
	token := sendCode(t, s, email)
	in := mustAnswer(t, s, withMailed(token, mailedCode(t, s, email, 1)))
	if !in.GetPasswordRemoved() || !in.GetUser().GetEmailVerified() || in.GetUser().GetFirstName()+in.GetUser().GetLastName() != "" {
		t.Errorf("%v", in)
	}
	for _, at := range []*testenv.Server{s, replica, lax} {
		wantValid(t, at, planted.GetAccessToken(), ended)
		wantValid(t, at, in.GetTokens().GetAccessToken(), 0)
	}
	wantEnded(t, s, planted)
	mine := wantLive(t, s, in.GetTokens())
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
	for _, table := range []string{"factors", "totp_factors", "recovery_codes", "one_time_secrets"} {
		if n := count(t, s, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
	_, err := verifyLink(t.Context(), s, link.token)
	wantRefused(t, err, codes.InvalidArgument, "LINK_INVALID", "token")
	// The next login takes nothing: the address is proved.
	token = sendCode(t, s, email)
	if next := mustAnswer(t, replica, withMailed(token, mailedCode(t, s, email, 2))); next.GetPasswordRemoved() {
		t.Errorf("%v", next)
	}
	wantLive(t, s, mine)
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'address_reclaimed' AND user_id = $1", user.GetId()); n != 1 {
		t.Errorf("%d events", n)
	}
}

// Of a hundred calls with one code over two replicas, one gets a session, whether or not the address was proved before.
func TestOneLoginByOneCode(t *testing.T) {
	t.Parallel()
	s, replica := byCode(t, testenv.Options{})
	for name, prepare := range map[string]func(address string){
		"proved":   func(address string) { proved(t, s, address) },
		"unproved": func(address string) { signUp(t, s, address) },
	} {
		address := name + "@example.com"
		prepare(address)
		token := sendCode(t, s, address)
		code := mailedCode(t, s, address, 1)
		wantOneWinner(t, name, func(i int) error {
			_, err := tryAnswer(t.Context(), []*testenv.Server{s, replica}[i%2], withMailed(token, code))
			return err
		})
		if n := count(t, s, "SELECT count(*) FROM audit_events e JOIN users u ON u.id = e.user_id WHERE e.kind = 'logged_in' AND u.email = $1", address); n != 1 {
			t.Errorf("%s: %d logins are recorded", name, n)
		}
	}
}

// A code ends with whatever ends the sessions of its account, also if that comes between the request and the mail.
func TestLoginCodeEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens){
		"a new password": func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) {
			t.Helper()
			if err := tryChange(t.Context(), s, by, password, newPassword); err != nil {
				t.Fatal(err)
			}
		},
		"a reset": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) {
			t.Helper()
			_, link := resetMail(t, s, email)
			if err := tryReset(t.Context(), s, link, newPassword); err != nil {
				t.Fatal(err)
			}
		},
		"other sessions revoked": func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) {
			t.Helper()
			if _, err := s.SessionService.RevokeOtherSessions(as(t, by), &latchkeyv1.RevokeOtherSessionsRequest{}); err != nil {
				t.Fatal(err)
			}
		},
		"all sessions of everybody": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) {
			t.Helper()
			if _, err := s.Admin.RevokeAllSessions(testenv.WithKey(t.Context(), testenv.AdminKey), &latchkeyv1.RevokeAllSessionsRequest{}); err != nil {
				t.Fatal(err)
			}
		},
		"suspended": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "UPDATE users SET is_active = false")
		},
		"suspended and back": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "UPDATE users SET is_active = false")
			execSQL(t, s, "UPDATE users SET is_active = true")
		},
		"another address": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "UPDATE users SET email = 'next@example.com', email_lookup = 'next@example.com'")
		},
		"deleted": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "DELETE FROM users")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, replica := byCode(t, testenv.Options{})
			proved(t, s, email)
			tokens := logIn(t, s, email)
			token := sendCode(t, s, email)
			code := mailedCode(t, s, email, 1)
			end(t, s, tokens)
			for _, at := range []*testenv.Server{s, replica} {
				_, err := tryAnswer(t.Context(), at, withMailed(token, code))
				wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
			}
		})
	}
}

// An unknown address, a suspended account and one that is not proved have the answers of any other, and nothing that a
// stranger asks for is stored for long.
func TestLoginCodesLookAlike(t *testing.T) {
	t.Parallel()
	s, _ := byCode(t, testenv.Options{})
	proved(t, s, email)
	signUp(t, s, "unproved@example.com")
	proved(t, s, "suspended@example.com")
	execSQL(t, s, "UPDATE users SET is_active = false WHERE email = 'suspended@example.com'")
	known := sendCode(t, s, email)
	code := mailedCode(t, s, email, 1)
	_, want := tryAnswer(t.Context(), s, withMailed(known, wrongCode(code)))
	for _, address := range []string{"nobody@example.com", "unproved@example.com", "suspended@example.com"} {
		token := sendCode(t, s, address)
		if len(token) != len(known) {
			t.Errorf("%s: the token has %d characters, not %d", address, len(token), len(known))
		}
		for range 7 {
			_, err := tryAnswer(t.Context(), s, withMailed(token, wrongCode(code)))
			wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
			if err.Error() != want.Error() {
				t.Errorf("%v, not %v", err, want)
			}
		}
	}
	for range 6 { // beyond the fifth try, a known address still has the same answer
		_, err := tryAnswer(t.Context(), s, withMailed(known, wrongCode(code)))
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "email_code")
	}
	mailedCode(t, s, "unproved@example.com", 1)
	testenv.Eventually(t, patience, "the requests were looked up", func() bool { return count(t, s, "SELECT count(*) FROM mail_requests") == 0 })
	for _, address := range []string{"nobody@example.com", "suspended@example.com"} {
		if found := lettersTo(s, address, ""); len(found) != 0 {
			t.Errorf("%s: %v", address, found)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM one_time_secrets"); n != 2 {
		t.Errorf("%d secrets", n)
	}
}

// An address gets one mail a minute and five in 15 minutes, over all networks and replicas, and ten codes a day that did
// not log in. The owner's own logins use none of the ten up.
func TestLoginCodesAreBounded(t *testing.T) {
	t.Parallel()
	s, replica := byCode(t, testenv.Options{})
	proved(t, s, email)
	for n := 1; n <= 12; n++ {
		s.Clock.Advance(16 * time.Minute)
		token := sendCode(t, s, email)
		mustAnswer(t, replica, withMailed(token, mailedCode(t, s, email, n)))
	}
	ask := func() {
		t.Helper()
		execSQL(t, s, "INSERT INTO mail_requests (kind, email, priority, trace_id, call_id, asker) VALUES ('login_code', $1, 1, '', '', gen_random_uuid()::text::bytea)", email)
		testenv.Eventually(t, patience, "the request is dealt with", func() bool {
			return count(t, s, "SELECT count(*) FROM mail_requests")+
				count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'letter' AND finalized_at IS NULL") == 0
		})
	}
	s.Clock.Advance(16 * time.Minute)
	for range 14 {
		s.Clock.Advance(59 * time.Second)
		ask()
	}
	if n := len(lettersTo(s, email, "Your code")); n != 12+5 {
		t.Errorf("%d mails in 14 minutes", n-12)
	}
	for range 10 {
		s.Clock.Advance(16 * time.Minute)
		ask()
	}
	if n := len(lettersTo(s, email, "Your code")); n != 12+10 {
		t.Errorf("%d codes in a day", n-12)
	}
	s.Clock.Advance(24 * time.Hour)
	mustAnswer(t, s, withMailed(sendCode(t, s, email), mailedCode(t, s, email, 23)))
}

// A login by code ends the oldest session over the limit, and tells the owner of a device that shows no device token.
func TestLoginByCodeIsALogin(t *testing.T) {
	t.Parallel()
	s, _ := byCode(t, testenv.Options{SessionLimit: 2, NewDeviceMails: true})
	proved(t, s, email)
	oldest := logIn(t, s, email) // gets the first device token
	ofDevice := func(deviceToken string, n int) *latchkeyv1.AnswerChallengeResponse {
		t.Helper()
		req := withMailed(sendCode(t, s, email), mailedCode(t, s, email, n))
		req.DeviceToken = deviceToken
		return mustAnswer(t, s, req)
	}
	first := ofDevice("", 1)
	testenv.Eventually(t, patience, "the owner is told", func() bool { return mailed([]*testenv.Server{s}, "had not signed in before") })
	wantValid(t, s, oldest.GetAccessToken(), 0)
	s.Clock.Advance(time.Hour)
	ofDevice(first.GetDeviceToken(), 2)
	wantValid(t, s, refresh(t, s, first.GetTokens().GetRefreshToken(), "").GetAccessToken(), 0)
	if _, err := tryRefresh(t.Context(), s, oldest.GetRefreshToken(), ""); err == nil {
		t.Error("the oldest session is not ended")
	}
	if n := count(t, s, "SELECT count(*) FROM river_job WHERE args::text LIKE '%new_device_login%'"); n != 1 {
		t.Errorf("%d mails about new devices", n)
	}
}

// The code is one factor: an account with a second one is asked for it, and its methods are those of both.
func TestSecondFactorAfterACode(t *testing.T) {
	t.Parallel()
	s, replica := byCode(t, testenv.Options{PasskeyOrigins: []string{passkeyOrigin}})
	proved(t, s, email)
	tokens := logIn(t, s, email)
	phone, _ := enrol(t, s, tokens.GetAccessToken())
	key := newAuthenticator(t)
	ask := func(n int) *latchkeyv1.Challenge {
		t.Helper()
		asked := mustAnswer(t, replica, withMailed(sendCode(t, s, email), mailedCode(t, s, email, n)))
		if asked.GetTokens() != nil || asked.GetUser() != nil || asked.GetDeviceToken() != "" || asked.GetChallenge().GetChallengeToken() == "" {
			t.Fatalf("after the code: %v", asked)
		}
		return asked.GetChallenge()
	}
	in := mustAnswer(t, s, withCode(ask(1).GetChallengeToken(), phone.next(s)))
	if claims := claimsOf(t, s, in.GetTokens().GetAccessToken()); claims.ACR != "aal2" || !slices.Equal(claims.AMR, []string{"otp", "mfa"}) {
		t.Errorf("%v %s", claims.AMR, claims.ACR)
	}
	addPasskey(t, s, in.GetTokens().GetAccessToken(), key)
	c := ask(2)
	in = mustAnswer(t, s, withPasskey(c.GetChallengeToken(), key.Get(t, c.GetOptionsJson())))
	if claims := claimsOf(t, s, in.GetTokens().GetAccessToken()); claims.ACR != "aal2" || !slices.Equal(claims.AMR, []string{"otp", "pop", "user", "mfa"}) {
		t.Errorf("%v %s", claims.AMR, claims.ACR)
	}
	// The second challenge ends as that of a password does.
	c = ask(3)
	execSQL(t, s, "UPDATE users SET is_active = false")
	_, err := tryAnswer(t.Context(), s, withCode(c.GetChallengeToken(), phone.next(s)))
	wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
}

// Where mailed codes log in, the last passkey of an account without a password can be removed.
func TestCodesAreAWayIn(t *testing.T) {
	t.Parallel()
	s, _ := byCode(t, testenv.Options{PasskeyOrigins: []string{passkeyOrigin}})
	off := testenv.Start(t, testenv.Options{
		DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, Sender: s.Mailbox, PasskeyOrigins: []string{passkeyOrigin},
	})
	signUp(t, s, email)
	in := mustAnswer(t, s, withMailed(sendCode(t, s, email), mailedCode(t, s, email, 1))) // takes the password
	key := newAuthenticator(t)
	id := addPasskey(t, s, in.GetTokens().GetAccessToken(), key).GetPasskey().GetId()
	_, err := off.AccountService.RemovePasskey(as(t, in.GetTokens()), &latchkeyv1.RemovePasskeyRequest{PasskeyId: id})
	wantRefused(t, err, codes.FailedPrecondition, "LAST_FACTOR")
	if _, err := s.AccountService.RemovePasskey(as(t, in.GetTokens()), &latchkeyv1.RemovePasskeyRequest{PasskeyId: id}); err != nil {
		t.Fatal(err)
	}
	mustAnswer(t, s, withMailed(sendCode(t, s, email), mailedCode(t, s, email, 2)))
}

// Neither a code nor the token with which it works is stored, or in the log.
func TestLoginCodesAtRest(t *testing.T) {
	t.Parallel()
	s, _ := byCode(t, testenv.Options{})
	proved(t, s, email)
	token := sendCode(t, s, email)
	code := mailedCode(t, s, email, 1)
	mustAnswer(t, s, withMailed(token, code))
	other := sendCode(t, s, email)
	otherCode := mailedCode(t, s, email, 2)
	var stored strings.Builder
	for _, table := range []string{"one_time_secrets", "mail_requests", "challenges", "audit_events", "river_job", "mail_notices"} {
		var rows string
		if err := s.Pool.QueryRow(t.Context(), "SELECT coalesce(string_agg(t::text, ' '), '') FROM "+table+" t").Scan(&rows); err != nil {
			t.Fatal(err)
		}
		stored.WriteString(rows)
	}
	for _, secret := range []string{token, other} {
		if strings.Contains(stored.String(), secret) || strings.Contains(stored.String(), fmt.Sprintf("%x", secret)) || bytes.Contains(s.Logs.Bytes(), []byte(secret)) {
			t.Error("the token of a challenge is stored or logged")
		}
	}
	for _, secret := range []string{code, otherCode} {
		if regexp.MustCompile(`[^0-9a-f]`+secret+`[^0-9a-f]`).MatchString(stored.String()) || bytes.Contains(s.Logs.Bytes(), []byte(`"`+secret+`"`)) {
			t.Error("a code is stored or logged")
		}
	}
}
