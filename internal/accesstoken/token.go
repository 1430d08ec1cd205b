package accesstoken

import (
	"errors"
	"strings"
	"time"

	"github.com/latchkey-auth/latchkey/internal/strict"
)

const (
	// TokenType is the "typ" of access tokens (RFC 9068, section 2.1).
	TokenType = "at+jwt"
	// TokenTypeJWT is what it is where verifiers do not know RFC 9068: LATCHKEY_TOKEN_TYPE. Both are
	// accepted, for both are out while the setting changes, and the keys sign nothing but access tokens.
	TokenTypeJWT = "JWT"
	// MaxTokenBytes is the longest token that is issued or looked at.
	MaxTokenBytes = 4096
)

// Token is an access token in JWS compact serialisation (RFC 7515, section 3.1), taken apart but not yet
// believed.
type Token struct {
	signed    string // the first two parts with their dot: what is signed
	signature []byte
	payload   string // still encoded: nothing reads it before the signature holds
	algorithm Algorithm
	keyID     string
	typ       string
}

// ParseToken checks the form and the header of an access token. It fails with ErrInvalid.
func ParseToken(token string) (*Token, error) {
	parsed, err := parseJWS(token)
	if err != nil {
		return nil, err
	}
	if !parsed.isAccessToken() {
		return nil, invalid("not an access token")
	}
	return parsed, nil
}

// KeyID is the "kid": the key that the token says has signed it. Never empty.
func (t *Token) KeyID() string { return t.keyID }

// Claims returns what the token says once key has signed it and the rules hold at now. It fails with
// ErrInvalid, and with ErrExpired only when nothing but the time is wrong.
func (t *Token) Claims(key *Key, rules Rules, now time.Time) (*Claims, error) {
	claims, _, err := t.ClaimsUnder(key, now, rules)
	return claims, err
}

// ClaimsUnder is Claims for a token that may keep to any of some rules, one or more. It says which, by its
// place; when the token keeps to none, the error is that of the first.
func (t *Token) ClaimsUnder(key *Key, now time.Time, rules ...Rules) (*Claims, int, error) {
	payload, err := t.verify(key)
	if err != nil {
		return nil, 0, err
	}
	var first error
	for i, one := range rules {
		claims, err := one.read(payload, now)
		if !errors.Is(err, ErrInvalid) {
			return claims, i, err
		}
		if i == 0 {
			first = err
		}
	}
	return nil, 0, first
}

// parseJWS is ParseToken for any type of token.
func parseJWS(token string) (*Token, error) {
	if len(token) > MaxTokenBytes {
		return nil, invalid("longer than 4096 bytes")
	}
	head, rest, _ := strings.Cut(token, ".")
	payload, tail, _ := strings.Cut(rest, ".")
	if head == "" || payload == "" || tail == "" || strings.Contains(tail, ".") {
		return nil, invalid("not three parts")
	}
	header, err := decodeSegment(head)
	if err != nil {
		return nil, err
	}
	signature, err := decodeSegment(tail)
	if err != nil {
		return nil, err
	}
	parsed := &Token{signed: token[:len(head)+1+len(payload)], signature: signature, payload: payload}
	if err := parsed.readHeader(header); err != nil {
		return nil, err
	}
	return parsed, nil
}

// readHeader takes the parameters that matter from the header. "jwk", "jku", "x5c" and "x5u" are never among
// them: a token does not bring its own key.
func (t *Token) readHeader(header []byte) error {
	parameters, err := strict.ParseObject(header)
	if err != nil {
		return invalid("header: " + err.Error())
	}
	// No extension is understood here, so any that is marked critical must be refused (RFC 7515, section
	// 4.1.11).
	if _, present := parameters["crit"]; present {
		return invalid("critical header parameter")
	}
	name, _ := parameters.Text("alg")
	if t.algorithm, err = ParseAlgorithm(currentName(name)); err != nil {
		return invalid("algorithm is not allowed")
	}
	if t.keyID, _ = parameters.Text("kid"); t.keyID == "" {
		return invalid("no key id")
	}
	t.typ, _ = parameters.Text("typ")
	return nil
}

// verify returns the payload once key has signed it. It fails with ErrInvalid.
func (t *Token) verify(key *Key) ([]byte, error) {
	// The key decides the algorithm; the header may only agree.
	if t.algorithm != key.algorithm {
		return nil, invalid("algorithm is not the key's")
	}
	if err := key.method.Verify(t.signed, t.signature, key.public); err != nil {
		return nil, invalid("signature does not match")
	}
	return decodeSegment(t.payload)
}

// isAccessToken says whether the type is one that access tokens have.
func (t *Token) isAccessToken() bool { return t.IsType(TokenType) || t.IsType(TokenTypeJWT) }

// IsType says whether "typ" is typ, with or without "application/". Media types compare without regard to
// ASCII case (RFC 9068, section 4; RFC 7515, section 4.1.9); equal lengths keep longer look-alikes out of
// EqualFold, which folds Unicode.
func (t *Token) IsType(typ string) bool {
	for _, name := range []string{typ, "application/" + typ} {
		if len(t.typ) == len(name) && strings.EqualFold(t.typ, name) {
			return true
		}
	}
	return false
}

// decodeSegment is strict.Segment that fails with ErrInvalid.
func decodeSegment(segment string) ([]byte, error) {
	data, err := strict.Segment(segment)
	if err != nil {
		return nil, invalid(err.Error())
	}
	return data, nil
}
