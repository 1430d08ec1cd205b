// Package refreshtoken defines the two forms of a refresh token, and the keys of its MAC. A token is a generation
// of a session under a MAC, so that nothing of it needs to be stored. internal/session keeps the sessions and
// compares generations.
//
// The MAC of a short token can be checked only with facts of its session, which are in Redis. A long token carries
// them, so its MAC is checked without a store. To make a token of either form, one needs the secret and the
// session's salt: the salt is in the MAC of a short token, and in the proof of a long one.
package refreshtoken

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // G505: see Binding.Proof
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
	// The first byte of every token. A new layout, or a new MAC, needs a new number.
	shortVersion = 1
	longVersion  = 2

	keyIDSize = 4
	macSize   = sha256.Size
	// shortSize counts version, key id, session id, generation and MAC: 61 bytes, which are 82 characters of text.
	shortSize = headSize + macSize
	// longSize counts also user id, end, position and proof, before the MAC: 113 bytes, which are 151 characters.
	longSize = headSize + 16 + 8 + 8 + ProofSize + macSize
	headSize = 1 + keyIDSize + 16 + 8

	// ProofSize is the size of a proof in bytes.
	ProofSize = sha1.Size
	// longSuffix marks the name of a Maker of long tokens. A release that knows only short tokens finds no key of
	// such a name, and makes a short token with its current key.
	longSuffix = ".2"

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
	// Carried has what a long token carries. It is nil for a short one.
	Carried *Carried
	// MAC is that of Key.MAC, or that of Key.LongMAC, if the token is genuine.
	MAC [macSize]byte
}

// Carried has the facts of a session that its long tokens carry, and the proof.
type Carried struct {
	// UserID, End and Position are those of Binding.
	UserID        uuid.UUID
	End, Position int64
	// Proof is that of Binding.Proof if the token is genuine.
	Proof [ProofSize]byte
}

// Encode returns the text of the token. Keep it out of logs.
func (t Token) Encode() string {
	return Prefix + encoding().EncodeToString(append(t.signed(), t.MAC[:]...))
}

// signed returns the bytes before the MAC. Every field has a fixed size, so no two tokens share them.
func (t Token) signed() []byte {
	version := byte(shortVersion)
	if t.Carried != nil {
		version = longVersion
	}
	raw := make([]byte, 0, longSize)
	raw = append(raw, version)
	raw = append(raw, t.KeyID[:]...)
	raw = append(raw, t.SessionID[:]...)
	raw = binary.BigEndian.AppendUint64(raw, t.Generation)
	if c := t.Carried; c != nil {
		raw = append(raw, c.UserID[:]...)
		raw = binary.BigEndian.AppendUint64(raw, uint64(c.End))      //nolint:gosec // G115: the same bits
		raw = binary.BigEndian.AppendUint64(raw, uint64(c.Position)) //nolint:gosec // G115: the same bits
		raw = append(raw, c.Proof[:]...)
	}
	return raw
}

