package hashforms

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// binaryForms are base64 of a binary record.
func binaryForms() []form {
	return []form{
		{name: "ASP.NET Core Identity V3", begins: []string{"AQAAAA"}, read: plain(identityV3)},
		{name: "ASP.NET Identity V2", begins: []string{"A"}, shape: func(text string) bool {
			data, err := base64.StdEncoding.DecodeString(text)
			return err == nil && len(data) == identityV2Length && data[0] == 0
		}, read: plain(identityV2)},
		{name: "scrypt-kdf (Medusa)", begins: []string{"c2NyeXB0"}, read: plain(scryptKDF)},
	}
}

const identityV2Length = 1 + 16 + 32

// identityV2 is a zero byte, 16 bytes of salt, and 32 of key, from 1,000 iterations of SHA-1.
func identityV2(text string) (string, error) {
	data, err := decode("hash", "base64", text)
	if err != nil {
		return "", err
	}
	return password.PBKDF2("sha1", 1000, data[1:17], data[17:])
}

// identityV3 is a one, the hash function, the iterations, the length of the salt, the salt and the key.
func identityV3(text string) (string, error) {
	data, err := decode("hash", "base64", text)
	if err != nil {
		return "", err
	}
	const head = 1 + 3*4
	if len(data) < head {
		return "", refused("it has %d bytes and no parameters", len(data))
	}
	function, iterations, salt := binary.BigEndian.Uint32(data[1:]), binary.BigEndian.Uint32(data[5:]), binary.BigEndian.Uint32(data[9:])
	digest := map[uint32]string{0: "sha1", 1: "sha256", 2: "sha512"}[function]
	if digest == "" {
		return "", refused("hash function %d is none of 0, 1 and 2", function)
	}
	if salt > uint32(len(data)-head) { //nolint:gosec // G115: at most 4096
		return "", refused("salt is longer than the text")
	}
	return password.PBKDF2(digest, int(iterations), data[head:head+salt], data[head+salt:])
}

// scryptKDF is the header of a file of scrypt(1). Its checksum shows that the text is complete.
func scryptKDF(text string) (string, error) {
	data, err := decode("hash", "base64", text)
	if err != nil {
		return "", err
	}
	if len(data) != 96 || string(data[:7]) != "scrypt\x00" {
		return "", refused("it has %d bytes, not 96, or is of another version", len(data))
	}
	if sum := sha256.Sum256(data[:48]); subtle.ConstantTimeCompare(sum[:16], data[48:64]) != 1 {
		return "", refused("its checksum does not hold: the text is damaged")
	}
	if 1<<min(data[7], 62) > maxScryptN {
		return "", refused("scrypt N must be at most %d, not 2^%d", maxScryptN, data[7])
	}
	base64 := base64.RawStdEncoding.EncodeToString
	return password.Canonical(fmt.Sprintf("$scrypt-kdf$ln=%d,r=%d,p=%d$%s$%s", data[7], binary.BigEndian.Uint32(data[8:]),
		binary.BigEndian.Uint32(data[12:]), base64(data[16:48]), base64(data[64:])))
}

// wrappedForms are texts in which a database, an export or a program wrapped a hash.
func wrappedForms() []form {
	return []form{
		{name: "Nextcloud's version before a hash", begins: []string{"1|$2", "2|$argon2i$", "3|$argon2id$"}, read: plain(func(text string) (string, error) {
			return password.Canonical(text[2:])
		})},
		{name: "bytea of PostgreSQL in hex", begins: []string{`\x`}, read: Options.bytea},
		{name: "a hash with its salt in JSON", begins: []string{`{"`}, read: Options.fromJSON},
		{name: "a hash of LDAP in base64, as LDIF writes it behind userPassword::", shape: isLDIF, read: Options.ldif},
	}
}

func (o Options) bytea(text string) (string, error) {
	data, err := hex.DecodeString(strings.TrimPrefix(text, `\x`))
	if err != nil {
		return "", refused("it is not hex")
	}
	return o.inside(Source{Text: string(data)})
}

func isLDIF(text string) bool {
	data, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(data) > 2 && data[0] == '{' && strings.Contains(string(data), "}") && data[1] != '"'
}

func (o Options) ldif(text string) (string, error) {
	data, err := decode("text", "base64", text)
	if err != nil {
		return "", err
	}
	return o.inside(Source{Text: string(data)})
}

// jsonHash are the keys that programs write, in one object.
type jsonHash struct {
	Hash       string      `json:"hash"`
	Salt       string      `json:"salt"`
	Scheme     string      `json:"scheme"`
	Params     string      `json:"params"`
	HashMethod string      `json:"hashMethod"`
	Iterations json.Number `json:"iterations"`
	KeyLength  json.Number `json:"keyLength"`
}

// fromJSON reads {"hash","salt"} with "scheme" and "params", or with the keys that the package credential writes.
func (o Options) fromJSON(text string) (string, error) {
	var h jsonHash
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return "", refused("it is not an object of hash, salt, scheme and params, all texts")
	}
	if h.HashMethod != "" {
		return credential(h)
	}
	return o.inside(Source{Text: h.Hash, Salt: h.Salt, Scheme: h.Scheme, Params: h.Params})
}

// credential reads a hash of the package of that name: PBKDF2 of SHA-1, with the key in base64 and the salt as text.
func credential(h jsonHash) (string, error) {
	if h.HashMethod != "pbkdf2" {
		return "", refused("hashMethod %q is not pbkdf2", clip(h.HashMethod))
	}
	key, err := decode("hash", "base64", h.Hash)
	if err != nil {
		return "", err
	}
	return pbkdf2("sha1", h.Iterations.String(), []byte(h.Salt), key)
}
