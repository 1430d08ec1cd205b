package address_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/latchkey-auth/latchkey/internal/address"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"Ada@Example.COM":               "ada@example.com",
		"JO\u0308RG@example.com":        "j\u00f6rg@example.com",
		"ИВАН@пример.example":           "иван@xn--e1afmkfd.example",
		"ida@bücher.example":            "ida@xn--bcher-kva.example",
		"IDA@BU\u0308CHER.EXAMPLE":      "ida@xn--bcher-kva.example",
		"ida@XN--BCHER-KVA.example":     "ida@xn--bcher-kva.example",
		"ida@a.bücher.xn--bcher-kva.de": "ida@a.xn--bcher-kva.xn--bcher-kva.de",
		"ida@straße.example":            "ida@xn--strae-oqa.example", // not strasse.example
		"ida@strasse.example":           "ida@strasse.example",
		// Characters that must not become other letters.
		"j\u0130m@example.com":         "j\u0130m@example.com",
		"jI\u0307m@example.com":        "j\u0130m@example.com",
		"\u212Aim@example.com":         "\u212Aim@example.com",
		"\u017Fam@example.com":         "\u017Fam@example.com",
		"ida@\uFF45xample.com":         "ida@\uFF45xample.com",
		"ida@example\u3002com":         "ida@example\u3002com",
		"ida@\u212Aelvin.example":      "ida@\u212Aelvin.example",
		"ida@B\u0130T.example":         "ida@b\u0130t.example",
		"ida@\U0001D41Bücher.example":  "ida@\U0001D41Bücher.example",
		"ida@bücher\u00AD.example":     "ida@bücher\u00AD.example",
		"no at":                        "no at",
		"\"a@b\"@Example.com":          "\"a@b\"@example.com",
		"ida@[IPv6:2001:DB8::1]":       "ida@[ipv6:2001:db8::1]",
		"ida@b_ü.example":              "ida@b_ü.example",
		"stra\u1E9Ee@example.com":      "straße@example.com",
		"\u13A0\u13A1@example.com":     "\uAB70\uAB71@example.com",
		"ΣΊΣΥΦΟΣ@example.com":          "σίσυφοσ@example.com",
		"":                             "",
		"@":                            "@",
		"\u212A\u212A\u212AÖ@a.exampl": "\u212A\u212A\u212Aö@a.exampl",
	} {
		if got := address.Lookup(typed); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

func TestMailbox(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]string{
		"Ida@Bücher.example": "Ida@xn--bcher-kva.example", "Ida@Example.com": "Ida@Example.com",
		"JÖRG@BÜCHER.example": "JÖRG@xn--bcher-kva.example", "ida@\uFF45xample.com": "ida@\uFF45xample.com", "none": "none",
	} {
		if got := address.Mailbox(stored); got != want {
			t.Errorf("%q: %q, want %q", stored, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	label63, domain253 := strings.Repeat("a", 63), strings.Repeat("abcdefghi.", 25)+"abc"
	for email, want := range map[string]error{
		"ada@example.com": nil, "jörg@example.com": nil, "jo\u0308rg@example.com": nil, "ИВАН@пример.example": nil, "李@example.com": nil,
		"ida@bücher.example": nil, "ida@xn--bcher-kva.example": nil, "IDA@XN--BCHER-KVA.example": nil, "ida@straße.example": nil, "ida@stra\u1E9Ee.example": nil,
		"ida@localhost": nil, "ida@r3---sn-ab.example": nil, "ida@[192.0.2.1]": nil, "ida@192.0.2.1": nil, "hindi\u0915\u093C@example.com": nil,
		"\u0958@example.com": nil, "\u13A0\uAB71@example.com": nil, "ida@" + label63 + ".com": nil, "ida@" + domain253: nil, "ida@日本語.jp": nil,
		"שלום@example.com": nil, "ida@שלום.example": nil, "한국@example.com": nil, "đặng@example.com": nil, "ірина@example.com": nil,

		"j\u0130m@example.com": address.ErrLookAlike, "jI\u0307m@example.com": address.ErrLookAlike, "ji\u0307m@example.com": address.ErrLookAlike,
		"j\u0131m@example.com": address.ErrLookAlike, "\u212Aim@example.com": address.ErrLookAlike, "\u017Fam@example.com": address.ErrLookAlike,
		"stra\u00DFe@example.com": address.ErrLookAlike, "stra\u1E9Ee@example.com": address.ErrLookAlike, "\uFB01n@example.com": address.ErrLookAlike,
		"σίσυφος@example.com": address.ErrLookAlike, "\uFF4Aim@example.com": address.ErrLookAlike, "jim\u00B2@example.com": address.ErrLookAlike,
		"\u212Bsa@example.com": address.ErrLookAlike, "\u00B5@example.com": address.ErrLookAlike, "jim\uFE0F@example.com": address.ErrLookAlike,
		"jim\u034F@example.com": address.ErrLookAlike, "jim\u115F@example.com": address.ErrLookAlike, "jim\u00AD@example.com": address.ErrLookAlike,
		"jim\u200D@example.com": address.ErrLookAlike, "\u01C5@example.com": address.ErrLookAlike, "\u0149@example.com": address.ErrLookAlike,
		"\uF914@example.com": address.ErrLookAlike, "jim\u0378@example.com": address.ErrLookAlike, "\U0001D41Aim@example.com": address.ErrLookAlike,
		"jim\U000E0101@example.com": address.ErrLookAlike, "\u0587@example.com": address.ErrLookAlike, "\u2126@example.com": address.ErrLookAlike,

		"ida@\uFF45xample.com": address.ErrDomain, "ida@example\u3002com": address.ErrDomain, "ida@\u212Aelvin.example": address.ErrDomain,
		"ida@example.com.": address.ErrDomain, "ida@example..com": address.ErrDomain, "ida@.com": address.ErrDomain, "ida@": address.ErrDomain, "ida": address.ErrDomain,
		"ida@" + label63 + "a.com": address.ErrDomain, "ida@" + domain253 + "d": address.ErrDomain, "ida@" + strings.Repeat("ü", 60) + ".com": address.ErrDomain,
		"ida@a_b.example": address.ErrDomain, "ida@-a.example": address.ErrDomain, "ida@a-.example": address.ErrDomain,
		"ida@xn--.example": address.ErrDomain, "ida@xn--abc-.example": address.ErrDomain, "ida@xn--a.example": address.ErrDomain, "ida@xn--abc.example": address.ErrDomain,
		"ida@xn--bcher-kv.example": address.ErrDomain, "ida@xn--Bcher-kva\u00FC.example": address.ErrDomain, "ida@xn--xample-9f24a.com": address.ErrDomain,
		"ida@b\u00FCcher\u00AD.example": address.ErrDomain, "ida@\u0301a.example": address.ErrDomain, "ida@b\u0130t.example": address.ErrDomain,
		"ida@\uFB01n.example": address.ErrDomain, "ida@a\u0378.example": address.ErrDomain,
	} {
		if got := address.Check(email); got != want { //nolint:errorlint // the very error
			t.Errorf("%q: %v, want %v", email, got, want)
		}
	}
}

// mailboxes returns spellings that at least some software takes for one mailbox.
func mailboxes() map[string][]string {
	return map[string][]string{
		"plain": {
			"ida@example.com", "IDA@Example.COM", "ida@example.com.", "ida@example\u3002com", "ida@example\uFF0Ecom", "ida@example\uFF61com",
			"ida@\uFF45xample.com", "ida@exa\u00ADmple.com", "ida@exa\u200Bmple.com", "ida@exa\u2060mple.com", "ida@exa\uFEFFmple.com",
			"ida@exa\u180Bmple.com", "ida@exa\u3164mple.com", "ida@exa\u034Fmple.com", "ida@exa\U000E0041mple.com",
			"id\u00ADa@example.com", "id\u200Ba@example.com", "id\u200Ca@example.com", "id\u200Da@example.com", "id\u2060a@example.com",
			"id\uFEFFa@example.com", "id\u3164a@example.com", "id\uFFA0a@example.com", "id\u180Ea@example.com", "id\U000E0041a@example.com",
			`"ida"@example.com`, `"i\da"@example.com`, `"Ida"@example.com`, "ida @example.com", " ida@example.com", "(work)ida@example.com",
			"ida(work)@example.com", "<ida@example.com", "ida@example.com ", "ida@ example.com", "ida@example.com>",
		},
		"dots":    {"ida.@example.com", `"ida."@example.com`},
		"quoted":  {`"i da"@example.com`, `"i\ da"@example.com`, `"i d\a"@example.com`, `"I da"@example.com`},
		"at":      {`"i@da"@example.com`, `"i\@da"@example.com`, "i\\@da@example.com", "i@da@example.com"},
		"accent":  {"\u00E9va@example.com", "e\u0301va@example.com", "E\u0301VA@example.com", "\"\u00E9va\"@example.com", "\u00E9v\u00ADa@example.com"},
		"marks":   {"a\u0323\u0307@example.com", "a\u0307\u0323@example.com", "\u1EA1\u0307@example.com"},
		"hangul":  {"\u1100\u1161@example.com", "\uAC00@example.com"},
		"a-label": {"ida@b\u00FCcher.example", "ida@xn--bcher-kva.example", "ida@XN--BCHER-KVA.EXAMPLE", "ida@Xn--Bcher-KVA.example", "ida@bu\u0308cher.example", "ida@b\u00FCcher.example.", "ida@b\u00FCcher\u3002example", "ida@b\u00FC\u00ADcher.example"},
		"sharp s": {"ida@fa\u00DF.example", "ida@FA\u1E9E.example", "ida@xn--fa-hia.example", "ida@XN--FA-HIA.example"},
		// One label has an A-label form and the other has none.
		"half":        {"ida@b\u00FCcher.\uFF45x.example", "ida@xn--bcher-kva.\uFF45x.example", "ida@b\u00FCcher.ex.example", "ida@xn--bcher-kva.ex.example"},
		"underscore":  {"ida@b\u00FCcher.a_b.example", "ida@xn--bcher-kva.a_b.example"},
		"undecodable": {"ida@b\u00FCcher.xn--a.example", "ida@xn--bcher-kva.xn--a.example"},
		"empty":       {"ida@b\u00FCcher.xn--.example", "ida@xn--bcher-kva.xn--.example"},
		"empty label": {"ida@b\u00FCcher..example", "ida@xn--bcher-kva..example"},
		"literal":     {"ida@[192.0.2.1]", "ida@[192.0.2.001]", "ida@[192.0.2.1] ", "ida@[192.0.2.1"},
		"literal, 6":  {"ida@[IPv6:2001:db8::1]", "ida@[ipv6:2001:DB8::1]", "ida@[IPv6:2001:db8:0::1]", "ida@[IPv6:2001:0db8::1]", "ida@[2001:db8::1]"},
		"no literal":  {"ida@[b\u00FCcher]", "ida@[xn--bcher-kva]"},
	}
}

// Spellings of one mailbox that a new account may have find each other, so that there is at most one account. Spellings
// that nothing takes for the same stay apart.
func TestOneAccountOfOneMailbox(t *testing.T) {
	t.Parallel()
	lookups := map[string]string{}
	for name, spellings := range mailboxes() {
		allowed := ""
		for _, email := range spellings {
			lookup := address.Lookup(email)
			if other, ok := lookups[lookup]; ok && other != name {
				t.Errorf("%q of %q is found by %q of %q", email, name, lookup, other)
			}
			lookups[lookup] = name
			if address.Check(email) != nil {
				continue
			}
			if allowed != "" && lookup != allowed {
				t.Errorf("%s: %q and %q can be two accounts", name, allowed, email)
			}
			allowed = lookup
		}
	}
}

// No new address has invisible characters, before the @ or after it. Two are allowed in domains where the script needs
// them, as in registries: joiners after a virama.
func TestInvisibleCharacters(t *testing.T) {
	t.Parallel()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Cf, unicode.Cc, unicode.Zs, unicode.Zl, unicode.Zp) {
			continue
		}
		for _, email := range []string{"id" + string(r) + "a@example.com", string(r) + "ida@example.com", "\u00E9" + string(r) + "@example.com", "ida@exam" + string(r) + "ple.com", "ida@b\u00FC" + string(r) + "cher.example", "ida@example.com" + string(r)} {
			if address.Check(email) == nil {
				t.Errorf("%q is allowed", email)
			}
		}
	}
}

// folded returns the form of an address for software that ignores letter case as fully as Unicode allows.
func folded(s string) string {
	return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))
}

