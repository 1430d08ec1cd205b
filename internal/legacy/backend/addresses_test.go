package backend_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/code"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// hashOfNUL is Argon2id of "Ferry7!\x00x", computed with golang.org/x/crypto/argon2.
const hashOfNUL = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$capb6V95OwqyGvF3h8LdGblvYXibc7Z3gILn1SQbC6E"

// TestOddAddressesLogIn: an account whose address the Go backend refuses logs in with its password. With a wrong
// password the answer is the Go backend's error for the address, after any number of attempts, and the same as for an
// unknown address.
func TestOddAddressesLogIn(t *testing.T) {
	t.Parallel()
	setup, _ := readAnswers(t)
	s := takeOver(t, setup)
	for _, email := range []string{"ida@bücher.example", "o'neil@harbor.example", "ida@localhost", strings.Repeat("é", 64) + "@" + strings.Repeat("h", 60) + "." + strings.Repeat("h", 60) + ".example"} {
		_, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: "correct horse battery", FirstName: "Ida", LastName: "B"})
		if err != nil {
			t.Fatalf("%s: %v", email, err)
		}
		want := invalid(textForm)
		if len(email) > 255 {
			want = invalid(textTooLong)
		}
		got := s.ask(t, "Login", fields{"email": []byte(email), "password": []byte("correct horse battery")})
		if got.Code != code.Code_OK.String() {
			t.Errorf("%s does not log in: %v", email, got)
		}
		for range 7 {
			for _, address := range []string{email, "x" + email[len(string([]rune(email)[0])):]} { // the 2nd: nobody's
				if got := s.ask(t, "Login", fields{"email": []byte(address), "password": []byte("wrong")}); !got.isLike(want) {
					t.Errorf("%s with a wrong password: %v, want %v", address, got, want)
				}
			}
		}
		// They count nevertheless.
		if got := s.ask(t, "Login", fields{"email": []byte(email), "password": []byte("correct horse battery")}); !got.isLike(want) {
			t.Errorf("%s after five wrong passwords: %v, want %v", email, got, want)
		}
	}
}

// TestPasswordWithNULLogsIn: the Go backend accepted such passwords, so some accounts have one.
func TestPasswordWithNULLogsIn(t *testing.T) {
	t.Parallel()
	setup, _ := readAnswers(t)
	s := takeOver(t, setup)
	_, err := s.Pool.Exec(t.Context(), `INSERT INTO users (id, email, password_hash, first_name, last_name) VALUES ($1, 'nul@harbor.example', $2, 'Nu', 'Ll')`,
		uuid.New(), hashOfNUL)
	if err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]code.Code{"Ferry7!\x00x": code.Code_OK, "Ferry7!": code.Code_UNAUTHENTICATED, "Ferry7!\x00y": code.Code_UNAUTHENTICATED} {
		if got := s.ask(t, "Login", fields{"email": []byte("nul@harbor.example"), "password": []byte(typed)}); got.Code != want.String() {
			t.Errorf("%q: %v, want %v", typed, got, want)
		}
	}
}
