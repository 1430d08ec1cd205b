package passkey

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
)

const (
	testID     = "example.com"
	testOrigin = "https://app.example.com"
)

// fixedKey is a P-256 key (PKCS 8). Keys that virtualwebauthn makes up have a coordinate with leading zeros in one of 128
// cases, which it then encodes too short.
const fixedKey = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdu0bim39pgX8EPkLjVX8HzHHIVYpwRX709F1g4/URbuhRANCAARt/3AVyhqyBaDUSDNS/eulpdw6+K0ORqpCjQz9MhGOWURsyqdV6e100ozaeDdnH5Jx94AxV12s+ictWJqqZvxl"

func newParty(t *testing.T, origins ...string) *Party {
	t.Helper()
	p, err := New(testID, "Example", append([]string{testOrigin}, origins...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// device is an authenticator with one passkey, and a browser.
type device struct {
	virtualwebauthn.Authenticator
	key  virtualwebauthn.Credential
	page virtualwebauthn.RelyingParty
}

func newDevice(t *testing.T, owner uuid.UUID, options virtualwebauthn.AuthenticatorOptions) *device {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(fixedKey)
	if err != nil {
		t.Fatal(err)
	}
	options.UserHandle = owner[:]
	return &device{
		Authenticator: virtualwebauthn.NewAuthenticatorWithOptions(options),
		key:           virtualwebauthn.NewCredentialWithImportedKey(virtualwebauthn.KeyTypeEC2, raw),
		page:          virtualwebauthn.RelyingParty{ID: testID, Name: "Example", Origin: testOrigin},
	}
}

func (d *device) create(t *testing.T, options []byte) []byte {
	t.Helper()
	parsed, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(virtualwebauthn.CreateAttestationResponse(d.page, d.Authenticator, d.key, *parsed))
}

func (d *device) get(t *testing.T, options []byte) []byte {
	t.Helper()
	parsed, err := virtualwebauthn.ParseAssertionOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(virtualwebauthn.CreateAssertionResponse(d.page, d.Authenticator, d.key, *parsed))
}

func register(t *testing.T, p *Party, d *device, owner uuid.UUID) Credential {
	t.Helper()
	options, state, err := p.BeginRegistration(User{ID: owner, Name: "ann@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	credential, err := p.FinishRegistration(owner, state, d.create(t, options))
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// store finds one passkey.
func store(owner uuid.UUID, credential *Credential) func(id []byte) (Owner, error) {
	return func(id []byte) (Owner, error) {
		if !bytes.Equal(id, credential.ID) {
			return Owner{}, ErrUnknown
		}
		return Owner{UserID: owner, Credential: *credential}, nil
	}
}

// begin begins a login, or a proof if there are passkeys.
func begin(t *testing.T, p *Party, owner uuid.UUID, passkeys ...Credential) (options, state []byte) {
	t.Helper()
	var err error
	if len(passkeys) == 0 {
		options, state, err = p.BeginLogin()
	} else {
		options, state, err = p.BeginProof(owner, passkeys)
	}
	if err != nil {
		t.Fatal(err)
	}
	return options, state
}

func TestOptions(t *testing.T) {
	t.Parallel()
	p, owner := newParty(t), uuid.New()
	existing := Credential{ID: []byte("an id"), Transports: []string{"usb", "hybrid"}}
	creation, _, err := p.BeginRegistration(User{ID: owner, Name: "ann@example.com", DisplayName: "Ann"}, []Credential{existing})
	if err != nil {
		t.Fatal(err)
	}
	login, _ := begin(t, p, owner)
	proof, _ := begin(t, p, owner, existing)
	handle := base64.RawURLEncoding.EncodeToString(owner[:])
	descriptor := `[{"type":"public-key","id":"YW4gaWQ","transports":["usb","hybrid"]}]`
	for want, options := range map[string][]byte{
		`"rp":{"name":"Example","id":"example.com"}`:                                                                          creation,
		`"user":{"name":"ann@example.com","displayName":"Ann","id":"` + handle + `"}`:                                         creation,
		`"pubKeyCredParams":[{"type":"public-key","alg":-8},{"type":"public-key","alg":-7},{"type":"public-key","alg":-257}]`: creation,
		`"excludeCredentials":` + descriptor:                                                                                  creation,
		`"authenticatorSelection":{"requireResidentKey":true,"residentKey":"required","userVerification":"required"}`:         creation,
		`"attestation":"none"`:                                                 creation,
		`"rpId":"example.com","userVerification":"required"`:                   login,
		`"allowCredentials":` + descriptor + `,"userVerification":"preferred"`: proof,
	} {
		if !strings.Contains(string(options), want) {
			t.Errorf("%s\nhas no %s", options, want)
		}
	}
	for _, options := range [][]byte{creation, login, proof} {
		var fields map[string]any
		if err := json.Unmarshal(options, &fields); err != nil || fields["challenge"] == nil {
			t.Errorf("%s is not what browsers take: %v", options, err)
		}
		if bytes.Contains(options, []byte("null")) {
			t.Errorf("browsers refuse null: %s", options)
		}
	}
	if bytes.Contains(login, []byte("allowCredentials")) {
		t.Errorf("the login names passkeys: %s", login)
	}
}

func TestRegisterAndLogIn(t *testing.T) {
	t.Parallel()
	p, owner := newParty(t), uuid.New()
	d := newDevice(t, owner, virtualwebauthn.AuthenticatorOptions{BackupEligible: true})
	d.key.Counter = 7
	credential := register(t, p, d, owner)
	if !bytes.Equal(credential.ID, d.key.ID) || credential.SignCount != 7 || credential.AAGUID != uuid.UUID(d.Aaguid) {
		t.Errorf("%+v", credential)
	}
	for name, passkeys := range map[string][]Credential{"login": nil, "proof": {credential}} {
		d.key.Counter++
		options, state := begin(t, p, owner, passkeys...)
		login, err := p.FinishLogin(state, d.get(t, options), store(owner, &credential))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if login.UserID != owner || !login.UserVerified || login.CountFellBack || login.Credential.SignCount != d.key.Counter {
			t.Errorf("%s: %+v", name, login)
		}
		credential = login.Credential
	}
}

// What the stored passkey must remember: a synced passkey that was stored without its flags could never log in again.
func TestFlagsAndCount(t *testing.T) {
	t.Parallel()
	p, owner := newParty(t), uuid.New()
	d := newDevice(t, owner, virtualwebauthn.AuthenticatorOptions{BackupEligible: true})
	d.key.Counter = 9
	credential := register(t, p, d, owner)
	use := func() (Login, error) {
		options, state := begin(t, p, owner)
		return p.FinishLogin(state, d.get(t, options), store(owner, &credential))
	}
	d.Options.BackupState = true
	login, err := use()
	if err != nil || login.Credential.Flags == credential.Flags || login.Credential.Flags&byte(protocol.FlagBackupState) == 0 {
		t.Fatalf("the passkey was synced: %+v, %v", login, err)
	}
	if !login.CountFellBack { // 9 again
		t.Error("nobody notices that the count did not rise")
	}
	credential = login.Credential
	d.key.Counter = 3
	if login, err = use(); err != nil || !login.CountFellBack || login.Credential.SignCount != 9 {
		t.Errorf("a lower count: %+v, %v", login, err)
	}
	d.key.Counter = 10
	if login, err = use(); err != nil || login.CountFellBack || login.Credential.SignCount != 10 {
		t.Errorf("a higher count again: %+v, %v", login, err)
	}
	d.Options.BackupEligible, d.Options.BackupState = false, false
	if _, err = use(); !errors.Is(err, ErrRefused) {
		t.Errorf("a passkey that is no longer backup eligible is another one: %v", err)
	}
}

// Whether the user was verified is a fact of this login. The library's record keeps that of the registration.
func TestVerificationIsOfThisLogin(t *testing.T) {
	t.Parallel()
	p, owner := newParty(t), uuid.New()
	d := newDevice(t, owner, virtualwebauthn.AuthenticatorOptions{})
	credential := register(t, p, d, owner)
	d.Options.UserNotVerified = true
	options, state := begin(t, p, owner, credential)
	login, err := p.FinishLogin(state, d.get(t, options), store(owner, &credential))
	if err != nil || login.UserVerified {
		t.Errorf("%+v, %v", login, err)
	}
	options, state = begin(t, p, owner)
	if _, err := p.FinishLogin(state, d.get(t, options), store(owner, &credential)); !errors.Is(err, ErrRefused) {
		t.Errorf("a first factor without verification: %v", err)
	}
	options, state, err = p.BeginRegistration(User{ID: owner, Name: "ann@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.FinishRegistration(owner, state, d.create(t, options)); !errors.Is(err, ErrRefused) {
		t.Errorf("a registration without verification: %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	p, owner, other := newParty(t), uuid.New(), uuid.New()
	d := newDevice(t, owner, virtualwebauthn.AuthenticatorOptions{})
	credential := register(t, p, d, owner)
	cases := map[string]func(d *device, answer string) string{
		"a look-alike origin":       func(d *device, _ string) string { d.page.Origin = "https://app.example.com.evil.test"; return "" },
		"a name above the origin":   func(d *device, _ string) string { d.page.Origin = "https://example.com"; return "" },
		"another port":              func(d *device, _ string) string { d.page.Origin = testOrigin + ":8443"; return "" },
		"no TLS":                    func(d *device, _ string) string { d.page.Origin = "http://app.example.com"; return "" },
		"another RP id":             func(d *device, _ string) string { d.page.ID = "app.example.com"; return "" },
		"nobody present":            func(d *device, _ string) string { d.Options.UserNotPresent = true; return "" },
		"the handle of another":     func(d *device, _ string) string { d.Options.UserHandle = other[:]; return "" },
		"an unknown passkey":        func(d *device, _ string) string { d.key.ID = []byte("unknown"); return "" },
		"nothing":                   func(*device, string) string { return "{}" },
		"data after the answer":     func(_ *device, answer string) string { return answer + "{}" },
		"an answer that is too big": func(_ *device, answer string) string { return answer + strings.Repeat(" ", MaxAnswer) },
		"another signature": func(_ *device, answer string) string {
			at := strings.Index(answer, `"signature":"`) + len(`"signature":"`) + 20
			return answer[:at] + map[bool]string{true: "A", false: "B"}[answer[at] != 'A'] + answer[at+1:]
		},
	}
	for name, spoil := range cases {
		for _, passkeys := range [][]Credential{nil, {credential}} {
			used := *d
			options, state := begin(t, p, owner, passkeys...)
			spoiled := spoil(&used, string(d.get(t, options)))
			if spoiled == "" {
				spoiled = string(used.get(t, options))
			}
			if login, err := p.FinishLogin(state, []byte(spoiled), store(owner, &credential)); !errors.Is(err, ErrRefused) || err.Error() != ErrRefused.Error() {
				t.Errorf("%s, %d passkeys: %+v, %v", name, len(passkeys), login, err)
			}
		}
	}
	// The answer to one challenge is no answer to the next, and not to the challenge of another account.
	options, _ := begin(t, p, owner)
	_, state := begin(t, p, owner)
	if _, err := p.FinishLogin(state, d.get(t, options), store(owner, &credential)); !errors.Is(err, ErrRefused) {
		t.Errorf("another challenge: %v", err)
	}
	options, state = begin(t, p, other, Credential{ID: []byte("theirs")})
	if _, err := p.FinishLogin(state, d.get(t, options), store(owner, &credential)); !errors.Is(err, ErrRefused) {
		t.Errorf("the challenge of another account: %v", err)
	}
	// An error of the store is not a wrong answer.
	broken := errors.New("no answer")
	options, state = begin(t, p, owner)
	if _, err := p.FinishLogin(state, d.get(t, options), func([]byte) (Owner, error) { return Owner{}, broken }); !errors.Is(err, broken) {
		t.Errorf("the store: %v", err)
	}
	// The state of one ceremony is no state of the other.
	creation, made, err := p.BeginRegistration(User{ID: owner, Name: "ann@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.FinishLogin(made, d.get(t, options), store(owner, &credential)); !errors.Is(err, ErrRefused) {
		t.Errorf("a login with the state of a registration: %v", err)
	}
	if _, err := p.FinishRegistration(owner, state, d.create(t, creation)); !errors.Is(err, ErrRefused) {
		t.Errorf("a registration with the state of a login: %v", err)
	}
	if _, err := p.FinishRegistration(other, made, d.create(t, creation)); !errors.Is(err, ErrRefused) {
		t.Errorf("a registration of another account: %v", err)
	}
}

// One of the passkeys that the challenge has listed was removed meanwhile: the others still work.
func TestPasskeyRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	p, owner := newParty(t), uuid.New()
	d := newDevice(t, owner, virtualwebauthn.AuthenticatorOptions{})
	credential := register(t, p, d, owner)
	options, state := begin(t, p, owner, Credential{ID: []byte("removed")}, credential)
	if _, err := p.FinishLogin(state, d.get(t, options), store(owner, &credential)); err != nil {
		t.Error(err)
	}
}

func TestAndroidApp(t *testing.T) {
	t.Parallel()
	app := androidPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	p, owner := newParty(t, app), uuid.New()
	d := newDevice(t, owner, virtualwebauthn.AuthenticatorOptions{})
	d.page.Origin = app
	register(t, p, d, owner)
	d.page.Origin = strings.ToLower(app)
	options, state, err := p.BeginRegistration(User{ID: owner, Name: "ann@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.FinishRegistration(owner, state, d.create(t, options)); !errors.Is(err, ErrRefused) {
		t.Errorf("an app with another certificate: %v", err)
	}
}

// TestVectors has the vectors of WebAuthn Level 3, section 16. Those without user verification are good as a second
// factor only.
func TestVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/w3c.json")
	if err != nil {
		t.Fatal(err)
	}
	type octets = hexBytes
	var vectors []struct {
		Name         string
		Algorithm    int64
		CredentialID octets `json:"credential_id"`
		PublicKey    octets `json:"public_key"`
		Registration struct {
			Challenge         octets
			ClientData        octets `json:"client_data"`
			AttestationObject octets `json:"attestation_object"`
		}
		Login struct {
			Challenge         octets
			ClientData        octets `json:"client_data"`
			AuthenticatorData octets `json:"authenticator_data"`
			Signature         octets
		}
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) != 4 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	p, err := New("example.org", "Example", []string{"https://example.org"})
	if err != nil {
		t.Fatal(err)
	}
	owner := uuid.New()
	const uv = byte(protocol.FlagUserVerified)
	for _, v := range vectors {
		for _, need := range []protocol.UserVerificationRequirement{protocol.VerificationPreferred, protocol.VerificationRequired} {
			good := func(flags byte) bool { return need == protocol.VerificationPreferred || flags&uv != 0 }
			state := webauthn.SessionData{
				Challenge: v.Registration.Challenge.base64(), RelyingPartyID: "example.org", UserID: owner[:], UserVerification: need,
				CredParams: []protocol.CredentialParameter{{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.COSEAlgorithmIdentifier(v.Algorithm)}},
			}
			made, err := p.FinishRegistration(owner, mustJSON(t, state), mustJSON(t, map[string]any{
				"id": v.CredentialID.base64(), "rawId": v.CredentialID.base64(), "type": "public-key", "clientExtensionResults": map[string]any{},
				"response": map[string]any{"clientDataJSON": v.Registration.ClientData.base64(), "attestationObject": v.Registration.AttestationObject.base64()},
			}))
			at := bytes.Index(v.Registration.AttestationObject, v.Login.AuthenticatorData[:32]) + 32
			if flags := v.Registration.AttestationObject[at]; good(flags) != (err == nil) {
				t.Fatalf("%s, %s: registration with flags %02x: %v", v.Name, need, flags, err)
			} else if err == nil && (!bytes.Equal(made.ID, v.CredentialID) || !bytes.Equal(made.PublicKey, v.PublicKey) || made.Flags != flags) {
				t.Errorf("%s: %+v", v.Name, made)
			}
			credential := Credential{ID: v.CredentialID, PublicKey: v.PublicKey, Flags: v.Registration.AttestationObject[at]}
			state = webauthn.SessionData{Challenge: v.Login.Challenge.base64(), RelyingPartyID: "example.org", UserID: owner[:], UserVerification: need}
			answer := mustJSON(t, map[string]any{
				"id": v.CredentialID.base64(), "rawId": v.CredentialID.base64(), "type": "public-key", "clientExtensionResults": map[string]any{},
				"response": map[string]any{
					"clientDataJSON": v.Login.ClientData.base64(), "authenticatorData": v.Login.AuthenticatorData.base64(), "signature": v.Login.Signature.base64(),
				},
			})
			login, err := p.FinishLogin(mustJSON(t, state), answer, store(owner, &credential))
			if flags := v.Login.AuthenticatorData[32]; good(flags) != (err == nil) || login.UserVerified != (err == nil && flags&uv != 0) {
				t.Errorf("%s, %s: login with flags %02x: %+v, %v", v.Name, need, flags, login, err)
			}
		}
	}
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func (h hexBytes) base64() string { return base64.RawURLEncoding.EncodeToString(h) }

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAcceptedCredentials(t *testing.T) {
	t.Parallel()
	owner := uuid.MustParse("00010203-0405-4607-8809-0a0b0c0d0e0f")
	p := newParty(t)
	for want, ids := range map[string][][]byte{
		`{"allAcceptedCredentialIds":["YQ","_w"],"rpId":"example.com","userId":"AAECAwQFRgeICQoLDA0ODw"}`: {[]byte("a"), {255}},
		`{"allAcceptedCredentialIds":[],"rpId":"example.com","userId":"AAECAwQFRgeICQoLDA0ODw"}`:          nil,
	} {
		if got, err := p.AcceptedCredentials(owner, ids); err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"EXAMPLE.com": "example.com", "localhost": "localhost", "LOCALHOST": "localhost", "a-b.c1.example": "a-b.c1.example",
		"": "", "example": "", "127.0.0.1": "", "::1": "", "https://example.com": "", "example.com:443": "", "example.com.": "",
		".example.com": "", "-a.example": "", "ex_ample.com": "", "bücher.example": "", strings.Repeat("a", 64) + ".example": "",
		strings.Repeat("a.", 130) + "example": "",
	} {
		if got, err := ParseID(text); got != want || (err == nil) != (want != "") {
			t.Errorf("ParseID(%q) = %q, %v", text, got, err)
		}
	}
	hash := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{255}, 32))
	for _, c := range []struct{ id, text, want string }{
		{"example.com", "HTTPS://App.Example.com:443", "https://app.example.com"},
		{"example.com", "https://example.com:8443", "https://example.com:8443"},
		{"example.com", androidPrefix + hash, androidPrefix + hash},
		{"localhost", "http://localhost:8080", "http://localhost:8080"},
		{"localhost", "http://localhost:80", "http://localhost"},
		{"localhost", "https://localhost", "https://localhost"},
		{"localhost", "http://a.localhost:8080", ""},
		{"localhost", "http://127.0.0.1:8080", ""},
		{"example.com", "http://example.com", ""},
		{"example.com", "https://example.com/", ""},
		{"example.com", "https://example.com?", ""},
		{"example.com", "https://example.com#", ""},
		{"example.com", "https://user@example.com", ""},
		{"example.com", "https://example.com:", ""},
		{"example.com", "https://badexample.com", ""},
		{"example.com", "https://example.com.evil.test", ""},
		{"example.com", "https://*.example.com", ""},
		{"app.example.com", "https://example.com", ""},
		{"example.com", "example.com", ""},
		{"example.com", androidPrefix + hash + "=", ""},
		{"example.com", androidPrefix + hash[:42], ""},
	} {
		if got, err := ParseOrigin(c.id, c.text); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("ParseOrigin(%q, %q) = %q, %v", c.id, c.text, got, err)
		}
	}
}

func TestModelNames(t *testing.T) {
	t.Parallel()
	if got := ModelName(uuid.MustParse("EA9B8D66-4D01-1D21-3CE4-B6B48CB575D4")); got != "Google Password Manager" {
		t.Error(got)
	}
	if got := ModelName(uuid.Nil); got != "" {
		t.Error(got)
	}
}

// Transports come from the client, unchecked.
func TestTransportsAreHints(t *testing.T) {
	t.Parallel()
	p, owner := newParty(t), uuid.New()
	d := newDevice(t, owner, virtualwebauthn.AuthenticatorOptions{})
	options, state, err := p.BeginRegistration(User{ID: owner, Name: "ann@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := strings.Replace(string(d.create(t, options)), `"response":{`,
		`"clientExtensionResults":{"credProps":{"rk":true},"appid":false},"response":{"transports":["usb","<script>","usb","internal"],`, 1)
	credential, err := p.FinishRegistration(owner, state, []byte(answer))
	if err != nil || !slices.Equal(credential.Transports, []string{"usb", "internal"}) {
		t.Errorf("%v, %v", credential.Transports, err)
	}
}
