package hashforms

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// dollarForms are those whose parts are separated by a dollar sign.
func dollarForms() []form {
	return []form{
		{name: "Argon2 in URL-safe base64", begins: []string{"$argon2"}, shape: func(text string) bool {
			return strings.Contains(text, "$v=19$") && strings.ContainsAny(text, "-_")
		}, read: plain(func(text string) (string, error) {
			return password.Canonical(strings.NewReplacer("-", "+", "_", "/").Replace(text))
		})},
		{name: "PHC bcrypt (@phc/bcrypt, @adonisjs/hash)", begins: []string{"$bcrypt$"}, read: plain(phcBcrypt)},
		{name: "scrypt of @adonisjs/hash", begins: []string{"$scrypt$n="}, read: plain(func(text string) (string, error) {
			return password.Canonical("$scrypt$l" + strings.TrimPrefix(text, "$scrypt$"))
		})},
		{name: "PHC pbkdf2 (@phc/pbkdf2, Mattermost)", begins: []string{"$pbkdf2-", "$pbkdf2$"}, shape: func(text string) bool {
			return strings.Contains(text, "=") && strings.Count(text, "$") == 4
		}, read: plain(phcPBKDF2)},
		{name: "passlib bcrypt_sha256, version 1", begins: []string{"$bcrypt-sha256$2"}, read: plain(passlibBcrypt1)},
		{name: "scrypt of crypt(3) ($7$)", begins: []string{"$7$"}, read: plain(cryptScrypt)},
		{name: "PBKDF2 as $p5k2$ (passlib)", begins: []string{"$p5k2$"}, read: plain(p5k2)},
		{name: "GRUB's password_pbkdf2 (grub.pbkdf2.sha512.)", begins: []string{"grub.pbkdf2.sha512."}, read: plain(grub)},
		{name: "Supabase's copy of a Firebase hash ($fbscrypt$)", begins: []string{"$fbscrypt$"}, read: plain(supabaseFirebase)},
		{name: "WordPress 6.8 ($wp$2y$)", begins: []string{"$wp$2"}, read: plain(func(text string) (string, error) {
			return password.Canonical("{WP-SHA384}" + strings.TrimPrefix(text, "$wp"))
		})},
		{name: "Drupal 7 of an MD5 of Drupal 6 (U$S$)", begins: []string{"U$S$"}, read: plain(func(text string) (string, error) {
			return password.Canonical("{MD5-HEX}" + text[1:])
		})},
		{name: "Spring Security's SCryptPasswordEncoder", begins: []string{"$"}, shape: isSpringScrypt, read: plain(springScrypt)},
		{name: "scrypt gem of Ruby (authlogic)", shape: isRubyScrypt, read: plain(rubyScrypt)},
		{name: "Gitea's columns, joined as passwd_hash_algo|salt|passwd", shape: isGitea, read: plain(gitea)},
	}
}

// phcBcrypt reads $bcrypt$v=98$r=10$SALT$KEY. The version is the code of its letter; salt and key are in plain base64.
func phcBcrypt(text string) (string, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 {
		return "", refused("version, rounds, salt and key are not four parts")
	}
	version := map[string]string{"v=97": "2a", "v=98": "2b", "v=121": "2y"}[parts[2]]
	cost, err := positive("r", strings.TrimPrefix(parts[3], "r="), 31)
	if version == "" || err != nil {
		return "", refused("version is not 97, 98 or 121 or the rounds are no number")
	}
	salt, key, err := decodeBoth("base64", parts[4], parts[5])
	if err != nil {
		return "", err
	}
	return bcrypt(version, cost, salt, key)
}

// bcrypt writes a hash in bcrypt's own alphabet.
func bcrypt(version string, cost int, salt, key []byte) (string, error) {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	spell := base64.NewEncoding(alphabet).WithPadding(base64.NoPadding).EncodeToString
	return password.Canonical(fmt.Sprintf("$%s$%02d$%s%s", version, cost, spell(salt), spell(key)))
}

// phcPBKDF2 reads $pbkdf2-sha512$i=25000$SALT$KEY, and Mattermost's $pbkdf2$f=SHA256,w=600000,l=32$SALT$KEY.
func phcPBKDF2(text string) (string, error) {
	parts := strings.Split(text, "$")
	digest := strings.TrimPrefix(strings.TrimPrefix(parts[1], "pbkdf2"), "-")
	if digest == "" {
		digest = "sha1"
	}
	p, err := readParams(parts[2], "i", "w", "l", "f")
	if err != nil {
		return "", err
	}
	if f := p["f"]; f != "" {
		digest = strings.ToLower(strings.ReplaceAll(f, "-", ""))
	}
	iterations := p["i"]
	if iterations == "" {
		iterations = p["w"]
	}
	salt, key, err := decodeBoth("base64", parts[3], parts[4])
	if err != nil {
		return "", err
	}
	if l := p["l"]; l != "" && l != strconv.Itoa(len(key)) {
		return "", refused("key does not have the l bytes of its parameters")
	}
	return pbkdf2(digest, iterations, salt, key)
}