// TestNoTwoOfAll tries all of Unicode. Of the spellings that full case folding makes equal, new accounts can have only
// one (in either letter case). An ASCII address never finds one that is not ASCII.
func TestNoTwoOfAll(t *testing.T) {
	t.Parallel()
	owner := map[string]string{}
	for r := rune(' '); r <= unicode.MaxRune; r++ {
		// Ideographs have no letter case, and unassigned code points have no properties.
		if r == '@' || !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Cf) || unicode.Is(unicode.Unified_Ideograph, r) {
			continue
		}
		for _, email := range []string{"a" + string(r) + "b@example.com", string(r) + "@example.com", "a" + string(r) + "\u0301@example.com"} {
			lookup := address.Lookup(email)
			local, _, _ := strings.Cut(lookup, "@")
			if r > unicode.MaxASCII && !strings.ContainsFunc(local, func(r rune) bool { return r > unicode.MaxASCII }) {
				t.Fatalf("%q is found by %q", email, lookup)
			}
			if again := address.Lookup(lookup); again != lookup {
				t.Fatalf("%q: %q is not final: %q", email, lookup, again)
			}
			if address.Check(email) != nil {
				continue
			}
			key := folded(email)
			if other, ok := owner[key]; ok && other != lookup {
				t.Errorf("%q and %q are both allowed and fold to %q", lookup, other, key)
			}
			owner[key] = lookup
		}
		domain := "ida@a" + string(r) + "b.example"
		if r > unicode.MaxASCII && address.Lookup(domain) == address.Lookup("ida@"+folded("a"+string(r)+"b")+".example") &&
			!strings.ContainsFunc(folded(string(r)), func(r rune) bool { return r > unicode.MaxASCII }) {
			t.Errorf("%q takes the place of %q", domain, folded(domain))
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"ada@example.com", "j\u0130m@example.com", "\u212Aim@B\u00FCcher.example", "ida@xn--bcher-kva.example", "a@\uFF45xample\u3002com", "@", "ida@xn--.-",
		"jo\u0308rg@xn--Bcher-kva.", "\"a@b\"@[::1]", "\u03A3@\u03C2.gr", "a\u200Db@a\u200Db.in", "\u212A\u0327@x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, email string) {
		if !utf8.ValidString(email) {
			t.Skip("gRPC and PostgreSQL take UTF-8 only")
		}
		lookup := address.Lookup(email)
		if again := address.Lookup(lookup); again != lookup {
			t.Errorf("%q: %q is not final: %q", email, lookup, again)
		}
		at := strings.LastIndexByte(email, '@')
		isASCII := func(s string) bool {
			return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
		}
		if isASCII(email) && lookup != strings.ToLower(email) {
			t.Errorf("%q: %q, and SQL has lower case", email, lookup)
		}
		if at >= 0 && !isASCII(email[:at]) && isASCII(lookup[:strings.LastIndexByte(lookup, '@')]) {
			t.Errorf("%q is found by %q", email, lookup)
		}
		if got := address.Lookup(address.Mailbox(email)); got != lookup {
			t.Errorf("mail for %q goes to %q, which is %q and not %q", email, address.Mailbox(email), got, lookup)
		}
		if address.Check(email) != nil {
			return
		}
		if !isASCII(lookup[strings.LastIndexByte(lookup, '@'):]) && !strings.Contains(email, "[") {
			t.Errorf("%q: the domain of %q is not in A-label form", email, lookup)
		}
		if err := address.Check(lookup); err != nil {
			t.Errorf("%q is allowed, and its own form %q is not: %v", email, lookup, err)
		}
	})
}
