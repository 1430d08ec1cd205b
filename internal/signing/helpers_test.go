package signing

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

const (
	testIssuer   = "https://auth.example.com"
	testAudience = "latchkey"
	testClientID = "latchkey"
	testMaxTTL   = time.Hour
	// maxUnix is the last second of the year 9999, the latest time in a token.
	maxUnix = 253402300799
)

// memoryStore keeps keys as the contract of KeyStore says.
type memoryStore struct {
	mu      sync.Mutex
	rows    []StoredKey
	reads   int
	failure error
	// position counts the changes, revoked lists what they revoked.
	position int64
	revoked  []string
	// gate, when set, holds up readers until it is closed or their context ends.
	gate chan struct{}
}

func (s *memoryStore) SigningKeys(ctx context.Context) ([]StoredKey, error) {
	s.mu.Lock()
	gate := s.gate
	s.reads++
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return nil, s.failure
	}
	return s.copyRows(), nil
}

func (s *memoryStore) ChangeSigningKeys(_ context.Context, change func([]StoredKey) (KeyUpdate, error)) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return 0, s.failure
	}
	update, err := change(s.copyRows())
	if err != nil {
		return 0, err
	}
	for _, key := range update.Keys {
		i := slices.IndexFunc(s.rows, func(row StoredKey) bool { return row.ID == key.ID })
		if i < 0 {
			s.rows = append(s.rows, key)
			continue
		}
		s.rows[i].State, s.rows[i].ActivateTime, s.rows[i].RetireTime = key.State, key.ActivateTime, key.RetireTime
		if key.State == StateGone {
			s.rows[i].Sealed = nil
		}
	}
	if len(update.Keys) > 0 {
		s.position++
	}
	s.revoked = append(s.revoked, update.Revoked...)
	return s.position, nil
}

func (s *memoryStore) ResealSigningKey(_ context.Context, id string, old, sealed []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	for i := range s.rows {
		if s.rows[i].ID == id && bytes.Equal(s.rows[i].Sealed, old) {
			s.rows[i].Sealed = bytes.Clone(sealed)
		}
	}
	return nil
}

func (s *memoryStore) copyRows() []StoredKey {
	rows := slices.Clone(s.rows)
	for i := range rows {
		rows[i].Sealed, rows[i].Public = bytes.Clone(rows[i].Sealed), bytes.Clone(rows[i].Public)
	}
	return rows
}

// all returns a copy of the rows.
func (s *memoryStore) all() []StoredKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copyRows()
}

// edit changes the rows as somebody with access to the table could.
func (s *memoryStore) edit(change func(rows []StoredKey) []StoredKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = change(s.rows)
}

func (s *memoryStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

func (s *memoryStore) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// hold makes readers wait until the function it returns is called.
func (s *memoryStore) hold() (release func()) {
	gate := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = gate
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gate = nil
		close(gate)
	}
}

// states counts the keys in each state.
func (s *memoryStore) states() map[State]int {
	counts := map[State]int{}
	for _, row := range s.all() {
		counts[row.State]++
	}
	return counts
}

