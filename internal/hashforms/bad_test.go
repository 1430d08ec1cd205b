package hashforms

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// TestBadForms: absurd costs, broken encodings and gigantic salts of each form are refused, with the name of the form.
func TestBadForms(t *testing.T) {
	t.Parallel()
	const hex32 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	zeros := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	identity := func(head ...byte) string { return base64.StdEncoding.EncodeToString(append(head, make([]byte, 48)...)) }
	for text, want := range map[string]string{
		"$bcrypt$v=98$r=31$" + zeros(16) + "$" + zeros(23):      "bcrypt cost must be",
		"$bcrypt$v=98$r=10$" + zeros(16)[:9] + "!$" + zeros(23): "salt is not of its encoding",
		"$bcrypt$v=98$r=10$" + zeros(200) + "$" + zeros(23):     "53 characters",
		"$bcrypt$v=5$r=10$" + zeros(16) + "$" + zeros(23):       "version is not",
		"$bcrypt$v=98": "four parts",
		"$scrypt$n=1073741824,r=8,p=1$" + zeros(16) + "$" + zeros(32):                     "scrypt ln must be",
		"$scrypt$n=16384,r=8,p=1$" + zeros(999) + "$" + zeros(32):                         "longer than",
		"$pbkdf2-sha512$i=999999999$" + zeros(16) + "$" + zeros(32):                       "iterations must be",
		"$pbkdf2-sha512$i=99999999999$" + zeros(16) + "$" + zeros(32):                     "iterations is not a number",
		"$pbkdf2-md5$i=9$" + zeros(16) + "$" + zeros(32):                                  "unknown kind",
		"$pbkdf2$f=SHA256,w=5,l=33$" + zeros(16) + "$" + zeros(32):                        "l bytes",
		"$pbkdf2$f=SHA256,w=5,x=33$" + zeros(16) + "$" + zeros(32):                        "with the names",
		"$bcrypt-sha256$2b,99$" + strings.Repeat(".", 22) + "$" + strings.Repeat(".", 31): "cost",
		"$7$U6..../....SodiumChloride$" + strings.Repeat(".", 43):                         "scrypt",
		"$7$C6..../....SodiumChloride$" + strings.Repeat(".", 42) + "!":                   "alphabet of crypt",
		"$7$C":                                   "three parts",
		"$p5k2$zz$" + zeros(8) + "$" + zeros(20): "hex",
		"$p5k2$7fffffff$" + zeros(8) + "$" + zeros(20):                                          "iterations must be",
		"$fbscrypt$v=1,n=63,r=8,p=1,ss=Bw==,sk=" + zeros(64) + "$" + zeros(8) + "$" + zeros(64): "mem_cost",
		"$fbscrypt$v=1,n=14,r=8,p=1,ss=!,sk=" + zeros(64) + "$" + zeros(8) + "$" + zeros(64):    "salt separator is not",
		"$fbscrypt$v=2,n=14,r=8,p=1$" + zeros(8) + "$" + zeros(64):                              "version and p",
		"$wp$2y$31$" + strings.Repeat(".", 53):                                                  "cost",
		"U$S$" + strings.Repeat("z", 52):                                                        "rounds of Drupal",
		"$fe0801$" + zeros(16) + "$" + zeros(32):                                                "hex",
		"$1e0801$" + zeros(16) + "$" + zeros(32):                                                "scrypt N must be",
		"ffffff$8$1$" + hex32[:16] + "$" + hex32:                                                "power of two",
		"400$8$1$" + strings.Repeat("ab", 20) + "$" + hex32:                                     "before 1.1",
		"pbkdf2$2000000000$50|" + hex32 + "|" + hex32:                                           "iterations must be",
		"scrypt$65536$16$999$50|" + hex32 + "|" + hex32:                                         "scrypt p",
		"argon2$2$65536$999$50|" + hex32 + "|" + hex32:                                          "passwd_hash_algo",
		"{pbkdf2}" + hex32[:14]:                                                                 "too short",
		"{PBKDF2}$1$salt$99999999999$" + hex32:                                                  "iterations is not",
		"{PBKDF2}$1$salt$5000$xyz":                                                              "key is not hex",
		"{PBKDF2-SHA256}999999999$" + zeros(16) + "$" + zeros(32):                               "iterations must be",
		"{PBKDF2_SHA256}" + zeros(100):                                                          "not 324",
		"{PKCS5S2}" + zeros(47):                                                                 "not 48",
		"{PKCS5S2}!":                                                                            "base64",
		"{APR1}" + zeros(16):                                                                    "no salt",
		"{SSHA512.HEX}zz":                                                                       "not hex",
		"{BLF-CRYPT}$2y$31$" + strings.Repeat(".", 53):                                          "cost",
		"{ldap}{ldap}{ldap}{ldap}{ldap}{SSHA}" + zeros(28):                                      "within a form",
		strings.Repeat("{ldap}", 600):                                                           "within a form",
		"{noop}geheim":                                                                          "in clear",
		"{PLAIN}geheim":                                                                         "in clear",
		"pbkdf2:sha256:999999999$salt$" + hex32:                                                 "iterations must be",
		"pbkdf2:sha256$salt$" + hex32:                                                           "old versions of Werkzeug",
		"pbkdf2:sha256:1000$salt$xyz":                                                           "key is not hex",
		"pbkdf2:sha256:1000$" + strings.Repeat("s", 300) + "$" + hex32:                          "salt has 300 bytes",
		"scrypt:32768:8:999999$salt$" + hex32:                                                   "scrypt p",
		"scrypt:32769:8:1$salt$" + hex32:                                                        "power of two",
		":pbkdf2:sha512:999999999:64:" + zeros(16) + ":" + zeros(64):                            "iterations must be",
		":pbkdf2:sha512:30000:64:!:" + zeros(64):                                                "salt is not",
		"s2:00:00":                                                                              "key has 1 bytes",
		identity(1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 16):                            "iterations must be",
		identity(1, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 16):                                        "hash function 9",
		identity(1, 0, 0, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff):                             "salt is longer",
		"AQAAAAEA": "no parameters",
		base64.StdEncoding.EncodeToString(append([]byte("scrypt\x00\x0f"), make([]byte, 88)...)): "checksum",
		base64.StdEncoding.EncodeToString([]byte("scrypt\x00\x0f")):                              "not 96",
		scryptKDFOf(64): "scrypt N must be",
		scryptKDFOf(0):  "scrypt ln",
		`\x2432z`:       "not hex",
		`{"hash":5}`:    "not an object",
		`{"hash":"00","salt":"00","hashMethod":"md5"}`:                                          "hashMethod",
		`{"hash":"` + zeros(66) + `","salt":"x","hashMethod":"pbkdf2","iterations":4000000000}`: "iterations",

		strings.Repeat("A", 5000):               "more than 4096 bytes",
		"!$6$abc$def":                           "locked account",
		"ada:$2b$04$" + strings.Repeat(".", 53): "htpasswd",
	} {
		stored, err := Options{}.Stored(Source{Text: text})
		if !errors.Is(err, password.ErrMalformedHash) || stored != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %s, %v, want an error with %q", text, stored, err, want)
		} else if strings.Contains(err.Error(), hex32[:10]) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%.60q: its error holds a part of it: %v", text, err)
		}
	}
}

