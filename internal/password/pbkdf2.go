package password

import (
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // G505: other programs' hashes are of it, and are rewritten
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"
	"unicode/utf8"
)

// pbkdf2Digest is PBKDF2 (RFC 8018) with HMAC of one hash function.
type pbkdf2Digest struct {
	name   string // as the function PBKDF2 expects it
	prefix string // of the stored text
	size   int
	engine engine
	time   uint64 // nanoseconds per iteration
	most   uint64 // iterations
	new    func() hash.Hash
}

// pbkdf2Digests have bounds that take up to 2.4, 0.8 and 0.9 s with the SHA instructions of this processor; without
// them, SHA-1 and SHA-256 take three to four times as long. OWASP recommends 1,300,000, 600,000 and 210,000 iterations
// (2026). Django makes 1,500,000 of SHA-256. The npm package credential makes 11,232,149 of SHA-1, and more each month.
func pbkdf2Digests() []pbkdf2Digest {
	return []pbkdf2Digest{
		{"sha1", "$pbkdf2$", sha1.Size, engineSHA1, 162, 15_000_000, sha1.New},
		{"sha256", "$pbkdf2-sha256$", sha256.Size, engineSHA256, 140, 6_000_000, sha256.New},
		{"sha512", "$pbkdf2-sha512$", sha512.Size, engineSHA512, 428, 2_000_000, sha512.New},
	}
}

func pbkdf2Kinds() []kind {
	names := []naming{{`^\$(pbkdf2-sha\d{1,3}|pbkdf2)\$(\d{1,9}|i=\d{1,9})[,$]`, "$1 $2"}}
	return []kind{
		{[]string{"$pbkdf2$"}, readPBKDF2, `\$pbkdf2\$\d{1,8}\$`, abZeros(16) + "$" + abZeros(20), names},
		{[]string{"$pbkdf2-sha256$"}, readPBKDF2, `\$pbkdf2-sha256\$\d{1,8}\$`, abZeros(16) + "$" + abZeros(32), names},
		{[]string{"$pbkdf2-sha512$"}, readPBKDF2, `\$pbkdf2-sha512\$\d{1,8}\$`, abZeros(16) + "$" + abZeros(64), names},
		{
			[]string{"pbkdf2_sha1$", "pbkdf2_sha256$", "pbkdf2_sha512$"},
			readDjangoPBKDF2, "", "",
			[]naming{{`^(pbkdf2_sha\d{1,3})\$(\d{1,9})\$`, "$1 $2"}},
		},
	}
}

// pbkdf2Hash keeps as much of the key as one output of the hash function, and no more. An attacker computes only that
// much for a guess; further blocks would cost only us.
type pbkdf2Hash struct {
	digest     pbkdf2Digest
	iterations uint64
	salt, want []byte
}

// PBKDF2 returns the text to store for a hash from a format that keeps its parts in separate fields, as Keycloak's
// does. The digest is "sha1", "sha256" or "sha512". Errors are those of Canonical.
func PBKDF2(digest string, iterations int, salt, key []byte) (string, error) {
	h, err := newPBKDF2(digest, strconv.Itoa(iterations), salt, key)
	if err != nil {
		return "", err
	}
	return h.encode(), nil
}

func newPBKDF2(name, iterations string, salt, key []byte) (digest, error) {
	for _, d := range pbkdf2Digests() {
		if d.name != name {
			continue
		}
		n, err := number("PBKDF2 iterations", iterations, 1, d.most)
		if err != nil {
			return nil, err
		}
		if err := checkLength("salt", salt, minForeignSalt, maxForeignSalt); err != nil {
			return nil, err
		}
		if err := checkLength("key", key, minKeyLength, maxPBKDF2Key); err != nil {
			return nil, err
		}
		return pbkdf2Hash{digest: d, iterations: n, salt: salt, want: key[:min(len(key), d.size)]}, nil
	}
	return nil, ErrUnsupportedHash
}

// maxPBKDF2Key is the longest key that a known program derives (passport-local-mongoose), in bytes.
const maxPBKDF2Key = 512

// readPBKDF2 reads the form of passlib and that of Kratos, which has i= and l=.
func readPBKDF2(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 5 {
		return nil, malformed("iterations, salt and key are not three parts")
	}
	name := strings.TrimPrefix(parts[1], "pbkdf2-")
	if name == "pbkdf2" {
		name = "sha1"
	}
	iterations, length := parts[2], ""
	if strings.Contains(iterations, "=") {
		values, err := fields(iterations, "i", "l")
		if err != nil {
			return nil, err
		}
		iterations, length = values["i"], values["l"]
	}
	salt, err := decodeEither("salt", strings.ReplaceAll(parts[3], ".", "+"), minForeignSalt, maxForeignSalt)
	if err != nil {
		return nil, err
	}
	key, err := decodeEither("key", strings.ReplaceAll(parts[4], ".", "+"), minKeyLength, maxPBKDF2Key)
	if err != nil {
		return nil, err
	}
	if length != "" && length != strconv.Itoa(len(key)) {
		return nil, malformed("key does not have the l bytes of its parameters")
	}
	return newPBKDF2(name, iterations, salt, key)
}

// readDjangoPBKDF2 reads pbkdf2_sha256$ITERATIONS$SALT$KEY, whose salt is text.
func readDjangoPBKDF2(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 4 {
		return nil, malformed("iterations, salt and key are not three parts")
	}
	key, err := decodeEither("key", parts[3], minKeyLength, maxPBKDF2Key)
	if err != nil {
		return nil, err
	}
	return newPBKDF2(strings.TrimPrefix(parts[0], "pbkdf2_"), parts[1], []byte(parts[2]), key)
}

func (p pbkdf2Hash) setting() string {
	return p.digest.prefix + strconv.FormatUint(p.iterations, 10) + "$"
}

func (p pbkdf2Hash) encode() string { return p.setting() + ab64(p.salt) + "$" + ab64(p.want) }

func (p pbkdf2Hash) work(string) work {
	return foreignWork(p.digest.engine, p.digest.time*p.iterations)
}

func (p pbkdf2Hash) accepts(string) bool { return true }

func (p pbkdf2Hash) whole(password string) bool { return wholeKey(password) }

func (p pbkdf2Hash) matches(password string) bool {
	key := p.key(password)
	return len(key) > 0 && subtle.ConstantTimeCompare(key, p.want) == 1
}

// key returns nothing if it fails, as in a build that allows FIPS 140 only.
func (p pbkdf2Hash) key(password string) []byte {
	key, err := pbkdf2.Key(p.digest.new, password, p.salt, int(p.iterations), len(p.want)) //nolint:gosec // G115: at most 15,000,000
	if err != nil {
		return nil
	}
	return key
}

func (p pbkdf2Hash) weakerThan(Params) bool { return true }

// wholeKey is whole for a password that is a key of HMAC (RFC 2104, section 2). HMAC pads a key with NULs, so NULs at
// the end of the password change nothing. HMAC replaces a key longer than a block by its digest. Such a digest is
// hardly ever UTF-8 (for SHA-1 one in 100,000), and only those who know the password know it.
func wholeKey(password string) bool {
	return !strings.Contains(password, "\x00") && utf8.ValidString(password)
}

// ab64 is passlib's base64: "." for "+", no padding.
func ab64(data []byte) string {
	return strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(data), "+", ".")
}

func abZeros(n int) string { return ab64(make([]byte, n)) }
