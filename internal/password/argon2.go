package password

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	foreignargon2 "github.com/go-crypt/x/argon2"
	"golang.org/x/crypto/argon2"
)

func argon2Kinds() []kind {
	return []kind{{
		[]string{"$argon2id$", "$argon2i$", "$argon2d$"},
		readArgon2,
		`\$argon2(?:id|i|d)\$v=19\$m=\d{1,6},t=\d{1,2},p=\d{1,3}\$`,
		zeros(newSaltLength) + "$" + zeros(newKeyLength),
		[]naming{
			{`^\$(argon2id|argon2i|argon2d)\$v=(\d{1,3})\$([mtp]=\d{1,10},[mtp]=\d{1,10},[mtp]=\d{1,10})\$`, "$1 v=$2 $3"},
			{`^argon2\$(argon2id|argon2i|argon2d)\$`, "$1 as Django writes it"},
		},
	}}
}

// Argon2 returns the text to store for a hash from a format that keeps its parts in separate fields, as Keycloak's
// does. The variant is "i", "d" or "id". The version is 19, which is Argon2 1.3. Errors are those of Canonical.
func Argon2(variant string, version int, p Params, salt, key []byte) (string, error) {
	base64 := base64.RawStdEncoding.EncodeToString
	return Canonical(fmt.Sprintf("$argon2%s$v=%d$%s$%s$%s", variant, version, p.encode(), base64(salt), base64(key)))
}

// readArgon2 reads the PHC string, with the parameters in any order. The bounds are those of Params, 8 to 64
// bytes of salt, and 16 to 64 bytes of key.
func readArgon2(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) == 5 && strings.HasPrefix(parts[2], "m=") {
		return nil, fmt.Errorf("%w: Argon2 without a version is version 1.0", ErrUnsupportedHash)
	}
	if len(parts) != 6 {
		return nil, malformed("version, parameters, salt and key are not four parts")
	}
	if version, err := number("Argon2 version", strings.TrimPrefix(parts[2], "v="), 0, 255); err != nil {
		return nil, err
	} else if version != argon2Version {
		return nil, fmt.Errorf("%w: Argon2 version %d is not %d", ErrUnsupportedHash, version, argon2Version)
	}
	values, err := fields(parts[3], "m", "t", "p")
	if err != nil {
		return nil, err
	}
	params, err := parseParams("m=" + values["m"] + ",t=" + values["t"] + ",p=" + values["p"])
	if err != nil {
		return nil, err
	}
	salt, err := decodeEither("salt", parts[4], minSaltLength, maxSaltLength)
	if err != nil {
		return nil, err
	}
	key, err := decodeEither("key", parts[5], minKeyLength, maxKeyLength)
	if err != nil {
		return nil, err
	}
	return argon2Hash{Params: params, variant: argon2Variant(parts[1]), salt: salt, key: key}, nil
}

func argon2Variant(name string) string {
	variant := strings.TrimPrefix(name, "argon2")
	if variant == "id" {
		return ""
	}
	return variant
}

func (h argon2Hash) setting() string { return h.String() + "$" }

func (h argon2Hash) work(string) work { return work{engine: engineArgon2, units: h.Params.cost()} }

func (h argon2Hash) accepts(string) bool { return true }

func (h argon2Hash) whole(string) bool { return true }

func (h argon2Hash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.derive(password, len(h.key)), h.key) == 1
}

// derive computes the key. x/crypto has no Argon2d.
func (h argon2Hash) derive(password string, length int) []byte {
	p, n := h.Params, uint32(length) //nolint:gosec // G115: at most 64 bytes
	switch h.variant {
	case "i":
		return argon2.Key([]byte(password), h.salt, p.Time, p.MemoryKiB, p.Threads, n)
	case "d":
		return foreignargon2.DKey([]byte(password), h.salt, p.Time, p.MemoryKiB, uint32(p.Threads), n)
	default:
		return argon2.IDKey([]byte(password), h.salt, p.Time, p.MemoryKiB, p.Threads, n)
	}
}
