package server_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// An account that another program made can log in at once with its exact address. If the address is ASCII, it can do so
// at once in every other spelling too, and otherwise after the next sweep.
func TestRowsThatOthersWrite(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, "donor@example.com")
	for _, row := range []struct {
		stored, typed string
		atOnce        bool
	}{
		{"ADA@EXAMPLE.COM", "ada@example.com", true},
		{"ada@xn--Bcher-kva.example", "ADA@XN--bcher-kva.example", true},
		{"ida@xn--bcher-kva.example", "ida@BU\u0308CHER.example", true},
		{"J\u00D6RG@example.com", "jo\u0308rg@example.com", false},
		{"bo@m\u00FCnchen.example", "Bo@xn--mnchen-3ya.example", false},
		{"stra\u00DFe@example.com", "STRA\u00DFE@example.com", false},
		{"\u0418\u0412\u0410\u041D@\u043F\u0440\u0438\u043C\u0435\u0440.example", "\u0438\u0432\u0430\u043D@xn--e1afmkfd.example", false},
	} {
		if _, err := s.Pool.Exec(t.Context(), `INSERT INTO users (email, password_hash, first_name, last_name)
			SELECT $1, password_hash, 'F', 'L' FROM users WHERE email = 'donor@example.com'`, row.stored); err != nil {
			t.Fatal(err)
		}
		logIn := func(email string) error {
			resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
			if err == nil && resp.GetUser().GetEmail() != row.stored {
				t.Errorf("%q logs in as %q", email, resp.GetUser().GetEmail())
			}
			return err
		}
		if err := logIn(row.stored); err != nil {
			t.Errorf("%q: %v", row.stored, err)
		}
		if err := logIn(row.typed); row.atOnce != (err == nil) {
			t.Errorf("%q as %q before a sweep: %v", row.stored, row.typed, err)
		} else if err != nil {
			wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
		}
		if err := (jobs.Upkeep{Pool: s.Pool, AuditRetention: 1 << 50, Now: s.Clock.Now}).Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := logIn(row.typed); err != nil {
			t.Errorf("%q as %q: %v", row.stored, row.typed, err)
		}
	}
}

// The white space that autofill and pasting add around an address costs no attempt, and mailed links are still sent,
// unless an account has exactly that text.
func TestSpacesAroundAnAddress(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, "ada@example.com")
	typed := []string{" ada@example.com", "ada@example.com ", "\tAda@Example.com\n", "\u00A0ada@example.com\u3000"}
	for _, email := range typed {
		for range 2 { // eight in all: if six were counted, one would be refused
			if _, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password}); err != nil {
				t.Fatalf("%q: %v", email, err)
			}
		}
	}
	for i, email := range typed {
		if _, err := s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: email}); err != nil {
			t.Fatalf("%q: %v", email, err)
		}
		testenv.Eventually(t, patience, "the link has come", func() bool { return len(s.Mailbox.Messages()) == i+1 })
	}

	// Spaces do not evade the count of wrong passwords, not even for addresses that nobody has.
	for _, address := range []string{"ada@example.com", "nobody@example.com"} {
		for i, email := range []string{address, " " + address, address + " ", "  " + address, address + "\t"} {
			_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: "a wrong one"})
			if status.Code(err) != codes.Unauthenticated {
				t.Fatalf("%q, try %d: %v", email, i+1, err)
			}
		}
		_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "   " + address, Password: "a wrong one"})
		wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	}
}

// An account of an older backend whose address has a space can still use its exact text, and takes nothing from the
// account without the space.
func TestStoredSpaces(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, "ada@example.com")
	if _, err := s.Pool.Exec(t.Context(), `INSERT INTO users (email, password_hash, first_name, last_name)
		SELECT ' ada@example.com', password_hash, 'F', 'L' FROM users`); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]string{
		" ada@example.com": " ada@example.com", "ada@example.com": "ada@example.com", "ada@example.com ": "ada@example.com", "  ada@example.com": "ada@example.com",
	} {
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: typed, Password: password})
		if err != nil || resp.GetUser().GetEmail() != want {
			t.Errorf("%q logs in as %q: %v", typed, resp.GetUser().GetEmail(), err)
		}
	}
}
