package server_test

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestUndoTakesEverythingFromTheThief changes the address of somebody else's account, and then everything that could keep
// the owner out. The link in the owner's mailbox gives the account back.
func TestUndoTakesEverythingFromTheThief(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s, replica := both[0], both[1]
	thief, undo := changed(t, s, email, newEmail)
	user := wantValid(t, s, thief.GetAccessToken(), 0).GetUser()
	enrol(t, s, thief.GetAccessToken())
	if err := tryChange(t.Context(), s, thief, password, newPassword); err != nil {
		t.Fatal(err)
	}
	_, reset := resetMail(t, s, newEmail)
	if err := askChange(as(t, thief), s, "third@example.com"); err != nil {
		t.Fatal(err)
	}
	next := waitChangeMail(t, s, "third@example.com", confirmSubject, 1)
	wantAddress(t, both, thief, newEmail)

	if err := undoChange(t.Context(), replica, undo.token); err != nil {
		t.Fatal(err)
	}
	for _, at := range both {
		wantValid(t, at, thief.GetAccessToken(), ended)
	}
	wantEnded(t, s, thief)
	wantRefused(t, confirmLink(t.Context(), s, next.token), codes.InvalidArgument, "LINK_INVALID", "token")
	wantRefused(t, tryReset(t.Context(), s, reset, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	for _, pass := range []string{password, newPassword} {
		for _, address := range []string{email, newEmail} {
			wantRefused(t, tryLogin(t.Context(), s, address, pass), codes.Unauthenticated, "INVALID_CREDENTIALS")
		}
	}
	_, reset = resetMail(t, s, email)
	if err := tryReset(t.Context(), s, reset, "the owner's new password"); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: "the owner's new password"})
	if err != nil || resp.GetTokens() == nil || resp.GetUser().GetId() != user.GetId() || !resp.GetUser().GetEmailVerified() {
		t.Fatalf("the owner logs in: %v, %v", resp, err)
	}
	for _, address := range []string{email, newEmail} {
		testenv.Eventually(t, patience, "both addresses are told", func() bool { return len(lettersTo(s, address, "changed back")) == 1 })
	}
	shown, err := s.AccountService.ListActivity(as(t, resp.GetTokens()), &latchkeyv1.ListActivityRequest{Kinds: []string{"email_change_undone"}})
	if err != nil || len(shown.GetEvents()) != 1 {
		t.Errorf("%v, %v", shown, err)
	}
}

// guardedAndChanged is guarded for an account whose address was changed since.
func guardedAndChanged(t *testing.T, s *testenv.Server) (app, []string, *latchkeyv1.Tokens) {
	t.Helper()
	phone, recovery, tokens := guarded(t, s)
	execSQL(t, s, "UPDATE users SET is_verified = true")
	if err := askChange(as(t, tokens), s, newEmail); err != nil {
		t.Fatal(err)
	}
	if err := confirmLink(t.Context(), s, waitChangeMail(t, s, newEmail, confirmSubject, 1).token); err != nil {
		t.Fatal(err)
	}
	return phone, recovery, tokens
}

// TestUndoKeepsWhatWasBefore checks that an undo leaves the password and the second factors that the account had when its
// address was changed: who reads the old mailbox does not get past them.
func TestUndoKeepsWhatWasBefore(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, recovery, tokens := guardedAndChanged(t, s)
	undo := waitChangeMail(t, s, email, changedSubject, 1)
	// A thief with the session makes recovery codes of their own.
	stolen, err := s.AccountService.RegenerateRecoveryCodes(as(t, tokens), &latchkeyv1.RegenerateRecoveryCodesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := undoChange(t.Context(), s, undo.token); err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{stolen.GetRecoveryCodes()[0], recovery[0]} { // the owner's ended with those of the thief
		_, err = tryAnswer(t.Context(), s, withRecovery(challenge(t, s), code))
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "recovery_code")
	}
	if _, err := tryAnswer(t.Context(), s, withCode(challenge(t, s), phone.next(s))); err != nil {
		t.Errorf("the owner's app: %v", err)
	}
}

