// Package address defines the one form in which mail addresses are compared, and the rules for a new address. It also
// keeps the column with that form up to date. Every package that stores or looks up accounts uses it.
package address

import (
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// aliases are the characters that Unicode normalisation turns into ASCII: the Kelvin sign, the Greek question mark and
// the Greek varia. (A test tries all of Unicode.)
const aliases = "\u212A\u037E\u1FEF"

// Lookup returns the form in which addresses are compared, for any string. The local part is put into NFC, into lower
// case, and into NFC again, because lower case can undo it. A character that is not ASCII never becomes ASCII: Go's
// ToLower would turn the dotted capital I of Turkish and the Kelvin sign into i and k, and then the owner of one
// address would be found under another. The domain is in the A-label form (RFC 5890), which the DNS uses, so that both
// spellings are one mailbox. A domain that UTS 46 maps to more than its lower case, such as one in full-width letters,
// is only put into lower case, like the local part.
//
// The SQL function latchkey_email_lookup returns the same for ASCII, and NULL for everything else. Fill computes the
// rest.
func Lookup(email string) string {
	at := strings.LastIndexByte(email, '@')
	if at < 0 || IsASCII(email) {
		return lower(email)
	}
	return lower(email[:at+1]) + aLabels(lower(email[at+1:]))
}

// Mailbox returns the address for mail servers. The domain is in the A-label form, so that SMTPUTF8 (RFC 6531) is
// needed only if the local part is not ASCII. The local part does not change.
func Mailbox(email string) string {
	at := strings.LastIndexByte(email, '@')
	if at < 0 || IsASCII(email[at+1:]) {
		return email
	}
	domain := lower(email[at+1:])
	if converted := aLabels(domain); converted != domain {
		return email[:at+1] + converted
	}
	return email
}

// lower returns s in lower case, but does not change characters whose lower case would be ASCII.
func lower(s string) string {
	if IsASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for s != "" {
		end := strings.IndexAny(s, aliases)
		if end < 0 {
			end = len(s)
		}
		b.WriteString(norm.NFC.String(strings.Map(lowerRune, norm.NFC.String(s[:end]))))
		s = s[end:]
		for _, alias := range aliases {
			if rest, ok := strings.CutPrefix(s, string(alias)); ok {
				b.WriteRune(alias)
				s = rest
				break
			}
		}
	}
	return b.String()
}

func lowerRune(r rune) rune {
	if l := unicode.ToLower(r); r < unicode.MaxASCII || l > unicode.MaxASCII {
		return l
	}
	return r
}

// aLabels returns the A-label form of a domain that lower has returned. It returns the domain itself if it has no such
// form, or if UTS 46 maps it to other characters.
func aLabels(domain string) string {
	if IsASCII(domain) {
		return domain
	}
	profile := idnaProfile()
	for label := range strings.SplitSeq(domain, ".") {
		if IsASCII(label) {
			continue
		}
		if mapped, err := profile.ToUnicode(label); err != nil || mapped != label {
			return domain
		}
	}
	converted, err := profile.ToASCII(domain)
	if err != nil || !keepsASCII(domain, converted) {
		return domain
	}
	return converted
}

// keepsASCII returns whether the labels that were ASCII before are the same. (Nothing is left of the label "xn--".)
func keepsASCII(domain, converted string) bool {
	before, after := strings.Split(domain, "."), strings.Split(converted, ".")
	if len(before) != len(after) {
		return false
	}
	for i, label := range before {
		if IsASCII(label) && label != after[i] {
			return false
		}
	}
	return true
}

// idnaProfile returns UTS 46, nontransitional: ß and ς stay as they are, as in registries since 2010. Real host names
// have hyphens in the third and fourth place, so those are allowed. Check checks lengths.
func idnaProfile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.CheckJoiners(true), idna.CheckHyphens(false))
}

// IsASCII returns whether s has no character beyond U+007F.
func IsASCII(s string) bool {
	for i := range len(s) {
		if s[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}
