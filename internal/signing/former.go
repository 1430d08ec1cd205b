package signing

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// formerLeeway is how far the clock of the system that is taken over from may be
// behind: it checks "nbf" without any leeway of its own. As much as verifiers grant.
const formerLeeway = 60 * time.Second

// FormerKey is the key of a system that is taken over from. Its tokens and those that
// are signed here for both bear its issuer; the key signs and verifies for no other,
// and is not published.
type FormerKey struct {
	// Issuer is "iss" of the former system's tokens.
	Issuer string
	// Public verifies. Needed, and of 2048 bits or more.
	Public *rsa.PublicKey
	// Private signs what SignForBoth makes. Nil: nothing, it only verifies.
	Private *rsa.PrivateKey
	// Until is when the key ends to verify. No token that it signs here lives longer.
	Until time.Time
}

// former is a FormerKey that was checked. A nil one has no key.
type former struct {
	key   *signingKey
	rules accesstoken.Rules
	until time.Time
}

func newFormer(config *FormerKey, rules accesstoken.Rules) (*former, error) {
	if config == nil {
		return nil, nil //nolint:nilnil // no former system is an answer
	}
	if config.Issuer == "" || config.Public == nil || config.Until.IsZero() {
		return nil, errors.New("signing: FormerKey.Issuer, Public and Until are needed")
	}
	if config.Private != nil && !config.Private.PublicKey.Equal(config.Public) {
		return nil, errors.New("signing: FormerKey.Private is not the private half of Public")
	}
	key, err := newVerifyingKey("", accesstoken.RS256, config.Public)
	if err != nil {
		return nil, fmt.Errorf("signing: FormerKey: %w", err)
	}
	key.id = key.jwk.Thumbprint()
	if config.Private != nil {
		key.private = config.Private
	}
	rules.Issuer = config.Issuer
	return &former{key: key, rules: rules, until: config.Until}, nil
}

// is says whether id is that of the key.
func (f *former) is(id string) bool { return f != nil && id == f.key.id }

// verifies says whether id is that of the key, and whether it verifies at now.
func (f *former) verifies(id string, now time.Time) bool { return f.is(id) && now.Before(f.until) }

// claims are those of a token that names the key.
func (f *former) claims(parsed *accesstoken.Token, now time.Time) (*accesstoken.Claims, error) {
	// The former system signs other tokens with it, as JWT.
	if !parsed.IsType(accesstoken.TokenType) {
		return nil, fmt.Errorf("%w: not an access token", accesstoken.ErrInvalid)
	}
	claims, err := parsed.Claims(f.key.verifying, f.rules, now)
	if err != nil {
		return nil, err
	}
	// It would not be signed here: somebody else has the key.
	if claims.ExpireTime.After(f.until) || !now.Before(f.until) {
		return nil, fmt.Errorf("%w: it outlives the former key", accesstoken.ErrInvalid)
	}
	return claims, nil
}

// FormerKeyID is the "kid" of Config.Former, its RFC 7638 thumbprint, or "".
func (k *Keyring) FormerKeyID() string {
	if k.former == nil {
		return ""
	}
	return k.former.key.id
}

// SignForBoth is Sign in a form that the former system accepts as well, for the
// account with this address: under its key, from its issuer and with the claims that
// it reads, beside all of Sign's. It is Sign when there is no private key of the
// former system, when the token would outlive the time of that key, and without an
// address, for which the former system would take the token for a refresh token. The
// same claims and address give the same token. The type is always at+jwt: the key is not published, so that nobody
// who needs another one can check it.
func (k *Keyring) SignForBoth(ctx context.Context, claims accesstoken.Claims, email string) (string, error) {
	f := k.former
	if f == nil || f.key.private == nil || email == "" || claims.ExpireTime.After(f.until) {
		return k.Sign(ctx, claims)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if claims.ClientID == "" {
		claims.ClientID = k.clientID
	}
	wire, err := f.rules.Write(claims)
	if err != nil {
		return "", err
	}
	wire["user_id"], wire["email"] = wire["sub"], email
	wire["nbf"] = claims.IssuedAt.Add(-formerLeeway).Unix()
	return f.key.sign(wire, accesstoken.TokenType)
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
