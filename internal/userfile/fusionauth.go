package userfile

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// fusionAuthTable is for the result of FusionAuth's search, for the file of its import, and for its tables users and
// identities joined.
func fusionAuthTable(around map[string]string) table {
	return table{
		id: []string{"id", "users_id"}, email: []string{"email"}, username: []string{"username", "uniqueusername"},
		first: []string{"firstname", "first_name"}, last: []string{"lastname", "last_name"}, whole: []string{"fullname", "full_name"},
		created: []string{"insertinstant", "insert_instant"}, login: []string{"lastlogininstant", "last_login_instant"},
		verified: []string{"verified"}, active: []string{"active"},
		more: func(c cells, u *User, _ time.Time) error { return fusionAuthHash(c, u, around) },
	}
}

func parseFusionAuth(o Options) parser { return fusionAuthTable(o.around).parser(o) }

// fusionAuthHash joins the parts of a hash. The scheme of the hash names the parts. Scheme and factor may be around all
// users, as in a request of FusionAuth's import.
func fusionAuthHash(c cells, u *User, around map[string]string) error {
	text := c.get("password")
	scheme := cmp.Or(c.get("encryptionscheme", "encryption_scheme"), around["encryptionscheme"])
	factorText := cmp.Or(c.get("factor"), around["factor"])
	switch {
	case text == "":
		return nil
	case scheme == "":
		return errors.New("encryptionScheme is missing in the user, and before users: the password could be plain text, and only hashes are imported")
	case strings.HasPrefix(text, "$"):
		u.PasswordHash = text
		return nil
	}
	factor, err := strconv.Atoi(factorText)
	if err != nil {
		return fmt.Errorf("%s is not a number", quoted("factor", factorText))
	}
	if scheme == "bcrypt" {
		u.PasswordHash = fmt.Sprintf("$2a$%02d$%s%s", factor, c.get("salt"), text)
		return nil
	}
	digest, known := map[string]string{
		"salted-pbkdf2-hmac-sha256": "sha256", "salted-pbkdf2-hmac-sha256-512": "sha256",
		"salted-pbkdf2-hmac-sha512": "sha512", "salted-pbkdf2-hmac-sha512-512": "sha512",
	}[scheme]
	if !known {
		return errAlgorithm("encryptionScheme", scheme, "bcrypt, salted-pbkdf2-hmac-sha256 and salted-pbkdf2-hmac-sha512-512")
	}
	key, err := decodeBase64(text)
	if err != nil {
		return fmt.Errorf("password %w", err)
	}
	salt, err := decodeBase64(c.get("salt"))
	if err != nil {
		return fmt.Errorf("salt %w", err)
	}
	u.PasswordHash, err = password.PBKDF2(digest, factor, salt, key)
	return err
}
