package signing

import (
	"encoding/json"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// marshalJWKS returns the JWK set of keys, in their order.
func marshalJWKS(keys []*signingKey) ([]byte, error) {
	set := struct {
		Keys []accesstoken.JWK `json:"keys"`
	}{Keys: make([]accesstoken.JWK, 0, len(keys))}
	for _, key := range keys {
		entry := key.jwk
		entry.Use, entry.Algorithm, entry.KeyID = "sig", key.algorithm, key.id
		set.Keys = append(set.Keys, entry)
	}
	return json.Marshal(set)
}
