package password

import (
	"encoding/base64"
	"strconv"
	"strings"
)

const (
	// newSaltLength and newKeyLength are those of new hashes, the values that
	// RFC 9106, section 4 recommends. More adds nothing against guessing.
	newSaltLength = 16
	newKeyLength  = 32

	minSaltLength, maxSaltLength = 8, 64
	minKeyLength, maxKeyLength   = 16, 64

	phcPrefix = "$argon2id$v=19$"

	// argon2Version is the only one that x/crypto and go-crypt compute, 0x13.
	argon2Version = 19

	// maxEncodedLength is the longest hash in bounds: 64 bytes are 86 characters
	// of base64.
	maxEncodedLength = len(phcPrefix+"m=262144,t=32,p=64$") + 86 + len("$") + 86
)

// Hash is a parsed Argon2 hash. Its salt and key stay inside, so that printing
// or logging one shows its parameters only.
type Hash struct {
	Params Params

	variant string // "", which is "id", or "i" or "d"
	salt    []byte
	key     []byte
}

// Parse reads a hash of the form
//
//	$argon2id$v=19$m=MEMORY,t=PASSES,p=LANES$SALT$KEY
//
// and accepts the one canonical spelling of each: version 19, the three
// parameters in this order without leading zeros, base64 without padding and
// without stray bits, and all within bounds (those of Params, 8 to 64 bytes of
// salt, 16 to 64 bytes of key). Errors wrap ErrMalformedHash and never hold any
// part of the salt or key.
func Parse(encoded string) (Hash, error) {
	if len(encoded) > maxEncodedLength {
		return Hash{}, malformed("longer than %d bytes", maxEncodedLength)
	}
	rest, ok := strings.CutPrefix(encoded, phcPrefix)
	if !ok {
		return Hash{}, malformed("does not begin with %s", phcPrefix)
	}
	return parseParts("", rest)
}

// parseParts reads what follows the version.
func parseParts(variant, rest string) (Hash, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return Hash{}, malformed("parameters, salt and key are not three parts")
	}
	params, err := parseParams(parts[0])
	if err != nil {
		return Hash{}, err
	}
	salt, err := decode("salt", parts[1], minSaltLength, maxSaltLength)
	if err != nil {
		return Hash{}, err
	}
	key, err := decode("key", parts[2], minKeyLength, maxKeyLength)
	if err != nil {
		return Hash{}, err
	}
	return Hash{Params: params, variant: variant, salt: salt, key: key}, nil
}

// String returns the parameters without salt and key.
func (h Hash) String() string {
	if h.variant == "" {
		return phcPrefix + h.Params.encode()
	}
	return "$argon2" + h.variant + "$v=19$" + h.Params.encode()
}

// GoString is String: %#v would print the unexported fields.
func (h Hash) GoString() string {
	return h.String()
}

// encode is the inverse of Parse.
func (h Hash) encode() string {
	return h.String() + "$" + base64.RawStdEncoding.EncodeToString(h.salt) +
		"$" + base64.RawStdEncoding.EncodeToString(h.key)
}

// weakerThan reports whether rewriting the hash with want makes it stronger in
// something and weaker in nothing. Cost is memory times passes; the memory
// itself must not shrink either, since it is what makes guessing on a GPU
// expensive. Lengths count up to those of new hashes: a key of 64 bytes is no
// harder to guess for than one of 32 and must not pin a cheap hash for ever.
//
// The other variants are always rewritten: RFC 9106, section 4 wants Argon2id.
func (h Hash) weakerThan(want Params) bool {
	if h.variant != "" {
		return true
	}
	if want.cost() < h.Params.cost() || want.MemoryKiB < h.Params.MemoryKiB {
		return false
	}
	return want.cost() > h.Params.cost() || len(h.salt) < newSaltLength || len(h.key) < newKeyLength
}

func (p Params) encode() string {
	return "m=" + strconv.FormatUint(uint64(p.MemoryKiB), 10) +
		",t=" + strconv.FormatUint(uint64(p.Time), 10) +
		",p=" + strconv.FormatUint(uint64(p.Threads), 10)
}

func parseParams(text string) (Params, error) {
	fields := strings.Split(text, ",")
	if len(fields) != 3 {
		return Params{}, malformed("parameters are not m, t and p in this order")
	}
	memory, err := parseNumber(fields[0], "m=", 32)
	if err != nil {
		return Params{}, err
	}
	passes, err := parseNumber(fields[1], "t=", 32)
	if err != nil {
		return Params{}, err
	}
	threads, err := parseNumber(fields[2], "p=", 8)
	if err != nil {
		return Params{}, err
	}
	params := Params{MemoryKiB: uint32(memory), Time: uint32(passes), Threads: uint8(threads)} //nolint:gosec // G115: parsed with these sizes
	if err := params.Validate(); err != nil {
		return Params{}, malformed("%w", err)
	}
	return params, nil
}

// parseNumber reads a decimal number of at most bits bits. ParseUint refuses
// signs, spaces, underscores and the empty string, but not leading zeros.
func parseNumber(field, name string, bits int) (uint64, error) {
	digits, ok := strings.CutPrefix(field, name)
	if !ok {
		return 0, malformed("parameters are not m, t and p in this order")
	}
	number, err := strconv.ParseUint(digits, 10, bits)
	if err != nil || digits[0] == '0' {
		return 0, malformed("%s is not a positive decimal number in bounds", name[:1])
	}
	return number, nil
}

func decode(what, text string, shortest, longest int) ([]byte, error) {
	// The decoder skips line breaks wherever they stand, also in strict mode.
	if strings.ContainsAny(text, "\r\n") {
		return nil, malformed("%s is not base64 without padding", what)
	}
	data, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil {
		// The decoder's error tells a position in the text: it stays here.
		return nil, malformed("%s is not base64 without padding", what)
	}
	if len(data) < shortest || len(data) > longest {
		return nil, malformed("%s has %d bytes, not %d to %d", what, len(data), shortest, longest)
	}
	return data, nil
}
