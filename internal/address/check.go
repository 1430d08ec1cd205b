package address

import (
	"errors"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// The errors of Check, for an address that a new account must not have. The person who typed the address reads these
// texts.
var (
	ErrLookAlike = errors.New("has characters before the @ that count as others, or as none, for some software: spell it with plain letters, without spaces or quotation marks")
	ErrDomain    = errors.New("has no domain that can be written in the DNS: use letters of one width, digits, hyphens and dots")
)

const (
	maxLabel  = 63  // RFC 1035, section 2.3.4
	maxDomain = 253 // the same section: 255, less the root and the first length byte
	aceprefix = "xn--"
)

// Check returns an error if a new account must not have the address, beyond the form that the rules of the contract
// require: ErrLookAlike or ErrDomain. Stored addresses are not checked.
func Check(email string) error {
	at := strings.LastIndexByte(email, '@')
	if at < 0 {
		return ErrDomain
	}
	if !spelled(email[:at]) || !plain(email[:at]) {
		return ErrLookAlike
	}
	if !isLiteral(email[at+1:]) && !inDNS(email[at+1:]) {
		return ErrDomain
	}
	return nil
}

// isLiteral returns whether the domain is an address literal (RFC 5321, section 4.1.3), which is not a domain, in the
// one spelling of RFC 5952, in any letter case.
func isLiteral(domain string) bool {
	text, ok := strings.CutPrefix(strings.ToLower(domain), "[")
	text, end := strings.CutSuffix(text, "]")
	number, six := strings.CutPrefix(text, "ipv6:")
	parsed, err := netip.ParseAddr(number)
	return ok && end && err == nil && parsed.Is6() == six && parsed.Zone() == "" && parsed.String() == number
}

// spelled returns whether the ASCII characters of a local part are written in the only way of RFC 5321, section 4.1.2:
// without comments and spaces, in quotation marks only if a character needs them, and with a backslash only before a
// quotation mark or another backslash. "ida"@example.com is the mailbox of ida@example.com.
func spelled(local string) bool {
	content, quoted := strings.CutPrefix(local, `"`)
	if !quoted {
		return !strings.ContainsFunc(local, needsQuotes)
	}
	content, closed := strings.CutSuffix(content, `"`)
	if !closed || !strings.ContainsFunc(content, needsQuotes) || strings.ContainsFunc(content, unicode.IsControl) {
		return false
	}
	rest := strings.NewReplacer(`\\`, "", `\"`, "").Replace(content)
	return !strings.ContainsAny(rest, `\"`)
}

// needsQuotes returns false for dots, even two in a row: such addresses exist, and mail servers accept them.
func needsQuotes(r rune) bool {
	return r <= ' ' || r == 0x7F || strings.ContainsRune(`()<>[]:;@\,"`, r)
}

// plain returns whether the spelling differs from the plain one only in letter case. The plain one is the one of all
// spellings that compatibility forms, full case folding and invisible characters make equal (Unicode's NFKC_Casefold).
// Otherwise two accounts could have addresses that other software takes for one.
func plain(local string) bool {
	if IsASCII(local) {
		return true
	}
	for _, r := range local {
		if r > unicode.MaxASCII && !plainRune(r) {
			return false
		}
	}
	lookup := lower(local)
	// An i or j with a second dot looks the same as without it.
	if strings.Contains(lookup, "i\u0307") || strings.Contains(lookup, "j\u0307") {
		return false
	}
	return lower(norm.NFKC.String(cases.Fold().String(norm.NFKC.String(local)))) == lookup
}

func plainRune(r rune) bool {
	switch {
	case !unicode.IsGraphic(r) || unicode.IsSpace(r): // also unassigned ones: nobody knows their letter case yet
		return false
	case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return false
	case unicode.ToLower(r) <= unicode.MaxASCII || unicode.ToUpper(r) <= unicode.MaxASCII: // K, İ, ı, ſ
		return false
	}
	// Such a character is only a second code point for another one, for example the Angstrom sign.
	canonical := norm.NFC.String(string(r))
	return utf8.RuneCountInString(canonical) > 1 || canonical == string(r)
}

// inDNS returns whether the domain has an A-label form, does not look like another domain, and is short enough.
func inDNS(domain string) bool {
	ascii := aLabels(lower(domain))
	if !IsASCII(ascii) || ascii == "" || len(ascii) > maxDomain {
		return false
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if !isHostLabel(label) {
			return false
		}
	}
	if !strings.Contains(ascii, aceprefix) {
		return true
	}
	shown, err := idnaProfile().ToUnicode(ascii)
	return err == nil && aLabels(lower(shown)) == ascii && decoded(ascii, shown)
}

// isHostLabel returns whether a label follows RFC 1123, section 2.1.
func isHostLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(label, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

// decoded returns whether each A-label decodes to something that is not ASCII.
func decoded(ascii, shown string) bool {
	labels := strings.Split(shown, ".")
	i := 0
	for label := range strings.SplitSeq(ascii, ".") {
		if i >= len(labels) || strings.HasPrefix(label, aceprefix) && IsASCII(labels[i]) {
			return false
		}
		i++
	}
	return i == len(labels)
}