// TestUndoOfAnHonestChange checks that the owner's app and recovery codes outlive an undo, that the address is proved again,
// and that it is found in another spelling.
func TestUndoOfAnHonestChange(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, recovery, _ := guardedAndChanged(t, s)
	execSQL(t, s, "UPDATE users SET is_verified = false") // as after a change by an operator
	if err := undoChange(t.Context(), s, waitChangeMail(t, s, email, changedSubject, 1).token); err != nil {
		t.Fatal(err)
	}
	for _, answer := range []func(token string) *latchkeyv1.AnswerChallengeRequest{
		func(token string) *latchkeyv1.AnswerChallengeRequest { return withRecovery(token, recovery[0]) },
		func(token string) *latchkeyv1.AnswerChallengeRequest { return withCode(token, phone.next(s)) },
	} {
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: strings.ToUpper(email), Password: password})
		if err != nil {
			t.Fatal(err)
		}
		if user := mustAnswer(t, s, answer(resp.GetChallenge().GetChallengeToken())).GetUser(); !user.GetEmailVerified() || user.GetEmail() != email {
			t.Errorf("after the undo: %v", user)
		}
	}
}

// TestReplacedFactorGoesWithTheUndo checks that the app with which a thief replaced the owner's is removed, although it
// was made by a replica whose clock is behind.
func TestReplacedFactorGoesWithTheUndo(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, _, tokens := guardedAndChanged(t, s)
	enrol(t, s, tokens.GetAccessToken())
	execSQL(t, s, "UPDATE factors SET created_at = created_at - interval '1 hour'")
	if err := undoChange(t.Context(), s, waitChangeMail(t, s, email, changedSubject, 1).token); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT (SELECT count(*) FROM factors) + (SELECT count(*) FROM recovery_sets)"); n != 0 {
		t.Errorf("%d factors of the thief", n)
	}
	logIn(t, s, email)
}

