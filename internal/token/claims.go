package token

import "github.com/latchkey-auth/latchkey/authverify"

// Claims are what a token says. Other services read them too, so they and the
// rules for them are defined in authverify, once. Sign takes an empty ClientID
// from Config.
type Claims = authverify.Claims

// Algorithm names a signature algorithm.
type Algorithm = authverify.Algorithm

// The allow list: nothing else ever signs or verifies.
const (
	// EdDSA is Ed25519 (RFC 8037).
	EdDSA = authverify.EdDSA
	// ES256 is ECDSA on P-256 with SHA-256 (RFC 7518, section 3.4).
	ES256 = authverify.ES256
	// RS256 is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, section 3.3).
	RS256 = authverify.RS256
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
	ErrInvalid = authverify.ErrInvalid
	// ErrExpired reports a genuine token that is past its time and wrong in no
	// other way.
	ErrExpired = authverify.ErrExpired
	// ErrClaims reports claims that Sign refuses because Verify would.
	ErrClaims = authverify.ErrClaims
	// ErrAlgorithm reports an algorithm that is not on the allow list.
	ErrAlgorithm = authverify.ErrAlgorithm
)

// ParseAlgorithm returns the algorithm called name. It fails with ErrAlgorithm.
func ParseAlgorithm(name string) (Algorithm, error) { return authverify.ParseAlgorithm(name) }
