package password

import (
	"encoding/base64"
	"regexp"
	"slices"
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
	// setting is a regular expression that matches the result of digest.setting: the stored text up to its salt.
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

// kinds returns all forms. Prefixes are tried in this order. Each family has its rows beside its code.
func kinds() []kind {
	return slices.Concat(argon2Kinds(), bcryptKinds(), scryptKinds(), pbkdf2Kinds(), cryptKinds(), phpassKinds(), yescryptKinds(), saltedSHAKinds())
}

// allKinds is computed once: every login and every record of an import reads it.
//
//nolint:gochecknoglobals // a cache of a constant table
var allKinds = sync.OnceValue(kinds)

// Fillers: zeros in the base64 of PHC strings, in padded base64 and in the alphabet of crypt.
func zeros(n int) string  { return base64.RawStdEncoding.EncodeToString(make([]byte, n)) }
func padded(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
func dots(n int) string   { return strings.Repeat(".", n) }

// otherNames are for texts that no kind names: forms that Verify cannot read, and broken ones. They are tried last.
func otherNames() []naming {
	return []naming{
		{`^\$(argon2id|argon2i|argon2d)\$`, "$1 of another form"},
		{`^\$(scrypt|7)\$`, "scrypt of another form"},
		{`^\$(pbkdf2[a-z0-9-]{0,10})\$`, "$1 of another form"},
		{`^\$(y|gy)\$`, "crypt $$$1$$"},
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

// SettingPattern is a regular expression, for Go and for PostgreSQL, that matches the Decoy.Setting at the beginning of
// a stored hash of any kind. The matched text holds no part of a salt or a key.
func SettingPattern() string {
	var all []string
	for _, k := range kinds() {
		if k.setting != "" {
			all = append(all, k.setting)
		}
	}
	return "^(?:" + pepperPattern + ")?(?:" + preparedPattern() + ")?(?:" + strings.Join(all, "|") + ")"
}

// Unrecognised is the result of Kind for a text of no known form.
const Unrecognised = "not recognised"

// Kind names the kind and the parameters of a hash for people, such as "bcrypt 2b cost 12". It also names kinds that
// Verify cannot read, and hashes that are broken after their salt. The name holds no part of a salt or a key. A text
// that is not recognised may be a password in clear: for such a text Kind returns only Unrecognised.
func Kind(encoded string) string {
	if way, id, rest, ok := cutPepper(encoded); ok {
		return Kind(rest) + " with pepper " + id + " " + way.does
	}
	if p, rest, ok := cutPreparation(encoded); ok {
		return Kind(rest) + " of " + p.names()
	}
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
