package hashforms

import (
	"slices"
	"strings"
	"sync"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// form is one row of the table of texts that show their own form. docs/import.md has the same rows; a test compares
// them.
type form struct {
	// name for people, as in "this looks like NAME".
	name string
	// begins are the possible beginnings of the text. Empty: shape alone decides.
	begins []string
	// shape decides among texts with the same beginning. Nil: all of them.
	shape func(text string) bool
	// read returns the text to store. Nil: such a hash is refused, and why has the reason.
	read func(o Options, text string) (string, error)
	// why is the reason why such a hash is refused, and advice.
	why string
}

func (f form) matches(text string) bool {
	if len(f.begins) > 0 && !slices.ContainsFunc(f.begins, func(b string) bool { return strings.HasPrefix(text, b) }) {
		return false
	}
	return f.shape == nil || f.shape(text)
}

func (f form) refusal() string { return "this looks like " + f.name + ": " + f.why }

// plain makes a read function from one that needs no options.
func plain(read func(text string) (string, error)) func(Options, string) (string, error) {
	return func(_ Options, text string) (string, error) { return read(text) }
}

// forms are tried in this order. The table is made once: an import reads it for each record. (A variable that is
// initialised with it would be a cycle, since some forms hold others.)
func forms() []form {
	formsOnce.Do(func() {
		formsTable = slices.Concat(noForms(), dollarForms(), braceForms(), colonForms(), binaryForms(), wrappedForms(), unreadable())
	})
	return formsTable
}

//nolint:gochecknoglobals // a cache of a constant table
var (
	formsOnce  sync.Once
	formsTable []form
)

// noForms are texts with which programs say that there is no password.
func noForms() []form {
	return []form{
		{name: "an empty text", shape: func(text string) bool { return text == "" }, read: plain(func(string) (string, error) { return password.None, nil })},
		{
			name: "Django's account without a password (! and letters)", begins: []string{"!"}, shape: unusable,
			read: plain(func(string) (string, error) { return password.None, nil }),
		},
		{
			name: "a locked account of Linux", begins: []string{"!"},
			why: "leave the hash out if there shall be no password, or take the ! away if the account shall be opened",
		},
		{name: "an account without a password", begins: []string{"*"}, shape: func(text string) bool { return text == "*" || text == "*LK*" }, why: "leave the hash out"},
	}
}

// unusable reports whether text is a result of Django's make_password(None): "!" and 40 random letters and digits, or
// "!" alone.
func unusable(text string) bool {
	return strings.Trim(text[1:], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// unreadable are forms that no code here computes. Most have no salt, or are not hashes of only a password.
func unreadable() []form {
	const (
		old      = "it is not imported, because it has no salt or is too cheap to guess; " + resets
		missing  = "nothing here computes it; " + resets
		loginAll = "the hash is not of the password alone; " + resets
	)
	list := []form{
		{name: "an Argon2 hash with a key id or associated data", begins: []string{"$argon2"}, shape: func(t string) bool {
			return strings.Contains(t, ",data=") || strings.Contains(t, ",keyid=")
		}, why: missing},
		{name: "gost-yescrypt ($gy$)", begins: []string{"$gy$"}, why: missing},
		{name: "a bcrypt of crypt_blowfish with its bug ($2x$)", begins: []string{"$2x$"}, why: missing},
		{name: "the first bcrypt ($2$)", begins: []string{"$2$"}, why: missing},
		{name: "Sun's MD5 ($md5$)", begins: []string{"$md5$", "$md5,"}, why: missing},
		{name: "NetBSD's SHA-1 crypt ($sha1$)", begins: []string{"$sha1$"}, why: missing},
		{name: "passlib's SCRAM", begins: []string{"$scram$"}, why: loginAll},
		{name: "an NT hash ($3$)", begins: []string{"$3$"}, why: old},
		{name: "a password of SQL Server", begins: []string{"0x0100", "0x0200"}, why: missing},
		{name: "a password of MySQL", begins: []string{"*"}, shape: func(t string) bool { return len(t) == 41 && isHex(t[1:]) }, why: old},
		{name: "a salted SHA-1 or MD5 of Django", begins: []string{"sha1$", "md5$", "unsalted_"}, why: old},
		{name: "a salted digest of an old Werkzeug", begins: []string{"sha256$", "sha512$", "sha224$", "sha384$"}, why: old},
		{name: "an MD5 of MediaWiki", begins: []string{":A:", ":B:"}, why: old},
		{name: "a layered or other hash of MediaWiki", begins: []string{":"}, why: missing},
		{name: "a line of htpasswd (name:hash)", shape: isHtpasswd, why: "the hash begins behind the first colon: import that alone"},
		{name: "DES crypt", shape: isDES, why: old},
		{name: "a text with spaces or line breaks around it", shape: func(t string) bool { return strings.TrimSpace(t) != t }, why: "take them away"},
	}
	for digits, name := range map[int]string{32: "an MD5 or NT hash in hex, without a salt", 40: "a SHA-1 in hex, without a salt", 64: "a SHA-256 in hex, without a salt", 128: "a SHA-512 in hex, without a salt"} {
		list = append(list, form{name: name, shape: func(t string) bool { return len(t) == digits && isHex(t) }, why: hexWay + "; else " + old})
	}
	return append(list, form{
		name: "the key of a hash whose salt is in another column, in hex", shape: func(t string) bool { return len(t) >= 80 && isHex(t) }, why: hexWay,
	})
}

const hexWay = "if its salt is in another column, give that as password_salt with a password_scheme such as pbkdf2 or grafana"

// isHtpasswd reports whether text is a name and a hash that would be read without the name.
func isHtpasswd(text string) bool {
	name, rest, ok := strings.Cut(text, ":")
	if !ok || name == "" || len(name) > 64 || strings.ContainsAny(name, "$|{} ") {
		return false
	}
	_, err := password.Canonical(rest)
	return err == nil || strings.HasPrefix(rest, "{SHA}")
}

func isDES(text string) bool {
	return len(text) == 13 && strings.Trim(text, "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == "" &&
		strings.ContainsAny(text, "./0123456789") && strings.ToLower(text) != text
}

func isHex(text string) bool {
	return text != "" && len(text)%2 == 0 && strings.Trim(text, "0123456789abcdefABCDEF") == ""
}
