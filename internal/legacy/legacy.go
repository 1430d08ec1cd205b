// Package legacy reads what the two backends that Latchkey takes over from have
// handed out and left behind: their tokens, and their keys in Redis. Nothing here
// makes anything of theirs, and nothing here decides what a token is worth: the
// account, the ledger and what was spent are asked elsewhere.
//
// The Go backend signs with RS256, the Rust one with HS256. Each algorithm is bound
// to its own key and its own rules: no token is ever checked with the other's.
package legacy

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Backend is one of the two.
type Backend string

// The backends, by the languages that they are written in.
const (
	Go   Backend = "go"
	Rust Backend = "rust"
)

const (
	// Issuer is the "iss" of the Go backend's tokens.
	Issuer = "saas-platform"
	// MaxTokenBytes is the longest token that is looked at. Theirs have under 1,000.
	MaxTokenBytes = 4096
	// rustLeeway is how long the Rust backend accepts its tokens after "exp".
	rustLeeway = 60 * time.Second
	// minRSABits is the least of RFC 7518, section 3.3.
	minRSABits = 2048

	// rustRefreshLife is the life of the Rust backend's refresh tokens, which look like
	// its access tokens in all else. The clock is read twice when one is made.
	rustRefreshLife      = 7 * 24 * time.Hour
	rustRefreshTolerance = time.Minute
)

var (
	// ErrInvalid reports a token that neither backend has signed, or one whose date of
	// acceptance has passed. The text around it quotes nothing of the token.
	ErrInvalid = errors.New("not a token of an existing backend")
	// ErrExpired reports a genuine token that is past its time.
	ErrExpired = errors.New("token of an existing backend has expired")
)

// Token is one that a backend has signed and that is in force.
type Token struct {
	// Backend has signed it.
	Backend Backend
	// UserID is the account. Never the nil UUID.
	UserID uuid.UUID
	// ID is the Go backend's "jti"; the Rust one's tokens have none.
	ID string
	// Hash is the SHA-256 of the token: what is stored of one that was spent.
	Hash [sha256.Size]byte
	// IssuedAt is "iat", the zero time when the token does not say.
	IssuedAt time.Time
	// ExpireTime is when it is accepted no more: its own "exp" with the leeway of its
	// backend, or the end of all acceptance if that is earlier.
	ExpireTime time.Time
	// End is when its backend accepts it no more, whatever else says.
	End time.Time

	text    string
	refresh bool
}

// SessionID stands for the session that the token never had: the first half of its
// SHA-256 as a UUID of version 8 (RFC 9562, section 5.8). Each token has its own.
func (t *Token) SessionID() uuid.UUID {
	id := uuid.UUID(t.Hash[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// NeverAccess says that the token itself tells that it is a refresh token: one of the
// Go backend, by its empty address, or one of the Rust backend by its life. Those of
// the Rust backend with another life are told by Redis alone (Store.IsRefresh).
func (t *Token) NeverAccess() bool { return t.refresh }

// TokensConfig says which tokens are accepted.
type TokensConfig struct {
	// RS256 is the Go backend's public key. Nil: its tokens are not accepted.
	RS256 *rsa.PublicKey
	// HS256 is the Rust backend's secret. Empty: its tokens are not accepted.
	HS256 []byte
	// AcceptUntil is when no token is accepted any more, whatever its own life.
	AcceptUntil time.Time
	// Now is the clock.
	Now func() time.Time
}

// Tokens checks tokens of the existing backends. It is safe for concurrent use.
type Tokens struct{ cfg TokensConfig }

// NewTokens returns a checker, or says what is wrong with cfg.
func NewTokens(cfg TokensConfig) (*Tokens, error) {
	switch {
	case cfg.Now == nil:
		return nil, errors.New("legacy: Now is needed")
	case cfg.RS256 != nil && cfg.RS256.N.BitLen() < minRSABits:
		return nil, fmt.Errorf("legacy: an RSA key of %d bits: %d is the least (RFC 7518, section 3.3)", cfg.RS256.N.BitLen(), minRSABits)
	case (cfg.RS256 != nil || len(cfg.HS256) > 0) && cfg.AcceptUntil.IsZero():
		return nil, errors.New("legacy: AcceptUntil is needed: without it old tokens would be accepted for ever")
	}
	return &Tokens{cfg}, nil
}

// claims are those of either backend. Those that only one has stay empty for the
// other.
type claims struct {
	UserID string  `json:"user_id"`
	Email  *string `json:"email"`
	jwt.RegisteredClaims
}

// Verify returns what a token says once its own backend's key and rules hold. It
// fails with ErrInvalid, and with ErrExpired only when nothing but the time is
// wrong.
func (t *Tokens) Verify(text string) (*Token, error) {
	now := t.cfg.Now()
	if len(text) > MaxTokenBytes {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxTokenBytes)
	}
	if !now.Before(t.cfg.AcceptUntil) {
		return nil, fmt.Errorf("%w: none is accepted any more", ErrInvalid)
	}
	var said claims
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg(), jwt.SigningMethodHS256.Alg()}),
		jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation(),
	)
	parsed, err := parser.ParseWithClaims(text, &said, t.key)
	if err != nil {
		return nil, fmt.Errorf("%w: form or signature", ErrInvalid) // the parser's text may quote the token
	}
	token := &Token{Backend: Rust, Hash: sha256.Sum256([]byte(text)), text: text}
	if parsed.Method.Alg() == jwt.SigningMethodRS256.Alg() {
		token.Backend = Go
		err = token.readGo(&said, now)
	} else {
		err = token.readRust(&said, now)
	}
	if err != nil {
		return nil, err
	}
	if said.IssuedAt != nil {
		token.IssuedAt = said.IssuedAt.UTC()
	}
	token.End = token.ExpireTime
	if token.ExpireTime.After(t.cfg.AcceptUntil) {
		token.ExpireTime = t.cfg.AcceptUntil.UTC()
	}
	return token, nil
}

