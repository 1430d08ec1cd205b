package token

import (
	"encoding/json"

	"github.com/latchkey-auth/latchkey/internal/atjwt"
)

// marshalJWKS returns the set of keys in the order given.
func marshalJWKS(keys []*signingKey) ([]byte, error) {
	set := struct {
		Keys []atjwt.JWK `json:"keys"`
	}{Keys: make([]atjwt.JWK, 0, len(keys))}
	for _, key := range keys {
		entry := key.jwk
		entry.Use, entry.Algorithm, entry.KeyID = "sig", key.algorithm, key.id
		set.Keys = append(set.Keys, entry)
	}
	return json.Marshal(set)
}
