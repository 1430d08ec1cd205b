package session

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
	// tokenPrefix lets people, and scanners of leaked secrets, tell what they found.
	tokenPrefix = "lkr_"
	// tokenVersion is the first byte of every token. Another layout, or another MAC, takes another number.
	tokenVersion = 1

	keyIDSize = 4
	macSize   = sha256.Size
	// tokenSize counts version, key id, session id, generation and MAC: 61 bytes, which are 82 characters of text.
	tokenSize = 1 + keyIDSize + 16 + 8 + macSize

	// minKeySize is the size of a MAC key at least: below the output of the hash, the key is the weakest part
	// (RFC 2104, section 3).
	minKeySize = sha256.Size

	// maxGeneration is the last generation that is ever issued. The numbers of Redis scripts are doubles, which count
	// without gaps up to 2^53. At a thousand refreshes a second a session gets there in 285,000 years; there it ends.
	maxGeneration = 1<<53 - 1
	// firstGeneration leaves 0 for tokens that nobody issued.
	firstGeneration = 1
)

// tokenEncoding refuses set bits after the last byte, so that a token has one spelling only.
func tokenEncoding() *base64.Encoding { return base64.RawURLEncoding.Strict() }

// keyID names the key that a MAC was made with. It is derived from the key, tells nothing about it, and saves trying
// one key after the other.
type keyID [keyIDSize]byte

func (id keyID) String() string { return hex.EncodeToString(id[:]) }

// token is what a refresh token says. It proves nothing until its MAC was checked.
type token struct {
	key        keyID
	session    uuid.UUID
	generation uint64
	mac        [macSize]byte
}

func (t token) encode() string {
	raw := make([]byte, 0, tokenSize)
	raw = append(raw, tokenVersion)
	raw = append(raw, t.key[:]...)
	raw = append(raw, t.session[:]...)
	raw = binary.BigEndian.AppendUint64(raw, t.generation)
	raw = append(raw, t.mac[:]...)
	return tokenPrefix + tokenEncoding().EncodeToString(raw)
}

// parseToken is the inverse of encode: it accepts no second spelling of any token. Every error is ErrMalformed.
func parseToken(text string) (token, error) {
	encoded, found := strings.CutPrefix(text, tokenPrefix)
	// The length is compared first, so that a megabyte of text costs nothing.
	if !found || len(encoded) != tokenEncoding().EncodedLen(tokenSize) {
		return token{}, ErrMalformed
	}
	raw, err := strict.Segment(encoded)
	if err != nil || len(raw) != tokenSize || raw[0] != tokenVersion {
		return token{}, ErrMalformed
	}
	var t token
	rest := raw[1:]
	rest = rest[copy(t.key[:], rest):]
	rest = rest[copy(t.session[:], rest):]
	t.generation = binary.BigEndian.Uint64(rest)
	copy(t.mac[:], rest[8:])
	if t.generation < firstGeneration || t.generation > maxGeneration {
		return token{}, ErrMalformed
	}
	return t, nil
}

// macKey is one secret and its id.
type macKey struct {
	id     keyID
	secret []byte
}

// keyring holds the accepted keys, the current one first.
type keyring []macKey

func newKeyring(secrets [][]byte) (keyring, error) {
	if len(secrets) == 0 {
		return nil, errors.New("session: no MAC key: give the current one first, then the previous ones")
	}
	var ring keyring
	for i, secret := range secrets {
		if len(secret) < minKeySize {
			return nil, fmt.Errorf("session: MAC key %d has %d bytes: use %d random bytes or more", i, len(secret), minKeySize)
		}
		name, err := hkdf.Key(sha256.New, secret, nil, "latchkey refresh token key id", keyIDSize)
		if err != nil {
			return nil, fmt.Errorf("session: name MAC key %d: %w", i, err)
		}
		key := macKey{id: keyID(name), secret: bytes.Clone(secret)}
		known, found := ring.find(key.id)
		if found && !bytes.Equal(known.secret, key.secret) {
			return nil, fmt.Errorf("session: MAC key %d has the id of another one by chance: use another key", i)
		}
		if !found {
			ring = append(ring, key)
		}
	}
	return ring, nil
}

func (r keyring) current() macKey { return r[0] }

func (r keyring) find(id keyID) (macKey, bool) {
	for _, key := range r {
		if key.id == id {
			return key, true
		}
	}
	return macKey{}, false
}

// named returns the key with this id, in hex, or the current one when the id is not, or no longer, one of ours.
func (r keyring) named(id string) macKey {
	for _, key := range r {
		if key.id.String() == id {
			return key
		}
	}
	return r.current()
}

// bound is what a MAC vouches for beside the generation. All of it is fixed when the session starts. The ledger
// position is in it because it is the cut-off against "revoke everything of this user": whoever can write to Redis
// must not be able to raise it above a revocation.
type bound struct {
	id     uuid.UUID
	user   uuid.UUID
	end    int64 // milliseconds since 1970
	ledger int64
	salt   [saltSize]byte
}

// tokenMAC computes the MAC of one generation. Its key mixes the secret, which Redis does not know, with the session's
// salt, which only Redis knows: neither of the two alone is enough to make a token.
func (k macKey) tokenMAC(b bound, generation uint64) ([macSize]byte, error) {
	key, err := hkdf.Key(sha256.New, k.secret, b.salt[:], "latchkey refresh token", sha256.Size)
	if err != nil {
		return [macSize]byte{}, fmt.Errorf("session: derive the MAC key: %w", err)
	}
	// Every field has a fixed size, so no two inputs share an encoding.
	input, err := binary.Append(nil, binary.BigEndian, struct {
		Version    uint8
		Session    [16]byte
		Generation uint64
		User       [16]byte
		End        int64
		Position   int64
	}{tokenVersion, b.id, generation, b.user, b.end, b.ledger})
	if err != nil {
		return [macSize]byte{}, fmt.Errorf("session: encode the MAC's input: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(input)
	return [macSize]byte(h.Sum(nil)), nil
}

// issue makes the token of one generation. The same arguments give the same token, so a retry gets the answer that
// was lost although it was never stored.
func (k macKey) issue(b bound, generation uint64) (string, error) {
	mac, err := k.tokenMAC(b, generation)
	if err != nil {
		return "", err
	}
	return token{key: k.id, session: b.id, generation: generation, mac: mac}.encode(), nil
}

// requestHash is what Redis keeps of a request id: keyed, because clients may number their requests, and bound to
// the session and the generation. An empty id has an empty hash, which never equals another.
func (k macKey) requestHash(b bound, generation uint64, requestID string) (string, error) {
	if requestID == "" {
		return "", nil
	}
	key, err := hkdf.Key(sha256.New, k.secret, b.salt[:], "latchkey refresh request", sha256.Size)
	if err != nil {
		return "", fmt.Errorf("session: derive the request key: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(binary.BigEndian.AppendUint64(nil, generation))
	h.Write([]byte(requestID))
	return hex.EncodeToString(h.Sum(nil)), nil
}
