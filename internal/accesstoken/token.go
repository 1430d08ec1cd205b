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
	// TokenTypeJWT is the "typ" if LATCHKEY_TOKEN_TYPE says so, for verifiers that do not know RFC 9068. Both
	// types are always accepted: while the setting changes, clients have tokens of both, and the keys sign
	// access tokens only.
	TokenTypeJWT = "JWT"
	// MaxTokenBytes is the length of the longest token that is issued or read.
	MaxTokenBytes = 4096
)

// Token is an access token in JWS compact serialisation (RFC 7515, section 3.1). It was parsed, and its
// signature was not checked yet.
type Token struct {
	signed    string // the first two parts with their dot: the signature covers these
	signature []byte
	payload   string // still encoded: nothing reads it before the signature was checked
	algorithm Algorithm
	keyID     string
	typ       string
}

// ParseToken checks the form and the header of an access token. Its errors are ErrInvalid.
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

// KeyID is the "kid": the id of the key that, as the token says, has signed it. Never empty.
func (t *Token) KeyID() string { return t.keyID }

// Claims returns the claims if key has signed the token and the claims meet the rules at now. It returns
// ErrInvalid, or ErrExpired if only the time is wrong.
func (t *Token) Claims(key *Key, rules Rules, now time.Time) (*Claims, error) {
	claims, _, err := t.ClaimsUnder(key, now, rules)
	return claims, err
}

// ClaimsUnder is Claims for a token that must meet one of several rules. It also returns the index of the
// rules that the token meets. If it meets none, the error is that of the first rules.
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

// readHeader reads the parameters that are needed. It never reads "jwk", "jku", "x5c" and "x5u": a token must
// not choose the key that checks it.
func (t *Token) readHeader(header []byte) error {
	parameters, err := strict.ParseObject(header)
	if err != nil {
		return invalid("header: " + err.Error())
	}
	// This package knows no extensions, so it must refuse tokens with a critical one (RFC 7515, section 4.1.11).
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

// verify returns the payload if key has signed it, else ErrInvalid.
func (t *Token) verify(key *Key) ([]byte, error) {
	// The key decides the algorithm. The header must name the same one.
	if t.algorithm != key.algorithm {
		return nil, invalid("algorithm is not the key's")
	}
	if err := key.method.Verify(t.signed, t.signature, key.public); err != nil {
		return nil, invalid("signature does not match")
	}
	return decodeSegment(t.payload)
}

// isAccessToken returns whether the type is one of those of access tokens.
func (t *Token) isAccessToken() bool { return t.IsType(TokenType) || t.IsType(TokenTypeJWT) }

// IsType returns whether "typ" is typ, with or without "application/". Media types ignore ASCII case (RFC
// 9068, section 4; RFC 7515, section 4.1.9). EqualFold also folds Unicode, whose letters are longer, so
// compare the lengths first.
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
