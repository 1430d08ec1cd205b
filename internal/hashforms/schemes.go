package hashforms

import (
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// scheme is a form that a text does not show.
type scheme struct {
	name string
	// of names the programs that write it.
	of string
	// params are the names of its parameters, with the values that are used if they are missing.
	params map[string]string
	read   func(s Source, p map[string]string) (string, error)
}

// schemes returns all of them.
func schemes() []scheme {
	scryptOf := func(r string) map[string]string {
		return map[string]string{"n": "16384", "r": r, "p": "1", "salt_encoding": "utf8", "key_encoding": "hex"}
	}
	pbkdf2Of := func(digest, iterations, salt, key string) map[string]string {
		return map[string]string{"digest": digest, "iterations": iterations, "salt_encoding": salt, "key_encoding": key}
	}
	argon2Of := map[string]string{"m": "", "t": "", "p": "1", "version": "19", "salt_encoding": "base64", "key_encoding": "base64"}
	return []scheme{
		{"better-auth", "better-auth: salt:key in hex", scryptOf("16"), scryptScheme},
		{"lucia", "Lucia 2 and 3: salt:key in hex", scryptOf("16"), scryptScheme},
		{"oslo", "oslo 1: salt:key in hex", scryptOf("16"), scryptScheme},
		{"node-scrypt", "crypto.scrypt of Node with its defaults and a salt in hex that is taken as text: salt:key or key.salt", scryptOf("8"), scryptScheme},
		{"pbkdf2-password", "npm pbkdf2-password 1: salt:hash in base64", pbkdf2Of("sha1", "10000", "base64", "base64"), pbkdf2Scheme},
		{"passport-local-mongoose", "passport-local-mongoose 4 to 9: columns hash and salt", pbkdf2Of("sha256", "25000", "utf8", "hex"), pbkdf2Scheme},
		{"payload", "Payload before 3.80 or so: columns hash and salt; and with pbkdf2-sha256-v1: in hash (iterations=100000 from Cloudflare Workers)", pbkdf2Of("sha256", "", "utf8", "hex"), payloadScheme},
		{"grafana", "Grafana: columns password and salt of user", pbkdf2Of("sha256", "10000", "utf8", "hex"), pbkdf2Scheme},
		{"discourse", "Discourse: columns password_hash, salt and (as iterations) password_algorithm", pbkdf2Of("sha256", "600000", "utf8", "hex"), pbkdf2Scheme},
		{"gitea", "Gitea and Forgejo: columns passwd, salt and (as algorithm) passwd_hash_algo", map[string]string{"algorithm": "pbkdf2$50000$50"}, giteaScheme},
		{"spring-pbkdf2", "Spring Security 5.0 to 5.7: Pbkdf2PasswordEncoder without a scheme in braces", nil, springScheme(springPBKDF2)},
		{"spring-pbkdf2-v5.8", "Spring Security from 5.8 on: likewise", nil, springScheme(springPBKDF258)},
		{"pbkdf2", "any PBKDF2: key and salt in two columns", pbkdf2Of("", "", "", ""), pbkdf2Scheme},
		{"scrypt", "any scrypt: key and salt in two columns", map[string]string{"n": "", "r": "", "p": "", "salt_encoding": "", "key_encoding": ""}, scryptScheme},
		{"argon2id", "Argon2id: key and salt in two columns", argon2Of, argon2Scheme},
		{"argon2i", "Argon2i: likewise", argon2Of, argon2Scheme},
		{"bcrypt", "bcrypt whose 22 characters of salt are in a column of their own (Okta, FusionAuth)", map[string]string{"cost": "", "version": "2a"}, bcryptScheme},
	}
}

// Schemes returns the names that Source.Scheme and Options.Scheme accept.
func Schemes() []string {
	var names []string
	for _, s := range schemes() {
		names = append(names, s.name)
	}
	return names
}

// readScheme reads a hash whose form is named.
func readScheme(s Source) (string, error) {
	if s.Scheme == "" && len(s.Text) == 1024 && isHex(s.Text) {
		return "", refused("this looks like passport-local-mongoose or Payload, whose text does not say the parameters: " +
			"name them with --scheme passport-local-mongoose or --scheme payload, or a column password_scheme")
	}
	if s.Scheme == "" {
		return "", refused("its salt or parameters are in columns of their own, and nothing names the form: password_scheme or --scheme, one of %s",
			strings.Join(Schemes(), ", "))
	}
	list := schemes()
	i := slices.IndexFunc(list, func(c scheme) bool { return c.name == s.Scheme })
	if i < 0 {
		return "", refused("there is no scheme %q: %s", clip(s.Scheme), strings.Join(Schemes(), ", "))
	}
	chosen := list[i]
	var names []string
	for name := range chosen.params {
		names = append(names, name)
	}
	slices.Sort(names)
	given, err := readParams(s.Params, names...)
	if err != nil {
		return "", err
	}
	for name, value := range chosen.params {
		if _, ok := given[name]; !ok {
			given[name] = value
		}
	}
	stored, err := chosen.read(s, given)
	if err != nil {
		return "", within("the scheme "+chosen.name, err)
	}
	return stored, nil
}

// readParams reads "a=1,b=2" with some of the names, each at most once.
func readParams(text string, names ...string) (map[string]string, error) {
	values := map[string]string{}
	if text == "" {
		return values, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		if _, twice := values[name]; !ok || twice || !slices.Contains(names, name) {
			return nil, refused("parameters are not of the form a=1,b=2 with the names %s", strings.Join(names, ", "))
		}
		values[name] = value
	}
	return values, nil
}

// positive reads a decimal number of at least 1.
func positive(what, digits string, most int) (int, error) {
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > most {
		return 0, refused("%s is not a number of 1 to %d", what, most)
	}
	return n, nil
}

// saltAndKey decodes both. If there is no column for the salt, it is in the text: salt:key, or key.salt.
func saltAndKey(s Source, p map[string]string) (salt, key []byte, err error) {
	saltText, keyText := s.Salt, s.Text
	if saltText == "" {
		var ok bool
		if saltText, keyText, ok = strings.Cut(s.Text, ":"); !ok {
			if keyText, saltText, ok = strings.Cut(s.Text, "."); !ok {
				return nil, nil, refused("there is no salt: neither salt:key in the text nor a column password_salt")
			}
		}
	}
	for _, name := range []string{"salt_encoding", "key_encoding"} {
		if p[name] == "" {
			return nil, nil, refused("password_params does not say %s: hex, base64 or utf8", name)
		}
	}
	if salt, err = decode("salt", p["salt_encoding"], saltText); err != nil {
		return nil, nil, err
	}
	if p["key_encoding"] == "utf8" {
		return nil, nil, refused("key_encoding is hex or base64")
	}
	key, err = decode("key", p["key_encoding"], keyText)
	return salt, key, err
}

func scryptScheme(s Source, p map[string]string) (string, error) {
	salt, key, err := saltAndKey(s, p)
	if err != nil {
		return "", err
	}
	var n [3]int
	for i, name := range []string{"n", "r", "p"} {
		if n[i], err = positive(name+" of password_params", p[name], 1<<31-1); err != nil {
			return "", err
		}
	}
	return scrypt(n[0], n[1], n[2], salt, key)
}

func pbkdf2Scheme(s Source, p map[string]string) (string, error) {
	salt, key, err := saltAndKey(s, p)
	if err != nil {
		return "", err
	}
	if p["digest"] == "" {
		return "", refused("password_params does not say digest: sha1, sha256 or sha512")
	}
	return pbkdf2(p["digest"], p["iterations"], salt, key)
}

// payloadScheme reads Payload's hashes. Newer versions write the name of the form before the key.
func payloadScheme(s Source, p map[string]string) (string, error) {
	key, newer := strings.CutPrefix(s.Text, payloadVersion)
	s.Text = key
	if p["iterations"] == "" {
		p["iterations"] = map[bool]string{false: "25000", true: "600000"}[newer]
	}
	return pbkdf2Scheme(s, p)
}

const payloadVersion = "pbkdf2-sha256-v1:"

func giteaScheme(s Source, p map[string]string) (string, error) {
	if s.Salt == "" && isGitea(s.Text) {
		return gitea(s.Text)
	}
	return giteaParts(p["algorithm"], s.Salt, s.Text)
}

func springScheme(read func(string) (string, error)) func(Source, map[string]string) (string, error) {
	return func(s Source, _ map[string]string) (string, error) { return read(s.Text) }
}

func argon2Scheme(s Source, p map[string]string) (string, error) {
	salt, key, err := saltAndKey(s, p)
	if err != nil {
		return "", err
	}
	var n [4]int
	for i, name := range []string{"m", "t", "p", "version"} {
		if n[i], err = positive(name+" of password_params", p[name], 1<<31-1); err != nil {
			return "", err
		}
	}
	if n[2] > 255 {
		return "", refused("argon2 p must be 1 to 255, not %d", n[2])
	}
	params := password.Params{MemoryKiB: uint32(n[0]), Time: uint32(n[1]), Threads: uint8(n[2])} //nolint:gosec // G115: compared, and 31 bits
	return password.Argon2(strings.TrimPrefix(s.Scheme, "argon2"), n[3], params, salt, key)
}

// bcryptScheme joins salt and key in bcrypt's own alphabet.
func bcryptScheme(s Source, p map[string]string) (string, error) {
	cost, err := positive("cost of password_params", p["cost"], 31)
	if err != nil {
		return "", err
	}
	digits := strconv.Itoa(cost)
	if cost < 10 {
		digits = "0" + digits
	}
	return password.Canonical("$" + p["version"] + "$" + digits + "$" + s.Salt + s.Text)
}
