// Package refreshtoken defines the form of a refresh token, and the keys of its MAC. A token is a generation
// of a session under a MAC, so that nothing of it needs to be stored. internal/session keeps the sessions and
// compares generations.
package refreshtoken

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/strict"
)

const (
	// Prefix tells people, and scanners of leaked secrets, what they have found.
	Prefix = "lkr_"
	// version is the first byte of every token. A new layout, or a new MAC, needs a new number.
	version = 1

	keyIDSize = 4
	macSize   = sha256.Size
	// size counts version, key id, session id, generation and MAC: 61 bytes, which are 82 characters of text.
	size = 1 + keyIDSize + 16 + 8 + macSize

	// MinKeySize is the smallest size of a MAC key in bytes. A key that is shorter than the output of the hash
	// is the weakest part (RFC 2104, section 3).
	MinKeySize = sha256.Size
	// SaltSize is the size of a session's salt in bytes, that of the hash: guessing a salt is as hopeless as
	// guessing a key.
	SaltSize = sha256.Size

	// FirstGeneration is the generation of a session's first token. 0 is no generation of any token.
	FirstGeneration = 1
	// LastGeneration is the last generation of a session, which then ends. The numbers of Redis scripts are
	// doubles, which are exact up to 2^53. With a thousand refreshes per second, a session would reach it in
	// 285,000 years.
	LastGeneration = 1<<53 - 1
)

// ErrMalformed is the error of Parse. It carries nothing of the text.
var ErrMalformed = errors.New("refresh token: malformed")

// encoding rejects set bits after the last byte, so that a token has one spelling only.
func encoding() *base64.Encoding { return base64.RawURLEncoding.Strict() }

// KeyID names the key of a MAC, so that Open need not try one key after the other. It is derived from the
// key, and reveals nothing about it.
type KeyID [keyIDSize]byte

// String returns the id in hexadecimal.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// Token is a refresh token that was parsed. It proves nothing until its MAC was checked.
type Token struct {
	// KeyID names the key of the MAC.
	KeyID KeyID
	// SessionID is the session.
	SessionID uuid.UUID
	// Generation is the number of the token in its session, from FirstGeneration to LastGeneration.
	Generation uint64
	// MAC is that of Key.MAC if the token is genuine.
	MAC [macSize]byte
}

// Encode returns the text of the token. Keep it out of logs.
func (t Token) Encode() string {
	raw := make([]byte, 0, size)
	raw = append(raw, version)
	raw = append(raw, t.KeyID[:]...)
	raw = append(raw, t.SessionID[:]...)
	raw = binary.BigEndian.AppendUint64(raw, t.Generation)
	raw = append(raw, t.MAC[:]...)
	return Prefix + encoding().EncodeToString(raw)
}

// Parse is the inverse of Encode. It accepts only one spelling of each token. Every error is ErrMalformed.
func Parse(text string) (Token, error) {
	encoded, found := strings.CutPrefix(text, Prefix)
	// Compare the length first, so that a megabyte of text costs nothing.
	if !found || len(encoded) != encoding().EncodedLen(size) {
		return Token{}, ErrMalformed
	}
	raw, err := strict.Segment(encoded)
	if err != nil || len(raw) != size || raw[0] != version {
		return Token{}, ErrMalformed
	}
	var t Token
	rest := raw[1:]
	rest = rest[copy(t.KeyID[:], rest):]
	rest = rest[copy(t.SessionID[:], rest):]
	t.Generation = binary.BigEndian.Uint64(rest)
	copy(t.MAC[:], rest[8:])
	if t.Generation < FirstGeneration || t.Generation > LastGeneration {
		return Token{}, ErrMalformed
	}
	return t, nil
}

// Key makes MACs with one secret. Make it with NewKeys.
type Key struct {
	// ID names the key in tokens.
	ID     KeyID
	secret []byte
}

// Keys are the keys whose tokens are accepted, the current one first. They are not changed after NewKeys.
type Keys []Key

