package server_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	newEmail = "grace@example.com"
	// The subjects of the mails about a change of address.
	confirmSubject = "Confirm the new email address"
	changedSubject = "The email address of your account"
)

func askChange(ctx context.Context, s *testenv.Server, to string) error {
	_, err := s.AccountService.ChangeEmail(ctx, &latchkeyv1.ChangeEmailRequest{NewEmail: to})
	return err
}

func confirmLink(ctx context.Context, s *testenv.Server, token string) error {
	_, err := s.Auth.ConfirmEmailChange(ctx, &latchkeyv1.ConfirmEmailChangeRequest{Token: &token})
	return err
}

func confirmCode(ctx context.Context, s *testenv.Server, address, code string) error {
	_, err := s.Auth.ConfirmEmailChange(ctx, &latchkeyv1.ConfirmEmailChangeRequest{Email: &address, Code: &code})
	return err
}

func undoChange(ctx context.Context, s *testenv.Server, token string) error {
	_, err := s.Auth.UndoEmailChange(ctx, &latchkeyv1.UndoEmailChangeRequest{Token: token})
	return err
}

// waitChangeMail waits for the n-th mail with a link to an address, and reads the newest.
func waitChangeMail(t *testing.T, s *testenv.Server, address, subject string, n int) letter {
	t.Helper()
	testenv.Eventually(t, patience, "a mail about the address has come", func() bool { return len(lettersTo(s, address, subject)) >= n })
	return readLetter(t, lettersTo(s, address, subject)[0])
}

// provenAccount makes an account whose address is proved, with a session.
func provenAccount(t *testing.T, s *testenv.Server, address string) (*latchkeyv1.User, *latchkeyv1.Tokens) {
	t.Helper()
	user := signUp(t, s, address)
	execSQL(t, s, "UPDATE users SET is_verified = true WHERE id = $1", user.GetId())
	settled(t, s)
	return user, logIn(t, s, address)
}

// asked makes such an account, which has asked for another address.
func asked(t *testing.T, s *testenv.Server, from, to string) (*latchkeyv1.Tokens, letter) {
	t.Helper()
	_, tokens := provenAccount(t, s, from)
	if err := askChange(as(t, tokens), s, to); err != nil {
		t.Fatal(err)
	}
	return tokens, waitChangeMail(t, s, to, confirmSubject, 1)
}

// changed makes such an account, whose address was changed, and returns what the address before was mailed.
func changed(t *testing.T, s *testenv.Server, from, to string) (*latchkeyv1.Tokens, letter) {
	t.Helper()
	tokens, l := asked(t, s, from, to)
	if err := confirmLink(t.Context(), s, l.token); err != nil {
		t.Fatal(err)
	}
	return tokens, waitChangeMail(t, s, from, changedSubject, 1)
}

// mailingPair starts two servers that share stores, clock and mailbox.
func mailingPair(t *testing.T) []*testenv.Server {
	t.Helper()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, Sender: s.Mailbox})
	return []*testenv.Server{s, replica}
}

// wantAddress checks which address every replica shows for a session.
func wantAddress(t *testing.T, at []*testenv.Server, tokens *latchkeyv1.Tokens, want string) {
	t.Helper()
	for i, s := range at {
		if user := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser(); user.GetEmail() != want {
			t.Errorf("replica %d shows %s, want %s", i, user.GetEmail(), want)
		}
	}
}