// TestUndoOnce uses one undo a hundred times at once at two replicas: one call succeeds.
func TestUndoOnce(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s := both[0]
	_, undo := changed(t, s, email, newEmail)
	wantOneWinner(t, "undo", func(i int) error { return undoChange(t.Context(), both[i%2], undo.token) })
	logIn(t, s, email)
	settledJobs(t, s)
	if n := len(lettersTo(s, email, "changed back")); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// TestUndoRacesAnotherChange races the undo of a change with the next change of the thief. The owner has the address in
// the end, and the thief's own address gets no undo.
func TestUndoRacesAnotherChange(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s := both[0]
	for i := range 12 {
		from, to, third := fmt.Sprintf("a%d@example.com", i), fmt.Sprintf("b%d@example.com", i), fmt.Sprintf("c%d@example.com", i)
		thief, undo := changed(t, s, from, to)
		if err := askChange(as(t, thief), s, third); err != nil {
			t.Fatal(err)
		}
		l := waitChangeMail(t, s, third, confirmSubject, 1)
		var confirmed, undone error
		confirm := func() { confirmed = confirmLink(t.Context(), both[0], l.token) }
		undoIt := func() { undone = undoChange(t.Context(), both[1], undo.token) }
		if i == 0 {
			confirm()
			undoIt()
		} else {
			var all sync.WaitGroup
			all.Go(confirm)
			all.Go(undoIt)
			all.Wait()
		}
		if undone != nil {
			t.Fatalf("%d: the undo: %v", i, undone)
		}
		for _, at := range both {
			wantValid(t, at, thief.GetAccessToken(), ended)
		}
		logIn(t, s, from)
		if confirmed != nil {
			wantRefused(t, confirmed, codes.InvalidArgument, "LINK_INVALID", "token")
		}
		if n := count(t, s, "SELECT count(*) FROM one_time_secrets o JOIN users u ON u.id = o.user_id WHERE u.email = $1", from); n != 0 {
			t.Errorf("%d: %d secrets are left", i, n)
		}
		if confirmed == nil {
			wantNoUndo(t, s, to)
		}
	}
}

// wantNoUndo checks that an address was told of a change, without a link.
func wantNoUndo(t *testing.T, s *testenv.Server, address string) {
	t.Helper()
	testenv.Eventually(t, patience, "the address before is told", func() bool { return len(lettersTo(s, address, changedSubject)) == 1 })
	if text := lettersTo(s, address, changedSubject)[0].Text; strings.Contains(text, "://") {
		t.Errorf("%s could take the account:\n%s", address, text)
	}
}

// TestThiefGetsNoUndo lets an owner, who is still logged in, change the address back, or to a third one, after a thief has
// changed it. The thief's mailbox gets no link with which the account is theirs again, and the owner's link stays good.
func TestThiefGetsNoUndo(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	for i, next := range []string{"owner0@example.com", "third@example.com"} {
		from, to := fmt.Sprintf("owner%d@example.com", i), fmt.Sprintf("thief%d@example.com", i)
		owner, undo := changed(t, s, from, to)
		if err := askChange(as(t, owner), s, next); err != nil {
			t.Fatal(err)
		}
		if err := confirmLink(t.Context(), s, waitChangeMail(t, s, next, confirmSubject, 1).token); err != nil {
			t.Fatal(err)
		}
		wantNoUndo(t, s, to)
		wantAddress(t, []*testenv.Server{s}, owner, next)
		if err := undoChange(t.Context(), s, undo.token); err != nil {
			t.Error(err)
		}
		logIn(t, s, from)
	}
	// When the time of an undo is over, the next change has one.
	tokens, _ := changed(t, s, "late@example.com", "later@example.com")
	s.Clock.Advance(72*time.Hour + time.Second)
	tokens = logIn(t, s, wantValid(t, s, refresh(t, s, tokens.GetRefreshToken(), "").GetAccessToken(), 0).GetUser().GetEmail())
	if err := askChange(as(t, tokens), s, "latest@example.com"); err != nil {
		t.Fatal(err)
	}
	if err := confirmLink(t.Context(), s, waitChangeMail(t, s, "latest@example.com", confirmSubject, 1).token); err != nil {
		t.Fatal(err)
	}
	if err := undoChange(t.Context(), s, waitChangeMail(t, s, "later@example.com", changedSubject, 1).token); err != nil {
		t.Error(err)
	}
	logIn(t, s, "later@example.com")
}

// TestUndoRacesReset races the undo with a reset by a mail to the thief's address: the thief's password does not log in
// afterwards, whichever is first.
func TestUndoRacesReset(t *testing.T) {
	t.Parallel()
	both := mailingPair(t)
	s := both[0]
	for i := range 12 {
		from, to := fmt.Sprintf("a%d@example.com", i), fmt.Sprintf("b%d@example.com", i)
		_, undo := changed(t, s, from, to)
		settledJobs(t, s)
		_, reset := resetMail(t, s, to)
		var set, undone error
		setNew := func() { set = tryReset(t.Context(), both[0], reset, newPassword) }
		undoIt := func() { undone = undoChange(t.Context(), both[1], undo.token) }
		switch i {
		case 0:
			setNew()
			undoIt()
		case 1:
			undoIt()
			setNew()
		default:
			var all sync.WaitGroup
			all.Go(setNew)
			all.Go(undoIt)
			all.Wait()
		}
		if undone != nil {
			t.Fatalf("%d: the undo: %v", i, undone)
		}
		if set != nil {
			wantRefused(t, set, codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
			logIn(t, s, from)
		}
		for _, address := range []string{from, to} {
			wantRefused(t, tryLogin(t.Context(), s, address, newPassword), codes.Unauthenticated, "INVALID_CREDENTIALS")
		}
	}
}

// TestReservedAddress checks that nobody can get an address that may be taken back, in any way that gives out addresses,
// and that it is free when the time is over.
func TestReservedAddress(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens, undo := changed(t, s, email, newEmail)
	owner := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser()
	eve, eves := provenAccount(t, s, "eve@example.com")
	spelled := strings.ToUpper(email)
	wantRefused(t, trySignUp(t.Context(), s, spelled, password), codes.AlreadyExists, "EMAIL_TAKEN")
	if err := askChange(as(t, eves), s, spelled); err != nil {
		t.Fatal(err)
	}
	settledJobs(t, s)
	if n := len(lettersTo(s, email, confirmSubject)); n != 0 {
		t.Errorf("%d links for a reserved address", n)
	}
	_, err := s.Admin.ChangeUserEmail(asAdmin(t), &latchkeyv1.ChangeUserEmailRequest{UserId: eve.GetId(), NewEmail: spelled})
	wantRefused(t, err, codes.AlreadyExists, "EMAIL_TAKEN")
	for _, dry := range []bool{true, false} {
		wantCounts(t, importUsers(t, s, dry, []*latchkeyv1.ImportedUser{{Email: spelled, PasswordHash: bcryptHash}}), 0, 0, 1,
			"another account had this address lately, and may take it back")
	}
	hidden := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, Sender: s.Mailbox, HideAccounts: true})
	if err := trySignUp(t.Context(), hidden, spelled, password); err != nil {
		t.Error(err)
	}
	if n := count(t, s, "SELECT count(*) FROM users"); n != 2 {
		t.Errorf("%d accounts", n)
	}

	// Its own account may go back to it.
	s.Clock.Advance(time.Minute)
	if err := askChange(as(t, tokens), s, spelled); err != nil {
		t.Fatal(err)
	}
	if err := confirmLink(t.Context(), s, waitChangeMail(t, s, email, confirmSubject, 1).token); err != nil {
		t.Fatal(err)
	}
	wantAddress(t, []*testenv.Server{s}, tokens, spelled)
	if err := undoChange(t.Context(), s, undo.token); err != nil { // spells it as before, and ends the sessions
		t.Fatal(err)
	}
	if user := logInUser(t, s, email); user.GetEmail() != email || user.GetId() != owner.GetId() {
		t.Errorf("%v", user)
	}

	_, late := changed(t, s, "late@example.com", "later@example.com")
	s.Clock.Advance(72*time.Hour + time.Second)
	wantRefused(t, undoChange(t.Context(), s, late.token), codes.InvalidArgument, "LINK_INVALID", "token")
	signUp(t, s, "late@example.com")
}

