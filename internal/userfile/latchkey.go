package userfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// columns are the fields of our own formats, in the order in which they are written.
func columns() []string {
	return []string{
		"id", "email", "password_hash", "first_name", "last_name", "created_at", "last_login_at", "active", "email_verified",
	}
}

// partColumns may be in a file beside columns: they complete a hash whose text is not complete. They are never written,
// since a stored hash is complete.
func partColumns() []string { return []string{"password_scheme", "password_salt", "password_params"} }

// checkColumns refuses an unknown name: with a column "password-hash" all accounts would lack their password.
func checkColumns(named map[string]int) error {
	for name := range named {
		if all := slices.Concat(columns(), partColumns()); !slices.Contains(all, name) {
			return fmt.Errorf("there is no column %q: %s; --format names the program if the file is from another one, and --columns the columns of a table of your own", name, strings.Join(all, ", "))
		}
	}
	if _, ok := named["email"]; !ok {
		return errors.New("there is no column email")
	}
	return nil
}

// accountJSON is a line of our own JSON Lines.
type accountJSON struct {
	ID            string  `json:"id,omitempty"`
	Email         string  `json:"email"`
	PasswordHash  string  `json:"password_hash,omitempty"`
	Scheme        string  `json:"password_scheme,omitempty"`
	Salt          string  `json:"password_salt,omitempty"`
	Params        params  `json:"password_params,omitempty"`
	FirstName     string  `json:"first_name,omitempty"`
	LastName      string  `json:"last_name,omitempty"`
	CreatedAt     *moment `json:"created_at,omitempty"`
	LastLoginAt   *moment `json:"last_login_at,omitempty"`
	Active        *bool   `json:"active,omitempty"`
	EmailVerified bool    `json:"email_verified,omitempty"`
}

func parseJSONL(cut raw) (User, error) {
	var a accountJSON
	if err := unmarshal(cut.json, &a, true); err != nil {
		var unknown *unknownFieldError
		if errors.As(err, &unknown) && cut.number == 1 {
			// The fault is in every line, so the error comes at once.
			return User{}, fatalError{err}
		}
		return User{Email: a.Email}, err
	}
	u := User{
		Email: a.Email, PasswordHash: a.PasswordHash, FirstName: a.FirstName, LastName: a.LastName,
		PasswordParts: PasswordParts{Scheme: a.Scheme, Salt: a.Salt, Params: string(a.Params)},
		Suspended:     a.Active != nil && !*a.Active, EmailVerified: a.EmailVerified,
	}
	if a.CreatedAt != nil {
		u.CreatedAt = a.CreatedAt.Time
	}
	if a.LastLoginAt != nil {
		u.LastLoginAt = a.LastLoginAt.Time
	}
	var err error
	u.ID, err = parseID(a.ID)
	return u, firstError(err, a.CreatedAt.in("created_at"), a.LastLoginAt.in("last_login_at"))
}

func parseCSV(cut raw) (User, error) {
	get := func(column string) string { return arm(cut.row.get(column)) }
	u := User{
		Email: get("email"), PasswordHash: get("password_hash"),
		FirstName: get("first_name"), LastName: get("last_name"),
		PasswordParts: PasswordParts{Scheme: get("password_scheme"), Salt: get("password_salt"), Params: get("password_params")},
	}
	var errs [5]error
	var active bool
	u.ID, errs[0] = parseID(get("id"))
	u.CreatedAt, errs[1] = parseTime("created_at", get("created_at"))
	u.LastLoginAt, errs[2] = parseTime("last_login_at", get("last_login_at"))
	active, errs[3] = parseFlag("active", get("active"), true)
	u.EmailVerified, errs[4] = parseFlag("email_verified", get("email_verified"), false)
	u.Suspended = !active
	return u, firstError(errs[:]...)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// timeText writes a time in our format. PostgreSQL keeps microseconds.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func idText(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}
