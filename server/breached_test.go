package server_test

import (
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestBreachedPasswords checks that no method sets a password of the list, however it is typed, and that none is set
// while the list cannot be read.
func TestBreachedPasswords(t *testing.T) {
	t.Parallel()
	const leaked = "Zürich tramway 1893 lanterns" // typed with ü as one code point
	list := filepath.Join(t.TempDir(), "list.txt")
	line := fmt.Sprintf("%X:3\r\n", sha1.Sum([]byte(leaked)))
	if err := os.WriteFile(list, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	s := testenv.Start(t, testenv.Options{BreachedPasswordsFile: list})
	signUp(t, s, email)
	tokens := logIn(t, s, email)
	_, resetToken := resetMail(t, s, email)
	decomposed := strings.Replace(leaked, "ü", "u\u0308", 1)
	attempts := map[string]func(chosen string) error{
		"password": func(chosen string) error {
			_, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: "bob@example.com", Password: chosen, FirstName: "B", LastName: "B"})
			return err
		},
		"new_password": func(chosen string) error {
			_, err := s.Auth.ChangePassword(as(t, tokens), &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: chosen})
			return err
		},
		"new_password of a reset": func(chosen string) error {
			_, err := s.Auth.ResetPassword(t.Context(), &latchkeyv1.ResetPasswordRequest{Token: resetToken, NewPassword: chosen})
			return err
		},
	}
	for name, set := range attempts {
		field, _, _ := strings.Cut(name, " ")
		for _, typed := range []string{leaked, decomposed} {
			err := set(typed)
			wantRefused(t, err, codes.InvalidArgument, "PASSWORD_TOO_COMMON", field)
			if !strings.Contains(fmt.Sprint(status.Convert(err).Details()), "PASSWORD_BREACHED") {
				t.Errorf("%s: %v", name, status.Convert(err).Details())
			}
		}
	}
	if err := os.Truncate(list, 10); err != nil {
		t.Fatal(err)
	}
	for name, set := range attempts {
		if code := status.Code(set("fourteen quiet otters paddle")); code != codes.Internal {
			t.Errorf("%s without a list: %v", name, code)
		}
	}
	if err := os.WriteFile(list, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, set := range attempts {
		if name == "new_password of a reset" { // the change before ends its token
			continue
		}
		if err := set("fourteen quiet otters paddle"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
