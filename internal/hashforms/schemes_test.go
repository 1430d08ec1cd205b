package hashforms

import (
	"errors"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// TestPartsInColumns: a hash whose salt and parameters have their own columns is read under the name of its scheme. The
// hashes are those of testdata/real.jsonl, split into their parts, and RFC 7914's.
func TestPartsInColumns(t *testing.T) {
	t.Parallel()
	hashOf := func(from string) string {
		for _, r := range realHashes(t) {
			if strings.Contains(r.From, from) {
				return r.Hash
			}
		}
		t.Fatalf("no hash of %s", from)
		return ""
	}
	inJSON := func(text, key string) string {
		_, rest, _ := strings.Cut(text, `"`+key+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	mongoose, payload, gitea := hashOf("passport-local-mongoose"), hashOf("payload"), strings.Split(hashOf("Gitea"), "|")
	saltKey := strings.Split(hashOf("better-auth 1.7"), ":")
	mediaWiki := strings.Split(hashOf("MediaWiki"), ":")
	bcrypt := strings.TrimPrefix(hashOf("php8.2-cli password_hash DEFAULT"), "$2y$10$")
	discourse := strings.Split(hashOf("Discourse"), "$")
	discourseKey, err := decode("key", "base64", discourse[4])
	if err != nil {
		t.Fatal(err)
	}
	discourseSalt, err := decode("salt", "base64", discourse[3])
	if err != nil {
		t.Fatal(err)
	}
	h := hasher(t)
	for name, s := range map[string]Source{
		"passport-local-mongoose": {inJSON(mongoose, "hash"), "passport-local-mongoose", inJSON(mongoose, "salt"), ""},
		"old Payload":             {inJSON(mongoose, "hash"), "payload", inJSON(mongoose, "salt"), ""},
		"Payload":                 {inJSON(payload, "hash"), "payload", inJSON(payload, "salt"), ""},
		"Payload without a name":  {inJSON(payload, "hash"), "", inJSON(payload, "salt"), ""},
		"Gitea":                   {gitea[2], "gitea", gitea[1], "algorithm=" + gitea[0]},
		"better-auth":             {saltKey[1], "better-auth", saltKey[0], ""},
		"scrypt":                  {saltKey[1], "scrypt", saltKey[0], "n=16384,r=16,p=1,salt_encoding=utf8,key_encoding=hex"},
		"pbkdf2":                  {mediaWiki[6], "pbkdf2", mediaWiki[5], "digest=sha512,iterations=30000,salt_encoding=base64,key_encoding=base64"},
		"bcrypt":                  {bcrypt[22:], "bcrypt", bcrypt[:22], "cost=10,version=2y"},
		"Discourse":               {hexOf(discourseKey), "discourse", string(discourseSalt), ""},
		"as one text":             {`{"hash":"` + saltKey[1] + `","salt":"` + saltKey[0] + `","scheme":"better-auth"}`, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored, err := Options{}.Stored(s)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := h.Verify(t.Context(), password.Claim{}, stored, "Correct-Horse 42 x"); err != nil || !got.Match || !got.Weaker {
				t.Errorf("%s: %+v, %v", stored, got, err)
			}
		})
	}
}

func hexOf(data []byte) string {
	const digits = "0123456789abcdef"
	var text strings.Builder
	for _, b := range data {
		text.WriteByte(digits[b>>4])
		text.WriteByte(digits[b&15])
	}
	return text.String()
}

// TestBadParts: errors name the part that is missing or wrong, and contain nothing of a salt or a key.
func TestBadParts(t *testing.T) {
	t.Parallel()
	const key, salt = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "5a5a5a5a5a5a5a5a"
	for _, test := range []struct {
		source Source
		want   string
	}{
		{Source{key, "", salt, ""}, "--scheme"},
		{Source{key, "md5", salt, ""}, `there is no scheme "md5"`},
		{Source{key, "pbkdf2", salt, ""}, "salt_encoding"},
		{Source{key, "pbkdf2", salt, "salt_encoding=hex,key_encoding=hex"}, "digest"},
		{Source{key, "pbkdf2", salt, "salt_encoding=hex,key_encoding=hex,digest=sha256"}, "iterations"},
		{Source{key, "pbkdf2", salt, "salt_encoding=hex,key_encoding=hex,digest=md5,iterations=5"}, "unknown kind"},
		{Source{key, "pbkdf2", salt, "salt_encoding=hex,key_encoding=hex,digest=sha256,iterations=-5"}, "iterations is not a number"},
		{Source{key, "pbkdf2", salt, "salt_encoding=hex,key_encoding=hex,digest=sha256,iterations=2000000000"}, "must be 1 to"},
		{Source{key, "pbkdf2", salt, "salt_encoding=rot13,key_encoding=hex,digest=sha256,iterations=5"}, `encoding "rot13" of the salt`},
		{Source{key, "pbkdf2", salt, "salt_encoding=hex,key_encoding=utf8,digest=sha256,iterations=5"}, "key_encoding"},
		{Source{key, "pbkdf2", strings.Repeat(salt, 40), "salt_encoding=hex,key_encoding=hex,digest=sha256,iterations=5"}, "salt has 320 bytes"},
		{Source{key + "0", "passport-local-mongoose", salt, ""}, "key is not of its encoding, hex"},
		{Source{key, "passport-local-mongoose", salt, "rounds=5"}, "digest, iterations, key_encoding, salt_encoding"},
		{Source{key, "passport-local-mongoose", salt, "iterations=5,iterations=6"}, "parameters are not of the form"},
		{Source{key, "passport-local-mongoose", "", ""}, "there is no salt"},
		{Source{key, "scrypt", salt, "n=1000,r=8,p=1,salt_encoding=hex,key_encoding=hex"}, "not a power of two"},
		{Source{key, "scrypt", salt, "n=1073741824,r=8,p=1,salt_encoding=hex,key_encoding=hex"}, "scrypt N must be"},
		{Source{key, "scrypt", salt, "n=16384,r=1000000,p=1,salt_encoding=hex,key_encoding=hex"}, "scrypt r"},
		{Source{key, "argon2id", salt, "m=4294967296,t=1,salt_encoding=hex,key_encoding=hex"}, "m of password_params"},
		{Source{key, "argon2id", salt, "m=1048576,t=1,salt_encoding=hex,key_encoding=hex"}, "memory must be"},
		{Source{key, "argon2id", salt, "m=64,t=1,p=256,salt_encoding=hex,key_encoding=hex"}, "p must be 1 to 255"},
		{Source{key, "bcrypt", salt, ""}, "cost of password_params"},
		{Source{key, "bcrypt", salt, "cost=10"}, "53 characters"},
		{Source{key, "gitea", salt, "algorithm=md5"}, "passwd_hash_algo"},
		{Source{"xyz", "spring-pbkdf2", "", ""}, "not hex"},
	} {
		stored, err := Options{}.Stored(test.source)
		if !errors.Is(err, password.ErrMalformedHash) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %s, %v, want an error with %q", test.source, stored, err, test.want)
		} else if strings.Contains(err.Error(), key[:8]) || strings.Contains(err.Error(), salt[:8]) {
			t.Errorf("%+v: its error holds a part of it: %v", test.source, err)
		}
	}
}

func TestCheckOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Scheme: "better-auth"}, {Prehash: "sha256-hex"}, {Scheme: "gitea", Prehash: "md5-hex"}} {
		if err := o.Check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []Options{{Scheme: "Better-Auth"}, {Scheme: "md5"}, {Prehash: "sha256"}, {Prehash: "wp-sha384"}, {Prehash: "SHA256-HEX"}} {
		if err := o.Check(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
