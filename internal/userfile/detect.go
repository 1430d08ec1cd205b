package userfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// sight is what the beginning of a file shows.
type sight struct {
	empty, json bool
	within      shape
	keys        map[string]bool // of the first object, and of the first user in it
	header      []string        // the first line of CSV
}

// look reads the beginning of a file.
func look(head []byte) sight {
	text := bytes.TrimSpace(head)
	if len(text) == 0 {
		return sight{empty: true}
	}
	if text[0] != '{' && text[0] != '[' {
		line, _, _ := strings.Cut(string(text), "\n")
		return sight{header: headerFields(line)}
	}
	s := sight{json: true, keys: map[string]bool{}}
	dec := json.NewDecoder(bytes.NewReader(text))
	if text[0] == '[' {
		s.within = inArray
		_, _ = dec.Token() // the bracket
	}
	s.readKeys(dec)
	switch {
	case s.within == inArray:
	case s.keys["users"] || s.keys["realm"]:
		s.within = inUsers
	default:
		line, _, whole := bytes.Cut(text, []byte("\n"))
		if whole && !json.Valid(line) && !closes(line) {
			s.within = inSequence
		}
	}
	return s
}

// closes says that a line that is no JSON is meant to be an object: it is a broken line, and not the first
// line of an object over several.
func closes(line []byte) bool {
	return bytes.HasSuffix(bytes.TrimSpace(line), []byte("}")) || !bytes.HasSuffix(bytes.TrimSpace(line), []byte(",")) &&
		len(bytes.TrimSpace(line)) > 1
}

// readKeys collects the keys of the object that is next, as far as it goes.
func (s *sight) readKeys(dec *json.Decoder) {
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return
	}
	for dec.More() {
		token, err := dec.Token()
		key, isKey := token.(string)
		if err != nil || !isKey {
			return
		}
		s.keys[key] = true
		if key == "users" {
			if open, err := dec.Token(); err != nil || open != json.Delim('[') {
				return
			}
			s.readKeys(dec)
			return
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return
		}
	}
}

func (s *sight) jsonSource(in *bufio.Reader) source {
	if s.within == inLines {
		return newLines(in)
	}
	return newElements(in, s.within)
}

// has counts which of the keys are there.
func (s *sight) has(keys ...string) int {
	n := 0
	for _, key := range keys {
		if s.keys[key] {
			n++
		}
	}
	return n
}

// format recognises the format by keys that no other format has.
func (s *sight) format() (Format, error) {
	if s.empty {
		return JSONL, nil
	}
	var found []Format
	if s.json {
		for _, f := range []struct {
			format Format
			keys   []string
		}{
			{Firebase, []string{"localId"}},
			{Kratos, []string{"traits"}},
			{Keycloak, []string{"realm", "credentials", "createdTimestamp"}},
			{Supabase, []string{"encrypted_password", "raw_user_meta_data", "email_confirmed_at"}},
			{Auth0, []string{"passwordHash", "custom_password_hash", "user_id", "identities", "_id"}},
			{JSONL, []string{"password_hash", "first_name", "last_name", "active"}},
		} {
			if s.has(f.keys...) > 0 {
				found = append(found, f.format)
			}
		}
	} else {
		found = csvFormats(s.header)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case found != nil && found[0] == Firebase: // its keys passwordHash and users are those of others too
		return Firebase, nil
	case found != nil && found[0] == Kratos: // and so are Kratos's credentials
		return Kratos, nil
	case len(found) == 0 && s.json && s.keys["email"]:
		return JSONL, nil
	}
	return "", errors.New("the format is not clear from the beginning of the file: say --format, one of " + formatNames())
}
