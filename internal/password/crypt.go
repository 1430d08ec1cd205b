package password

import (
	"crypto/md5" //nolint:gosec // G501: other programs' hashes are of it, and are rewritten
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"hash"
	"strconv"
	"strings"

	"github.com/go-crypt/x/crypt"
)

const (
	cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	// maxCryptPassword is libxcrypt's CRYPT_MAX_PASSPHRASE_SIZE. These kinds hash the password again in each round, so
	// a longer password would multiply their time.
	maxCryptPassword = 512

	// A number of rounds outside of these bounds is changed to the nearer bound, as the specification says. The
	// specification allows up to 999,999,999, which takes minutes; passlib makes 656,000. A million takes 0.1 and 0.25
	// s ($5$, $6$), and 0.6 and 1.5 s with a password of 512 bytes.
	minRounds, defaultRounds, maxRounds = 1000, 5000, 1_000_000
	maxSHACryptSalt                     = 16
	maxMD5CryptSalt                     = 8
	md5CryptKey                         = 22
	md5CryptRounds                      = 1000
)

// cryptKinds are SHA-crypt and MD5-crypt.
func cryptKinds() []kind {
	names := []naming{
		{`^\$(1|5|6|apr1)\$`, "crypt $$$1$$"},
		{`^\$(sha256-crypt|sha512-crypt|md5-crypt)\$`, "$1"},
	}
	return []kind{
		{[]string{"$5$"}, readSHACrypt, `\$5\$(?:rounds=\d{1,7}\$)?`, dots(16) + "$" + dots(43), names},
		{[]string{"$6$"}, readSHACrypt, `\$6\$(?:rounds=\d{1,7}\$)?`, dots(16) + "$" + dots(86), names},
		{[]string{"$1$", "$apr1$"}, readMD5Crypt, `\$(?:1|apr1)\$`, dots(8) + "$" + dots(22), names},
	}
}

// perRound is the time of one round: in nanoseconds for an empty password, and in hundredths of a nanosecond for each
// byte of the password.
type perRound struct {
	empty, perByte uint64
}

func (p perRound) times(rounds uint64, password string) uint64 {
	return rounds * (p.empty + p.perByte*uint64(len(password))/100)
}

// shaCrypt is $5$ and $6$, as Drepper's specification of 2007-2016 defines them.
type shaCrypt struct {
	shaCryptVariant
	rounds     uint64
	salt, want string
}

type shaCryptVariant struct {
	prefix    string
	new       func() hash.Hash
	keyLength int    // characters
	last      string // the characters that can be last
	engine    engine
	// Measured: 127 and 229 ns with 13 bytes, 214 and 554 with 128, 0.6 and 1.5 µs with 512.
	time perRound
}

func shaCryptVariants() []shaCryptVariant {
	return []shaCryptVariant{
		{"$5$", sha256.New, 43, cryptAlphabet[:16], engineSHA256, perRound{115, 95}},
		{"$6$", sha512.New, 86, cryptAlphabet[:4], engineSHA512, perRound{195, 245}},
	}
}

func readSHACrypt(encoded string) (digest, error) {
	for _, variant := range shaCryptVariants() {
		rest, ok := strings.CutPrefix(encoded, variant.prefix)
		if !ok {
			continue
		}
		parts := strings.Split(rest, "$")
		rounds := uint64(defaultRounds)
		if digits, ok := strings.CutPrefix(parts[0], "rounds="); ok {
			var err error
			if rounds, err = number("SHA-crypt rounds", digits, minRounds, maxRounds); err != nil {
				return nil, err
			}
			parts = parts[1:]
		}
		if len(parts) != 2 {
			return nil, malformed("salt and key are not two parts")
		}
		if err := checkCrypt(parts[0], maxSHACryptSalt, parts[1], variant.keyLength, variant.last); err != nil {
			return nil, err
		}
		return shaCrypt{variant, rounds, parts[0], parts[1]}, nil
	}
	return nil, ErrUnsupportedHash
}

func (s shaCrypt) setting() string {
	if s.rounds == defaultRounds {
		return s.prefix
	}
	return s.prefix + "rounds=" + strconv.FormatUint(s.rounds, 10) + "$"
}

func (s shaCrypt) encode() string { return s.setting() + s.salt + "$" + s.want }

func (s shaCrypt) work(password string) work {
	return foreignWork(s.engine, s.time.times(s.rounds, password))
}

func (s shaCrypt) accepts(password string) bool { return len(password) <= maxCryptPassword }

