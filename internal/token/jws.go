package token

import (
	"encoding/base64"
	"strings"
)

// maxTokenBytes is the longest token that is issued or looked at.
const maxTokenBytes = 4096

// jws is a token in JWS compact serialisation (RFC 7515, section 3.1), taken
// apart but not yet believed.
type jws struct {
	signed    string // the first two parts with their dot: what is signed
	signature []byte
	payload   string // still encoded: nothing reads it before the signature holds
	algorithm Algorithm
	keyID     string
	typ       string
}

// parseJWS checks the form and the header of a token. It fails with ErrInvalid.
func parseJWS(token string) (*jws, error) {
	if len(token) > maxTokenBytes {
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
	parsed := &jws{signed: token[:len(head)+1+len(payload)], signature: signature, payload: payload}
	if err := parsed.readHeader(header); err != nil {
		return nil, err
	}
	return parsed, nil
}

// readHeader takes the parameters that matter from the header. "jwk", "jku",
// "x5c" and "x5u" are never among them: a token does not bring its own key.
func (j *jws) readHeader(header []byte) error {
	parameters, err := decodeObject(header)
	if err != nil {
		return invalid("header: " + err.Error())
	}
	// No extension is understood here, so any that is marked critical must be
	// refused (RFC 7515, section 4.1.11).
	if _, present := parameters["crit"]; present {
		return invalid("critical header parameter")
	}
	name, _ := parameters.text("alg")
	if j.algorithm, err = ParseAlgorithm(name); err != nil {
		return invalid("algorithm is not allowed")
	}
	if j.keyID, _ = parameters.text("kid"); j.keyID == "" {
		return invalid("no key id")
	}
	j.typ, _ = parameters.text("typ")
	return nil
}

// verify returns the payload once key has signed it. It fails with ErrInvalid.
func (j *jws) verify(key *signingKey) ([]byte, error) {
	// The key decides the algorithm; the header may only agree.
	if j.algorithm != key.algorithm {
		return nil, invalid("algorithm is not the key's")
	}
	if err := key.method.Verify(j.signed, j.signature, key.public); err != nil {
		return nil, invalid("signature does not match")
	}
	return decodeSegment(j.payload)
}

// isAccessToken says whether the type is RFC 9068's. Media types compare without
// regard to ASCII case (section 4); equal lengths keep longer look-alikes out of
// EqualFold, which folds Unicode.
func (j *jws) isAccessToken() bool {
	for _, typ := range []string{typAccessToken, "application/" + typAccessToken} {
		if len(j.typ) == len(typ) && strings.EqualFold(j.typ, typ) {
			return true
		}
	}
	return false
}

// decodeSegment undoes base64url strictly: no padding, no white space, unused
// bits zero. So a token has one spelling only. It fails with ErrInvalid.
func decodeSegment(segment string) ([]byte, error) {
	// The decoder skips CR and LF even when strict.
	if strings.ContainsAny(segment, "\r\n") {
		return nil, invalid("not base64url")
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, invalid("not base64url")
	}
	return data, nil
}
