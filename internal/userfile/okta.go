package userfile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// oktaUser is a user in the form of `GET /api/v1/users`, or of the creation with a hash.
type oktaUser struct {
	Status    string `json:"status"`
	Created   moment `json:"created"`
	LastLogin moment `json:"lastLogin"`
	Profile   struct {
		FirstName string `json:"firstName"`
		LastName  string `json:"lastName"`
		Email     string `json:"email"`
		Login     string `json:"login"`
	} `json:"profile"`
	Credentials struct {
		Password struct {
			Value string   `json:"value"`
			Hash  oktaHash `json:"hash"`
		} `json:"password"`
		Emails []struct {
			Value  string `json:"value"`
			Status string `json:"status"`
		} `json:"emails"`
	} `json:"credentials"`
}

// oktaHash is the hash of an import: Okta never shows its own hashes.
type oktaHash struct {
	Algorithm       string `json:"algorithm"`
	DigestAlgorithm string `json:"digestAlgorithm"`
	WorkFactor      int    `json:"workFactor"`
	Iterations      int    `json:"iterationCount"`
	Salt            string `json:"salt"`
	SaltOrder       string `json:"saltOrder"`
	Value           string `json:"value"`
}

// oktaTable is the report of users that the admin console writes as CSV.
func oktaTable() table {
	return table{
		email: []string{"email"}, username: []string{"login"}, first: []string{"firstname"}, last: []string{"lastname"},
		created: []string{"created"}, login: []string{"lastlogin"},
		more: func(c cells, u *User, _ time.Time) error {
			if login := c.get("login"); u.Email == "" && strings.Contains(login, "@") {
				u.Email = login
			}
			u.Suspended = oktaSuspended(c.get("status"))
			return nil
		},
	}
}

// oktaSuspended is false for the other states. They mean that a person has not chosen a password yet, or waits for the
// end of a lock.
func oktaSuspended(status string) bool { return status == "SUSPENDED" || status == "DEPROVISIONED" }

func parseOkta(o Options) parser {
	rows := oktaTable().parser(o)
	return func(cut raw) (User, error) {
		if cut.json == nil {
			return rows(cut)
		}
		var a oktaUser
		if err := unmarshal(cut.json, &a, false); err != nil {
			return User{Email: a.Profile.Email}, err
		}
		return a.user()
	}
}

func (a *oktaUser) user() (User, error) {
	u := User{
		Email: a.Profile.Email, FirstName: a.Profile.FirstName, LastName: a.Profile.LastName, CreatedAt: a.Created.Time,
		LastLoginAt: a.LastLogin.Time, Suspended: oktaSuspended(a.Status),
	}
	for _, address := range a.Credentials.Emails {
		u.EmailVerified = u.EmailVerified || address.Value == u.Email && address.Status == "VERIFIED"
	}
	err := firstError(errNoAddress(u, a.Profile.Login), a.Created.in("created"), a.LastLogin.in("lastLogin"))
	if err != nil {
		return u, err
	}
	if a.Credentials.Password.Value != "" {
		return u, errPlain
	}
	u.PasswordHash, err = a.Credentials.Password.Hash.encode()
	return u, err
}

// encode returns the hash as one text.
func (h oktaHash) encode() (string, error) {
	switch h.Algorithm {
	case "":
		return "", nil
	case "BCRYPT":
		return fmt.Sprintf("$2a$%02d$%s%s", h.WorkFactor, h.Salt, h.Value), nil
	}
	key, err := decodeBase64(h.Value)
	if err != nil {
		return "", fmt.Errorf("hash: value %w", err)
	}
	salt, err := decodeBase64(h.Salt)
	if err != nil {
		return "", fmt.Errorf("hash: salt %w", err)
	}
	digests := map[string]string{"SHA256_HMAC": "sha256", "SHA512_HMAC": "sha512", "SHA1_HMAC": "sha1"}
	salted := map[string]string{"SHA-1": "{SSHA}", "SHA-256": "{SSHA256}", "SHA-512": "{SSHA512}"}
	switch {
	case h.Algorithm == "PBKDF2" && digests[h.DigestAlgorithm] != "":
		return password.PBKDF2(digests[h.DigestAlgorithm], h.Iterations, salt, key)
	case salted[h.Algorithm] != "" && h.SaltOrder == "POSTFIX":
		return salted[h.Algorithm] + base64.StdEncoding.EncodeToString(append(key, salt...)), nil
	case salted[h.Algorithm] != "":
		return "", errors.New("hash: only salts behind the password (saltOrder POSTFIX) can be imported")
	}
	return "", errAlgorithm("hash: algorithm", h.Algorithm, "BCRYPT, PBKDF2, SHA-1, SHA-256 and SHA-512")
}

// errAlgorithm refuses a hash and names its algorithm.
func errAlgorithm(field, name, others string) error {
	return fmt.Errorf("%s %q cannot be imported: %s can", field, clip(name), others)
}