func (s shaCrypt) whole(string) bool { return true }

func (s shaCrypt) matches(password string) bool {
	return subtle.ConstantTimeCompare(s.key(password), []byte(s.want)) == 1
}

func (s shaCrypt) key(password string) []byte {
	return crypt.KeySHACrypt(s.new, []byte(password), []byte(s.salt), int(s.rounds)) //nolint:gosec // G115: at most 1,000,000
}

func (s shaCrypt) weakerThan(Params) bool { return true }

// md5Crypt is $1$ of FreeBSD and $apr1$ of Apache. They differ in the prefix that is hashed with the rest. go-crypt has
// only the first.
type md5Crypt struct {
	prefix     string
	salt, want string
}

func readMD5Crypt(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 4 {
		return nil, malformed("salt and key are not two parts")
	}
	if err := checkCrypt(parts[2], maxMD5CryptSalt, parts[3], md5CryptKey, cryptAlphabet[:4]); err != nil {
		return nil, err
	}
	return md5Crypt{"$" + parts[1] + "$", parts[2], parts[3]}, nil
}

func (m md5Crypt) setting() string { return m.prefix }

func (m md5Crypt) encode() string { return m.prefix + m.salt + "$" + m.want }

// work was measured: 0.09 ms with 13 bytes, 0.35 with 128, 1.1 with 512.
func (m md5Crypt) work(password string) work {
	return foreignWork(engineMD5, perRound{66, 207}.times(md5CryptRounds, password))
}

func (m md5Crypt) accepts(password string) bool { return len(password) <= maxCryptPassword }

func (m md5Crypt) whole(string) bool { return true }

func (m md5Crypt) matches(password string) bool {
	return subtle.ConstantTimeCompare(m.key([]byte(password)), []byte(m.want)) == 1
}

func (m md5Crypt) weakerThan(Params) bool { return true }

// key follows crypt_md5 of FreeBSD's libcrypt.
func (m md5Crypt) key(password []byte) []byte {
	sum := md5.Sum(join(password, []byte(m.salt), password)) //nolint:gosec // G401: see the import
	first := join(password, []byte(m.prefix), []byte(m.salt))
	for left := len(password); left > 0; left -= md5.Size {
		first = append(first, sum[:min(left, md5.Size)]...)
	}
	for left := len(password); left > 0; left >>= 1 {
		if left&1 == 1 {
			first = append(first, 0)
		} else {
			first = append(first, password[0])
		}
	}
	sum = md5.Sum(first) //nolint:gosec // G401: see the import
	round := make([]byte, 0, 2*(len(password)+md5.Size)+len(m.salt))
	for i := range md5CryptRounds {
		this, that := sum[:], password
		if i&1 == 1 {
			this, that = that, this
		}
		round = append(round[:0], this...)
		if i%3 != 0 {
			round = append(round, m.salt...)
		}
		if i%7 != 0 {
			round = append(round, password...)
		}
		round = append(round, that...)
		sum = md5.Sum(round) //nolint:gosec // G401: see the import
	}
	s := sum
	return encodeCrypt([]byte{s[12], s[6], s[0], s[13], s[7], s[1], s[14], s[8], s[2], s[15], s[9], s[3], s[5], s[10], s[4], s[11]})
}

// checkCrypt checks salt and key against the alphabet of crypt. The last character of a key has fewer bits than the
// others.
func checkCrypt(salt string, maxSalt int, key string, keyLength int, last string) error {
	if len(salt) < minForeignSalt || len(salt) > maxSalt {
		return malformed("salt has %d characters, not %d to %d", len(salt), minForeignSalt, maxSalt)
	}
	if strings.Trim(salt, cryptAlphabet) != "" {
		return malformed("salt is not in the alphabet of crypt")
	}
	if len(key) != keyLength {
		return malformed("key has %d characters, not %d", len(key), keyLength)
	}
	if strings.Trim(key, cryptAlphabet) != "" || !strings.Contains(last, key[keyLength-1:]) {
		return malformed("key is not in the alphabet of crypt")
	}
	return nil
}

// encodeCrypt writes six bits in each character, the lowest first.
func encodeCrypt(data []byte) []byte {
	var text []byte
	for len(data) > 0 {
		n := min(3, len(data))
		var group uint32
		for i, b := range data[:n] {
			group |= uint32(b) << (8 * i)
		}
		for range n + 1 {
			text = append(text, cryptAlphabet[group&63])
			group >>= 6
		}
		data = data[n:]
	}
	return text
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}
