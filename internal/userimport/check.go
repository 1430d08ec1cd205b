package userimport

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/hashforms"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/userfile"
)

// Bounds of the table's columns, in characters.
const (
	maxEmail = 255
	maxName  = 100
)

// account is a checked record. It has copies of its strings: they do not keep the line of the file in memory.
type account struct {
	number    int64
	id        uuid.UUID
	idGiven   bool
	email     string
	lookup    string
	hash      string
	pepper    string // the ID of the pepper that the hash names
	first     string
	last      string
	created   time.Time
	lastLogin time.Time // zero: never
	active    bool
	verified  bool
}

// checker has what records are checked with.
type checker struct {
	hashes    hashforms.Options
	hasPepper func(id string) bool // nil: unknown
	now       time.Time
}

// check applies the address rules of Login, so that old addresses pass, and the bounds of the table. Nothing is cut or
// changed: a value that does not fit is refused.
func (c checker) check(record userfile.Record) (account, error) {
	if record.Err != nil {
		return account{}, record.Err
	}
	u := record.User
	if err := checkEmail(u.Email); err != nil {
		return account{}, err
	}
	if err := firstError(checkName("first", u.FirstName), checkName("last", u.LastName)); err != nil {
		return account{}, err
	}
	a := account{
		number: record.Number, id: u.ID, idGiven: u.ID != uuid.Nil,
		email: strings.Clone(u.Email), first: strings.Clone(u.FirstName), last: strings.Clone(u.LastName),
		hash: password.None, created: u.CreatedAt, lastLogin: u.LastLoginAt,
		active: !u.Suspended, verified: u.EmailVerified,
	}
	a.lookup = address.Lookup(a.email)
	if !a.idGiven {
		a.id = uuid.New()
	}
	if a.created.IsZero() {
		a.created = c.now
	}
	if err := firstError(checkTime("created", a.created, c.now), checkTime("last login", a.lastLogin, c.now)); err != nil {
		return account{}, err
	}
	if u.PasswordHash != "" {
		return c.withHash(a, hashforms.Source{
			Text: u.PasswordHash, Scheme: u.PasswordParts.Scheme, Salt: u.PasswordParts.Salt, Params: u.PasswordParts.Params,
		}, u.PasswordParts.Prehash)
	}
	return a, nil
}

// withHash returns the account with its hash, in the form that is stored. The prehash, if there is one, is what its
// program always hashes.
func (c checker) withHash(a account, source hashforms.Source, prehash string) (_ account, err error) {
	options := c.hashes
	options.Prehash = cmp.Or(prehash, options.Prehash)
	if a.hash, err = options.Stored(source); err != nil {
		return account{}, err
	}
	a.pepper = password.PepperOf(a.hash)
	if a.pepper != "" && c.hasPepper != nil && !c.hasPepper(a.pepper) {
		return account{}, fmt.Errorf("the hash was made with pepper %s, which this service does not have: "+
			"add it to LATCHKEY_PASSWORD_PEPPERS, and restart the service", a.pepper)
	}
	return a, nil
}

// checkEmail refuses addresses that Login refuses, since their owners could never log in. A value without an @ is from
// another column, one with a control character would be shown to people, and a look-alike could be somebody else's.
func checkEmail(email string) error {
	name, domain, ok := strings.Cut(email, "@")
	switch {
	case email == "":
		return errors.New("it has no address (email)")
	case !utf8.ValidString(email):
		return errors.New("the address is not UTF-8")
	case utf8.RuneCountInString(email) > maxEmail:
		return fmt.Errorf("the address is longer than %d characters", maxEmail)
	case strings.ContainsFunc(email, unicode.IsControl):
		return errors.New("the address has control characters")
	case !ok || name == "" || domain == "":
		return errors.New("the address does not have a form such as name@example.com")
	case strings.TrimSpace(email) != email:
		return errors.New("the address has spaces around it")
	}
	if err := address.Check(email); err != nil {
		return fmt.Errorf("the address %w", err)
	}
	return nil
}

// checkName allows an empty name, and otherwise the characters that sign-up allows, since names appear in mails.
func checkName(which, name string) error {
	switch {
	case !utf8.ValidString(name):
		return fmt.Errorf("the %s name is not UTF-8", which)
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Errorf("the %s name is longer than %d characters", which, maxName)
	case strings.ContainsFunc(name, hidden):
		return fmt.Errorf("the %s name has control or direction characters", which)
	}
	return nil
}

// hidden are the characters that the rule name.characters of auth_service.proto refuses.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) ||
		r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// checkTime refuses times that were read in the wrong unit. Clocks may differ by a day.
func checkTime(what string, t, now time.Time) error {
	if !t.IsZero() && (t.Year() < 1970 || t.After(now.Add(24*time.Hour))) {
		return fmt.Errorf("the time of the %s, %s, is before 1970 or in the future", what, t.UTC().Format(time.RFC3339))
	}
	return nil
}

// shortEmail bounds the address that is kept of a refused record.
func shortEmail(email string) string {
	if len(email) > maxEmail {
		email = email[:maxEmail]
	}
	return strings.ToValidUTF8(strings.Clone(email), "\uFFFD")
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
