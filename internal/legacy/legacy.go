// Package legacy reads the tokens that the two older backends issued, and the keys that they left in Redis. It never
// makes a token of theirs, and it does not decide whether a token is accepted: that depends on the account, the ledger
// and the spent tokens, which other packages ask.
//
// The Go backend signs with RS256, the Rust one with HS256. Each algorithm belongs to its own key and its own rules: no
// token is ever checked with the other's.
package legacy

import (
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Backend is one of the two older backends.
type Backend string

// The backends, named after the languages that they are written in.
const (
	Go   Backend = "go"
	Rust Backend = "rust"
)

const (
	// Issuer is the default "iss" of the Go backend's tokens.
	Issuer = "saas-platform"
	// MaxTokenBytes is the longest token that is examined. Theirs have under 1,000 bytes.
	MaxTokenBytes = 4096
	// rustLeeway is how long the Rust backend accepts its tokens after "exp".
	rustLeeway = 60 * time.Second
	// minRSABits is the minimum of RFC 7518, section 3.3.
	minRSABits = 2048
	// maxRSABits bounds what one signature check can cost.
	maxRSABits = 4096
	// minRSAExponent is the minimum of FIPS 186-5, section 5.4.
	minRSAExponent = 65537

	// RefreshLife is the default life of the Rust backend's refresh tokens. In everything else they look like its
	// access tokens. That backend reads the clock twice when it makes one.
	RefreshLife   = 7 * 24 * time.Hour
	lifeTolerance = time.Minute
)

var (
	// ErrInvalid reports a token that neither backend has signed. Errors that wrap it quote nothing of the token.
	ErrInvalid = errors.New("not a token of an older backend")
	// ErrExpired reports a genuine token that has expired, or that is shown after TokensConfig.AcceptUntil.
	ErrExpired = errors.New("token of an older backend has expired")
)

// IssuerError reports a token that the Go backend's key has signed for another issuer. It is an ErrInvalid.
type IssuerError struct {
	// Said is the token's issuer; "" if it has none that is a text.
	Said string
}

// Error implements error. It quotes nothing of the token.
func (e *IssuerError) Error() string { return ErrInvalid.Error() + ": another issuer" }

// Is makes it an ErrInvalid.
func (e *IssuerError) Is(target error) bool { return target == ErrInvalid }

// Token is a token that a backend has signed and that is in force.
type Token struct {
	// Backend is the one that has signed it.
	Backend Backend
	// UserID is the account. Never the nil UUID.
	UserID uuid.UUID
	// ID is the Go backend's "jti"; the Rust one's tokens have none.
	ID string
	// Hash is the SHA-256 of the token. It is stored for a token that was spent.
	Hash [sha256.Size]byte
	// IssuedAt is "iat", or the zero time if the token has none.
	IssuedAt time.Time
	// ExpireTime is when the token is no longer accepted: its own "exp" with the leeway of its backend, or
	// TokensConfig.AcceptUntil if that is earlier.
	ExpireTime time.Time
	// End is when its own backend no longer accepts it, whatever the settings here are.
	End time.Time

	text    string
	refresh bool
}

// SessionID returns the id of the session that the token never had: the first half of its SHA-256 as a UUID of version
// 8 (RFC 9562, section 5.8). Each token has its own.
func (t *Token) SessionID() uuid.UUID {
	id := uuid.UUID(t.Hash[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// NeverAccess reports whether the token itself shows that it is a refresh token: one of the Go backend by its empty
// address, one of the Rust backend by its life. For those of the Rust backend with another life, only Redis knows
// (Store.IsRefresh).
func (t *Token) NeverAccess() bool { return t.refresh }

// TokensConfig says which tokens are accepted.
type TokensConfig struct {
	// RS256 is the Go backend's public key. Nil: its tokens are not accepted.
	RS256 *rsa.PublicKey
	// HS256 is the Rust backend's secret. Empty: its tokens are not accepted.
	HS256 []byte
	// AcceptUntil is the time from which no token is accepted, whatever its own life. Required.
	AcceptUntil time.Time
	// Issuer is the "iss" of the Go backend's tokens. Empty: the constant Issuer.
	Issuer string
	// RefreshLife is the life of the Rust backend's refresh tokens. Zero: the constant RefreshLife.
	RefreshLife time.Duration
	// AccessLife is the longest life of the Rust backend's access tokens: a token that lives longer is a refresh token.
	// Zero: tokens with any life other than RefreshLife pass.
	AccessLife time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Tokens checks tokens of the older backends. It is safe for concurrent use.
type Tokens struct{ cfg TokensConfig }

// NewTokens returns a checker, or an error that names the fault in cfg.
func NewTokens(cfg TokensConfig) (*Tokens, error) {
	switch {
	case cfg.Now == nil:
		return nil, errors.New("legacy: Now is needed")
	case cfg.RS256 != nil && cfg.RS256.N.BitLen() < minRSABits:
		return nil, fmt.Errorf("legacy: an RSA key of %d bits: %d is the least (RFC 7518, section 3.3)", cfg.RS256.N.BitLen(), minRSABits)
	case cfg.AcceptUntil.IsZero():
		return nil, errors.New("legacy: AcceptUntil is needed: without it what the older backends left would be honoured for ever")
	}
	cfg.Issuer = cmp.Or(cfg.Issuer, Issuer)
	cfg.RefreshLife = cmp.Or(cfg.RefreshLife, RefreshLife)
	return &Tokens{cfg}, nil
}

// AcceptUntil is the time from which no token, and nothing else that the backends left, is accepted.
func (t *Tokens) AcceptUntil() time.Time { return t.cfg.AcceptUntil }

// Verify returns the content of a token after its own backend's key and rules have accepted it. It fails with
// ErrInvalid, and with ErrExpired only if nothing but the time is wrong.
func (t *Tokens) Verify(text string) (*Token, error) {
	now := t.cfg.Now()
	if len(text) > MaxTokenBytes {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxTokenBytes)
	}
	parsed, err := parse(text)
	if err != nil {
		return nil, err
	}
	if err := t.checkSignature(parsed); err != nil {
		return nil, err
	}
	said, err := parsed.claims()
	if err != nil {
		return nil, err
	}
	token := &Token{Hash: sha256.Sum256([]byte(text)), text: text}
	if parsed.algorithm == jwt.SigningMethodRS256.Alg() {
		err = token.readGo(said, now, t.cfg.Issuer)
	} else {
		err = token.readRust(said, t.cfg)
	}
	if err != nil {
		return nil, err
	}
	token.End = token.ExpireTime
	if token.ExpireTime.After(t.cfg.AcceptUntil) {
		token.ExpireTime = t.cfg.AcceptUntil.UTC()
	}
	if !now.Before(token.ExpireTime) {
		return nil, ErrExpired
	}
	return token, nil
}

// checkSignature checks the token with the one key that belongs to its algorithm. The type of each key fits only its
// own algorithm: a public key can never be used as a secret.
func (t *Tokens) checkSignature(parsed *signed) error {
	var err error
	switch {
	case parsed.algorithm == jwt.SigningMethodRS256.Alg() && t.cfg.RS256 != nil:
		err = jwt.SigningMethodRS256.Verify(parsed.text, parsed.signature, t.cfg.RS256)
	case parsed.algorithm == jwt.SigningMethodHS256.Alg() && len(t.cfg.HS256) > 0:
		err = jwt.SigningMethodHS256.Verify(parsed.text, parsed.signature, t.cfg.HS256)
	default:
		return fmt.Errorf("%w: another algorithm", ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("%w: signature does not match", ErrInvalid)
	}
	return nil
}

// readGo applies the Go backend's rules: its issuer, no leeway, "nbf" checked.
func (t *Token) readGo(said object, now time.Time, want string) error {
	var err error
	t.Backend = Go
	if t.UserID, err = said.account(); err != nil {
		return err
	}
	issuer, _ := said.Text("iss")
	user, _ := said.Text("user_id")
	email, hasEmail := said.Text("email")
	t.ID, _ = said.Text("jti")
	switch {
	case issuer != want:
		return &IssuerError{Said: issuer}
	case user != t.UserID.String():
		return fmt.Errorf("%w: user_id is not sub", ErrInvalid)
	case !hasEmail:
		return fmt.Errorf("%w: no email", ErrInvalid)
	case t.ID == "":
		return fmt.Errorf("%w: no jti", ErrInvalid)
	}
	t.refresh = email == ""
	if t.IssuedAt, err = said.optionalTime("iat"); err != nil {
		return err
	}
	notBefore, err := said.optionalTime("nbf")
	if err != nil {
		return err
	}
	if now.Before(notBefore) {
		return fmt.Errorf("%w: not in force yet", ErrInvalid)
	}
	if t.ExpireTime, err = said.time("exp"); err != nil {
		return err
	}
	return nil
}

// readRust applies the Rust backend's rules: 60 s of leeway, "nbf" not checked. Its tokens name no issuer and no
// audience. A token that names one is something else, signed with the same secret.
func (t *Token) readRust(said object, cfg TokensConfig) error {
	var err error
	t.Backend = Rust
	if t.UserID, err = said.account(); err != nil {
		return err
	}
	for _, foreign := range []string{"iss", "aud"} {
		if _, present := said.Object[foreign]; present {
			return fmt.Errorf("%w: an HS256 token with %s", ErrInvalid, foreign)
		}
	}
	if t.IssuedAt, err = said.time("iat"); err != nil {
		return err
	}
	expire, err := said.time("exp")
	if err != nil {
		return err
	}
	life := expire.Sub(t.IssuedAt)
	t.refresh = (life-cfg.RefreshLife).Abs() <= lifeTolerance || cfg.AccessLife > 0 && life > cfg.AccessLife+lifeTolerance
	t.ExpireTime = expire.Add(rustLeeway)
	return nil
}
