package password

import (
	"encoding/base64"
	"regexp"
	"strings"
	"sync"
)

// kind is one row of the table of hash forms. Everything that must know a form reads it from here: Canonical
// and Verify (read), the decoys (setting, filler) and the report of a takeover (names).
// TestEveryKindIsKnownEverywhere fails if a row lacks one of them.
type kind struct {
	// prefixes of the text, in the spelling that respell returns.
	prefixes []string
	read     func(encoded string) (digest, error)
	// setting is a regular expression for what digest.setting returns: the stored text up to its salt.
	// PostgreSQL and Go read it alike. Empty: the form is never stored, because read maps it to another one.
	setting string
	// filler completes a setting to the text of a hash, with a salt and a key of the usual lengths. No
	// password has that hash.
	filler string
	// names tell people which kind a text is, in the order in which they are tried.
	names []naming
}

// naming names the texts that a regular expression matches; the name may use its groups. No group may hold a
// part of a salt or a key.
type naming struct {
	pattern, name string
}

// kinds returns all forms. Prefixes are tried in this order.
func kinds() []kind {
	zeros := func(n int) string { return base64.RawStdEncoding.EncodeToString(make([]byte, n)) }
	dots := func(n int) string { return strings.Repeat(".", n) }
	padded := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	const scryptSetting = `scrypt\$ln=\d{1,2},r=\d{1,2},p=\d{1,2}\$`
	pbkdf2Names := []naming{{`^\$(pbkdf2-sha\d{1,3}|pbkdf2)\$(\d{1,9}|i=\d{1,9})[,$]`, "$1 $2"}}
	cryptNames := []naming{
		{`^\$(1|5|6|apr1)\$`, "crypt $$$1$$"},
		{`^\$(sha256-crypt|sha512-crypt|md5-crypt)\$`, "$1"},
	}
	saltedNames := []naming{{`^\{((?i:SSHA)(?:256|512)?)\}`, "LDAP {$1}"}}
	return []kind{
		{
			[]string{"$argon2id$", "$argon2i$", "$argon2d$"},
			readArgon2,
			`\$argon2(?:id|i|d)\$v=19\$m=\d{1,6},t=\d{1,2},p=\d{1,2}\$`,
			zeros(newSaltLength) + "$" + zeros(newKeyLength),
			[]naming{
				{`^\$(argon2id|argon2i|argon2d)\$v=(\d{1,3})\$(m=\d{1,10},t=\d{1,10},p=\d{1,10})\$`, "$1 v=$2 $3"},
				{`^argon2\$(argon2id|argon2i|argon2d)\$`, "$1 as Django writes it"},
			},
		},
		{
			[]string{"$2", djangoBcrypt},
			readBcrypt, `(?:bcrypt_sha256\$)?\$2[aby]\$\d\d\$`,
			dots(bcryptSaltLength + bcryptKeyLength),
			[]naming{
				{`^\$(2[abxy])\$(\d\d)\$`, "bcrypt $1 cost $2"},
				{`^(bcrypt|bcrypt_sha256)\$\$(2[abxy])\$(\d\d)\$`, "Django $1 $2 cost $3"},
			},
		},
		{
			[]string{"$scrypt$"},
			readScrypt, `\$` + scryptSetting, zeros(newSaltLength) + "$" + zeros(newKeyLength),
			[]naming{{`^\$(scrypt)\$(ln=\d{1,2},r=\d{1,3},p=\d{1,3})\$`, "$1 $2"}},
		},
		{
			[]string{"$firescrypt$"},
			readFirebase, `\$fire` + scryptSetting,
			padded(8) + "$" + padded(64) + "$" + padded(1) + "$" + padded(64),
			[]naming{{`^\$firescrypt\$(ln=\d{1,2},r=\d{1,3},p=\d{1,3})\$`, "Firebase's scrypt $1"}},
		},
		{[]string{"$pbkdf2$"}, readPBKDF2, `\$pbkdf2\$\d{1,7}\$`, abZeros(16) + "$" + abZeros(20), pbkdf2Names},
		{[]string{"$pbkdf2-sha256$"}, readPBKDF2, `\$pbkdf2-sha256\$\d{1,7}\$`, abZeros(16) + "$" + abZeros(32), pbkdf2Names},
		{[]string{"$pbkdf2-sha512$"}, readPBKDF2, `\$pbkdf2-sha512\$\d{1,7}\$`, abZeros(16) + "$" + abZeros(64), pbkdf2Names},
		{
			[]string{"pbkdf2_sha1$", "pbkdf2_sha256$", "pbkdf2_sha512$"},
			readDjangoPBKDF2, "", "",
			[]naming{{`^(pbkdf2_sha\d{1,3})\$(\d{1,9})\$`, "$1 $2"}},
		},
		{[]string{"scrypt$"}, readDjangoScrypt, "", "", []naming{{`^scrypt\$(\d{1,9})\$`, "Django scrypt N=$1"}}},
		{[]string{"$5$"}, readSHACrypt, `\$5\$(?:rounds=\d{1,7}\$)?`, dots(16) + "$" + dots(43), cryptNames},
		{[]string{"$6$"}, readSHACrypt, `\$6\$(?:rounds=\d{1,7}\$)?`, dots(16) + "$" + dots(86), cryptNames},
		{[]string{"$1$", "$apr1$"}, readMD5Crypt, `\$(?:1|apr1)\$`, dots(8) + "$" + dots(22), cryptNames},
		{
			[]string{"$P$"},
			readPHPass, `\$P\$[./0-9A-Za-z]`, dots(8) + dots(22),
			[]naming{{`^\$([PH])\$([./0-9A-Za-z])`, "phpass $$$1$$$2"}},
		},
		{[]string{"{SSHA}"}, readSaltedSHA, `\{SSHA\}`, padded(20 + 8), saltedNames},
		{[]string{"{SSHA256}"}, readSaltedSHA, `\{SSHA256\}`, padded(32 + 8), saltedNames},
		{[]string{"{SSHA512}"}, readSaltedSHA, `\{SSHA512\}`, padded(64 + 8), saltedNames},
	}
}