// key returns the one key that belongs to the token's algorithm. The type of each key
// fits its own algorithm only: a public key can never be taken for a secret.
func (t *Tokens) key(unverified *jwt.Token) (any, error) {
	if _, critical := unverified.Header["crit"]; critical {
		return nil, ErrInvalid // no extension is understood here (RFC 7515, section 4.1.11)
	}
	// Theirs name no key. One that does is ours, signed with their key so that they
	// accept it too: it has a session, and is judged by it.
	if _, named := unverified.Header["kid"]; named {
		return nil, ErrInvalid
	}
	switch {
	case unverified.Method == jwt.SigningMethodRS256 && t.cfg.RS256 != nil:
		return t.cfg.RS256, nil
	case unverified.Method == jwt.SigningMethodHS256 && len(t.cfg.HS256) > 0:
		return t.cfg.HS256, nil
	}
	return nil, ErrInvalid
}

// readGo applies the Go backend's rules: its issuer, no leeway, "nbf" checked.
func (t *Token) readGo(said *claims, now time.Time) error {
	var err error
	if t.UserID, err = userID(said.Subject); err != nil {
		return err
	}
	switch {
	case said.Issuer != Issuer:
		return fmt.Errorf("%w: another issuer", ErrInvalid)
	case said.UserID != said.Subject:
		return fmt.Errorf("%w: user_id is not sub", ErrInvalid)
	case said.Email == nil:
		return fmt.Errorf("%w: no email", ErrInvalid)
	case said.ID == "":
		return fmt.Errorf("%w: no jti", ErrInvalid)
	case said.ExpiresAt == nil:
		return fmt.Errorf("%w: no exp", ErrInvalid)
	case said.NotBefore != nil && now.Before(said.NotBefore.Time):
		return fmt.Errorf("%w: not in force yet", ErrInvalid)
	case !now.Before(said.ExpiresAt.Time):
		return ErrExpired
	}
	t.ID, t.refresh, t.ExpireTime = said.ID, *said.Email == "", said.ExpiresAt.UTC()
	return nil
}

// readRust applies the Rust backend's rules: 60 s of leeway, "nbf" not checked.
func (t *Token) readRust(said *claims, now time.Time) error {
	var err error
	if t.UserID, err = userID(said.Subject); err != nil {
		return err
	}
	if said.ExpiresAt == nil {
		return fmt.Errorf("%w: no exp", ErrInvalid)
	}
	t.ExpireTime = said.ExpiresAt.Add(rustLeeway).UTC()
	if !now.Before(t.ExpireTime) {
		return ErrExpired
	}
	if said.IssuedAt != nil {
		life := said.ExpiresAt.Sub(said.IssuedAt.Time)
		t.refresh = (life - rustRefreshLife).Abs() <= rustRefreshTolerance
	}
	return nil
}

// userID reads an account's id in the one spelling that both backends write.
func userID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id == uuid.Nil || id.String() != text {
		return uuid.Nil, fmt.Errorf("%w: sub is not an account's id", ErrInvalid)
	}
	return id, nil
}

// ParsePublicKey reads an RSA public key in PEM: SubjectPublicKeyInfo, PKCS #1, or a
// certificate.
func ParsePublicKey(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("has no PEM block")
	}
	if block.Type == "PRIVATE KEY" || block.Type == "RSA PRIVATE KEY" {
		return nil, errors.New("holds a private key: the public one is enough here")
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM(text)
	if err != nil {
		return nil, fmt.Errorf("holds no RSA public key (its block is %q)", block.Type)
	}
	if key.N.BitLen() < minRSABits {
		return nil, fmt.Errorf("holds an RSA key of %d bits: %d is the least (RFC 7518, section 3.3)", key.N.BitLen(), minRSABits)
	}
	return key, nil
}

// ParsePrivateKey reads an RSA private key in PEM: PKCS #8 or PKCS #1, not encrypted.
// Its errors hold nothing of the key.
func ParsePrivateKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("has no PEM block")
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM(text)
	if err != nil {
		return nil, fmt.Errorf("holds no RSA private key in the clear (its block is %q)", block.Type)
	}
	if key.N.BitLen() < minRSABits {
		return nil, fmt.Errorf("holds an RSA key of %d bits: %d is the least (RFC 7518, section 3.3)", key.N.BitLen(), minRSABits)
	}
	return key, nil
}

// AcceptUntil is when no token is accepted any more.
func (t *Tokens) AcceptUntil() time.Time { return t.cfg.AcceptUntil }
