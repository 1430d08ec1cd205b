//go:build world

package world

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// verifierTime bounds one run of all verifiers of a language.
const verifierTime = 2 * time.Minute

// verification is one token that is shown to one verifier.
type verification struct {
	Name      string `json:"name"`
	Issuer    string `json:"issuer"`
	Audience  string `json:"audience"`
	JWKSURI   string `json:"jwksUri"`
	Algorithm string `json:"algorithm"`
	Type      string `json:"type"`
	Token     string `json:"token"`
}

// verdict is what the verifier says of it: nothing when it takes the token.
type verdict struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// accessToken signs up and logs in.
func accessToken(t *testing.T, s *service) string {
	t.Helper()
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, s.grpc))
	const email, password = "ada@example.com", "correct horse battery"
	if _, err := auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "L"}); err != nil {
		t.Fatal(err)
	}
	login, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return login.GetTokens().GetAccessToken()
}

// tampered is token with another letter in what is signed.
func tampered(token string) string {
	i := strings.LastIndex(token, ".") - 8
	other := "A"
	if token[i:i+1] == other {
		other = "B"
	}
	return token[:i] + other + token[i+1:]
}

// TestVerifiers shows tokens of the service to verifiers that others wrote.
func TestVerifiers(t *testing.T) {
	t.Parallel()
	const audience = "latchkey"
	address := "127.0.0.1:" + freePort(t)
	issuer := "http://" + address
	s := dev(t, "LATCHKEY_HTTP_ADDR="+address, "LATCHKEY_ISSUER="+issuer, "LATCHKEY_AUDIENCE="+audience)
	token := accessToken(t, s)

	const version = "6.2.18"
	dir := npm(t, "jose@"+version)
	script, err := os.ReadFile("verifiers/node.mjs")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node.mjs")
	if err := os.WriteFile(path, script, 0o644); err != nil {
		t.Fatal(err)
	}
	good := verification{
		Name: "jose", Issuer: issuer, Audience: audience, JWKSURI: issuer + "/.well-known/jwks.json",
		Type: "at+jwt", Token: token,
	}
	bad := good
	bad.Token = tampered(token)
	asked, err := json.Marshal([]verification{good, bad})
	if err != nil {
		t.Fatal(err)
	}
	var verdicts []verdict
	if err := json.Unmarshal(command(t, verifierTime, asked, "node", path), &verdicts); err != nil {
		t.Fatal(err)
	}
	if len(verdicts) != 2 || verdicts[0].Error != "" || verdicts[1].Error == "" {
		t.Fatalf("jose says %+v of a good and a tampered token", verdicts)
	}
	record("jose (npm)", version, "takes a token, refuses a changed one", "ok")
}