// otherNames are for texts that no kind names: forms that Verify cannot read, and broken ones. They are tried
// last.
func otherNames() []naming {
	return []naming{
		{`^\$(argon2id|argon2i|argon2d)\$`, "$1 of another form"},
		{`^\$(scrypt|7)\$`, "scrypt of another form"},
		{`^\$(pbkdf2[a-z0-9-]{0,10})\$`, "$1 of another form"},
		{`^\$(y)\$`, "crypt $$$1$$"},
		{`^\{([A-Z0-9-]{3,12})\}`, "LDAP {$1}"},
		{`^$`, "empty"},
	}
}

// spellings are prefixes that other programs write for the same kinds, and ours for them.
func spellings() [][2]string {
	return [][2]string{
		{"{CRYPT}$", "$"},             // OpenLDAP
		{"argon2$argon2", "$argon2"},  // Django
		{"bcrypt$$2", "$2"},           // Django
		{"$pbkdf2-sha1$", "$pbkdf2$"}, // Kratos
		{"$sha256-crypt$", "$5$"},     // Kratos
		{"$sha512-crypt$", "$6$"},     // Kratos
		{"$md5-crypt$", "$1$"},        // Kratos
		{"$H$", "$P$"},                // phpBB
	}
}

// respell replaces a prefix of another program by ours.
func respell(encoded string) string {
	encoded = upperScheme(encoded)
	for _, change := range spellings() {
		if rest, ok := strings.CutPrefix(encoded, change[0]); ok {
			return change[1] + rest
		}
	}
	return encoded
}

// SettingPattern is a regular expression, for Go and for PostgreSQL, that matches the Decoy.Setting at the
// beginning of a stored hash of any kind. What it matches holds no part of a salt or a key.
func SettingPattern() string {
	var all []string
	for _, k := range kinds() {
		if k.setting != "" {
			all = append(all, k.setting)
		}
	}
	return "^(?:" + strings.Join(all, "|") + ")"
}

// Unrecognised is what Kind returns for a text of no known form.
const Unrecognised = "not recognised"

// Kind names the kind and the parameters of a hash for people, such as "bcrypt 2b cost 12", also of kinds
// that Verify cannot read and of hashes that are broken behind their salt. The name holds no part of a salt
// or a key. A text that is not recognised may be a password in clear: Kind then returns Unrecognised and
// nothing of it.
func Kind(encoded string) string {
	for _, n := range compiledNames() {
		if at := n.pattern.FindStringSubmatchIndex(encoded); at != nil {
			return string(n.pattern.ExpandString(nil, n.name, encoded, at))
		}
	}
	return Unrecognised
}

type compiledNaming struct {
	pattern *regexp.Regexp
	name    string
}

// compiledNames is computed once: a takeover asks for the kind of every account.
//
//nolint:gochecknoglobals // a cache of a constant table
var compiledNames = sync.OnceValue(func() []compiledNaming {
	var list []compiledNaming
	add := func(names []naming) {
		for _, n := range names {
			list = append(list, compiledNaming{regexp.MustCompile(n.pattern), n.name})
		}
	}
	for _, k := range kinds() {
		add(k.names)
	}
	add(otherNames())
	return list
})