// scryptKDFOf returns the header of a file of scrypt(1) with a right checksum.
func scryptKDFOf(logN byte) string {
	header := append([]byte("scrypt\x00"), logN, 0, 0, 0, 8, 0, 0, 0, 1)
	header = append(header, make([]byte, 32)...)
	sum := sha256.Sum256(header)
	return base64.StdEncoding.EncodeToString(append(append(header, sum[:16]...), make([]byte, 32)...))
}

// FuzzStored: no text makes it panic, whatever scheme and options are given, and its result is in the form that is
// stored.
func FuzzStored(f *testing.F) {
	for _, r := range realHashes(f) {
		f.Add(r.Hash, "", "", "")
	}
	for _, s := range schemes() {
		f.Add("0011:2233", s.name, "5a5a", "iterations=5,digest=sha1")
	}
	f.Fuzz(func(t *testing.T, text, scheme, salt, params string) {
		for _, o := range []Options{{}, {Scheme: "better-auth"}, {Prehash: "sha256-hex"}} {
			stored, err := o.Stored(Source{Text: text, Scheme: scheme, Salt: salt, Params: params})
			switch {
			case err != nil && (!errors.Is(err, password.ErrMalformedHash) || stored != ""):
				t.Fatalf("%q, %q, %q, %q: %q, %v", text, scheme, salt, params, stored, err)
			case err == nil && stored != password.None && password.CheckStored(stored) != nil:
				t.Fatalf("%q, %q, %q, %q: %q is not stored: %v", text, scheme, salt, params, stored, password.CheckStored(stored))
			}
		}
	})
}
