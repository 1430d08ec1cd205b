package legacy

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/strict"
)

// maxUnix is the last second of the year 9999.
const maxUnix = 253402300799

// signed is a token in JWS compact serialisation, split into its parts and not yet verified.
type signed struct {
	text      string // the first two parts with their dot, which the signature covers
	payload   string // still encoded: nothing reads it before the signature is verified
	signature []byte
	algorithm string
}

// parse checks the form and the header. It accepts only one spelling of a token.
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
	s.algorithm, _ = header.Text("alg")
	// Their tokens name no key. A token that does is ours, signed with their key so that they accept it too: it has a
	// session, which decides about it.
	if _, named := header.Object["kid"]; named {
		return nil, fmt.Errorf("%w: names a key", ErrInvalid)
	}
	// No extension is understood here (RFC 7515, section 4.1.11).
	if _, critical := header.Object["crit"]; critical {
		return nil, fmt.Errorf("%w: critical header parameter", ErrInvalid)
	}
	// Both backends write JWT. A token of another type is not theirs (RFC 8725, section 3.11).
	if _, typed := header.Object["typ"]; typed {
		if typ, _ := header.Text("typ"); typ != "JWT" {
			return nil, fmt.Errorf("%w: another type", ErrInvalid)
		}
	}
	return s, nil
}

// claims returns the signed claims. Call it after the signature was verified.
func (s *signed) claims() (object, error) { return decodeObject(s.payload) }

// decodeSegment is strict.Segment for a segment that is not empty. It fails with ErrInvalid.
func decodeSegment(segment string) ([]byte, error) {
	data, err := strict.Segment(segment)
	if err != nil || segment == "" {
		return nil, fmt.Errorf("%w: not base64url", ErrInvalid)
	}
	return data, nil
}

// object is the decoded content of a segment.
type object struct{ strict.Object }

// decodeObject reads a segment that is one JSON object without duplicate members.
func decodeObject(segment string) (object, error) {
	data, err := decodeSegment(segment)
	if err != nil {
		return object{}, err
	}
	members, err := strict.ParseObject(data)
	if err != nil {
		return object{}, fmt.Errorf("%w: not one JSON object with each member named once", ErrInvalid)
	}
	return object{members}, nil
}

// time returns the time called name: a whole number of seconds, as both backends write it, from 1970 to the year 9999.
// So no calculation with it overflows.
func (o object) time(name string) (time.Time, error) {
	seconds, ok := o.Integer(name)
	if !ok || seconds > maxUnix {
		return time.Time{}, fmt.Errorf("%w: %s is absent or not a time", ErrInvalid, name)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// optionalTime is time, but returns the zero time if the member is absent.
func (o object) optionalTime(name string) (time.Time, error) {
	if _, present := o.Object[name]; !present {
		return time.Time{}, nil
	}
	return o.time(name)
}

// account returns "sub", in the only spelling that both backends write.
func (o object) account() (uuid.UUID, error) {
	id, ok := o.UUID("sub")
	if !ok {
		return uuid.Nil, fmt.Errorf("%w: sub is not an account's id", ErrInvalid)
	}
	return id, nil
}
