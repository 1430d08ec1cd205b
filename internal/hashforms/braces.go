package hashforms

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// braceForms are those that begin with a scheme in braces: LDAP's, Dovecot's, Spring Security's and Atlassian's. LDAP
// and Dovecot ignore the case of schemes.
func braceForms() []form {
	const (
		plainText = "passwords in plain text are never imported: let the program hash them first, or " + resets
		unsalted  = "it has no salt; " + resets
		challenge = "it is the secret of a challenge and response, not a hash of a password alone; " + resets
	)
	return []form{
		{
			name: "Spring Security's {pbkdf2}, before 5.8", begins: []string{"{pbkdf2}"}, shape: func(t string) bool { return isHex(t[len("{pbkdf2}"):]) },
			read: plain(func(text string) (string, error) { return springPBKDF2(text[len("{pbkdf2}"):]) }),
		},
		{
			name: "Spring Security's {pbkdf2@SpringSecurity_v5_8}", begins: []string{"{pbkdf2@SpringSecurity_v5_8}"},
			read: plain(func(text string) (string, error) { return springPBKDF258(text[strings.IndexByte(text, '}')+1:]) }),
		},
		{
			name: "Spring Security's {sha256}", begins: []string{"{sha256}"}, shape: func(t string) bool { return len(t) == len("{sha256}")+80 },
			why: "nothing here computes StandardPasswordEncoder; " + resets,
		},
		braced("a scheme in braces before a hash that says what it is (OpenLDAP, Dovecot, Spring Security)", func(_, rest string) bool {
			return strings.HasPrefix(rest, "$") && !strings.HasPrefix(rest, "$1$") || strings.HasPrefix(rest, "{")
		}, Options.inBraces, "CRYPT", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "ARGON2ID", "ARGON2I", "ARGON2",
			"BCRYPT", "ARGON2@SPRINGSECURITY_V5_8", "SCRYPT", "SCRYPT@SPRINGSECURITY_V5_8", "LDAP"),
		braced("Dovecot's {MD5-CRYPT} or {CRYPT}", func(_, rest string) bool { return strings.HasPrefix(rest, "$1$") }, Options.inBraces, "MD5-CRYPT", "CRYPT", "MD5"),
		braced("Dovecot's {PBKDF2}", func(_, rest string) bool { return strings.HasPrefix(rest, "$1$") }, plainBraces(dovecotPBKDF2), "PBKDF2"),
		braced("OpenLDAP's {PBKDF2…}", func(_, rest string) bool { return strings.Count(rest, "$") == 2 }, plainBraces(ldapPBKDF2),
			"PBKDF2", "PBKDF2-SHA1", "PBKDF2-SHA256", "PBKDF2-SHA512"),
		braced("389 Directory Server's {PBKDF2_SHA256}", nil, plainBraces(directoryPBKDF2), "PBKDF2_SHA256"),
		braced("Atlassian's {PKCS5S2}", nil, plainBraces(atlassian), "PKCS5S2"),
		braced("OpenLDAP's {APR1} or {BSDMD5}", nil, plainBraces(ldapMD5Crypt), "APR1", "BSDMD5"),
		braced("a salted digest of Dovecot with its encoding", nil, plainBraces(dovecotEncoded), dovecotEncodings()...),
		braced("a password in clear", nil, nil, "NOOP", "PLAIN", "CLEARTEXT", "CLEAR", "PLAIN-TRUNC").because(plainText),
		braced("a digest without a salt", nil, nil, "SHA", "SHA1", "SHA-1", "SHA256", "SHA-256", "SHA384", "SHA512", "SHA-512", "MD5", "MD4", "PLAIN-MD5", "LDAP-MD5",
			"PLAIN-MD4", "LM", "LANMAN", "NT", "NTLM").because(unsalted),
		braced("the secret of SCRAM, CRAM or DIGEST", nil, nil, "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "DIGEST-MD5", "HMAC-MD5", "RPA", "OTP", "SKEY").because(challenge),
		{name: "passlib's {FSHP…}", begins: []string{"{FSHP", "{fshp"}, why: "nothing here computes it; " + resets},
	}
}

// readBraced reads the text after the scheme. The scheme is in capitals.
type readBraced func(o Options, scheme, rest string) (string, error)

func plainBraces(read func(scheme, rest string) (string, error)) readBraced {
	return func(_ Options, scheme, rest string) (string, error) { return read(scheme, rest) }
}

// braced is a form for some schemes.
func braced(name string, shape func(scheme, rest string) bool, read readBraced, schemes ...string) form {
	f := form{name: name, begins: []string{"{"}, shape: func(text string) bool {
		scheme, rest, ok := cutScheme(text)
		return ok && slices.Contains(schemes, scheme) && (shape == nil || shape(scheme, rest))
	}}
	if read != nil {
		f.read = func(o Options, text string) (string, error) {
			scheme, rest, _ := cutScheme(text)
			return read(o, scheme, rest)
		}
	}
	return f
}

func (f form) because(why string) form {
	f.why = why
	return f
}

func cutScheme(text string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(strings.TrimPrefix(text, "{"), "}")
	return strings.ToUpper(scheme), rest, ok && strings.HasPrefix(text, "{")
}

// inBraces reads a whole hash after its scheme. There may be one scheme more, as in Spring's {ldap}{SSHA}.
func (o Options) inBraces(_, rest string) (string, error) { return o.inside(Source{Text: rest}) }

// springPBKDF2 has 8 bytes of salt and 185,000 iterations of SHA-1. Spring appends an empty secret to the salt.
func springPBKDF2(text string) (string, error) {
	return saltedHex(text, 8, "sha1", 185_000)
}

// springPBKDF258 is the form of Spring Security 5.8 and later.
func springPBKDF258(text string) (string, error) {
	return saltedHex(text, 16, "sha256", 310_000)
}

// saltedHex is a salt and a key in one text of hex.
func saltedHex(text string, salt int, digest string, iterations int) (string, error) {
	data, err := hex.DecodeString(text)
	if err != nil || len(data) <= salt {
		return "", refused("salt and key are not hex, or too short")
	}
	return password.PBKDF2(digest, iterations, data[:salt], data[salt:])
}

// dovecotPBKDF2 reads $1$SALT$ITERATIONS$KEY, PBKDF2 of SHA-1 with a salt as text and a key in hex.
func dovecotPBKDF2(_, rest string) (string, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 5 {
		return "", refused("salt, iterations and key are not three parts")
	}
	key, err := hex.DecodeString(parts[4])
	if err != nil {
		return "", refused("key is not hex")
	}
	return pbkdf2("sha1", parts[3], []byte(parts[2]), key)
}

// ldapPBKDF2 reads ITERATIONS$SALT$KEY.
func ldapPBKDF2(scheme, rest string) (string, error) {
	return password.Canonical("$" + strings.ToLower(scheme) + "$" + rest)
}

// directoryPBKDF2 reads the base64 of the number of iterations, 64 bytes of salt and 256 of key.
func directoryPBKDF2(_, rest string) (string, error) {
	data, err := decode("hash", "base64", rest)
	if err != nil {
		return "", err
	}
	if len(data) != 4+64+256 {
		return "", refused("it has %d bytes, not 324", len(data))
	}
	return password.PBKDF2("sha256", int(binary.BigEndian.Uint32(data)), data[4:68], data[68:])
}

// atlassian has 16 bytes of salt and 32 of key, from 10,000 iterations of SHA-1.
func atlassian(_, rest string) (string, error) {
	data, err := decode("hash", "base64", rest)
	if err != nil {
		return "", err
	}
	if len(data) != 16+32 {
		return "", refused("it has %d bytes, not 48", len(data))
	}
	return password.PBKDF2("sha1", 10_000, data[:16], data[16:])
}

// ldapMD5Crypt has the digest of MD5-crypt in the order in which it is computed; crypt writes the bytes in another
// order.
func ldapMD5Crypt(scheme, rest string) (string, error) {
	data, err := decode("digest with salt", "base64", rest)
	if err != nil {
		return "", err
	}
	if len(data) <= 16 {
		return "", refused("it has no salt")
	}
	s, salt := data[:16], string(data[16:])
	ordered := []byte{s[12], s[6], s[0], s[13], s[7], s[1], s[14], s[8], s[2], s[15], s[9], s[3], s[5], s[10], s[4], s[11]}
	prefix := map[string]string{"APR1": "$apr1$", "BSDMD5": "$1$"}[scheme]
	return password.Canonical(prefix + salt + "$" + encodeCrypt(ordered))
}

// encodeCrypt writes six bits in each character, the lowest first.
func encodeCrypt(data []byte) string {
	var text []byte
	for len(data) > 0 {
		n := min(3, len(data))
		group := 0
		for i, b := range data[:n] {
			group |= int(b) << (8 * i)
		}
		for range n + 1 {
			text = append(text, cryptAlphabet[group&63])
			group >>= 6
		}
		data = data[n:]
	}
	return string(text)
}

// dovecotEncodings are the salted digests with the suffixes that Dovecot accepts.
func dovecotEncodings() []string {
	var all []string
	for _, scheme := range []string{"SSHA", "SSHA256", "SSHA512", "SMD5"} {
		for _, suffix := range []string{".HEX", ".B64", ".BASE64"} {
			all = append(all, scheme+suffix)
		}
	}
	return all
}

func dovecotEncoded(scheme, rest string) (string, error) {
	name, suffix, _ := strings.Cut(scheme, ".")
	if suffix == "HEX" {
		data, err := hex.DecodeString(rest)
		if err != nil {
			return "", refused("digest with salt is not hex")
		}
		rest = base64.StdEncoding.EncodeToString(data)
	}
	return password.Canonical("{" + name + "}" + rest)
}

// errEncoding replaces the error of a decoder that would show a part of the text.
var errEncoding = errors.New("is not of its encoding")

// decodeBoth decodes salt and key of a form that writes both in one encoding.
func decodeBoth(encoding, saltText, keyText string) (salt, key []byte, err error) {
	if salt, err = decode("salt", encoding, saltText); err != nil {
		return nil, nil, err
	}
	key, err = decode("key", encoding, keyText)
	return salt, key, err
}

// decode decodes a salt or a key from an encoding that an import may name: hex, base64 of either alphabet with or
// without padding, or utf8 for the text itself.
func decode(what, encoding, text string) ([]byte, error) {
	var data []byte
	var err error
	switch encoding {
	case "utf8":
		return []byte(text), nil
	case "hex":
		data, err = hex.DecodeString(text)
	case "base64":
		text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		data, err = base64.RawStdEncoding.DecodeString(text)
	default:
		return nil, refused("encoding %q of the %s is none of hex, base64 and utf8", clip(encoding), what)
	}
	if err != nil {
		return nil, refused("%s %w, %s", what, errEncoding, encoding)
	}
	return data, nil
}
