package userfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// unmarshal reads JSON. Its errors name the field and not the value: a secret may be in the wrong place.
func unmarshal(text []byte, to any, strict bool) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if strict {
		decoder.DisallowUnknownFields()
	}
	err := decoder.Decode(to)
	if err == nil && len(bytes.TrimSpace(text[decoder.InputOffset():])) > 0 {
		return errors.New("there is more text after the object")
	}
	var kind *json.UnmarshalTypeError
	var own *valueError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("it is a JSON %s, not an object", kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("%s cannot be a %s", kind.Field, strings.Fields(kind.Value)[0])
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return &unknownFieldError{strings.TrimPrefix(err.Error(), "json: unknown field ")}
	}
	return errors.New("it is not JSON")
}

// unknownFieldError is a misspelt field.
type unknownFieldError struct{ field string }

// Error implements error.
func (u *unknownFieldError) Error() string {
	return "there is no field " + u.field + ": " + strings.Join(slices.Concat(columns(), partColumns()), ", ")
}

// valueError reports a value without a meaning, with the name of its field.
type valueError struct{ text string }

// Error implements error.
func (v *valueError) Error() string { return v.text }

// moment is a time in the forms that exports have: RFC 3339, the text of a database, seconds or milliseconds since
// 1970, or MongoDB's {"$date": …}. A text that is not a time is kept for in, which knows the name of the field.
type moment struct {
	time.Time
	bad string
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(text []byte) error {
	var mongo struct {
		Date json.RawMessage `json:"$date"`
	}
	if len(text) > 0 && text[0] == '{' && json.Unmarshal(text, &mongo) == nil {
		text = mongo.Date
	}
	if string(text) == "null" || len(text) == 0 {
		return nil
	}
	plain := strings.Trim(string(text), `"`)
	var err error
	if m.Time, err = parseMoment(plain); err != nil {
		m.bad = plain
	}
	return nil
}

// in returns the error for a text that is not a time, with the name of its field.
func (m *moment) in(field string) error {
	if m == nil || m.bad == "" {
		return nil
	}
	return errNoTime(field, m.bad)
}

func errNoTime(field, text string) error {
	return fmt.Errorf("%s is not a time: write it as 2006-01-02T15:04:05Z", quoted(field, text))
}

// parseTime is parseMoment with an error that names the field.
func parseTime(field, text string) (time.Time, error) {
	t, err := parseMoment(text)
	if err != nil {
		return t, errNoTime(field, text)
	}
	return t, nil
}

// The size of a number decides its unit: 1e11 seconds are in the year 5138, and 1e11 milliseconds in 1973.
const (
	leastMillis = 1e11
	leastMicros = 1e14
	mostMicros  = 1e17
)

var errMoment = errors.New("not a time")

// parseMoment reads "" as no time. It does the same for 0 and the zero times of MySQL and .NET, which mean "never".
func parseMoment(text string) (time.Time, error) {
	if text == "" || strings.HasPrefix(text, "0000-00-00") || strings.HasPrefix(text, "0001-01-01") {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && text[0] >= '0' && text[0] <= '9' {
		switch {
		case n == 0:
			return time.Time{}, nil
		case n < leastMillis:
			return time.UnixMilli(int64(n * 1000)).UTC(), nil
		case n < leastMicros:
			return time.UnixMilli(int64(n)).UTC(), nil
		case n < mostMicros:
			return time.UnixMicro(int64(n)).UTC(), nil
		}
		return time.Time{}, errMoment
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999Z0700",
		"2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999 -07:00", "2006-01-02 15:04:05.999999999 -0700",
		"2006-01-02 15:04:05.999999999 UTC", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02",
	} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errMoment
}

// quoted returns a field and its value for an error. It leaves out a value that could be a hash in the wrong column.
func quoted(field, value string) string {
	if couldBeHash(value) {
		return field
	}
	return fmt.Sprintf("%s %q", field, value)
}

// couldBeHash reports whether a value could be a hash or a key: it is too long for the column, has the characters of
// hashes, or has 16 or more of base64 and hex.
func couldBeHash(value string) bool {
	const longest, leastKey = 40, 16
	isKey := len(value) >= leastKey && !strings.ContainsFunc(value, func(r rune) bool {
		return !strings.ContainsRune("+/=_", r) && (r > 'z' || r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a')
	})
	return len(value) > longest || isKey || strings.ContainsAny(value, "${}*!")
}

// parseFlag reads the texts that programs write for yes and no, and returns otherwise for "".
func parseFlag(name, text string, otherwise bool) (bool, error) {
	switch strings.ToLower(text) {
	case "":
		return otherwise, nil
	case "true", "t", "1", "yes", "y":
		return true, nil
	case "false", "f", "0", "no", "n":
		return false, nil
	}
	return false, fmt.Errorf("%s is neither true nor false", quoted(name, text))
}

// parseID reads "" as no id.
func parseID(text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil || len(text) != len(uuid.Nil.String()) {
		return uuid.Nil, fmt.Errorf("%s is not a UUID", quoted("id", text))
	}
	return id, nil
}

// errNoAddress names an account without an address with its program's word for the address. nil: the account has one.
func errNoAddress(u User, called string) error {
	switch {
	case u.Email != "":
		return nil
	case called == "" || couldBeHash(called):
		return errors.New("it has no address (email)")
	}
	return fmt.Errorf("it has no address (email): it is the account of %q", called)
}

// foreignID returns an identifier of another program if it is a UUID.
func foreignID(text string) uuid.UUID {
	id, err := parseID(text)
	if err != nil {
		return uuid.Nil
	}
	return id
}

// splitName uses the first word as the first name if an export has only the whole name that its owner chose.
func splitName(name string) (first, last string) {
	first, last, _ = strings.Cut(strings.TrimSpace(name), " ")
	return first, strings.TrimSpace(last)
}

// loose is a value whose type is not certain: its text if it is a string, else "".
type loose string

// UnmarshalJSON implements json.Unmarshaler.
func (l *loose) UnmarshalJSON(text []byte) error {
	var s string
	if json.Unmarshal(text, &s) == nil {
		*l = loose(s)
	}
	return nil
}

// names are the members in which profiles keep a name.
type names struct {
	FirstName   loose `json:"first_name"`
	LastName    loose `json:"last_name"`
	GivenName   loose `json:"given_name"`
	FamilyName  loose `json:"family_name"`
	FullName    loose `json:"full_name"`
	DisplayName loose `json:"display_name"`
	Name        name  `json:"name"`
}

// namesText is an object that any program may have written, or its text. Any other value has no names.
type namesText struct{ names }

// UnmarshalJSON implements json.Unmarshaler.
func (n *namesText) UnmarshalJSON(text []byte) error {
	var inner string
	if json.Unmarshal(text, &inner) == nil {
		text = []byte(inner)
	}
	_ = unmarshal(text, &n.names, false)
	return nil
}

// name is a whole name, or its parts.
type name struct{ whole, first, last string }

// UnmarshalJSON implements json.Unmarshaler.
func (n *name) UnmarshalJSON(text []byte) error {
	var parts struct {
		First     loose `json:"first"`
		Last      loose `json:"last"`
		FirstName loose `json:"first_name"`
		LastName  loose `json:"last_name"`
	}
	if json.Unmarshal(text, &n.whole) != nil && json.Unmarshal(text, &parts) == nil {
		n.first, n.last = string(parts.First+parts.FirstName), string(parts.Last+parts.LastName)
	}
	return nil
}

// firstLast prefers parts over a whole name.
func (n names) firstLast() (first, last string) {
	for _, pair := range [][2]string{
		{string(n.GivenName), string(n.FamilyName)},
		{string(n.FirstName), string(n.LastName)},
		{n.Name.first, n.Name.last},
	} {
		if pair[0] != "" || pair[1] != "" {
			return pair[0], pair[1]
		}
	}
	for _, whole := range []string{string(n.FullName), n.Name.whole, string(n.DisplayName)} {
		if whole != "" {
			return splitName(whole)
		}
	}
	return "", ""
}
