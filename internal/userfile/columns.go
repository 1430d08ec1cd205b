package userfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Columns say which columns or members of a file have what, by our own names. A name with dots leads into objects and
// arrays of JSON: "emails.0.address". What is not named is read under our own name, and other columns are left alone.
type Columns map[string]string

// ColumnNames are the names that Columns takes. The values of created_at and the like are those that any format takes;
// name is a whole name, suspended the contrary of active, and deleted a sign that the account is gone.
func ColumnNames() []string {
	return slices.Concat(columns(), []string{"name", "suspended", "deleted"}, partColumns())
}

// ParseColumns reads "email=mail,password_hash=pw". The name hash is short for password_hash.
func ParseColumns(text string) (Columns, error) {
	c := Columns{}
	for part := range strings.SplitSeq(text, ",") {
		ours, theirs, _ := strings.Cut(part, "=")
		ours, theirs = strings.TrimSpace(ours), strings.ToLower(strings.TrimSpace(theirs))
		if ours == "hash" {
			ours = "password_hash"
		}
		switch {
		case !slices.Contains(ColumnNames(), ours):
			return nil, fmt.Errorf("there is no column %q: %s", ours, strings.Join(ColumnNames(), ", "))
		case theirs == "":
			return nil, fmt.Errorf("%s has no column of the file: write it as %s=NAME", ours, ours)
		case c[ours] != "":
			return nil, fmt.Errorf("%s is named twice", ours)
		}
		c[ours] = theirs
	}
	return c, nil
}

// in are the columns where one of ours is.
func (c Columns) in(ours string) []string {
	if theirs, ok := c[ours]; ok {
		return []string{theirs}
	}
	return []string{ours}
}

// spec is the format of a file that is read so.
func (c Columns) spec(own Format) spec {
	t := table{
		id: c.in("id"), email: c.in("email"), hash: c.in("password_hash"), first: c.in("first_name"), last: c.in("last_name"), whole: c.in("name"),
		created: c.in("created_at"), login: c.in("last_login_at"), verified: c.in("email_verified"), suspended: c.in("suspended"),
		active: c.in("active"), deleted: c.in("deleted"), more: c.parts,
	}
	return spec{format: own, json: true, csv: true, parse: t.parser}
}

func (c Columns) parts(values cells, u *User, _ time.Time) error {
	u.PasswordParts = PasswordParts{
		Scheme: values.get(c.in("password_scheme")...), Salt: values.get(c.in("password_salt")...), Params: values.get(c.in("password_params")...),
	}
	return nil
}

// check refuses CSV that lacks a column which was named: a misspelt name would leave everybody without a password.
func (c Columns) check(named map[string]int) error {
	for _, ours := range slices.Sorted(maps.Keys(c)) {
		if _, ok := named[c[ours]]; !ok {
			return fmt.Errorf("there is no column %q for %s: %s", c[ours], ours, strings.Join(slices.Sorted(maps.Keys(named)), ", "))
		}
	}
	if _, ok := named[c.in("email")[0]]; !ok {
		return errors.New("there is no column email: name the one with the address, --columns email=NAME")
	}
	return nil
}
