package token

import (
	"github.com/latchkey-auth/latchkey/internal/atjwt"
)

// Claims are what a token says. Other services read them too, so they and the
// rules for them are defined in internal/atjwt, once. Sign takes an empty ClientID
// from Config.
type Claims = atjwt.Claims

// Algorithm names a signature algorithm.
type Algorithm = atjwt.Algorithm

// The allow list: nothing else ever signs or verifies.
const (
	// EdDSA is Ed25519 (RFC 8037).
	EdDSA = atjwt.EdDSA
	// ES256 is ECDSA on P-256 with SHA-256 (RFC 7518, section 3.4).
	ES256 = atjwt.ES256
	// RS256 is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, section 3.3).
	RS256 = atjwt.RS256
)

// DefaultAlgorithm is that of the first key of a store: of 36 verifiers that were tried 32 take it, 16 EdDSA and 34
// RS256, whose keys and signatures are large and slow to make.
const DefaultAlgorithm = ES256

// checkAlgorithm lets an empty one pass: it stands for what there is.
func checkAlgorithm(algorithm Algorithm) error {
	if algorithm == "" {
		return nil
	}
	_, err := ParseAlgorithm(string(algorithm))
	return err
}

var (
	// ErrInvalid reports a token that is not one of ours. The text around it says
	// what kind of check failed, for logs; it quotes nothing of the token.
	ErrInvalid = atjwt.ErrInvalid
	// ErrExpired reports a genuine token that is past its time and wrong in no
	// other way.
	ErrExpired = atjwt.ErrExpired
	// ErrClaims reports claims that Sign refuses because Verify would.
	ErrClaims = atjwt.ErrClaims
	// ErrAlgorithm reports an algorithm that is not on the allow list.
	ErrAlgorithm = atjwt.ErrAlgorithm
)

// ParseAlgorithm returns the algorithm called name. It fails with ErrAlgorithm.
func ParseAlgorithm(name string) (Algorithm, error) { return atjwt.ParseAlgorithm(name) }