// NewKeys copies the secrets, which have MinKeySize bytes or more. A secret that is given twice becomes one
// key.
func NewKeys(secrets [][]byte) (Keys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("refresh token: no key: give the current one first, then the previous ones")
	}
	var ring Keys
	for i, secret := range secrets {
		if len(secret) < MinKeySize {
			return nil, fmt.Errorf("refresh token: key %d has %d bytes: use %d random bytes or more", i, len(secret), MinKeySize)
		}
		name, err := hkdf.Key(sha256.New, secret, nil, "latchkey refresh token key id", keyIDSize)
		if err != nil {
			return nil, fmt.Errorf("refresh token: name key %d: %w", i, err)
		}
		key := Key{ID: KeyID(name), secret: bytes.Clone(secret)}
		known, found := ring.Find(key.ID)
		if found && !bytes.Equal(known.secret, key.secret) {
			return nil, fmt.Errorf("refresh token: key %d has the id of another one by chance: use another key", i)
		}
		if !found {
			ring = append(ring, key)
		}
	}
	return ring, nil
}

// Current returns the key of new sessions.
func (r Keys) Current() Key { return r[0] }

// Find returns the key with this id, and whether there is one.
func (r Keys) Find(id KeyID) (Key, bool) {
	for _, key := range r {
		if key.ID == id {
			return key, true
		}
	}
	return Key{}, false
}

// Named returns the key with this id (in hexadecimal), or the current key if no key has this id, or none has
// it any more.
func (r Keys) Named(id string) Key {
	for _, key := range r {
		if key.ID.String() == id {
			return key
		}
	}
	return r.Current()
}

// Binding has the facts of a session that the MACs of its tokens cover, beside the generation. They are fixed
// when the session starts. The position is one of them: a revocation of all sessions of a user refuses lower
// positions, and an attacker who can write to Redis must not be able to raise the position above that of the
// revocation.
type Binding struct {
	// SessionID and UserID name the session and its user.
	SessionID, UserID uuid.UUID
	// End is the absolute end of the session, in milliseconds since 1970.
	End int64
	// Position is the position of the ledger at the login.
	Position int64
	// Salt is random, and known to Redis only.
	Salt [SaltSize]byte
}

// MAC returns the MAC of one generation. Its key is derived from the secret, which Redis does not know, and
// from the session's salt, which only Redis knows: an attacker needs both to make a token.
func (k Key) MAC(b Binding, generation uint64) ([macSize]byte, error) {
	key, err := hkdf.Key(sha256.New, k.secret, b.Salt[:], "latchkey refresh token", sha256.Size)
	if err != nil {
		return [macSize]byte{}, fmt.Errorf("refresh token: derive the MAC key: %w", err)
	}
	// Every field has a fixed size, so no two inputs share an encoding.
	input, err := binary.Append(nil, binary.BigEndian, struct {
		Version    uint8
		Session    [16]byte
		Generation uint64
		User       [16]byte
		End        int64
		Position   int64
	}{version, b.SessionID, generation, b.UserID, b.End, b.Position})
	if err != nil {
		return [macSize]byte{}, fmt.Errorf("refresh token: encode the MAC's input: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(input)
	return [macSize]byte(h.Sum(nil)), nil
}

// Issue returns the token of one generation. The same arguments give the same token, so a retry gets the
// answer that was lost, although no token is stored.
func (k Key) Issue(b Binding, generation uint64) (string, error) {
	mac, err := k.MAC(b, generation)
	if err != nil {
		return "", err
	}
	return Token{KeyID: k.ID, SessionID: b.SessionID, Generation: generation, MAC: mac}.Encode(), nil
}

// RequestHash returns what Redis stores instead of a request id. The hash has a key, because clients may
// number their requests, and it covers the session and the generation. An empty id has an empty hash, which
// never equals another.
func (k Key) RequestHash(b Binding, generation uint64, requestID string) (string, error) {
	if requestID == "" {
		return "", nil
	}
	key, err := hkdf.Key(sha256.New, k.secret, b.Salt[:], "latchkey refresh request", sha256.Size)
	if err != nil {
		return "", fmt.Errorf("refresh token: derive the request key: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(binary.BigEndian.AppendUint64(nil, generation))
	h.Write([]byte(requestID))
	return hex.EncodeToString(h.Sum(nil)), nil
}
