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

// A key in any other state, such as one that a later version writes, is left
// alone: it neither signs nor verifies here.
const (
	// StatePending is published and verifies, so that whoever keeps a JWKS knows the
	// key before it signs. At most one key is pending.
	StatePending State = "pending"
	// StateActive signs and verifies. At most one key is active.
	StateActive State = "active"
	// StateVerifyOnly verifies the tokens that it signed earlier.
	StateVerifyOnly State = "verify_only"
	// StateGone is for good: the private key is erased, the row keeps the id.
	StateGone State = "gone"
)

// StoredKey is a signing key as a store holds it. It is no usable secret: the
// private key is sealed, and sealed to this ID and Algorithm.
type StoredKey struct {
	// ID is the "kid": the RFC 7638 thumbprint of keys made here.
	ID string
	// Algorithm is fixed for the key's life.
	Algorithm accesstoken.Algorithm
	// State only ever moves on, from pending over active and verify-only to gone.
	State State
	// Sealed is the private key under the seal key; of a key that is gone, empty.
	Sealed []byte
	// Public is the public key as a DER SubjectPublicKeyInfo, for whoever reads
	// the table. It is checked against the sealed key and never trusted alone.
	Public []byte
	// CreateTime orders the keys, and is when a pending key was published.
	CreateTime time.Time
	// ActivateTime is when it began to sign, RetireTime when it ended to, or was
	// given up. Zero: not yet, or not known, for versions before these were kept.
	ActivateTime, RetireTime time.Time
}

// signingKey is a key that was opened and checked. It is not changed afterwards.
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

// newSigningKey returns private as a key. An empty id becomes the thumbprint.
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

// sign returns the claims as a token of this type under the key.
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

// seal returns the private half as PKCS #8 under the current seal key.
func (k *signingKey) seal(s *sealer) ([]byte, error) {
	plain, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode a signing key: %w", err)
	}
	defer clear(plain)
	return s.seal(k.id, k.algorithm, plain), nil
}

// openKey opens a stored key and checks that it is what the row says. current
// tells whether the current seal key had sealed it. It fails with ErrSealed.
//
// A key that only verifies is opened as well: what the seal authenticates is
// that this service made the key. A public key that somebody else wrote into the
// table would otherwise sign for every account.
func openKey(s *sealer, row StoredKey) (key *signingKey, current bool, err error) {
	plain, current, err := s.open(row.ID, row.Algorithm, row.Sealed)
	if err != nil {
		return nil, false, err
	}
	defer clear(plain)
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		// The parser's own words might quote what it read.
		return nil, false, fmt.Errorf("%w: %q: what is sealed is no PKCS #8 key", ErrSealed, row.ID)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, false, fmt.Errorf("%w: %q: what is sealed cannot sign", ErrSealed, row.ID)
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

// keySet is one reading of the store. It is never changed: readers share it
// without a lock.
type keySet struct {
	rows        []StoredKey
	verifying   map[string]*signingKey
	active      *signingKey // nil when there is none, or it cannot be opened
	activeSince time.Time
	unopened    map[string]error // keys of the store that should verify but do not open
	stale       []StoredKey      // rows of verifying keys not sealed under the current key
	jwks        []byte
	algorithms  []accesstoken.Algorithm // of the keys in jwks, each once, in their order
}

// newKeySet opens the keys in rows. Keys that previous holds are taken over
// unopened: when another replica has resealed them under a secret that is not
// known here yet, this one goes on verifying.
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
			set.active, set.activeSince = key, row.activeSince() // The newest, should a store ever hold two.
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

// usable says whether the key may verify in this version.
func (r StoredKey) usable() bool {
	if r.ID == "" || signingMethod(r.Algorithm) == nil {
		return false
	}
	return r.State == StatePending || r.State == StateActive || r.State == StateVerifyOnly
}

// activeSince is when an active key began to sign. Versions before 00008_key_states
// made keys active at once and noted no more than that.
func (r StoredKey) activeSince() time.Time {
	if r.ActivateTime.IsZero() {
		return r.CreateTime
	}
	return r.ActivateTime
}

// held returns the key of row when the set has it already, else nil. A nil set
// holds nothing.
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

// err names every key that does not open, or is nil.
func (s *keySet) err() error {
	failures := make([]error, 0, len(s.unopened))
	for _, failure := range s.unopened {
		failures = append(failures, failure)
	}
	slices.SortFunc(failures, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(failures...)
}
