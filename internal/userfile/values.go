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

// unmarshal reads JSON. Its errors name the field and not the value, which may be a secret in the wrong
// place.
func unmarshal(text []byte, to any, strict bool) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if strict {
		decoder.DisallowUnknownFields()
	}
	err := decoder.Decode(to)
	if err == nil && len(bytes.TrimSpace(text[decoder.InputOffset():])) > 0 {
		return errors.New("behind the object there is more text")
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

// valueError reports a value without a meaning. The caller knows the field and adds its name.
type valueError struct{ text string }

// Error implements error.
func (v *valueError) Error() string { return v.text }

// moment is a time as exports write it: RFC 3339, PostgreSQL's text, milliseconds since 1970, or MongoDB's
// {"$date": …}.
type moment struct{ time.Time }

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
	var err error
	m.Time, err = parseMoment(strings.Trim(string(text), `"`))
	return err
}

// parseMoment takes "" for no time.
func parseMoment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 {
		if ms == 0 {
			return time.Time{}, nil // "never", in several exports
		}
		return time.UnixMilli(ms).UTC(), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999Z0700",
		"2006-01-02 15:04:05.999999999 UTC", "2006-01-02 15:04:05.999999999",
	} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, &valueError{"a time is not in the form 2006-01-02T15:04:05Z"}
}

// parseFlag takes what programs write for yes and no, and otherwise for "".
func parseFlag(name, text string, otherwise bool) (bool, error) {
	switch strings.ToLower(text) {
	case "":
		return otherwise, nil
	case "true", "t", "1", "yes":
		return true, nil
	case "false", "f", "0", "no":
		return false, nil
	}
	return false, fmt.Errorf("%s is neither true nor false", name)
}

// parseID takes "" for none.
func parseID(text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil || len(text) != len(uuid.Nil.String()) {
		return uuid.Nil, errors.New("id is not a UUID")
	}
	return id, nil
}

// foreignID is an identifier of another program: kept where it is a UUID.
func foreignID(text string) uuid.UUID {
	id, err := parseID(text)
	if err != nil {
		return uuid.Nil
	}
	return id
}

// splitName takes the first word for the first name where an export has the whole name only, as its owner
// chose it to be shown.
func splitName(name string) (first, last string) {
	first, last, _ = strings.Cut(strings.TrimSpace(name), " ")
	return first, strings.TrimSpace(last)
}

// loose is a value whose type is not certain: text where it is a string, else "".
type loose string

// UnmarshalJSON implements json.Unmarshaler.
func (l *loose) UnmarshalJSON(text []byte) error {
	var s string
	if json.Unmarshal(text, &s) == nil {
		*l = loose(s)
	}
	return nil
}

// names are what profiles keep a name in.
type names struct {
	FirstName   loose `json:"first_name"`
	LastName    loose `json:"last_name"`
	GivenName   loose `json:"given_name"`
	FamilyName  loose `json:"family_name"`
	FullName    loose `json:"full_name"`
	DisplayName loose `json:"display_name"`
	Name        name  `json:"name"`
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
