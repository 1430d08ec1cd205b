package signing

import (
	"context"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// Has returns whether the key with this id verifies tokens now.
func (k *Keyring) Has(id string) bool {
	return k.keys.Load().verifying[id] != nil || k.older.verifies(id, k.now())
}

// Verified is a genuine token that has not expired.
type Verified struct {
	*accesstoken.Claims
	// KeyID names the key that signed it.
	KeyID string
	// ForAccount is true if the token is for Config.AccountAudience, and so for no service. A token with both
	// audiences is for services.
	ForAccount bool
}

// VerifyAny is Verify for both audiences. The result says for which one the token is.
func (k *Keyring) VerifyAny(ctx context.Context, token string) (Verified, error) {
	parsed, err := accesstoken.ParseToken(token)
	if err != nil {
		return Verified{}, err
	}
	verified := Verified{KeyID: parsed.KeyID()}
	if k.older.is(parsed.KeyID()) { // it signs no account tokens
		verified.Claims, err = k.older.claims(parsed, k.now())
		return verified, err
	}
	key, err := k.find(ctx, parsed.KeyID())
	if err != nil {
		return Verified{}, err
	}
	rules := []accesstoken.Rules{k.rules}
	if k.account != nil {
		rules = append(rules, *k.account)
	}
	var kept int
	verified.Claims, kept, err = parsed.ClaimsUnder(key.verifying, k.now(), rules...)
	verified.ForAccount = kept > 0
	return verified, err
}
