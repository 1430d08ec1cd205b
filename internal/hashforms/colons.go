package hashforms

import (
	"encoding/hex"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// colonForms are those whose parts are separated by a colon.
func colonForms() []form {
	return []form{
		{name: "Werkzeug's pbkdf2 (Flask)", begins: []string{"pbkdf2:"}, read: plain(werkzeugPBKDF2)},
		{name: "Werkzeug's scrypt (Flask)", begins: []string{"scrypt:"}, read: plain(werkzeugScrypt)},
		{name: "MediaWiki's :pbkdf2:", begins: []string{":pbkdf2:"}, read: plain(mediaWiki)},
		{name: "MediaWiki's :argon2:", begins: []string{":argon2:$argon2"}, read: plain(func(text string) (string, error) {
			return password.Canonical(strings.TrimPrefix(text, ":argon2:"))
		})},
		{name: "Lucia 2 (s2:salt:key)", begins: []string{"s2:"}, read: plain(func(text string) (string, error) {
			return readScheme(Source{Text: strings.TrimPrefix(text, "s2:"), Scheme: "lucia"})
		})},
		{name: "pbkdf2-sha256-v1 of Payload, without its salt", begins: []string{"pbkdf2-sha256-v1:"}, why: "give the column salt as password_salt"},
		{
			name: "a salt and a key of scrypt in hex", shape: isHexPair,
			why: "its text does not say the parameters: name them with --scheme better-auth (also Lucia, oslo) or --scheme node-scrypt (crypto.scrypt as it comes)",
		},
		{
			name: "a salt and a key in base64", shape: isBase64Pair,
			why: "its text does not say the parameters: name them with --scheme pbkdf2-password, or give salt and key in two columns with a password_scheme",
		},
	}
}

// isHexPair reports whether text is salt:key or key.salt in hex.
func isHexPair(text string) bool {
	salt, key, ok := strings.Cut(text, ":")
	if !ok {
		key, salt, ok = strings.Cut(text, ".")
	}
	return ok && isHex(salt) && isHex(key) && len(key) >= 32
}

func isBase64Pair(text string) bool {
	salt, key, ok := strings.Cut(text, ":")
	if !ok || len(salt) < 8 || len(key) < 24 {
		return false
	}
	for _, part := range []string{salt, key} {
		if data, err := decode("", "base64", part); err != nil || len(data) < 6 {
			return false
		}
	}
	return true
}

// werkzeugPBKDF2 reads pbkdf2:DIGEST:ITERATIONS$SALT$KEY, with a salt as text and a key in hex.
func werkzeugPBKDF2(text string) (string, error) {
	method, salt, key, err := werkzeug(text)
	if err != nil {
		return "", err
	}
	if len(method) != 3 {
		return "", refused("digest and iterations are not both there: old versions of Werkzeug left them out, and nothing says what they were")
	}
	return pbkdf2(method[1], method[2], salt, key)
}

// werkzeugScrypt reads scrypt:N:r:p$SALT$KEY.
func werkzeugScrypt(text string) (string, error) {
	method, salt, key, err := werkzeug(text)
	if err != nil {
		return "", err
	}
	if len(method) != 4 {
		return "", refused("N, r and p are not three numbers")
	}
	var n [3]int
	for i := range n {
		if n[i], err = positive("N, r or p", method[1+i], 1<<31-1); err != nil {
			return "", err
		}
	}
	return scrypt(n[0], n[1], n[2], salt, key)
}

func werkzeug(text string) (method []string, salt, key []byte, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 3 {
		return nil, nil, nil, refused("method, salt and key are not three parts")
	}
	if key, err = hex.DecodeString(parts[2]); err != nil {
		return nil, nil, nil, refused("key is not hex")
	}
	return strings.Split(parts[0], ":"), []byte(parts[1]), key, nil
}

// mediaWiki reads :pbkdf2:DIGEST:ITERATIONS:LENGTH:SALT:KEY.
func mediaWiki(text string) (string, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 7 {
		return "", refused("digest, iterations, length, salt and key are not five parts")
	}
	salt, key, err := decodeBoth("base64", parts[5], parts[6])
	if err != nil {
		return "", err
	}
	return pbkdf2(parts[2], parts[3], salt, key)
}
