package password

import (
	"encoding/base64"
	"strconv"
	"strings"
)

const (
	// newSaltLength and newKeyLength are those of new hashes, the values that RFC 9106, section 4 recommends.
	// More adds nothing against guessing.
	newSaltLength = 16
	newKeyLength  = 32

	minSaltLength, maxSaltLength = 8, 64
	minKeyLength, maxKeyLength   = 16, 64

	phcPrefix = "$argon2id$v=19$"

	// argon2Version is the only one that internal/argon2 computes, 0x13.
	argon2Version = 19
)

// argon2Hash is a parsed Argon2 hash. Its salt and key stay inside, so that a printed or logged one shows only its
// parameters.
type argon2Hash struct {
	Params Params

	variant string // "", which is "id", or "i" or "d"
	salt    []byte
	key     []byte
	// secret is K of RFC 9106, a pepper. It is not in the text that is stored, and the hashes that are made here have
	// none.
	secret []byte
}

// String returns the parameters without salt and key.
func (h argon2Hash) String() string {
	if h.variant == "" {
		return phcPrefix + h.Params.encode()
	}
	return "$argon2" + h.variant + "$v=19$" + h.Params.encode()
}

// GoString is String: %#v would print the unexported fields.
func (h argon2Hash) GoString() string {
	return h.String()
}

// encode is the inverse of readArgon2.
func (h argon2Hash) encode() string {
	return h.String() + "$" + base64.RawStdEncoding.EncodeToString(h.salt) +
		"$" + base64.RawStdEncoding.EncodeToString(h.key)
}

// weakerThan reports whether rewriting the hash with want makes it stronger in something and weaker in nothing. Cost is
// memory times passes. The memory itself must not shrink either, since it is what makes guessing on a GPU expensive.
// Lengths count only up to those of new hashes: a key of 64 bytes is no harder to guess for than one of 32, and must
// not keep a cheap hash in place for ever.
//
// The other variants are always rewritten: RFC 9106, section 4 recommends Argon2id.
func (h argon2Hash) weakerThan(want Params) bool {
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
	if err := params.validateStored(); err != nil {
		return Params{}, malformed("%w", err)
	}
	return params, nil
}

// parseNumber reads a decimal number of at most bits bits. ParseUint refuses signs, spaces, underscores and
// the empty string, but not leading zeros.
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
