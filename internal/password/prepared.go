package password

import (
	"crypto/hmac"
	"crypto/md5"  //nolint:gosec // G501: other programs hash passwords with it before the real hash
	"crypto/sha1" //nolint:gosec // G505: likewise
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"regexp"
	"strings"
)

// preparation is the change that a program makes to a password before it hashes it. Many programs send a digest of the
// password over the network, or compute one so that bcrypt reads passwords of any length. In the stored text, its name
// comes before that of the hash.
type preparation struct {
	// scheme in the stored text, such as "{SHA256-HEX}".
	scheme string
	// does names the change for people, in "bcrypt of …".
	does  string
	apply func(password string) string
	// exact reports whether the program reads all of this password.
	exact func(password string) bool
}

// wordPressKey is the key of WordPress's HMAC. It is the same everywhere: it keeps these hashes apart from others.
const wordPressKey = "wp-sha384"

// wordPressBlanks are the characters that PHP's trim removes from both ends. WordPress trims before it hashes and
// before it compares.
const wordPressBlanks = " \t\n\r\x00\x0b"

func preparations() []preparation {
	whole := func(string) bool { return true }
	wordPressMAC := digested(func() hash.Hash { return hmac.New(sha512.New384, []byte(wordPressKey)) }, base64.StdEncoding.EncodeToString)
	return []preparation{
		{"{MD5-HEX}", "the hexadecimal MD5", digested(md5.New, hex.EncodeToString), whole},
		{"{SHA1-HEX}", "the hexadecimal SHA-1", digested(sha1.New, hex.EncodeToString), whole},
		{"{SHA256-HEX}", "the hexadecimal SHA-256", digested(sha256.New, hex.EncodeToString), whole},
		{"{SHA384-HEX}", "the hexadecimal SHA-384", digested(sha512.New384, hex.EncodeToString), whole},
		{"{SHA512-HEX}", "the hexadecimal SHA-512", digested(sha512.New, hex.EncodeToString), whole},
		{"{SHA256-BASE64}", "the base64 of the SHA-256", digested(sha256.New, base64.StdEncoding.EncodeToString), whole},
		{"{SHA384-BASE64}", "the base64 of the SHA-384", digested(sha512.New384, base64.StdEncoding.EncodeToString), whole},
		{"{SHA512-BASE64}", "the base64 of the SHA-512", digested(sha512.New, base64.StdEncoding.EncodeToString), whole},
		{
			"{WP-SHA384}", "WordPress's HMAC-SHA-384",
			func(password string) string {
				return wordPressMAC(strings.Trim(password, wordPressBlanks))
			},
			func(password string) bool { return strings.Trim(password, wordPressBlanks) == password },
		},
	}
}

// digested returns the text of a digest of the password.
func digested(digest func() hash.Hash, text func([]byte) string) func(string) string {
	return func(password string) string {
		h := digest()
		h.Write([]byte(password))
		return text(h.Sum(nil))
	}
}

// Prehashes are the names that Prehashed accepts, such as "sha256-hex".
func Prehashes() []string {
	var names []string
	for _, p := range preparations() {
		if p.scheme != "{WP-SHA384}" {
			names = append(names, strings.ToLower(strings.Trim(p.scheme, "{}")))
		}
	}
	return names
}

// Prehashed returns the text to store for a hash that its program made of a digest of the password. stored is that hash
// as Canonical returns it. The prehash is one of Prehashes. Errors are those of Canonical.
func Prehashed(prehash, stored string) (string, error) {
	return Canonical("{" + prehash + "}" + stored)
}

// cutPreparation splits a text after the name of a preparation. If there is none, rest is the whole text.
func cutPreparation(encoded string) (p preparation, rest string, ok bool) {
	if !strings.HasPrefix(encoded, "{") {
		return preparation{}, encoded, false
	}
	for _, p := range preparations() {
		if rest, ok := strings.CutPrefix(encoded, p.scheme); ok {
			return p, rest, true
		}
	}
	return preparation{}, encoded, false
}

func (p preparation) names() string { return p.does + " of the password" }

// of returns the digest of the password as p changes it. Django's bcrypt_sha256 is one spelling of such a hash, and the
// one that is stored.
func (p preparation) of(d digest) (digest, error) {
	inner, isBcrypt := d.(bcryptHash)
	_, isOther := d.(passlibHash)
	if isBcrypt && inner.prehash || isOther {
		return nil, malformed("the hash is of a digest of the password already")
	}
	if isBcrypt && p.scheme == "{SHA256-HEX}" {
		inner.prehash = true
		return inner, nil
	}
	return prepared{added{d, p.apply, p.exact}, p}, nil
}

func preparedPattern() string {
	var all []string
	for _, p := range preparations() {
		all = append(all, regexp.QuoteMeta(p.scheme))
	}
	return strings.Join(all, "|")
}

// prepared is a digest of the password as a preparation changes it. A preparation makes different texts from different
// passwords, also in the part that bcrypt reads.
type prepared struct {
	added

	by preparation
}

func (p prepared) setting() string { return p.by.scheme + p.inner.setting() }

func (p prepared) encode() string { return p.by.scheme + p.inner.encode() }

func (p prepared) accepts(string) bool { return true }

func (p prepared) weakerThan(Params) bool { return true }
