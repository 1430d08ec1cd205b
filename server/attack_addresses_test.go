package server_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	addresses "github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// lookAlikes are addresses that other software takes for a plain one, with the reason of the refusal.
func lookAlikes() map[string]string {
	refused := map[string]string{}
	for _, local := range []string{
		"j\u0130m", "jI\u0307m", "ji\u0307m", "j\u0131m", "\u212Aim", "\u017Fam", "stra\u00DFe", "stra\u1E9Ee", "\uFB01n", "\u03C3\u03AF\u03C3\u03C5\u03C6\u03BF\u03C2",
		"\uFF4Aim", "\u24D9im", "\U0001D423im", "\u212Bsa", "\u2126mega", "\u00B5", "jim\uFE0F", "jim\u034F", "jim\U000E0101", "\uF914",
	} {
		refused[local+"@example.com"] = "EMAIL_LOOK_ALIKE"
	}
	for _, domain := range []string{
		"\uFF45xample.com", "\u212Aelvin.example", "\uFB01n.example", "b\u0130t.example", "xn--a.example", "xn--abc.example",
		strings.Repeat("\u00FC", 59) + ".example",
	} {
		refused["ida@"+domain] = "EMAIL_DOMAIN"
	}
	return refused
}

// wantRule checks the rule of the first violation.
func wantRule(t *testing.T, err error, rule string) {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok && bad.GetFieldViolations()[0].GetReason() == rule {
			return
		}
	}
	t.Errorf("%v, want the rule %s", err, rule)
}

// No new account has an address that differs from another one only in full case folding, compatibility forms or
// invisible characters.
func TestAttack17LookAlikes(t *testing.T) {
	t.Parallel()
	s, _, old := oldContract(t)
	for address, reason := range lookAlikes() {
		err := trySignUp(t.Context(), s, address, password)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "email")
		wantRule(t, err, reason)
		_, err = old.SignUp(t.Context(), &authpb.SignUpRequest{Email: address, Password: "Correct-Horse-1", FirstName: "Ada", LastName: "Lovelace"})
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "email")
		wantRule(t, err, "EMAIL_FORM") // the older contract accepts only ASCII, and has one text for all refusals
	}
	for _, domain := range []string{"xn--.example", "xn--abc-.example", "a\u0378b.example", "example\u3002com", "example.com.", "example..com", "a_b.example", "\u0301a.example", "b\u00FCcher\u00AD.example"} {
		wantRefused(t, trySignUp(t.Context(), s, "ida@"+domain, password), codes.InvalidArgument, "VALIDATION_FAILED", "email")
	}
	// The addresses that they look like are free, and so are plain names in any script.
	for _, address := range []string{
		"jim@example.com", "kim@example.com", "sam@example.com", "strasse@example.com", "fin@example.com", "ida@example.com", "\u0438\u0440\u0438\u043D\u0430@example.com",
		"j\u00F6rg@example.com", "\u674E@example.com", "\u13A0\u13A1@example.com", "ida@stra\u00DFe.example", "ida@\u0431\u03C2.example",
	} {
		if err := trySignUp(t.Context(), s, address, password); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
	// Different letter case makes no second account, not even in Cherokee.
	wantRefused(t, trySignUp(t.Context(), s, "\uAB70\uAB71@example.com", password), codes.AlreadyExists, "EMAIL_TAKEN")
}

