// Package passkey has the ceremonies of WebAuthn (Level 3) by which a passkey is registered and proved. It keeps nothing:
// the caller stores what Begin returns, gives it to Finish once, and stores the credentials.
package passkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
)

// MaxAnswer is the most bytes of a client's answer. The library has no bound; an answer with a certificate has 3 KiB.
const MaxAnswer = 16 << 10

// maxCredentialID is the most bytes of a credential's id (WebAuthn, section 5.8.3).
const maxCredentialID = 1023

// ErrRefused says that an answer is not right. The errors of the library are never passed on: they hold the challenge and
// texts that the client chose.
var ErrRefused = errors.New("the answer of the passkey is not right")

// ErrUnknown is for the find function of FinishLogin: there is no such credential.
var ErrUnknown = errors.New("no account has the passkey")

// User is the owner of a passkey.
type User struct {
	// ID must never change: passkeys are found by it.
	ID uuid.UUID
	// Name is the address. The dialogs of browsers show Name and DisplayName. If DisplayName is empty, Name takes its
	// place.
	Name, DisplayName string
}

// Credential is a passkey as it is stored.
type Credential struct {
	// ID is unique over all accounts, 1 to 1,023 bytes. PublicKey is a COSE key.
	ID, PublicKey []byte
	// Flags is the byte of the authenticator data. The bit "backup eligible" may never change, so it must be stored.
	Flags byte
	// SignCount is the highest that the passkey has shown. Synced passkeys always show 0.
	SignCount uint32
	// AAGUID names the model of the authenticator. It is not proved. AAGUIDs of nothing but zeros are usual.
	AAGUID uuid.UUID
	// Transports are hints for the browser, and not proved.
	Transports []string
}

// Owner is a credential and whose it is.
type Owner struct {
	UserID     uuid.UUID
	Credential Credential
}

// Login is what the right answer of a passkey proves.
type Login struct {
	UserID uuid.UUID
	// Credential is to be stored in place of the old one: its Flags and SignCount may have changed.
	Credential Credential
	// UserVerified is true if the authenticator has verified its user in this login, by a PIN or a finger.
	UserVerified bool
	// CountFellBack is true if the sign count was not higher than the one before: perhaps the passkey was copied.
	// Authenticators that are reset or restored do that too, so it is no reason to refuse.
	CountFellBack bool
}

// Party is the relying party: the service for which passkeys are made. Use New. It is safe for use by several goroutines.
type Party struct {
	id       string
	webauthn *webauthn.WebAuthn
}

