package userfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// cells are the values of one account with their names in lower case: the fields of a row of CSV, or the members of an
// object whose values are not objects.
type cells struct {
	row    row
	object map[string]string
}

// cells returns the values of a record. Numbers, true and false become text, and null is no value. An object or an
// array is its JSON text.
func (r raw) cells() (cells, error) {
	if r.json == nil {
		return cells{row: r.row}, nil
	}
	var object map[string]json.RawMessage
	if err := unmarshal(r.json, &object, false); err != nil {
		return cells{}, err
	}
	c := cells{object: make(map[string]string, len(object))}
	c.add(object)
	return c, nil
}

// join adds the members of an object that is itself a member, unless there are members with these names.
func (c cells) join(name string) {
	var inner map[string]json.RawMessage
	if json.Unmarshal([]byte(c.object[name]), &inner) != nil {
		return
	}
	outer := maps.Clone(c.object)
	c.add(inner)
	maps.Copy(c.object, outer)
}

func (c cells) add(object map[string]json.RawMessage) {
	for name, value := range object {
		var text string
		switch {
		case string(value) == "null":
			continue
		case value[0] != '"' || json.Unmarshal(value, &text) != nil:
			text = string(value)
		}
		c.object[strings.ToLower(name)] = text
	}
}

// get returns the first value that exists. The text that SQL tools write for NULL is no value.
func (c cells) get(names ...string) string {
	_, value := c.find(names...)
	return value
}

// find is get, and also returns the name of the value.
func (c cells) find(names ...string) (name, value string) {
	for _, name := range names {
		value := c.object[name]
		if value == "" && strings.Contains(name, ".") {
			value = c.within(name)
		}
		if c.object == nil {
			value = c.row.get(name)
			if value == "NULL" || value == "null" || value == `\N` {
				value = ""
			}
		}
		if value != "" {
			return name, value
		}
	}
	return "", ""
}

// within follows a name with dots into objects and arrays: "services.password.bcrypt", "emails.0.address".
func (c cells) within(path string) string {
	name, rest, deeper := strings.Cut(path, ".")
	value := c.object[name]
	if !deeper || value == "" {
		return value
	}
	inner := cells{object: map[string]string{}}
	var object map[string]json.RawMessage
	var list []json.RawMessage
	if json.Unmarshal([]byte(value), &object) != nil {
		if json.Unmarshal([]byte(value), &list) != nil {
			return ""
		}
		object = make(map[string]json.RawMessage, len(list))
		for i, element := range list {
			object[strconv.Itoa(i)] = element
		}
	}
	inner.add(object)
	return inner.within(rest)
}

// table has the columns of a format. Of several names the first one with a value counts.
type table struct {
	// username names the account in errors if there is no address.
	id, email, username, hash, first, last, whole, created, login []string
	// verified and suspended are flags, or the time since when it is so; active is the opposite of suspended.
	verified, suspended, active, deleted []string
	// inner is a member that is an object with more values. Optional.
	inner string
	// more reads other values that the format needs. Optional.
	more func(c cells, u *User, now time.Time) error
}

// parser reads the table.
func (t table) parser(o Options) parser {
	return func(r raw) (User, error) {
		c, err := r.cells()
		if err != nil {
			return User{}, err
		}
		c.join(t.inner)
		return t.user(c, o.Now())
	}
}

// user makes an account from its values.
func (t table) user(c cells, now time.Time) (User, error) {
	u := User{
		ID: foreignID(c.get(t.id...)), Email: c.get(t.email...), PasswordHash: c.get(t.hash...),
		FirstName: c.get(t.first...), LastName: c.get(t.last...),
	}
	if u.FirstName == "" && u.LastName == "" {
		u.FirstName, u.LastName = splitName(c.get(t.whole...))
	}
	var errs [6]error
	var inactive, deleted bool
	u.CreatedAt, errs[0] = c.moment(t.created)
	u.LastLoginAt, errs[1] = c.moment(t.login)
	u.EmailVerified, errs[2] = c.flag(t.verified)
	u.Suspended, errs[3] = c.flag(t.suspended)
	if name, value := c.find(t.active...); name != "" {
		active, err := parseFlag(name, value, true)
		inactive, errs[4] = !active, err
	}
	u.Suspended = u.Suspended || inactive
	deleted, errs[5] = c.flag(t.deleted)
	err := firstError(errs[:]...)
	if err == nil && t.more != nil {
		err = t.more(c, &u, now)
	}
	if err == nil {
		err = errNoAddress(u, c.get(t.username...))
	}
	if err == nil && deleted {
		name, _ := c.find(t.deleted...)
		err = errDeleted(name)
	}
	return u, err
}

// errDeleted refuses an account that its program keeps but that nobody can use.
func errDeleted(name string) error { return fmt.Errorf("the account was deleted (%s is set)", name) }

// errPlain refuses a password that is not hashed.
var errPlain = errors.New("the password is in the file as plain text: only hashes are imported")

func (c cells) moment(names []string) (time.Time, error) {
	name, value := c.find(names...)
	return parseTime(name, value)
}

// flag reads a flag, or a time since when something is so.
func (c cells) flag(names []string) (bool, error) {
	name, value := c.find(names...)
	set, err := parseFlag(name, value, false)
	if err == nil {
		return set, nil
	}
	at, err := parseMoment(value)
	if err != nil {
		return false, fmt.Errorf("%s is neither true nor false, nor a time", quoted(name, value))
	}
	return !at.IsZero(), nil
}

// until reports whether a time, such as the end of a ban, is later than now by more than the span.
func (c cells) until(now time.Time, span time.Duration, names ...string) (bool, error) {
	end, err := c.moment(names)
	return end.After(now.Add(span)), err
}