// pbkdf2 reads the number of iterations from text.
func pbkdf2(digest, iterations string, salt, key []byte) (string, error) {
	n, err := positive("iterations", iterations, 1<<31-1)
	if err != nil {
		return "", err
	}
	return password.PBKDF2(strings.ReplaceAll(strings.ToLower(digest), "-", ""), n, salt, key)
}

// maxScryptN is checked here too, because in the stored text a number above the bound of ln means N itself.
const maxScryptN = 1 << 20

// scrypt expects N itself, a power of two.
func scrypt(n, r, p int, salt, key []byte) (string, error) {
	if n < 2 || bits.OnesCount(uint(n)) != 1 {
		return "", refused("scrypt N is not a power of two")
	}
	if n > maxScryptN {
		return "", refused("scrypt N must be at most %d, not %d", maxScryptN, n)
	}
	base64 := base64.RawStdEncoding.EncodeToString
	return password.Canonical(fmt.Sprintf("$scrypt$ln=%d,r=%d,p=%d$%s$%s", bits.TrailingZeros(uint(n)), r, p, base64(salt), base64(key)))
}

// passlibBcrypt1 reads $bcrypt-sha256$2b,12$SALT$KEY: bcrypt of the base64 of a SHA-256.
func passlibBcrypt1(text string) (string, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 5 {
		return "", refused("parameters, salt and key are not three parts")
	}
	version, digits, _ := strings.Cut(parts[2], ",")
	cost, err := positive("cost", digits, 31)
	if err != nil {
		return "", err
	}
	return password.Canonical(fmt.Sprintf("{SHA256-BASE64}$%s$%02d$%s%s", version, cost, parts[3], parts[4]))
}

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// cryptScrypt reads $7$NrrrrrpppppSALT$KEY: N as a logarithm, r and p in 30 bits, the salt as plain text, and the key
// in the alphabet of crypt, the lowest bits first.
func cryptScrypt(text string) (string, error) {
	const head = len("$7$") + 1 + 5 + 5
	at := strings.LastIndexByte(text, '$')
	if at < head {
		return "", refused("parameters, salt and key are not three parts")
	}
	logN := strings.IndexByte(cryptAlphabet, text[3])
	r, okR := crypt30(text[4:9])
	p, okP := crypt30(text[9:head])
	key, okKey := decodeCrypt(text[at+1:])
	if logN < 1 || logN > 30 || !okR || !okP || !okKey {
		return "", refused("parameters or key are not in the alphabet of crypt, or out of bounds")
	}
	return scrypt(1<<logN, r, p, []byte(text[head:at]), key)
}

// crypt30 reads a number of five characters, the lowest bits first.
func crypt30(text string) (int, bool) {
	n := 0
	for i := range len(text) {
		value := strings.IndexByte(cryptAlphabet, text[i])
		if value < 0 {
			return 0, false
		}
		n |= value << (6 * i)
	}
	return n, true
}

// decodeCrypt decodes each four characters to three bytes, the lowest bits first.
func decodeCrypt(text string) ([]byte, bool) {
	var data []byte
	for len(text) > 0 {
		n := min(4, len(text))
		group, ok := crypt30(text[:n])
		if !ok || n == 1 || group>>(8*(n-1)) != 0 {
			return nil, false
		}
		for i := range n - 1 {
			data = append(data, byte(group>>(8*i)&0xff))
		}
		text = text[n:]
	}
	return data, true
}

// p5k2 reads both hashes with that prefix. Iterations are in hex; without them there are 400. Dwayne Litzenberger's
// form has 24 bytes of key, and its salt is the text before them. Cryptacular's has 20 bytes of key, in base64 with -
// and _.
func p5k2(text string) (string, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 5 {
		return "", refused("iterations, salt and key are not three parts")
	}
	iterations := int64(400)
	if parts[2] != "" {
		var err error
		if iterations, err = strconv.ParseInt(parts[2], 16, 32); err != nil {
			return "", refused("iterations are not a number in hex")
		}
	}
	if key, err := decode("key", "base64", strings.ReplaceAll(parts[4], ".", "+")); err == nil && len(key) == 24 {
		return password.PBKDF2("sha1", int(iterations), []byte(text[:strings.LastIndexByte(text, '$')]), key)
	}
	salt, key, err := decodeBoth("base64", parts[3], parts[4])
	if err != nil {
		return "", err
	}
	return password.PBKDF2("sha1", int(iterations), salt, key)
}

// grub reads grub.pbkdf2.sha512.ITERATIONS.SALT.KEY in hex.
func grub(text string) (string, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 6 {
		return "", refused("iterations, salt and key are not three parts")
	}
	salt, key, err := decodeBoth("hex", parts[4], parts[5])
	if err != nil {
		return "", err
	}
	return pbkdf2("sha512", parts[3], salt, key)
}

