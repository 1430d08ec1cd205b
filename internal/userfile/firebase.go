package userfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// firebaseColumns is the least number of fields in a line of `firebase auth:export`: the last one that is read here,
// disabled, is the 27th.
const firebaseColumns = 27

// firebase reads the output of `firebase auth:export`.
type firebase struct{ hash *password.FirebaseScrypt }

type firebaseUser struct {
	LocalID        string `json:"localId"`
	Email          string `json:"email"`
	EmailVerified  bool   `json:"emailVerified"`
	PasswordHash   string `json:"passwordHash"`
	Salt           string `json:"salt"`
	DisplayName    string `json:"displayName"`
	LastSignedInAt moment `json:"lastSignedInAt"`
	CreatedAt      moment `json:"createdAt"`
	Disabled       bool   `json:"disabled"`
}

func (f firebase) parse(cut raw) (User, error) {
	var a firebaseUser
	var err error
	if cut.json != nil {
		err = unmarshal(cut.json, &a, false)
	} else {
		err = a.fromRow(cut.row.fields)
	}
	u := User{
		ID: foreignID(a.LocalID), Email: a.Email, EmailVerified: a.EmailVerified,
		CreatedAt: a.CreatedAt.Time, LastLoginAt: a.LastSignedInAt.Time, Suspended: a.Disabled,
	}
	if err = firstError(err, errNoAddress(u, a.DisplayName), a.CreatedAt.in("createdAt"), a.LastSignedInAt.in("lastSignedInAt")); err != nil {
		return u, err
	}
	u.FirstName, u.LastName = splitName(a.DisplayName)
	if a.PasswordHash == "" {
		return u, nil
	}
	if f.hash == nil {
		return u, fatalError{errors.New("the passwords of Firebase can only be checked with the hash parameters of the project: use --firebase-config FILE")}
	}
	u.PasswordHash, err = f.encode(a)
	return u, err
}

func (f firebase) encode(a firebaseUser) (string, error) {
	salt, err := decodeBase64(a.Salt)
	if err != nil {
		return "", fmt.Errorf("salt: %w", err)
	}
	key, err := decodeBase64(a.PasswordHash)
	if err != nil {
		return "", fmt.Errorf("passwordHash: %w", err)
	}
	return f.hash.Encode(salt, key)
}

// fromRow finds the columns by their position, since the file has no names. It ignores those of the providers, 8 to 23.
func (a *firebaseUser) fromRow(fields []string) error {
	if len(fields) < firebaseColumns {
		return fmt.Errorf("it has %d fields, Firebase writes %d or more", len(fields), firebaseColumns)
	}
	a.LocalID, a.Email, a.PasswordHash, a.Salt, a.DisplayName = fields[0], fields[1], fields[3], fields[4], fields[5]
	var errs [4]error
	a.EmailVerified, errs[0] = parseFlag("emailVerified", fields[2], false)
	a.CreatedAt.Time, errs[1] = parseTime("createdAt", fields[23])
	a.LastSignedInAt.Time, errs[2] = parseTime("lastSignedInAt", fields[24])
	a.Disabled, errs[3] = parseFlag("disabled", fields[26], false)
	return firstError(errs[:]...)
}

// firebaseRows splits Firebase's CSV. That has no names at the top, and quotes only around fields with a comma; other
// quotes within such a field are not escaped.
type firebaseRows struct{ lines *lines }

func newFirebaseRows(in *bufio.Reader) *firebaseRows { return &firebaseRows{newLines(in)} }

func (f *firebaseRows) unit() string { return "line" }

func (f *firebaseRows) next() (raw, error) {
	cut, err := f.lines.next()
	if err != nil || cut.err != nil {
		return cut, err
	}
	reader := csv.NewReader(bytes.NewReader(cut.json))
	reader.LazyQuotes, reader.FieldsPerRecord = true, -1
	cut.row.fields, cut.err = readRow(reader)
	cut.json = nil
	return cut, nil
}

// ParseFirebaseConfig reads the password hash parameters of a project in the form of the Firebase console, or the same
// names as JSON:
//
//	hash_config { algorithm: SCRYPT, base64_signer_key: …, base64_salt_separator: …, rounds: 8, mem_cost: 14, }
//
// Its errors hold nothing of the key.
func ParseFirebaseConfig(text []byte) (*password.FirebaseScrypt, error) {
	value := func(name string) string {
		found := regexp.MustCompile(name + `"?\s*[:=]\s*"?([A-Za-z0-9+/=_-]+)`).FindSubmatch(text)
		if found == nil {
			return ""
		}
		return string(found[1])
	}
	if algorithm := value("algorithm"); algorithm != "" && algorithm != "SCRYPT" {
		return nil, fmt.Errorf("the algorithm is %s; auth:export has hashes of SCRYPT only", clip(algorithm))
	}
	var config password.FirebaseScrypt
	var errs [4]error
	config.SignerKey, errs[0] = decodeBase64(value("base64_signer_key"))
	if errs[0] != nil || len(config.SignerKey) == 0 {
		return nil, errors.New("base64_signer_key is missing, or not base64")
	}
	if config.SaltSeparator, errs[1] = decodeBase64(value("base64_salt_separator")); errs[1] != nil {
		return nil, errors.New("base64_salt_separator is not base64")
	}
	config.Rounds, errs[2] = strconv.Atoi(value("rounds"))
	config.MemCost, errs[3] = strconv.Atoi(value("mem_cost"))
	if errs[2] != nil || errs[3] != nil {
		return nil, errors.New("rounds or mem_cost is missing, or not a number")
	}
	return &config, nil
}
