package signing

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// olderLeeway is how much the older backend's clock may be slow. That backend checks "nbf" without a leeway,
// so "nbf" is this much before "iat". It is the leeway that verifiers grant.
const olderLeeway = 60 * time.Second

// OlderKey is the key of an older backend. It signs and verifies only tokens with that backend's issuer: its
// own, and those of SignForBoth. It is not in the JWKS.
type OlderKey struct {
	// Issuer is "iss" of the older backend's tokens.
	Issuer string
	// Public verifies. Required, of 2048 bits or more.
	Public *rsa.PublicKey
	// Private signs the tokens of SignForBoth. Nil: SignForBoth is Sign, and the key only verifies.
	Private *rsa.PrivateKey
	// Until is when the key stops verifying. It signs no token that expires later.
	Until time.Time
}

// older is an OlderKey that was checked. Nil if there is no older backend.
type older struct {
	key   *signingKey
	rules accesstoken.Rules
	until time.Time
}

func newOlder(config *OlderKey, rules accesstoken.Rules) (*older, error) {
	if config == nil {
		return nil, nil //nolint:nilnil // an older backend is optional
	}
	if config.Issuer == "" || config.Public == nil || config.Until.IsZero() {
		return nil, errors.New("signing: OlderKey.Issuer, Public and Until are needed")
	}
	if config.Private != nil && !config.Private.PublicKey.Equal(config.Public) {
		return nil, errors.New("signing: OlderKey.Private is not the private half of Public")
	}
	key, err := newVerifyingKey("", accesstoken.RS256, config.Public)
	if err != nil {
		return nil, fmt.Errorf("signing: OlderKey: %w", err)
	}
	key.id = key.jwk.Thumbprint()
	if config.Private != nil {
		key.private = config.Private
	}
	rules.Issuer = config.Issuer
	return &older{key: key, rules: rules, until: config.Until}, nil
}

// is returns whether id is that of the key.
func (o *older) is(id string) bool { return o != nil && id == o.key.id }

// verifies returns whether id is that of the key, and the key still verifies at now.
func (o *older) verifies(id string, now time.Time) bool { return o.is(id) && now.Before(o.until) }

// claims checks a token that names the key, and returns its claims.
func (o *older) claims(parsed *accesstoken.Token, now time.Time) (*accesstoken.Claims, error) {
	// The older backend also signs other tokens with this key. Their type is JWT.
	if !parsed.IsType(accesstoken.TokenType) {
		return nil, fmt.Errorf("%w: not an access token", accesstoken.ErrInvalid)
	}
	claims, err := parsed.Claims(o.key.verifying, o.rules, now)
	if err != nil {
		return nil, err
	}
	// Latchkey signs no such token with this key, so another process has it.
	if claims.ExpireTime.After(o.until) || !now.Before(o.until) {
		return nil, fmt.Errorf("%w: it outlives the older backend's key", accesstoken.ErrInvalid)
	}
	return claims, nil
}

// OlderKeyID is the "kid" of Config.Older, its RFC 7638 thumbprint, or "".
func (k *Keyring) OlderKeyID() string {
	if k.older == nil {
		return ""
	}
	return k.older.key.id
}

// SignForBoth signs a token that the older backend accepts too, for the account with this address: with that
// backend's key and issuer, and with the claims that it reads, in addition to those of Sign. The same claims
// and address give the same token. The type is always at+jwt: a verifier that needs another type could not
// check the token anyway, since the key is not in the JWKS.
//
// SignForBoth is Sign if the older backend has no private key here, if the token would expire after
// OlderKey.Until, or if the address is empty: the older backend would take a token without an address for a
// refresh token.
func (k *Keyring) SignForBoth(ctx context.Context, claims accesstoken.Claims, email string) (string, error) {
	o := k.older
	if o == nil || o.key.private == nil || email == "" || claims.ExpireTime.After(o.until) {
		return k.Sign(ctx, claims)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if claims.ClientID == "" {
		claims.ClientID = k.clientID
	}
	wire, err := o.rules.Write(claims)
	if err != nil {
		return "", err
	}
	wire["user_id"], wire["email"] = wire["sub"], email
	wire["nbf"] = claims.IssuedAt.Add(-olderLeeway).Unix()
	return o.key.sign(wire, accesstoken.TokenType)
}
