package signing

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// State is what a stored key may be used for.
type State string

// A key with another state, such as one of a later version, is ignored: it neither signs nor verifies here.
const (
	// StatePending is a key that is in the JWKS and verifies, so that verifiers that cache a JWKS know it before
	// it signs. At most one key is pending.
	StatePending State = "pending"
	// StateActive signs and verifies. At most one key is active.
	StateActive State = "active"
	// StateVerifyOnly is a key that no longer signs, and verifies the tokens that it signed.
	StateVerifyOnly State = "verify_only"
	// StateGone is final: the private key is erased, the row keeps the id.
	StateGone State = "gone"
)

// StoredKey is a signing key as the store has it. It has no usable secret: the private key is sealed, for
// this ID and Algorithm only.
type StoredKey struct {
	// ID is the "kid": the RFC 7638 thumbprint of the key.
	ID string
	// Algorithm never changes.
	Algorithm accesstoken.Algorithm
	// State changes in one direction only: pending, active, verify-only, gone.
	State State
	// Sealed is the private key, sealed. Empty if the key is gone.
	Sealed []byte
	// Public is the public key as a DER SubjectPublicKeyInfo, for people who read the table. It is compared with
	// the sealed key and never trusted alone.
	Public []byte
	// CreateTime orders the keys. It is also the time when a pending key was published.
	CreateTime time.Time
	// ActivateTime is when the key became active, RetireTime when it stopped signing or went without having
	// signed. Zero: not yet, or unknown because an earlier version stored no times.
	ActivateTime, RetireTime time.Time
}

// signingKey is a key that was opened and checked. It never changes.
type signingKey struct {
	id        string
	algorithm accesstoken.Algorithm
	method    jwt.SigningMethod
	public    crypto.PublicKey
	private   crypto.Signer
	spki      []byte
	jwk       accesstoken.JWK
	verifying *accesstoken.Key
}

// newVerifyingKey returns a key without its private half.
func newVerifyingKey(id string, algorithm accesstoken.Algorithm, public crypto.PublicKey) (*signingKey, error) {
	verifying, err := accesstoken.NewKey(algorithm, public)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	described, err := accesstoken.NewJWK(public)
	if err != nil {
		return nil, err
	}
	return &signingKey{
		id: id, algorithm: algorithm, method: signingMethod(algorithm), public: public, spki: spki, jwk: described,
		verifying: verifying,
	}, nil
}

// newSigningKey returns private as a key. If id is empty, the thumbprint becomes the id.
func newSigningKey(id string, algorithm accesstoken.Algorithm, private crypto.Signer) (*signingKey, error) {
	key, err := newVerifyingKey(id, algorithm, private.Public())
	if err != nil {
		return nil, err
	}
	key.private = private
	if key.id == "" {
		key.id = key.jwk.Thumbprint()
	}
	return key, nil
}

// sign returns the claims as a token of this type, signed with the key.
func (k *signingKey) sign(wire map[string]any, typ string) (string, error) {
	unsigned := jwt.NewWithClaims(k.method, jwt.MapClaims(wire))
	unsigned.Header["typ"] = typ
	unsigned.Header["kid"] = k.id
	token, err := unsigned.SignedString(k.private)
	if err != nil {
		return "", fmt.Errorf("sign an access token: %w", err)
	}
	if len(token) > accesstoken.MaxTokenBytes {
		return "", fmt.Errorf("%w: the token would exceed %d bytes", accesstoken.ErrClaims, accesstoken.MaxTokenBytes)
	}
	return token, nil
}

// seal returns the private key in PKCS #8, sealed under the current seal key.
func (k *signingKey) seal(s *sealer) ([]byte, error) {
	plain, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode a signing key: %w", err)
	}
	defer clear(plain)
	return s.seal(k.id, k.algorithm, plain), nil
}