// Parse is the inverse of Encode. It accepts only one spelling of each token. Every error is ErrMalformed.
func Parse(text string) (Token, error) {
	encoded, found := strings.CutPrefix(text, Prefix)
	// Compare the length first, so that a megabyte of text costs nothing.
	long := len(encoded) == encoding().EncodedLen(longSize)
	if !found || !long && len(encoded) != encoding().EncodedLen(shortSize) {
		return Token{}, ErrMalformed
	}
	version, size := byte(shortVersion), shortSize
	if long {
		version, size = longVersion, longSize
	}
	raw, err := strict.Segment(encoded)
	if err != nil || len(raw) != size || raw[0] != version {
		return Token{}, ErrMalformed
	}
	var t Token
	rest := raw[1:]
	rest = rest[copy(t.KeyID[:], rest):]
	rest = rest[copy(t.SessionID[:], rest):]
	t.Generation, rest = binary.BigEndian.Uint64(rest), rest[8:]
	if long {
		var c Carried
		rest = rest[copy(c.UserID[:], rest):]
		c.End, rest = int64(binary.BigEndian.Uint64(rest)), rest[8:]      //nolint:gosec // G115: the same bits
		c.Position, rest = int64(binary.BigEndian.Uint64(rest)), rest[8:] //nolint:gosec // G115: the same bits
		rest = rest[copy(c.Proof[:], rest):]
		t.Carried = &c
	}
	copy(t.MAC[:], rest)
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
	// long is the key of the MACs of long tokens, requests that of their request ids.
	long, requests []byte
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
		key, err := newKey(secret)
		if err != nil {
			return nil, fmt.Errorf("refresh token: key %d: %w", i, err)
		}
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

func newKey(secret []byte) (Key, error) {
	name, err := hkdf.Key(sha256.New, secret, nil, "latchkey refresh token key id", keyIDSize)
	if err != nil {
		return Key{}, err
	}
	long, err := hkdf.Key(sha256.New, secret, nil, "latchkey long refresh token", sha256.Size)
	if err != nil {
		return Key{}, err
	}
	requests, err := hkdf.Key(sha256.New, secret, nil, "latchkey long refresh request", sha256.Size)
	if err != nil {
		return Key{}, err
	}
	return Key{ID: KeyID(name), secret: bytes.Clone(secret), long: long, requests: requests}, nil
}

// Maker makes the tokens of one key in one form.
type Maker struct {
	// Key is the key of the MACs.
	Key Key
	// Long is the form.
	Long bool
}

// Name returns the name by which Keys.Named finds the maker again: at most 10 characters.
func (m Maker) Name() string {
	if m.Long {
		return m.Key.ID.String() + longSuffix
	}
	return m.Key.ID.String()
}

// Issue returns the token of one generation. The same arguments give the same token, so a retry gets the
// answer that was lost, although no token is stored.
func (m Maker) Issue(b Binding, generation uint64) (string, error) {
	t := Token{KeyID: m.Key.ID, SessionID: b.SessionID, Generation: generation}
	var err error
	if m.Long {
		t.Carried = &Carried{UserID: b.UserID, End: b.End, Position: b.Position, Proof: b.Proof(generation)}
		t.MAC = m.Key.LongMAC(t)
	} else {
		t.MAC, err = m.Key.MAC(b, generation)
	}
	if err != nil {
		return "", err
	}
	return t.Encode(), nil
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

// Named returns the maker of this name. If its key is not one of these, or none any more, the maker has the
// current key.
func (r Keys) Named(name string) Maker {
	id, long := strings.CutSuffix(name, longSuffix)
	for _, key := range r {
		if key.ID.String() == id {
			return Maker{Key: key, Long: long}
		}
	}
	return Maker{Key: r.Current(), Long: long}
}

// Binding has the facts of a session that its tokens are bound to, beside the generation. They are fixed
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

// ProofLabel returns the text that Redis and Proof hash after the salt. Its length is fixed.
func ProofLabel(generation uint64) string {
	return fmt.Sprintf("latchkey refresh token %016x", generation)
}

// Proof returns what shows Redis that the maker of a token knew the salt, although the token does not hold it: a
// spent token, together with the secret, is not enough to make the next one.
//
// Redis compares it, and has no other hash than SHA-1, whose collisions are no help: the input has a fixed length, so
// it cannot be extended, and its first block is the salt in hexadecimal, so the hash is a function with a secret key
// of 256 bits. Somebody without the secret cannot try proofs, because the MAC covers them.
func (b Binding) Proof(generation uint64) [ProofSize]byte {
	return sha1.Sum([]byte(hex.EncodeToString(b.Salt[:]) + ProofLabel(generation))) //nolint:gosec // G401: see above
}

// LongMAC returns the MAC of a long token. It covers everything before it, and needs no store.
func (k Key) LongMAC(t Token) [macSize]byte {
	h := hmac.New(sha256.New, k.long)
	h.Write(t.signed())
	return [macSize]byte(h.Sum(nil))
}

// MAC returns the MAC of one generation in a short token. Its key is derived from the secret, which Redis does not
// know, and from the session's salt, which only Redis knows: an attacker needs both to make a token.
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
	}{shortVersion, b.SessionID, generation, b.UserID, b.End, b.Position})
	if err != nil {
		return [macSize]byte{}, fmt.Errorf("refresh token: encode the MAC's input: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(input)
	return [macSize]byte(h.Sum(nil)), nil
}

// LongRequestHash is RequestHash for a long token, whose salt is not known when the hash is needed.
func (k Key) LongRequestHash(sessionID uuid.UUID, generation uint64, requestID string) string {
	if requestID == "" {
		return ""
	}
	return requestHash(k.requests, append(sessionID[:], binary.BigEndian.AppendUint64(nil, generation)...), requestID)
}

func requestHash(key, head []byte, requestID string) string {
	h := hmac.New(sha256.New, key)
	h.Write(head)
	h.Write([]byte(requestID))
	return hex.EncodeToString(h.Sum(nil))
}

// RequestHash returns what Redis stores instead of the request id of a short token. The hash has a key, because
// clients may number their requests, and it covers the session and the generation. An empty id has an empty hash,
// which never equals another. Of b it needs the salt.
func (k Key) RequestHash(b Binding, generation uint64, requestID string) (string, error) {
	if requestID == "" {
		return "", nil
	}
	key, err := hkdf.Key(sha256.New, k.secret, b.Salt[:], "latchkey refresh request", sha256.Size)
	if err != nil {
		return "", fmt.Errorf("refresh token: derive the request key: %w", err)
	}
	return requestHash(key, binary.BigEndian.AppendUint64(nil, generation), requestID), nil
}
