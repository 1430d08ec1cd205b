package password

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/argon2"
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

// matches takes memory for one comparison.
func (h argon2Hash) matches(password string) bool {
	match, err := h.compare(context.Background(), argon2.NewPool(0, argon2.Params{}), password)
	return err == nil && match
}

func (h argon2Hash) compare(ctx context.Context, pool *argon2.Pool, password string) (bool, error) {
	key, err := h.derive(ctx, pool, password, len(h.key))
	return err == nil && subtle.ConstantTimeCompare(key, h.key) == 1, err
}

// derive computes the key in memory of the pool. The error is ctx.Err(), if ctx ends before.
func (h argon2Hash) derive(ctx context.Context, pool *argon2.Pool, password string, length int) ([]byte, error) {
	key := make([]byte, length)
	in := argon2.Input{Password: []byte(password), Salt: h.salt, Secret: h.secret}
	err := pool.Derive(ctx, key, h.Params.argon2(h.variant), &in)
	return key, err
}

// argon2 returns the parameters as the package of that name takes them.
func (p Params) argon2(variant string) argon2.Params {
	params := argon2.Params{Variant: argon2.ID, Passes: p.Time, MemoryKiB: p.MemoryKiB, Lanes: p.Threads}
	switch variant {
	case "i":
		params.Variant = argon2.I
	case "d":
		params.Variant = argon2.D
	}
	return params
}