// New returns the relying party with this RP id, of ParseID, and these origins, of ParseOrigin. Browsers show the name.
func New(id, name string, origins []string) (*Party, error) {
	isAndroid := func(origin string) bool { return strings.HasPrefix(origin, androidPrefix) }
	pages := slices.DeleteFunc(slices.Clone(origins), isAndroid)
	apps := slices.DeleteFunc(slices.Clone(origins), func(origin string) bool { return !isAndroid(origin) })
	if len(pages) == 0 {
		// The library wants one. Apps of Android alone are right too, and the page of the RP id is never wrong.
		pages = []string{"https://" + id}
	}
	w, err := webauthn.New(&webauthn.Config{
		RPID: id, RPDisplayName: name, RPOrigins: pages, RPOpaqueOrigins: apps,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		// Clients in the field send outputs that nobody asked for (credProps, appid:false). Nothing reads them.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil, fmt.Errorf("set passkeys up: %w", err)
	}
	return &Party{id: id, webauthn: w}, nil
}

// ID returns the RP id.
func (p *Party) ID() string { return p.id }

// BeginRegistration returns the options for the client, as parseCreationOptionsFromJSON of browsers takes them, and the
// state for FinishRegistration. Authenticators that have one of the existing passkeys make no other.
func (p *Party) BeginRegistration(user User, existing []Credential) (options, state []byte, err error) {
	owner := owner(user.ID, existing...)
	owner.name, owner.displayName = user.Name, user.DisplayName
	if owner.displayName == "" {
		owner.displayName = user.Name
	}
	creation, session, err := p.webauthn.BeginRegistration(owner,
		webauthn.WithExclusions(descriptors(existing)),
		webauthn.WithCredentialParameters(webauthn.CredentialParametersRecommendedL3()), // -8, -7 and -257
	)
	if err != nil {
		return nil, nil, fmt.Errorf("begin the registration of a passkey: %w", err)
	}
	return marshal(creation.Response, session)
}

// FinishRegistration returns the new passkey of the user. The caller must have made sure that the state was never used
// before, since the library accepts the same answer again, and must refuse an id that is stored already. It returns
// ErrRefused for a wrong answer.
func (p *Party) FinishRegistration(userID uuid.UUID, state, answer []byte) (Credential, error) {
	session, err := unmarshal(state)
	if err != nil {
		return Credential{}, err
	}
	if len(session.CredParams) == 0 || len(answer) > MaxAnswer {
		return Credential{}, ErrRefused
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return Credential{}, ErrRefused
	}
	made, err := p.webauthn.CreateCredential(owner(userID), session, parsed)
	if err != nil || len(made.ID) == 0 || len(made.ID) > maxCredentialID {
		return Credential{}, ErrRefused
	}
	credential := stored(made)
	for _, transport := range parsed.Response.Transports {
		if isTransport(transport) && !slices.Contains(credential.Transports, string(transport)) {
			credential.Transports = append(credential.Transports, string(transport))
		}
	}
	return credential, nil
}

// BeginLogin returns the options for the client, as parseRequestOptionsFromJSON of browsers takes them, and the state for
// FinishLogin, for a login whose owner the passkey names. The authenticator must verify its user.
func (p *Party) BeginLogin() (options, state []byte, err error) {
	assertion, session, err := p.webauthn.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, nil, fmt.Errorf("begin a login by passkey: %w", err)
	}
	return marshal(assertion.Response, session)
}

// BeginProof is BeginLogin for a user whom a password has named. The authenticator verifies its user if it can; Login
// says whether it did. There must be one passkey at least.
func (p *Party) BeginProof(userID uuid.UUID, passkeys []Credential) (options, state []byte, err error) {
	assertion, session, err := p.webauthn.BeginLogin(owner(userID, passkeys...), webauthn.WithUserVerification(protocol.VerificationPreferred))
	if err != nil {
		return nil, nil, fmt.Errorf("begin a proof by passkey: %w", err)
	}
	// The list is a hint for the browser. Any passkey of the user is good; with the list, the library would want all of them
	// to be there still. Without, the state has about 200 bytes.
	session.AllowedCredentialIDs = nil
	return marshal(assertion.Response, session)
}

// FinishLogin checks the answer to BeginLogin or BeginProof. find returns the stored passkey with an id, or ErrUnknown;
// it runs before anything is checked, so it must only read. The caller must make sure that a state gives one login at
// most, since the library accepts the same answer again. FinishLogin returns ErrRefused for a wrong answer, and other
// errors of find as they are.
func (p *Party) FinishLogin(state, answer []byte, find func(id []byte) (Owner, error)) (Login, error) {
	session, err := unmarshal(state)
	if err != nil {
		return Login{}, err
	}
	if len(session.CredParams) > 0 || len(answer) > MaxAnswer {
		return Login{}, ErrRefused
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Login{}, ErrRefused
	}
	found, err := find(parsed.RawID)
	if errors.Is(err, ErrUnknown) {
		return Login{}, ErrRefused
	}
	if err != nil {
		return Login{}, err
	}
	proved, err := p.validate(session, parsed, owner(found.UserID, found.Credential))
	if err != nil {
		return Login{}, ErrRefused
	}
	login := Login{
		UserID: found.UserID, Credential: stored(proved), CountFellBack: proved.Authenticator.CloneWarning,
		// Not the flag of the returned credential: that is the one of the registration.
		UserVerified: parsed.Response.AuthenticatorData.Flags.HasUserVerified(),
	}
	login.Credential.Transports = found.Credential.Transports
	return login, nil
}