// An old account with a look-alike address can still log in with it. Neither account takes the place of the other or
// gets its link, not even while the column has a wrong value.
func TestAttack17PlaceOfAnother(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, "donor@example.com")
	for alike, plain := range map[string]string{"j\u0130m@example.com": "jim@example.com", "\u212Ate@example.com": "kte@example.com", "ida@\uFF45xample.com": "ida@example.com"} {
		// As an earlier version wrote it.
		execSQL(t, s, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name)
			SELECT $1, $2, password_hash, 'F', 'L' FROM users WHERE email = 'donor@example.com'`, alike, plain)
		logIn(t, s, alike)
		_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: plain, Password: password})
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
		_, err = s.Admin.GetUser(testenv.WithKey(t.Context(), testenv.AdminKey), &latchkeyv1.GetUserRequest{Account: &latchkeyv1.GetUserRequest_Email{Email: plain}})
		wantRefused(t, err, codes.NotFound, "USER_NOT_FOUND")
		forgot(t, s, plain)
		if message, _ := resetMail(t, s, alike); message.To != alike {
			t.Errorf("the link for %q went to %q", alike, message.To)
		}
		if err := (jobs.Upkeep{Pool: s.Pool, AuditRetention: 24 * time.Hour, Now: s.Clock.Now}).Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		signUp(t, s, plain)
		if message, _ := resetMail(t, s, strings.ToUpper(plain)); message.To != plain {
			t.Errorf("the link for %q went to %q", plain, message.To)
		}
		if _, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: plain, Password: password}); err != nil {
			t.Errorf("%q: %v", plain, err)
		}
	}
	// Of each pair, each account gets one link, in this order. A plain address without an account gets none.
	var to []string
	for _, message := range s.Mailbox.Messages() {
		to = append(to, message.To)
	}
	if len(to) != 6 {
		t.Errorf("links went to %q", to)
	}
}

// A domain and its A-label form are the same address, in either form at sign-up. Mails go to the A-label form.
func TestAttack17OneMailbox(t *testing.T) {
	t.Parallel()
	s, _, old := oldContract(t)
	for _, spellings := range [][]string{
		{"ida@b\u00FCcher.example", "ida@xn--bcher-kva.example", "Ida@B\u00DCCHER.example", "ida@bu\u0308cher.EXAMPLE", "IDA@XN--BCHER-KVA.example"},
		{"ida@xn--mnchen-3ya.example", "IDA@M\u00DCNCHEN.example", "ida@mu\u0308nchen.example"},
		{"j\u00F6rg@stra\u00DFe.example", "JO\u0308RG@xn--strae-oqa.example", "J\u00D6RG@STRA\u1E9EE.example"},
	} {
		signUp(t, s, spellings[0])
		for _, typed := range spellings {
			wantRefused(t, trySignUp(t.Context(), s, typed, password), codes.AlreadyExists, "EMAIL_TAKEN")
			_, err := old.SignUp(t.Context(), &authpb.SignUpRequest{Email: typed, Password: "Correct-Horse-1", FirstName: "Ada", LastName: "Lovelace"})
			if addresses.IsASCII(typed) {
				wantText(t, err, codes.AlreadyExists, "email already registered")
			} else {
				wantText(t, err, codes.InvalidArgument, "invalid email format")
			}
			resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: typed, Password: password})
			if err != nil || resp.GetUser().GetEmail() != spellings[0] {
				t.Errorf("%q: %v, %v", typed, resp.GetUser(), err)
			}
		}
		message, _ := resetMail(t, s, spellings[1])
		if _, domain, _ := strings.Cut(message.To, "@"); !strings.HasPrefix(domain, "xn--") {
			t.Errorf("mail to %q", message.To)
		}
	}
	// The spellings share their failures and their links.
	typed := []string{"ida@b\u00FCcher.example", "ida@xn--bcher-kva.example"}
	limited := 0
	for i := range 12 {
		_, err := s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: typed[i%2]})
		if err != nil {
			limited++
		}
	}
	if limited < 7 {
		t.Errorf("%d of 12 links refused, want them counted together", limited)
	}
	if domains := count(t, s, "SELECT count(DISTINCT email_lookup) FROM users WHERE email_lookup LIKE '%@xn--%'"); domains != 3 {
		t.Errorf("%d accounts", domains)
	}
}

// An import refuses new accounts with the addresses that sign-up refuses.
func TestAttack17Import(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	var addresses []string
	for address := range lookAlikes() {
		addresses = append(addresses, address)
	}
	slices.Sort(addresses)
	var users []*latchkeyv1.ImportedUser
	for _, address := range append(addresses, "jim@example.com", "ida@b\u00FCcher.example", "IDA@xn--bcher-kva.example") {
		users = append(users, &latchkeyv1.ImportedUser{Email: address})
	}
	resp := importUsers(t, s, false, users)
	if resp.GetCreatedCount() != 2 || resp.GetRefusedCount() != int64(len(addresses)+1) {
		t.Errorf("%d created, %d refused of %d", resp.GetCreatedCount(), resp.GetRefusedCount(), len(users))
	}
}
