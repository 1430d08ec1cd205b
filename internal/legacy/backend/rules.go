package backend

import (
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// rules are the requirements of the older contract for its requests. They are the Go backend's, derived from its
// answers, which internal/legacy/testdata/answers.jsonl records, and are stricter in the places that newRules names. A
// request is refused for the first check that fails: its fields are checked in their order, and the checks of each
// field in their order.
//
// Clients show the texts to people: change none. Lengths are in bytes, although the texts say characters.
type rules struct {
	// address is for the address of an existing account, newAddress for that of a new one.
	address, newAddress []check
	// typed is for a password that is compared, chosen for a new one.
	typed, chosen []check
	// firstName and lastName are for those of a new account.
	firstName, lastName []check
	// token is for access tokens and reset tokens.
	token []check
}

// check is one requirement for a value.
type check struct {
	// rule names the check in the details of a refusal.
	rule string
	// text returns the refusal of the value, "" when the value passes.
	text func(value string) string
}

const (
	maxAddress  = legacy.MaxAddress
	minPassword = 8
	maxPassword = 128
	minName     = 2
	maxName     = 100
	maxToken    = 2000
	// maxLocalPart is how many bytes mail servers accept before the @ (RFC 5321, section 4.5.3.1.1).
	maxLocalPart = 64
)

func newRules() *rules {
	// These checks ignore white space around a value, but the value keeps it.
	stored := []check{
		{"EMAIL_REQUIRED", when(bare(isEmpty), "email is required")},
		{"EMAIL_TOO_LONG", when(bare(longerThan(maxAddress)), "email must not exceed 255 characters")},
		{"EMAIL_FORM", when(bare(not(legacy.AddressForm().MatchString)), "invalid email format")},
	}
	chosen := []check{
		{"PASSWORD_REQUIRED", when(isEmpty, "password is required")},
		{"PASSWORD_TOO_SHORT", when(shorterThan(minPassword), "password must be at least 8 characters long")},
		{"PASSWORD_TOO_LONG", when(longerThan(maxPassword), "password must not exceed 128 characters")},
		{"PASSWORD_CHARACTERS", missing("password must contain ", // only ASCII counts
			kind{"at least one uppercase letter", between('A', 'Z')},
			kind{"at least one lowercase letter", between('a', 'z')},
			kind{"at least one number", between('0', '9')},
			kind{"at least one special character", isPunctuation},
		)},
	}
	name := func(field string) []check {
		id := strings.ToUpper(field)
		return []check{
			{id + "_REQUIRED", when(bare(isEmpty), field+" is required")},
			{id + "_TOO_SHORT", when(bare(shorterThan(minName)), field+" must be at least 2 characters long")},
			{id + "_TOO_LONG", when(bare(longerThan(maxName)), field+" must not exceed 100 characters")},
			{id + "_CHARACTERS", when(bare(not(consistsOf(isNameLetter))), field+" contains invalid characters")},

			// Stricter than the Go backend: here it failed with INTERNAL, or stored control characters.
			{id + "_TOO_LONG", when(longerThan(maxName), field+" must not exceed 100 characters")},
			{id + "_CHARACTERS", when(not(consistsOf(isNameLetter)), field+" contains invalid characters")},
		}
	}
	return &rules{
		address: stored,
		newAddress: append(slices.Clip(stored),
			// Stricter than the Go backend: it made accounts that no mail reaches.
			check{"EMAIL_FORM", when(not(isMailbox), "invalid email format")}),
		typed: chosen[:1],
		chosen: append(slices.Clip(chosen),
			// Stricter than the Go backend: the owner of such a password could not log in with latchkey.v1.
			check{"PASSWORD_NUL", when(hasNUL, "password must not contain NUL")}),
		firstName: name("first_name"), lastName: name("last_name"),
		token: []check{
			{"TOKEN_REQUIRED", when(bare(isEmpty), "token is required")},
			{"TOKEN_TOO_LONG", when(bare(longerThan(maxToken)), "token is too long")},
		},
	}
}

// field is a value of a request with its checks.
type field struct {
	name, value string
	checks      []check
}

// firstBroken returns the refusal of the first field that fails a check, and nil if all pass.
func firstBroken(fields ...field) error {
	for _, f := range fields {
		for _, c := range f.checks {
			text := c.text(f.value)
			if text == "" {
				continue
			}
			return refusal.New(codes.InvalidArgument, latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, text, &errdetails.BadRequest{
				FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: f.name, Description: text, Reason: c.rule}},
			})
		}
	}
	return nil
}

func when(broken func(string) bool, text string) func(string) string {
	return func(value string) string {
		if broken(value) {
			return text
		}
		return ""
	}
}

// kind is one kind of characters that a password must have.
type kind struct {
	text string
	is   func(rune) bool
}

// missing names every kind that a value does not have.
func missing(begin string, kinds ...kind) func(string) string {
	return func(value string) string {
		var lacks []string
		for _, k := range kinds {
			if !strings.ContainsFunc(value, k.is) {
				lacks = append(lacks, k.text)
			}
		}
		if lacks == nil {
			return ""
		}
		return begin + strings.Join(lacks, ", ")
	}
}

// bare checks a value without the white space around it, also Unicode's.
func bare(broken func(string) bool) func(string) bool {
	return func(value string) bool { return broken(strings.TrimSpace(value)) }
}

func not(holds func(string) bool) func(string) bool {
	return func(value string) bool { return !holds(value) }
}

func isEmpty(value string) bool { return value == "" }

func longerThan(n int) func(string) bool { return func(value string) bool { return len(value) > n } }

func shorterThan(n int) func(string) bool { return func(value string) bool { return len(value) < n } }

func consistsOf(is func(rune) bool) func(string) bool {
	return func(value string) bool { return !strings.ContainsFunc(value, func(r rune) bool { return !is(r) }) }
}

func hasNUL(value string) bool { return strings.Contains(value, "\x00") }

func between(first, last rune) func(rune) bool {
	return func(r rune) bool { return first <= r && r <= last }
}

// isPunctuation reports whether r is one of the 32 visible characters of ASCII that are neither letters nor digits.
func isPunctuation(r rune) bool {
	return '!' <= r && r <= '~' && !isLetter(r) && !between('0', '9')(r)
}

func isLetter(r rune) bool { return between('A', 'Z')(r) || between('a', 'z')(r) }

func isNameLetter(r rune) bool { return isLetter(r) || r == ' ' || r == '-' || r == '\'' }

// isMailbox reports whether mail servers accept an address that has the contract's form: it has no white space around
// it, dots only between other characters of the part before the @, and a domain of the DNS.
func isMailbox(email string) bool {
	local, _, _ := strings.Cut(email, "@")
	return strings.TrimSpace(email) == email && len(local) <= maxLocalPart &&
		!strings.HasPrefix(local, ".") && !strings.HasSuffix(local, ".") && !strings.Contains(local, "..") &&
		address.Check(email) == nil
}

// couldBeStored reports whether an account can have the address, whatever its form: the Rust backend and latchkey.v1
// accept more than the Go backend did.
func couldBeStored(email string) bool {
	return strings.TrimSpace(email) != "" && utf8.RuneCountInString(email) <= maxAddress && !hasNUL(email)
}
