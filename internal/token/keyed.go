package token

import (
	"context"

	"github.com/latchkey-auth/latchkey/authverify"
)

// Has says whether the key called id verifies tokens now.
func (k *Keyring) Has(id string) bool {
	return k.keys.Load().verifying[id] != nil || k.former.verifies(id, k.now())
}

// VerifyKeyed is Verify, and names the key too.
func (k *Keyring) VerifyKeyed(ctx context.Context, token string) (*Claims, string, error) {
	parsed, err := authverify.ParseToken(token)
	if err != nil {
		return nil, "", err
	}
	if k.former.is(parsed.KeyID()) {
		claims, err := k.former.claims(parsed, k.now())
		return claims, parsed.KeyID(), err
	}
	key, err := k.find(ctx, parsed.KeyID())
	if err != nil {
		return nil, "", err
	}
	claims, err := parsed.Claims(key.verifying, k.rules, k.now())
	return claims, parsed.KeyID(), err
}