func logInUser(t *testing.T, s *testenv.Server, address string) *latchkeyv1.User {
	t.Helper()
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address, Password: password})
	if err != nil {
		t.Fatalf("log in %s: %v", address, err)
	}
	return resp.GetUser()
}

// TestSignUpWaitsForAChange signs up with an address while a change is under way that gives it up and reserves it: the
// sign-up waits for the change, and sees the reservation.
func TestSignUpWaitsForAChange(t *testing.T) {
	t.Parallel()
	for _, hide := range []bool{false, true} {
		s := testenv.Start(t, testenv.Options{HideAccounts: hide})
		execSQL(t, s, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name)
			VALUES ('a@example.com', 'a@example.com', '!', 'A', 'B'), ('c@example.com', 'c@example.com', '!', 'C', 'D')`)
		change := func(from, to string) (commit func()) {
			return holdAccount(t, s, `WITH undo AS (
					INSERT INTO one_time_secrets (user_id, purpose, asker, address, token_hash, ledger, created_at, expires_at, lasting)
					SELECT id, 'undo_email_change', ''::bytea, email, sha256(email::bytea), 0, $3::timestamptz, $3::timestamptz + interval '72 hours', true FROM users WHERE email = $1::text
				) UPDATE users SET email = $2::text, email_lookup = $2::text WHERE email = $1::text`, from, to, s.Clock.Now())
		}
		commit := change("a@example.com", "b@example.com")
		done := make(chan error, 1)
		go func() { done <- trySignUp(t.Context(), s, "a@example.com", password) }()
		commit()
		if err := <-done; hide && err != nil {
			t.Error(err)
		} else if !hide {
			wantRefused(t, err, codes.AlreadyExists, "EMAIL_TAKEN")
		}
		commit = change("c@example.com", "d@example.com")
		imported := make(chan *latchkeyv1.ImportUsersResponse, 1)
		go func() { imported <- importUsers(t, s, false, []*latchkeyv1.ImportedUser{{Email: "c@example.com"}}) }()
		commit()
		wantCounts(t, <-imported, 0, 0, 1, "another account had this address lately, and may take it back")
		if n := count(t, s, "SELECT count(*) FROM users"); n != 2 {
			t.Errorf("hidden %v: %d accounts", hide, n)
		}
	}
}

// TestNoUndoForAnUnprovedAddress checks that an address which nobody has proved gets a mail without a link, and is free at
// once: it may be that of a stranger.
func TestNoUndoForAnUnprovedAddress(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	if err := askChange(as(t, tokens), s, newEmail); err != nil {
		t.Fatal(err)
	}
	if err := confirmLink(t.Context(), s, waitChangeMail(t, s, newEmail, confirmSubject, 1).token); err != nil {
		t.Fatal(err)
	}
	wantProved(t, s, tokens, true)
	wantNoUndo(t, s, email)
	if n := count(t, s, "SELECT count(*) FROM one_time_secrets"); n != 0 {
		t.Errorf("%d secrets", n)
	}
	signUp(t, s, email)
}

// TestUndoOutlivesEndedSessions checks that nothing a thief can do to the sessions ends the undo, and that a suspension by
// an operator does while it lasts.
func TestUndoOutlivesEndedSessions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	thief, undo := changed(t, s, email, newEmail)
	id := wantValid(t, s, thief.GetAccessToken(), 0).GetUser().GetId()
	if err := tryChange(t.Context(), s, thief, password, newPassword); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admin.RevokeAllSessions(asAdmin(t), &latchkeyv1.RevokeAllSessionsRequest{}); err != nil {
		t.Fatal(err)
	}
	_, reset := resetMail(t, s, newEmail)
	if err := tryReset(t.Context(), s, reset, password); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, undoChange(t.Context(), s, undo.token), codes.InvalidArgument, "LINK_INVALID", "token")
	if _, err := s.Admin.ReactivateUser(asAdmin(t), &latchkeyv1.ReactivateUserRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	s.Clock.Advance(72*time.Hour - time.Minute)
	if err := undoChange(t.Context(), s, undo.token); err != nil {
		t.Error(err)
	}
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.Unauthenticated, "INVALID_CREDENTIALS")
}

// TestUndoKeepsAnAccountThatIsToBeDeleted checks that a thief does not get around the undo by a deletion of the account.
func TestUndoKeepsAnAccountThatIsToBeDeleted(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: 24 * time.Hour})
	thief, undo := changed(t, s, email, newEmail)
	if _, err := s.AccountService.DeleteAccount(as(t, thief), &latchkeyv1.DeleteAccountRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := undoChange(t.Context(), s, undo.token); err != nil {
		t.Fatal(err)
	}
	logIn(t, s, email)
	if n := count(t, s, "SELECT count(*) FROM account_deletions"); n != 0 {
		t.Error("the account will be deleted")
	}
	waitMail(t, s, "will not be deleted")

	// One that an operator has suspended as well stays suspended.
	thief, undo = changed(t, s, "held@example.com", "thief@example.com")
	id := wantValid(t, s, thief.GetAccessToken(), 0).GetUser().GetId()
	if _, err := s.AccountService.DeleteAccount(as(t, thief), &latchkeyv1.DeleteAccountRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, undoChange(t.Context(), s, undo.token), codes.InvalidArgument, "LINK_INVALID", "token")
}

// TestUndoComesAfterTheDeletion checks that nobody but an operator can keep an account from its delete_time on, also while
// no sweep has come.
func TestUndoComesAfterTheDeletion(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: 24 * time.Hour})
	owner, undo := changed(t, s, email, newEmail)
	if _, err := s.AccountService.DeleteAccount(as(t, owner), &latchkeyv1.DeleteAccountRequest{}); err != nil {
		t.Fatal(err)
	}
	s.Clock.Advance(24 * time.Hour)
	wantRefused(t, undoChange(t.Context(), s, undo.token), codes.InvalidArgument, "LINK_INVALID", "token")
}

// TestUndoWhereAnotherProgramGaveTheAddressAway checks that an undo does not share an address, and is not spent by that,
// and that a spelling which another account had all along does not matter.
func TestUndoWhereAnotherProgramGaveTheAddressAway(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, undo := changed(t, s, email, newEmail)
	execSQL(t, s, "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ($1, '!', 'A', 'B')", email)
	wantRefused(t, undoChange(t.Context(), s, undo.token), codes.AlreadyExists, "EMAIL_TAKEN")
	logIn(t, s, newEmail)
	execSQL(t, s, "UPDATE users SET email = $2 WHERE email = $1", email, strings.ToLower(email))
	if err := undoChange(t.Context(), s, undo.token); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE email = $1 AND email_lookup IS NULL", email); n != 1 {
		t.Error("two accounts have one lookup form")
	}
	logIn(t, s, email)
}

// TestUndoLinkSaysSo checks how a page tells the two links apart, and that the page without a setting gets none.
func TestUndoLinkSaysSo(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	changed(t, s, email, newEmail)
	for address, want := range map[string]string{email: "1", newEmail: ""} {
		subject := map[string]string{email: changedSubject, newEmail: confirmSubject}[address]
		text := lettersTo(s, address, subject)[0].Text
		link := regexp.MustCompile(`https://\S+`).FindString(text)
		u, err := url.Parse(link)
		if err != nil || u.RawQuery != "" {
			t.Fatalf("%s: %v", link, err)
		}
		_, query, _ := strings.Cut(u.Fragment, "?")
		values, err := url.ParseQuery(query)
		if err != nil || values.Get("undo") != want || !strings.HasPrefix(link, testenv.EmailChangeURL+"?") {
			t.Errorf("%s: %v, %v", link, values, err)
		}
	}
	if err := undoChange(t.Context(), s, uuid.NewString()); err == nil {
		t.Error("an invented token undoes something")
	}
}
