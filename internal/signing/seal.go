package signing

import (
	"errors"
	"fmt"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/seal"
)

// ErrSealed means that a stored signing key cannot be opened, or differs from its row. The error that wraps
// it names the key and says what to do.
var ErrSealed = errors.New("signing key cannot be opened")

// sealer seals private keys in PKCS #8 for their rows.
type sealer struct{ keys *seal.Sealer }

// newSealer returns a sealer for secrets of 32 bytes each, the current one first.
func newSealer(secrets [][]byte) (*sealer, error) {
	keys, err := seal.New("latchkey signing key seal v1", secrets)
	if err != nil {
		return nil, fmt.Errorf("signing: Config.SealKeys: %w", err)
	}
	return &sealer{keys}, nil
}

// seal encrypts plain for the row with this key id and algorithm.
func (s *sealer) seal(id string, algorithm accesstoken.Algorithm, plain []byte) []byte {
	return s.keys.Seal(sealContext(id, algorithm), plain)
}

// open returns the bytes that were sealed for the row with this key id and algorithm, and whether the current
// key has sealed them. It returns ErrSealed if it cannot.
func (s *sealer) open(id string, algorithm accesstoken.Algorithm, sealed []byte) (plain []byte, current bool, err error) {
	plain, current, err = s.keys.Open(sealContext(id, algorithm), sealed)
	switch {
	case err == nil:
		return plain, current, nil
	case errors.Is(err, seal.ErrCut):
		return nil, false, fmt.Errorf("%w: %q: its sealed bytes are cut short", ErrSealed, id)
	case errors.Is(err, seal.ErrVersion):
		return nil, false, fmt.Errorf("%w: %q: it is sealed in format %d, which this version does not know",
			ErrSealed, id, sealed[0])
	case errors.Is(err, seal.ErrChanged):
		return nil, false, fmt.Errorf("%w: %q: its sealed bytes were changed or belong to another key", ErrSealed, id)
	}
	return nil, false, fmt.Errorf("%w: %q: it was sealed under another LATCHKEY_SECRET_KEY; "+
		"give that one as LATCHKEY_SECRET_KEY_PREVIOUS, or if it is lost for good see \"Changing the secret key\" in docs/operations.md", ErrSealed, id)
}

// sealContext binds a sealed key to its row: bytes that were moved to another row, or whose row got another
// algorithm, cannot be opened. No algorithm has a NUL in its name.
func sealContext(id string, algorithm accesstoken.Algorithm) string {
	return "latchkey signing key\x00" + string(algorithm) + "\x00" + id
}
