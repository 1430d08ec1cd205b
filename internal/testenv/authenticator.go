package testenv

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/descope/virtualwebauthn"
)

// passkeyKey is a P-256 key (PKCS 8). virtualwebauthn encodes one in 128 of those that it makes wrongly.
const passkeyKey = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdu0bim39pgX8EPkLjVX8HzHHIVYpwRX709F1g4/URbuhRANCAARt/3AVyhqyBaDUSDNS/eulpdw6+K0ORqpCjQz9MhGOWURsyqdV6e100ozaeDdnH5Jx94AxV12s+ictWJqqZvxl" //nolint:gosec // G101: of tests only

// Authenticator has one passkey, and a browser that shows a page to it.
type Authenticator struct {
	virtualwebauthn.Authenticator
	Key  virtualwebauthn.Credential
	Page virtualwebauthn.RelyingParty
}

// NewAuthenticator returns an authenticator whose browser shows a page of this origin, for PasskeyRPID.
func NewAuthenticator(t testing.TB, origin string) *Authenticator {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(passkeyKey)
	must(t, err)
	return &Authenticator{
		Authenticator: virtualwebauthn.NewAuthenticator(),
		Key:           virtualwebauthn.NewCredentialWithImportedKey(virtualwebauthn.KeyTypeEC2, raw),
		Page:          virtualwebauthn.RelyingParty{ID: PasskeyRPID, Name: "Example", Origin: origin},
	}
}

// Create returns the answer to the options of a registration.
func (a *Authenticator) Create(t testing.TB, options string) string {
	t.Helper()
	parsed, err := virtualwebauthn.ParseAttestationOptions(options)
	must(t, err)
	var asked struct{ User struct{ ID string } }
	must(t, json.Unmarshal([]byte(options), &asked))
	a.Options.UserHandle, err = base64.RawURLEncoding.DecodeString(asked.User.ID)
	must(t, err)
	return virtualwebauthn.CreateAttestationResponse(a.Page, a.Authenticator, a.Key, *parsed)
}

// Get returns the answer to the options of a login.
func (a *Authenticator) Get(t testing.TB, options string) string {
	t.Helper()
	parsed, err := virtualwebauthn.ParseAssertionOptions(options)
	must(t, err)
	a.Key.Counter++
	return virtualwebauthn.CreateAssertionResponse(a.Page, a.Authenticator, a.Key, *parsed)
}
