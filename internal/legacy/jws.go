package legacy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// maxUnix is the last second of the year 9999.
const maxUnix = 253402300799

// signed is a token in JWS compact serialisation, taken apart but not yet believed.
type signed struct {
	text      string // the first two parts with their dot: what is signed
	payload   string // still encoded: nothing reads it before the signature holds
	signature []byte
	algorithm string
}

// parse checks the form and the header. A token has one spelling only.
func parse(text string) (*signed, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: not three parts", ErrInvalid)
	}
	header, err := decodeObject(parts[0])
	if err != nil {
		return nil, err
	}
	signature, err := decodeSegment(parts[2])
	if err != nil {
		return nil, err
	}
	s := &signed{text: parts[0] + "." + parts[1], payload: parts[1], signature: signature}
	s.algorithm, _ = header.text("alg")
	// Theirs name no key. One that does is ours, signed with their key so that they
	// accept it too: it has a session, and is judged by it.
	if _, named := header["kid"]; named {
		return nil, fmt.Errorf("%w: names a key", ErrInvalid)
	}
	// No extension is understood here (RFC 7515, section 4.1.11).
	if _, critical := header["crit"]; critical {
		return nil, fmt.Errorf("%w: critical header parameter", ErrInvalid)
	}
	// Both write JWT. Another type is not theirs (RFC 8725, section 3.11).
	if _, typed := header["typ"]; typed {
		if typ, _ := header.text("typ"); typ != "JWT" {
			return nil, fmt.Errorf("%w: another type", ErrInvalid)
		}
	}
	return s, nil
}

// claims are what was signed. Ask once the signature holds.
func (s *signed) claims() (object, error) { return decodeObject(s.payload) }

// decodeSegment undoes base64url strictly: no padding, no white space, unused bits
// zero.
func decodeSegment(segment string) ([]byte, error) {
	// The decoder skips CR and LF even when strict.
	if segment == "" || strings.ContainsAny(segment, "\r\n") {
		return nil, fmt.Errorf("%w: not base64url", ErrInvalid)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64url", ErrInvalid)
	}
	return data, nil
}

// object is a JSON object whose names are compared exactly: the struct decoder of
// encoding/json would take "EXP" for "exp" and the last of two for the one.
type object map[string]json.RawMessage

// decodeObject reads a segment that is one JSON object, each member named once.
func decodeObject(segment string) (object, error) {
	data, err := decodeSegment(segment)
	if err != nil {
		return nil, err
	}
	broken := fmt.Errorf("%w: not one JSON object with each member named once", ErrInvalid)
	if !utf8.Valid(data) || !json.Valid(data) {
		return nil, broken
	}
	walk := json.NewDecoder(bytes.NewReader(data))
	if opening, err := walk.Token(); err != nil || opening != json.Delim('{') {
		return nil, broken
	}
	members := object{}
	for walk.More() {
		name, err := walk.Token()
		if err != nil {
			return nil, broken
		}
		key, ok := name.(string)
		if _, twice := members[key]; twice || !ok {
			return nil, broken
		}
		var value json.RawMessage
		if err := walk.Decode(&value); err != nil {
			return nil, broken
		}
		members[key] = value
	}
	return members, nil
}

// text returns the string called name.
func (o object) text(name string) (text string, ok bool) {
	value := o[name]
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return "", false
	}
	return text, true
}

// time returns the time called name: a whole number of seconds, as both backends
// write it, from 1970 to the year 9999. Nothing that is computed with it overflows.
func (o object) time(name string) (time.Time, error) {
	seconds, err := strconv.ParseUint(string(o[name]), 10, 63)
	if err != nil || seconds > maxUnix {
		return time.Time{}, fmt.Errorf("%w: %s is absent or not a time", ErrInvalid, name)
	}
	return time.Unix(int64(seconds), 0).UTC(), nil
}

// optionalTime is time, and the zero time for a member that is absent.
func (o object) optionalTime(name string) (time.Time, error) {
	if _, present := o[name]; !present {
		return time.Time{}, nil
	}
	return o.time(name)
}

// account is "sub", in the one spelling that both backends write.
func (o object) account() (uuid.UUID, error) {
	text, _ := o.text("sub")
	id, err := uuid.Parse(text)
	if err != nil || id == uuid.Nil || id.String() != text {
		return uuid.Nil, fmt.Errorf("%w: sub is not an account's id", ErrInvalid)
	}
	return id, nil
}