// TestAddressChangesAfterTheProof changes an address by the link and by the code. Before the proof nothing about the
// account is other than it was; when the call returns every replica shows the new address.
func TestAddressChangesAfterTheProof(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s, replica := both[0], both[1]
	for name, confirm := range map[string]func(to string, l letter) error{
		"link": func(_ string, l letter) error { return confirmLink(t.Context(), replica, l.token) },
		"code": func(to string, l letter) error {
			return confirmCode(t.Context(), replica, " "+strings.ToUpper(to), l.code)
		},
	} {
		from, to := "old-"+name+"@example.com", "New-"+name+"@example.com"
		tokens, l := asked(t, s, from, to)
		wantAddress(t, both, tokens, from)
		wantRefused(t, tryLogin(t.Context(), s, to, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
		forgot(t, s, to)
		settledJobs(t, s)
		if n := len(lettersTo(s, to, "Reset")); n != 0 {
			t.Errorf("%s: %d reset links went to an address that was not proved", name, n)
		}
		if n := len(lettersTo(s, from, "was asked for")); n != 1 {
			t.Errorf("%s: the owner got %d mails about the request", name, n)
		}
		if err := confirm(to, l); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantAddress(t, both, tokens, to)
		wantProved(t, s, tokens, true)
		wantLive(t, s, tokens)
		logIn(t, s, strings.ToLower(to))
		wantRefused(t, tryLogin(t.Context(), s, from, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
		wantRefused(t, confirmLink(t.Context(), s, l.token), codes.InvalidArgument, "LINK_INVALID", "token")
		wantRefused(t, confirmCode(t.Context(), s, to, l.code), codes.InvalidArgument, "CODE_INVALID", "code")
		waitChangeMail(t, s, from, changedSubject, 1)
		shown, err := s.AccountService.ListActivity(as(t, tokens), &latchkeyv1.ListActivityRequest{
			Kinds: []string{"email_change_requested", "email_changed"},
		})
		if err != nil || !slices.Equal(kindsOf(shown.GetEvents()), []string{"email_changed", "email_change_requested"}) {
			t.Errorf("%s: %v, %v", name, shown, err)
		}
	}
}

// TestChangeOfAddressIsGuarded checks that neither an old login, nor the password of an account with a second factor, nor
// a session that was ended is enough, and which addresses are refused.
func TestChangeOfAddressIsGuarded(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, _, tokens := guarded(t, s)
	s.Clock.Advance(freshWithin + time.Second)
	stale := refresh(t, s, tokens.GetRefreshToken(), "").GetAccessToken()
	byPassword := reauthenticate(t, s, stale)
	with := func(accessToken string) context.Context { return testenv.WithKey(t.Context(), accessToken) }
	wantRefused(t, askChange(with(stale), s, newEmail), codes.FailedPrecondition, "FRESH_LOGIN_REQUIRED")
	wantRefused(t, askChange(with(byPassword), s, newEmail), codes.FailedPrecondition, "FACTOR_REQUIRED")
	both, err := tryReauthenticate(t.Context(), s, stale, &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: phone.next(s)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "grace", "gra ce@example.com", "grace@exa_mple.com", "gra\u017fe@example.com", email} {
		wantRefused(t, askChange(with(both.GetAccessToken()), s, bad), codes.InvalidArgument, "VALIDATION_FAILED", "new_email")
	}
	if n := count(t, s, "SELECT count(*) FROM one_time_secrets"); n != 0 {
		t.Errorf("%d secrets", n)
	}
	if err := askChange(with(both.GetAccessToken()), s, newEmail); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []*latchkeyv1.ConfirmEmailChangeRequest{{}, {Token: new("x"), Email: new(newEmail), Code: new("123456")}, {Email: new(newEmail)}} {
		_, err := s.Auth.ConfirmEmailChange(t.Context(), bad)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "token")
	}
	// The link changes an address, and does nothing else.
	l := waitChangeMail(t, s, newEmail, confirmSubject, 1)
	_, err = verifyLink(t.Context(), s, l.token)
	wantRefused(t, err, codes.InvalidArgument, "LINK_INVALID", "token")
	wantRefused(t, undoChange(t.Context(), s, l.token), codes.InvalidArgument, "LINK_INVALID", "token")
	wantRefused(t, tryReset(t.Context(), s, l.token, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")

	logOut(t, s, tokens.GetRefreshToken())
	wantRefused(t, askChange(with(both.GetAccessToken()), s, "other@example.com"), codes.Unauthenticated, "SESSION_ENDED")
}

// TestOneOfManyChanges confirms one link, and one code, a hundred times at once at two replicas: one call succeeds.
func TestOneOfManyChanges(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	for name, confirm := range map[string]func(at *testenv.Server, to string, l letter) error{
		"link": func(at *testenv.Server, _ string, l letter) error { return confirmLink(t.Context(), at, l.token) },
		"code": func(at *testenv.Server, to string, l letter) error { return confirmCode(t.Context(), at, to, l.code) },
	} {
		to := "new-" + name + "@example.com"
		tokens, l := asked(t, both[0], name+"@example.com", to)
		wantOneWinner(t, name, func(i int) error { return confirm(both[i%2], to, l) })
		wantAddress(t, both, tokens, to)
		waitChangeMail(t, both[0], name+"@example.com", changedSubject, 1)
		settledJobs(t, both[0])
		if n := len(lettersTo(both[0], name+"@example.com", changedSubject)); n != 1 {
			t.Errorf("%s: %d mails about the change", name, n)
		}
	}
}

// TestOneOfManyAccountsGetsTheAddress lets a hundred accounts confirm one new address at once, over two replicas.
func TestOneOfManyAccountsGetsTheAddress(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s := both[0]
	var users, tokens [100]string
	for i := range users {
		user, session := provenAccount(t, s, fmt.Sprintf("person%d@example.com", i))
		if err := askChange(as(t, session), both[i%2], newEmail); err != nil {
			t.Fatal(err)
		}
		users[i] = user.GetId()
	}
	settledJobs(t, s)
	for i, id := range users { // an address gets one mail a minute, so the other links are planted
		tokens[i] = fmt.Sprintf("planted token %d", i)
		hash := sha256.Sum256([]byte(tokens[i]))
		execSQL(t, s, "UPDATE one_time_secrets SET token_hash = $1 WHERE user_id = $2 AND purpose = 'change_email'", hash[:], id)
	}
	wantOneWinner(t, "one address", func(i int) error {
		err := confirmLink(t.Context(), both[i%2], tokens[i])
		if err != nil && status.Code(err) != codes.AlreadyExists {
			t.Errorf("%d: %v", i, err)
		}
		return err
	})
	if n := count(t, s, "SELECT count(*) FROM users WHERE email = $1 AND email_lookup = $1", newEmail); n != 1 {
		t.Errorf("%d accounts have the address", n)
	}
	if n := count(t, s, "SELECT count(*) FROM one_time_secrets WHERE purpose = 'undo_email_change'"); n != 1 {
		t.Errorf("%d undos", n)
	}
}

// TestNewerChangeReplacesTheOlder checks that the link of an earlier request is dead when the later request has returned,
// and that asking again for the same address keeps the link.
func TestNewerChangeReplacesTheOlder(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens, first := asked(t, s, email, newEmail)
	s.Clock.Advance(time.Minute)
	if err := askChange(as(t, tokens), s, "Grace@Example.com"); err != nil { // the same address in another spelling
		t.Fatal(err)
	}
	if again := waitChangeMail(t, s, newEmail, confirmSubject, 2); again != first {
		t.Error("the same request has another link or code")
	}
	if err := askChange(as(t, tokens), s, "third@example.com"); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, confirmLink(t.Context(), s, first.token), codes.InvalidArgument, "LINK_INVALID", "token")
	wantRefused(t, confirmCode(t.Context(), s, newEmail, first.code), codes.InvalidArgument, "CODE_INVALID", "code")
	third := waitChangeMail(t, s, "third@example.com", confirmSubject, 1)
	wantRefused(t, confirmCode(t.Context(), s, newEmail, third.code), codes.InvalidArgument, "CODE_INVALID", "code")
	s.Clock.Advance(time.Hour + time.Second)
	wantRefused(t, confirmLink(t.Context(), s, third.token), codes.InvalidArgument, "LINK_INVALID", "token")
}

// TestWhatEndsAChange ends a change that waits for its proof by everything that ends sessions, and by another change of
// the address, also one of a program other than this service.
func TestWhatEndsAChange(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	for name, end := range map[string]func(by *latchkeyv1.Tokens, address string){
		"password": func(by *latchkeyv1.Tokens, _ string) {
			if err := tryChange(t.Context(), s, by, password, newPassword); err != nil {
				t.Error(err)
			}
		},
		"others": func(by *latchkeyv1.Tokens, _ string) {
			if _, err := s.SessionService.RevokeOtherSessions(as(t, by), &latchkeyv1.RevokeOtherSessionsRequest{}); err != nil {
				t.Error(err)
			}
		},
		"operator": func(by *latchkeyv1.Tokens, _ string) {
			if _, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{
				UserId: wantValid(t, s, by.GetAccessToken(), 0).GetUser().GetId(),
			}); err != nil {
				t.Error(err)
			}
		},
		"sql": func(_ *latchkeyv1.Tokens, address string) {
			execSQL(t, s, "UPDATE users SET email = 'by-sql@example.com' WHERE email = $1", address)
		},
	} {
		from, to := name+"@example.com", "new-"+name+"@example.com"
		tokens, l := asked(t, s, from, to)
		end(tokens, from)
		wantRefused(t, confirmLink(t.Context(), s, l.token), codes.InvalidArgument, "LINK_INVALID", "token")
		wantRefused(t, confirmCode(t.Context(), s, to, l.code), codes.InvalidArgument, "CODE_INVALID", "code")
		if n := count(t, s, "SELECT count(*) FROM users WHERE email = $1", to); n != 0 {
			t.Errorf("%s: the address was changed", name)
		}
	}
}

// TestAddressTakenMeanwhile checks that the proof of an address does not take it from an account that got it first, and
// that the link is not spent by that.
func TestAddressTakenMeanwhile(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens, l := asked(t, s, email, newEmail)
	other := signUp(t, s, "GRACE@example.com")
	for range 2 {
		wantRefused(t, confirmLink(t.Context(), s, l.token), codes.AlreadyExists, "EMAIL_TAKEN")
	}
	wantRefused(t, confirmCode(t.Context(), s, newEmail, l.code), codes.AlreadyExists, "EMAIL_TAKEN")
	wantAddress(t, []*testenv.Server{s}, tokens, email)
	if n := count(t, s, "SELECT count(*) FROM one_time_secrets WHERE purpose = 'undo_email_change'"); n != 0 {
		t.Errorf("%d undos of a change that was none", n)
	}
	execSQL(t, s, "DELETE FROM users WHERE id = $1", other.GetId())
	if err := confirmLink(t.Context(), s, l.token); err != nil {
		t.Error(err)
	}
}

// TestChangeOfSpelling changes how an address is spelled. It stays one address: every spelling logs in, and nobody else can
// sign up with another one.
func TestChangeOfSpelling(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	spelled := strings.ToUpper(email)
	tokens, l := asked(t, s, email, spelled)
	if err := confirmLink(t.Context(), s, l.token); err != nil {
		t.Fatal(err)
	}
	wantAddress(t, []*testenv.Server{s}, tokens, spelled)
	if n := count(t, s, "SELECT count(*) FROM users WHERE email = $1 AND email_lookup = lower($1)", spelled); n != 1 {
		t.Error("the account has no lookup form")
	}
	wantRefused(t, trySignUp(t.Context(), s, email, password), codes.AlreadyExists, "EMAIL_TAKEN")
	logIn(t, s, email)
}

// TestChangeWaitsForAnother confirms a change to an address while a change of another account is under way that gives the
// address up and reserves it: the later one waits, and sees the reservation.
func TestChangeWaitsForAnother(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens, l := asked(t, s, email, newEmail)
	execSQL(t, s, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name) VALUES ($1::text, $1::text, '!', 'A', 'B')`, newEmail)
	commit := holdAccount(t, s, `WITH undo AS (
			INSERT INTO one_time_secrets (user_id, purpose, asker, address, token_hash, ledger, created_at, expires_at, lasting)
			SELECT id, 'undo_email_change', ''::bytea, email, sha256(email::bytea), 0, $2::timestamptz, $2::timestamptz + interval '72 hours', true FROM users WHERE email = $1::text
		) UPDATE users SET email = 'moved@example.com', email_lookup = 'moved@example.com' WHERE email = $1::text`, newEmail, s.Clock.Now())
	done := make(chan error, 1)
	go func() { done <- confirmLink(t.Context(), s, l.token) }()
	commit()
	wantRefused(t, <-done, codes.AlreadyExists, "EMAIL_TAKEN")
	wantAddress(t, []*testenv.Server{s}, tokens, email)
}

// TestTakenAddressGetsNoMail checks that the answer for a taken address is that for a free one, and that neither its
// owner nor anybody else gets a mail with a link.
func TestTakenAddressGetsNoMail(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, newEmail)
	_, tokens := provenAccount(t, s, email)
	if err := askChange(as(t, tokens), s, strings.ToUpper(newEmail)); err != nil {
		t.Fatal(err)
	}
	settledJobs(t, s)
	if n := len(lettersTo(s, newEmail, "")); n != 0 {
		t.Errorf("%d mails", n)
	}
	if n := count(t, s, "SELECT count(*) FROM one_time_secrets WHERE code_hash IS NOT NULL"); n != 0 {
		t.Error("there is a code that nobody has, and that can be guessed")
	}
}

// TestChangeRacesReset checks that of a change of address and a reset by a mail to the address before, the first one
// wins, and that the other is refused: a reset link that somebody else reads does not outlive the change.
func TestChangeRacesReset(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s := both[0]
	for i := range 12 {
		from, to := fmt.Sprintf("old%d@example.com", i), fmt.Sprintf("new%d@example.com", i)
		_, l := asked(t, s, from, to)
		settledJobs(t, s)
		_, reset := resetMail(t, s, from)
		confirm := func() error { return confirmLink(t.Context(), both[0], l.token) }
		setNew := func() error { return tryReset(t.Context(), both[1], reset, newPassword) }
		var confirmed, set error
		switch i {
		case 0:
			confirmed, set = confirm(), setNew()
		case 1:
			set, confirmed = setNew(), confirm()
		default:
			var all sync.WaitGroup
			all.Go(func() { confirmed = confirm() })
			all.Go(func() { set = setNew() })
			all.Wait()
		}
		if (confirmed == nil) == (set == nil) {
			t.Fatalf("%d: change %v, reset %v: not exactly one of them", i, confirmed, set)
		}
		if confirmed == nil {
			wantRefused(t, set, codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
			logIn(t, s, to)
			continue
		}
		wantRefused(t, confirmed, codes.InvalidArgument, "LINK_INVALID", "token")
		if err := tryLogin(t.Context(), s, from, newPassword); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestChangeCodeHasFiveTries checks that the code of a change cannot be guessed out, and that each new one counts.
func TestChangeCodeHasFiveTries(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s := both[0]
	tokens, l := asked(t, s, email, newEmail)
	for i := range 5 {
		wantRefused(t, confirmCode(t.Context(), both[i%2], newEmail, wrongCode(l.code)), codes.InvalidArgument, "CODE_INVALID", "code")
	}
	wantRefused(t, confirmCode(t.Context(), s, newEmail, l.code), codes.InvalidArgument, "CODE_INVALID", "code")
	for n := 2; l.code != ""; n++ {
		if n > 11 {
			t.Fatalf("%d codes in a day", n-1)
		}
		execSQL(t, s, "UPDATE one_time_secrets SET tries = 5")
		s.Clock.Advance(4 * time.Minute)
		tokens = refresh(t, s, tokens.GetRefreshToken(), "")
		tokens.AccessToken = reauthenticate(t, s, tokens.GetAccessToken())
		if err := askChange(as(t, tokens), s, newEmail); err != nil {
			t.Fatal(err)
		}
		l = waitChangeMail(t, s, newEmail, confirmSubject, n)
	}
	if err := confirmLink(t.Context(), s, l.token); err != nil {
		t.Error(err)
	}
}

// TestMailsOfChangesAreBounded checks that all accounts together cause one mail a minute and five in 15 minutes at one
// address, and one account ten requests at once.
func TestMailsOfChangesAreBounded(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	var sessions []*latchkeyv1.Tokens
	for i := range 10 {
		_, tokens := provenAccount(t, s, fmt.Sprintf("person%d@example.com", i))
		sessions = append(sessions, tokens)
	}
	for i := range 16 {
		s.Clock.Advance(35 * time.Second)
		if err := askChange(as(t, sessions[i%10]), s, newEmail); err != nil {
			t.Fatal(i, err)
		}
		settledJobs(t, s)
		if n := len(lettersTo(s, newEmail, confirmSubject)); n > 1+i/2 {
			t.Errorf("%d mails to one address in %d seconds", n, 35*(i+1))
		}
	}
	if n := len(lettersTo(s, newEmail, confirmSubject)); n != 5 {
		t.Errorf("%d mails to one address in 9 minutes", n)
	}
	for i := range 10 {
		if err := askChange(as(t, sessions[9]), s, fmt.Sprintf("other%d@example.com", i)); err != nil {
			t.Error(i, err)
		}
	}
	wantRefused(t, askChange(as(t, sessions[9]), s, newEmail), codes.ResourceExhausted, "RATE_LIMITED")
}

// TestOperatorChangesAddress checks that an operator can give an account another address, that this ends its sessions,
// its links and its undos on every replica, and who hears of it.
func TestOperatorChangesAddress(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s, replica := both[0], both[1]
	tokens, undo := changed(t, s, email, newEmail)
	user := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser()
	_, reset := resetMail(t, s, newEmail)
	signUp(t, s, "taken@example.com")
	change := func(ctx context.Context, id, to string) error {
		_, err := replica.Admin.ChangeUserEmail(ctx, &latchkeyv1.ChangeUserEmailRequest{UserId: id, NewEmail: to})
		return err
	}
	wantRefused(t, change(asAdmin(t), user.GetId(), "taken@example.com"), codes.AlreadyExists, "EMAIL_TAKEN")
	wantRefused(t, change(asAdmin(t), user.GetId(), newEmail), codes.InvalidArgument, "VALIDATION_FAILED", "new_email")
	wantRefused(t, change(asAdmin(t), "6f1c8f0a-8f5e-4a9e-9d2f-0a4c5b7e1d23", "third@example.com"), codes.NotFound, "USER_NOT_FOUND")
	wantRefused(t, change(as(t, tokens), user.GetId(), "third@example.com"), codes.Unauthenticated, "KEY_INVALID")
	wantLive(t, s, tokens)

	if err := change(asAdmin(t), user.GetId(), "third@example.com"); err != nil {
		t.Fatal(err)
	}
	for _, at := range both {
		wantValid(t, at, tokens.GetAccessToken(), ended)
	}
	wantRefused(t, undoChange(t.Context(), s, undo.token), codes.InvalidArgument, "LINK_INVALID", "token")
	wantRefused(t, tryReset(t.Context(), s, reset, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	next := logIn(t, s, "third@example.com")
	wantProved(t, s, next, true)
	for _, address := range []string{newEmail, "third@example.com"} {
		testenv.Eventually(t, patience, "the owner is told", func() bool { return len(lettersTo(s, address, changedSubject)) == 1 })
		if text := lettersTo(s, address, changedSubject)[0].Text; strings.Contains(text, "://") || !strings.Contains(text, "The people who run") {
			t.Errorf("%s got %s", address, text)
		}
	}
	events, err := s.Admin.ListAuditEvents(asAdmin(t), &latchkeyv1.ListAuditEventsRequest{UserId: user.GetId(), Kinds: []string{"user_email_changed"}})
	if err != nil || len(events.GetEvents()) != 1 || !strings.HasPrefix(events.GetEvents()[0].GetActor(), "operator:") {
		t.Errorf("%v, %v", events, err)
	}
	// Nobody may take the address before back, so it is free.
	signUp(t, s, email)
}

// TestOlderContractAndChanges checks that the older contract sees the new address, and does not give away one that may be
// taken back.
func TestOlderContractAndChanges(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Legacy: testenv.Existing(t)})
	older := authpb.NewAuthServiceClient(s.Conn)
	tokens, _ := changed(t, s, email, newEmail)
	resp, err := older.ValidateToken(t.Context(), &authpb.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
	if err != nil || !resp.GetValid() || resp.GetUser().GetEmail() != newEmail {
		t.Errorf("%v, %v", resp, err)
	}
	if _, err := older.Login(t.Context(), &authpb.LoginRequest{Email: newEmail, Password: password}); err != nil {
		t.Error(err)
	}
	_, err = older.SignUp(t.Context(), &authpb.SignUpRequest{Email: email, Password: oldPassword, FirstName: "Eve", LastName: "Evans"})
	wantRefused(t, err, codes.AlreadyExists, "EMAIL_TAKEN")
}