// openKey opens a stored key and compares it with its row. current is true if it was sealed under the current
// seal key. It returns ErrSealed if the key cannot be opened or differs from its row.
//
// It opens keys that only verify, too, because the seal proves that this service made the key. Otherwise an
// attacker who writes a public key into the table could sign tokens for every account.
func openKey(s *sealer, row StoredKey) (key *signingKey, current bool, err error) {
	plain, current, err := s.open(row.ID, row.Algorithm, row.Sealed)
	if err != nil {
		return nil, false, err
	}
	defer clear(plain)
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		// The parser's error may quote the key, so leave it out.
		return nil, false, fmt.Errorf("%w: %q: its sealed bytes are no PKCS #8 key", ErrSealed, row.ID)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, false, fmt.Errorf("%w: %q: the sealed key cannot sign", ErrSealed, row.ID)
	}
	key, err = newSigningKey(row.ID, row.Algorithm, private)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %q: %w", ErrSealed, row.ID, err)
	}
	if !bytes.Equal(key.spki, row.Public) {
		return nil, false, fmt.Errorf("%w: %q: its public key is not that of the sealed key", ErrSealed, row.ID)
	}
	return key, current, nil
}

// keySet is the result of one read of the store. It never changes, so readers share it without a lock.
type keySet struct {
	rows        []StoredKey
	verifying   map[string]*signingKey
	active      *signingKey // nil if there is none, or if it cannot be opened
	activeSince time.Time
	unopened    map[string]error // keys that should verify and cannot be opened
	stale       []StoredKey      // rows of verifying keys that a previous seal key has sealed
	jwks        []byte
	algorithms  []accesstoken.Algorithm // those of the keys in jwks, each once, in their order
}

// newKeySet opens the keys in rows. It takes keys that previous has without opening them again: another
// replica may have sealed them under a secret that this process does not know yet, and this process must
// continue to verify.
func newKeySet(s *sealer, rows []StoredKey, previous *keySet) (*keySet, error) {
	rows = slices.Clone(rows)
	set := &keySet{rows: rows, verifying: map[string]*signingKey{}, unopened: map[string]error{}}
	slices.SortFunc(rows, func(a, b StoredKey) int {
		if order := a.CreateTime.Compare(b.CreateTime); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	published := make([]*signingKey, 0, len(rows))
	for _, row := range rows {
		if !row.usable() {
			continue
		}
		key, current := previous.held(row), true
		if key == nil {
			var err error
			if key, current, err = openKey(s, row); err != nil {
				set.unopened[row.ID] = err
				continue
			}
		}
		if !current {
			set.stale = append(set.stale, row)
		}
		set.verifying[key.id] = key
		published = append(published, key)
		if row.State == StateActive {
			set.active, set.activeSince = key, row.activeSince() // the newest, if a store ever has two
		}
	}
	slices.SortStableFunc(published, func(a, b *signingKey) int {
		switch {
		case a == set.active:
			return -1
		case b == set.active:
			return 1
		}
		return 0
	})
	for _, key := range published {
		if !slices.Contains(set.algorithms, key.algorithm) {
			set.algorithms = append(set.algorithms, key.algorithm)
		}
	}
	var err error
	if set.jwks, err = marshalJWKS(published); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return set, nil
}

// usable returns whether this version may verify with the key.
func (r StoredKey) usable() bool {
	if r.ID == "" || signingMethod(r.Algorithm) == nil {
		return false
	}
	return r.State == StatePending || r.State == StateActive || r.State == StateVerifyOnly
}

// activeSince returns when an active key became active. Versions before migration 00008_key_states made keys
// active at once, and stored only CreateTime.
func (r StoredKey) activeSince() time.Time {
	if r.ActivateTime.IsZero() {
		return r.CreateTime
	}
	return r.ActivateTime
}

// held returns the key of row if the set has it already, else nil. A nil set has no keys.
func (s *keySet) held(row StoredKey) *signingKey {
	if s == nil {
		return nil
	}
	key := s.verifying[row.ID]
	if key == nil || key.algorithm != row.Algorithm || !bytes.Equal(key.spki, row.Public) {
		return nil
	}
	return key
}

// err returns an error that names each key that cannot be opened, or nil.
func (s *keySet) err() error {
	failures := make([]error, 0, len(s.unopened))
	for _, failure := range s.unopened {
		failures = append(failures, failure)
	}
	slices.SortFunc(failures, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(failures...)
}
