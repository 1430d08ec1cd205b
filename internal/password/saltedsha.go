package password

import (
	"crypto/md5"  //nolint:gosec // G501: other programs' hashes are of it, and are rewritten
	"crypto/sha1" //nolint:gosec // G505: other programs' hashes are of it, and are rewritten
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"regexp"
	"strings"
)

// saltedSHATime is in nanoseconds, for SHA-512 and a short password.
const saltedSHATime = 600

// saltedSHA is a salted digest as LDAP servers keep it (OpenLDAP's {SSHA}), the base64 of the digest followed
// by the salt.
type saltedSHA struct {
	saltedSHAScheme
	want, salt []byte
}

type saltedSHAScheme struct {
	scheme string
	size   int
	new    func() hash.Hash
}

func saltedSHASchemes() []saltedSHAScheme {
	return []saltedSHAScheme{
		{"{SSHA}", sha1.Size, sha1.New},
		{"{SSHA256}", sha256.Size, sha256.New},
		{"{SSHA384}", sha512.Size384, sha512.New384},
		{"{SSHA512}", sha512.Size, sha512.New},
		{"{SMD5}", md5.Size, md5.New},
	}
}

func saltedSHAKinds() []kind {
	names := []naming{{`^\{((?i:SSHA)(?:256|384|512)?|(?i:SMD5))\}`, "LDAP {$1}"}}
	var all []kind
	for _, s := range saltedSHASchemes() {
		all = append(all, kind{[]string{s.scheme}, readSaltedSHA, regexp.QuoteMeta(s.scheme), padded(s.size + 8), names})
	}
	return all
}

// upperScheme writes an LDAP scheme in capitals: LDAP ignores the case of schemes.
func upperScheme(encoded string) string {
	if end := strings.IndexByte(encoded, '}'); strings.HasPrefix(encoded, "{") && end > 0 {
		return strings.ToUpper(encoded[:end]) + encoded[end:]
	}
	return encoded
}

func readSaltedSHA(encoded string) (digest, error) {
	for _, scheme := range saltedSHASchemes() {
		text, ok := strings.CutPrefix(encoded, scheme.scheme)
		if !ok {
			continue
		}
		data, err := decodeEither("digest with salt", text, scheme.size+minForeignSalt, scheme.size+maxSaltLength)
		if err != nil {
			return nil, err
		}
		return saltedSHA{scheme, data[:scheme.size], data[scheme.size:]}, nil
	}
	return nil, ErrUnsupportedHash
}

func (s saltedSHA) setting() string { return s.scheme }

func (s saltedSHA) encode() string {
	return s.scheme + base64.StdEncoding.EncodeToString(join(s.want, s.salt))
}

func (s saltedSHA) work(string) work { return foreignWork(engineSaltedSHA, saltedSHATime) }

func (s saltedSHA) accepts(string) bool { return true }

func (s saltedSHA) whole(string) bool { return true }

func (s saltedSHA) matches(password string) bool {
	return subtle.ConstantTimeCompare(s.sum(password), s.want) == 1
}

func (s saltedSHA) sum(password string) []byte {
	h := s.new()
	h.Write([]byte(password))
	h.Write(s.salt)
	return h.Sum(nil)
}

func (s saltedSHA) weakerThan(Params) bool { return true }