// supabaseFirebase reads $fbscrypt$v=1,n=14,r=8,p=1,ss=SEPARATOR,sk=SIGNER$SALT$HASH.
func supabaseFirebase(text string) (string, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 5 {
		return "", refused("parameters, salt and hash are not three parts")
	}
	p, err := readParams(parts[2], "v", "n", "r", "p", "ss", "sk")
	if err != nil {
		return "", err
	}
	if p["v"] != "1" || p["p"] != "1" {
		return "", refused("version and p are not 1")
	}
	config := password.FirebaseScrypt{}
	if config.MemCost, err = positive("n", p["n"], 63); err != nil {
		return "", err
	}
	if config.Rounds, err = positive("r", p["r"], 1<<20); err != nil {
		return "", err
	}
	var data [4][]byte
	for i, part := range [][2]string{{"signer key", p["sk"]}, {"salt separator", p["ss"]}, {"salt", parts[3]}, {"hash", parts[4]}} {
		if data[i], err = decode(part[0], "base64", part[1]); err != nil {
			return "", err
		}
	}
	config.SignerKey, config.SaltSeparator = data[0], data[1]
	return config.Encode(data[2], data[3])
}

func isSpringScrypt(text string) bool {
	parts := strings.Split(text, "$")
	return len(parts) == 4 && len(parts[1]) >= 5 && len(parts[1]) <= 6 && strings.Trim(parts[1], "0123456789abcdef") == ""
}

// springScrypt reads $PARAMS$SALT$KEY: the logarithm of N, r and p in one number in hex.
func springScrypt(text string) (string, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 4 {
		return "", refused("parameters, salt and key are not three parts")
	}
	params, err := strconv.ParseUint(parts[1], 16, 24)
	if err != nil || params>>16 > 30 {
		return "", refused("parameters are not a number in hex")
	}
	salt, key, err := decodeBoth("base64", parts[2], parts[3])
	if err != nil {
		return "", err
	}
	return scrypt(1<<(params>>16), int(params>>8&0xff), int(params&0xff), salt, key)
}

func isRubyScrypt(text string) bool {
	parts := strings.Split(text, "$")
	return len(parts) == 5 && len(parts[3]) >= 16 && isHex(parts[3]) && len(parts[4]) >= 32 && isHex(parts[4]) &&
		parts[0] != "" && strings.Trim(parts[0]+parts[1]+parts[2], "0123456789abcdef") == ""
}

// rubyScrypt reads N$r$p$SALT$KEY, all in hex. The gem drops zeros at the beginning of a salt.
func rubyScrypt(text string) (string, error) {
	parts := strings.Split(text, "$")
	var numbers [3]int
	for i := range numbers {
		n, err := strconv.ParseUint(parts[i], 16, 31)
		if err != nil {
			return "", refused("N, r or p is not a number in hex")
		}
		numbers[i] = int(n)
	}
	if len(parts[3]) == 40 {
		return "", refused("a salt of 40 characters is of versions before 1.1, which add a SHA-1")
	}
	digits := parts[3]
	for strings.HasPrefix(digits, "00") {
		digits = digits[2:]
	}
	salt, err := hex.DecodeString(digits)
	if err != nil {
		return "", refused("salt is not hex")
	}
	key, err := hex.DecodeString(parts[4])
	if err != nil {
		return "", refused("key is not hex")
	}
	return scrypt(numbers[0], numbers[1], numbers[2], salt, key)
}

func isGitea(text string) bool {
	parts := strings.Split(text, "|")
	return len(parts) == 3 && len(parts[0]) > 1 && strings.Contains(parts[0], "$")
}

// gitea reads passwd_hash_algo|salt|passwd.
func gitea(text string) (string, error) {
	parts := strings.Split(text, "|")
	return giteaParts(parts[0], parts[1], parts[2])
}

// giteaParts reads a row of Gitea or Forgejo. A salt is in hex, except in old versions, where it is ten letters.
func giteaParts(algorithm, salt, key string) (string, error) {
	name, numbers, _ := strings.Cut(algorithm, "$")
	var n []int
	for digits := range strings.SplitSeq(numbers, "$") {
		value, err := positive("number in passwd_hash_algo", digits, 1<<31-1)
		if err != nil {
			return "", err
		}
		n = append(n, value)
	}
	if name == "bcrypt" {
		return password.Canonical(key)
	}
	saltBytes := []byte(salt)
	if len(salt) != 10 {
		var err error
		if saltBytes, err = hex.DecodeString(salt); err != nil {
			return "", refused("salt is neither hex nor ten letters")
		}
	}
	keyBytes, err := hex.DecodeString(key)
	if err != nil {
		return "", refused("passwd is not hex")
	}
	switch {
	case name == "pbkdf2" && len(n) == 2:
		return password.PBKDF2("sha256", n[0], saltBytes, keyBytes)
	case name == "scrypt" && len(n) == 4:
		return scrypt(n[0], n[1], n[2], saltBytes, keyBytes)
	case name == "argon2" && len(n) == 4 && n[2] <= 255:
		p := password.Params{Time: uint32(n[0]), MemoryKiB: uint32(n[1]), Threads: uint8(n[2])} //nolint:gosec // G115: compared, and 31 bits
		return password.Argon2("id", 19, p, saltBytes, keyBytes)
	}
	return "", refused("passwd_hash_algo is not pbkdf2$, scrypt$, argon2$ or bcrypt$ with its numbers")
}