func (p *Party) validate(session webauthn.SessionData, parsed *protocol.ParsedCredentialAssertionData, found user) (*webauthn.Credential, error) {
	if len(session.UserID) > 0 {
		return p.webauthn.ValidateLogin(found, session, parsed)
	}
	_, proved, err := p.webauthn.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return found, nil }, session, parsed)
	return proved, err
}

// AcceptedCredentials returns the argument of the browsers' PublicKeyCredential.signalAllAcceptedCredentials as JSON: all
// ids that are good. Browsers remove the user's other passkeys, so the ids must be from a fresh read.
func (p *Party) AcceptedCredentials(userID uuid.UUID, ids [][]byte) ([]byte, error) {
	message := protocol.SignalAllAcceptedCredentials{
		AllAcceptedCredentialIDs: []protocol.URLEncodedBase64{}, RPID: p.id, UserID: userID[:],
	}
	for _, id := range ids {
		message.AllAcceptedCredentialIDs = append(message.AllAcceptedCredentialIDs, id)
	}
	return json.Marshal(message)
}

// marshal returns the options without the wrapper {"publicKey": …} of the library, which browsers do not take.
func marshal(options any, session *webauthn.SessionData) (forClient, state []byte, err error) {
	if forClient, err = json.Marshal(options); err != nil {
		return nil, nil, fmt.Errorf("write the options for a passkey: %w", err)
	}
	if state, err = json.Marshal(session); err != nil {
		return nil, nil, fmt.Errorf("write the state of a passkey: %w", err)
	}
	return forClient, state, nil
}

func unmarshal(state []byte) (session webauthn.SessionData, err error) {
	if err := json.Unmarshal(state, &session); err != nil {
		return session, fmt.Errorf("read the state of a passkey: %w", err)
	}
	return session, nil
}

// user is a user as the library takes it.
type user struct {
	id                uuid.UUID
	name, displayName string
	credentials       []webauthn.Credential
}

func owner(id uuid.UUID, credentials ...Credential) user {
	u := user{id: id, name: id.String(), displayName: id.String()}
	for _, c := range credentials {
		u.credentials = append(u.credentials, webauthn.Credential{
			ID: c.ID, PublicKey: c.PublicKey, Transport: transports(c.Transports),
			Flags:         webauthn.CredentialFlagsFromMsgpByte(c.Flags),
			Authenticator: webauthn.Authenticator{AAGUID: c.AAGUID[:], SignCount: c.SignCount},
		})
	}
	return u
}

func (u user) WebAuthnID() []byte                         { return u.id[:] }
func (u user) WebAuthnName() string                       { return u.name }
func (u user) WebAuthnDisplayName() string                { return u.displayName }
func (u user) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

func descriptors(credentials []Credential) []protocol.CredentialDescriptor {
	list := make([]protocol.CredentialDescriptor, len(credentials))
	for i, c := range credentials {
		list[i] = protocol.CredentialDescriptor{
			Type: protocol.PublicKeyCredentialType, CredentialID: c.ID, Transport: transports(c.Transports),
		}
	}
	return list
}

func transports(texts []string) (list []protocol.AuthenticatorTransport) {
	for _, text := range texts {
		list = append(list, protocol.AuthenticatorTransport(text))
	}
	return list
}

func isTransport(t protocol.AuthenticatorTransport) bool {
	switch t {
	case protocol.USB, protocol.NFC, protocol.BLE, protocol.SmartCard, protocol.Hybrid, protocol.Internal:
		return true
	}
	return false
}

func stored(c *webauthn.Credential) Credential {
	aaguid, err := uuid.FromBytes(c.Authenticator.AAGUID)
	if err != nil {
		aaguid = uuid.Nil // a hint only
	}
	return Credential{
		ID: c.ID, PublicKey: c.PublicKey, Flags: c.Flags.MsgpByte(), SignCount: c.Authenticator.SignCount, AAGUID: aaguid,
	}
}
