package backend

import (
	"strings"
	"testing"
	"unicode/utf8"

	"buf.build/go/protovalidate"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// FuzzRules: latchkey.v1 accepts every value that the older contract accepts for a new account, so that its owner can
// change to latchkey.v1: the address and the names at a sign-up, the password at a login. Each refusal has a text of
// the contract.
func FuzzRules(f *testing.F) {
	for _, seed := range [][3]string{
		{"kai@harbor.example", "Tide-Mark-42!", "Kai"},
		{" kai@harbor.example", "Aa1!\x00xxx", " K "},
		{"k..ai@-a.example", "Aa1!éé", "\tKai"},
		{strings.Repeat("k", 64) + "@xn--bcher-kva.example", strings.Repeat("é", 64), strings.Repeat("n", 101)},
		{"kai@harbor.c0m", "        ", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	validator, err := protovalidate.New()
	if err != nil {
		f.Fatal(err)
	}
	table := newRules()
	f.Fuzz(func(t *testing.T, email, password, name string) {
		if !utf8.ValidString(email + password + name) {
			t.Skip("gRPC refuses it")
		}
		signUp := &latchkeyv1.SignUpRequest{Email: "kai@harbor.example", Password: "Tide-Mark-42!", FirstName: "Kai", LastName: "Brandt"}
		login := &latchkeyv1.LoginRequest{Email: "kai@harbor.example", Password: "Tide-Mark-42!"}
		if passes(t, field{"email", email, table.newAddress}) {
			signUp.Email, login.Email = email, email
		}
		if passes(t, field{"password", password, table.chosen}) {
			login.Password = password
		}
		if passes(t, field{"first_name", name, table.firstName}) {
			signUp.FirstName = name
		}
		if passes(t, field{"last_name", name, table.lastName}) {
			signUp.LastName = name
		}
		if err := validator.Validate(signUp); err != nil {
			t.Errorf("latchkey.v1 refuses %q, %q: %v", signUp.GetEmail(), name, err)
		}
		if err := validator.Validate(login); err != nil {
			t.Errorf("latchkey.v1 refuses a login of %q with %q: %v", login.GetEmail(), password, err)
		}
		if passes(t, field{"email", email, table.newAddress}) && !passes(t, field{"email", email, table.address}) {
			t.Errorf("%q could sign up and not log in", email)
		}
	})
}

func passes(t *testing.T, f field) bool {
	t.Helper()
	err := firstBroken(f)
	if err == nil {
		return true
	}
	known := refusal.In(err)
	if known == nil || len(known.Details) != 1 || !strings.HasPrefix(strings.TrimPrefix(known.Message, "invalid "), f.name) {
		t.Errorf("%q is refused with %v", f.value, err)
	}
	return false
}
