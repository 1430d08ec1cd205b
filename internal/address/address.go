// Package address defines the one form in which mail addresses are compared and the rules for a new address,
// and it keeps the column with that form up to date. Every package that stores or looks up accounts uses it.
package address

import (
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// aliases are the characters that Unicode normalisation turns into ASCII: the Kelvin sign, the Greek question
// mark and the Greek varia. (A test walks all of Unicode.)
const aliases = "\u212A\u037E\u1FEF"

// Lookup returns the form in which addresses are compared, for any string. The local part is in NFC and lower
// case, and in NFC again, since lower case can undo it. A character that is not ASCII never becomes ASCII:
// Go's ToLower would turn the dotted capital I of Turkish and the Kelvin sign into i and k, and then the
// owner of one address would be found by another. The domain is in its A-label form (RFC 5890), in which the
// DNS knows it, so that both spellings are one mailbox. A domain that UTS 46 maps to more than its lower
// case, such as one in full-width letters, is only put into lower case, like the local part.
//
// SQL's latchkey_email_lookup returns the same for ASCII and NULL for all else; Fill computes the rest.
func Lookup(email string) string {
	at := strings.LastIndexByte(email, '@')
	if at < 0 || IsASCII(email) {
		return lower(email)
	}
	return lower(email[:at+1]) + aLabels(lower(email[at+1:]))
}

// Mailbox is the address for mail servers: the domain is in its A-label form, so that only a local part that
// is not ASCII asks for SMTPUTF8 (RFC 6531). The local part is untouched.
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

// lower leaves the characters alone whose lower case would be ASCII.
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

// aLabels is the A-label form of a domain that lower has seen, or the domain itself if it has none or is
// mapped to anything else on the way.
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

// keepsASCII says that the labels that were ASCII before are the same: of "xn--" nothing is left.
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

// idnaProfile is UTS 46, nontransitional: ß and ς stay what they are, as the registries have it since 2010.
// Hyphens in the third and fourth place are real in names of hosts, and lengths are Check's.
func idnaProfile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.CheckJoiners(true), idna.CheckHyphens(false))
}

// IsASCII says whether s has no character beyond U+007F.
func IsASCII(s string) bool {
	for i := range len(s) {
		if s[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}