// sealKey returns a secret that differs for each n.
func testSealKey(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func testConfig(store KeyStore, c *josetest.Clock, algorithm accesstoken.Algorithm) Config {
	return Config{
		Issuer: testIssuer, Audience: testAudience, ClientID: testClientID,
		Algorithm: algorithm, Store: store, SealKeys: [][]byte{testSealKey(1)},
		MaxTTL: testMaxTTL, Now: c.Now,
	}
}

func mustOpen(t testing.TB, config Config) *Keyring {
	t.Helper()
	if config.Algorithm == accesstoken.RS256 {
		if store, ok := config.Store.(*memoryStore); ok && len(store.all()) == 0 {
			storeKey(t, store, StateActive, testKey(t, accesstoken.RS256), testSealKey(1))
		}
	}
	k, err := Open(t.Context(), config)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return k
}

// testKey makes a key of the algorithm; that of RS256 is always the RFC's, for making one takes longer than
// any test here.
func testKey(t testing.TB, algorithm accesstoken.Algorithm) *signingKey {
	t.Helper()
	var private crypto.Signer = josetest.RFC7515A2Key(t)
	if algorithm != accesstoken.RS256 {
		var err error
		if private, err = generate(algorithm); err != nil {
			t.Fatal(err)
		}
	}
	key, err := newSigningKey("", algorithm, private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// storeKey puts key into the store, sealed under secret, newer than what is there.
func storeKey(t testing.TB, store *memoryStore, state State, key *signingKey, secret []byte) {
	t.Helper()
	s, err := newSealer([][]byte{secret})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := key.seal(s)
	if err != nil {
		t.Fatal(err)
	}
	store.edit(func(rows []StoredKey) []StoredKey {
		return append(rows, StoredKey{
			ID: key.id, Algorithm: key.algorithm, State: state, Sealed: sealed, Public: key.spki,
			CreateTime: josetest.Start().Add(time.Duration(len(rows)) * time.Second),
		})
	})
}

func testClaims() accesstoken.Claims {
	issued := josetest.Start().Truncate(time.Second).UTC()
	return accesstoken.Claims{
		UserID:    uuid.MustParse("0197c2a4-1111-7abc-8def-0123456789ab"),
		SessionID: uuid.MustParse("0197c2a4-2222-7abc-8def-0123456789ab"),
		Position:  9_007_199_254_740_993, // 2^53 + 1: a float would lose it.
		ID:        "3f6f0c6e-jti", ClientID: testClientID,
		AuthTime: issued.Add(-time.Minute), IssuedAt: issued, ExpireTime: issued.Add(15 * time.Minute),
		EmailVerified: true, AMR: []string{"pwd", "otp"}, ACR: "aal2",
	}
}

func mustSign(t testing.TB, k *Keyring, claims accesstoken.Claims) string {
	t.Helper()
	token, err := k.Sign(t.Context(), claims)
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return token
}

// wireClaims returns the claims of testClaims as they stand in a token, to be changed by a test.
func wireClaims() map[string]any {
	c := testClaims()
	return map[string]any{
		"iss": testIssuer, "aud": testAudience, "client_id": testClientID,
		"sub": c.UserID.String(), "sid": c.SessionID.String(), "led": c.Position, "jti": c.ID,
		"iat": c.IssuedAt.Unix(), "exp": c.ExpireTime.Unix(),
	}
}

// testHeader is the header of a good token under key.
func testHeader(key *signingKey) map[string]any {
	return map[string]any{"typ": accesstoken.TokenType, "alg": string(key.algorithm), "kid": key.id}
}

// forge signs any header and payload with key, as everybody with the key can.
func forge(t testing.TB, key *signingKey, header, payload string) string {
	t.Helper()
	signed := encodeSegment([]byte(header)) + "." + encodeSegment([]byte(payload))
	signature, err := key.method.Sign(signed, key.private)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encodeSegment(signature)
}

// forger is a keyring whose active key the test holds, so that it can sign what Sign never would.
type forger struct {
	*Keyring
	key   *signingKey
	store *memoryStore
	clock *josetest.Clock
}

func newForger(t testing.TB, algorithm accesstoken.Algorithm) *forger {
	t.Helper()
	f := &forger{key: testKey(t, algorithm), store: &memoryStore{}, clock: josetest.NewClock()}
	storeKey(t, f.store, StateActive, f.key, testSealKey(1))
	f.Keyring = mustOpen(t, testConfig(f.store, f.clock, algorithm))
	return f
}

// wantRefused checks that token is refused as invalid and that the reason fits: a token that is refused for
// another reason would prove nothing.
func (f *forger) wantRefused(t *testing.T, token, reason string) {
	t.Helper()
	claims, err := f.Verify(t.Context(), token)
	if !errors.Is(err, accesstoken.ErrInvalid) || errors.Is(err, accesstoken.ErrExpired) || claims != nil {
		t.Errorf("got %v, %v, want ErrInvalid", claims, err)
		return
	}
	if !strings.Contains(err.Error(), reason) {
		t.Errorf("refused as %q, want %q", err, reason)
	}
}

func (f *forger) wantAccepted(t *testing.T, token string) {
	t.Helper()
	if _, err := f.Verify(t.Context(), token); err != nil {
		t.Errorf("refused: %v", err)
	}
}

func algorithms() []accesstoken.Algorithm {
	return []accesstoken.Algorithm{accesstoken.EdDSA, accesstoken.ES256, accesstoken.RS256}
}

// encodeSegment is base64url without padding (RFC 7515, section 2).
func encodeSegment(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }
