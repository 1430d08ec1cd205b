package token

import "context"

// Has says whether the key called id verifies tokens now.
func (k *Keyring) Has(id string) bool { return k.keys.Load().verifying[id] != nil }

// VerifyKeyed is Verify, and names the key too.
func (k *Keyring) VerifyKeyed(ctx context.Context, token string) (*Claims, string, error) {
	parsed, err := parseJWS(token)
	if err != nil {
		return nil, "", err
	}
	claims, err := k.Verify(ctx, token)
	return claims, parsed.keyID, err
}
