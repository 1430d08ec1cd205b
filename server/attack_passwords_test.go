package server_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// stockGuesses has guesses of each kind in the lists that attackers use. internal/password tests hundreds more against
// the policy.
func stockGuesses() []string {
	return []string{
		"Password1!", "P@ssw0rd1", "Pa$$word123", "drowssaP1!", "Welcome123!", "Letmein2026", "ChangeMe1!", "Admin@123", "Company2026", "Summer2026!",
		"Spring2031", "Januar2026!", "Février24!", "Qwerty123!", "1q2w3e4r5t", "zaq1@WSX", "Abcd1234!", "15.03.1987", "iloveyou1!", "TestTest1!",
		"Ｐａｓｓｗｏｒｄ１！", "pass\u200bword\u200b1", "Рassword1", "Ada2026!", "L0velace1815", "Ada.Lovelace1!", "Latchkey2026!", "Example123!",
	}
}

// A spray of stock guesses finds no account, because no method that sets a password accepts one. Good passwords are
// accepted.
func TestAttack05BlockList(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	tokens := device(t, s, "laptop")
	forgot(t, s, email)
	_, link := resetMail(t, s, email)
	for i, guess := range stockGuesses() {
		_, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{
			Email: fmt.Sprintf("ada%d@example.com", i), Password: guess, FirstName: "Ada", LastName: "Lovelace",
		})
		for method, err := range map[string]error{
			"SignUp": err, "ChangePassword": tryChange(t.Context(), s, tokens, password, guess), "ResetPassword": tryReset(t.Context(), s, link, guess),
		} {
			t.Run(method+" "+guess, func(t *testing.T) {
				t.Parallel()
				field := "new_password"
				if method == "SignUp" {
					field = "password"
				}
				wantRefused(t, err, codes.InvalidArgument, "PASSWORD_TOO_COMMON", field)
			})
		}
	}
	_, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{
		Email: "ida@xn--bcher-kva.example", Password: "Bücher2026!", FirstName: "Ida", LastName: "Noddack",
	})
	wantRefused(t, err, codes.InvalidArgument, "PASSWORD_TOO_COMMON", "password")
	for i, good := range []string{"kV9#xq2z", "tuba lantern gravel", "password of my late aunt", "summer rain smells of tar"} {
		if err := tryChange(t.Context(), s, tokens, password, good); err != nil {
			t.Errorf("ChangePassword %q: %v", good, err)
		}
		if err := tryChange(t.Context(), s, tokens, good, password); err != nil {
			t.Errorf("ChangePassword back from %q: %v", good, err)
		}
		_, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{
			Email: fmt.Sprintf("grace%d@example.com", i), Password: good, FirstName: "Grace", LastName: "Hopper",
		})
		if err != nil {
			t.Errorf("SignUp %q: %v", good, err)
		}
	}
	// A link for after the changes above.
	forgot(t, s, email)
	if _, link := resetMail(t, s, email); tryReset(t.Context(), s, link, "lantern-gravel-09") != nil {
		t.Error("ResetPassword refuses a good password")
	}
}
