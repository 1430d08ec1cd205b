package userfile

import (
	"encoding/json"
	"errors"
	"time"
)

// supabase reads rows of auth.users, as CSV or JSON.
type supabase struct{ now func() time.Time }

type supabaseUser struct {
	ID               string        `json:"id"`
	Email            string        `json:"email"`
	Password         string        `json:"encrypted_password"`
	EmailConfirmedAt moment        `json:"email_confirmed_at"`
	CreatedAt        moment        `json:"created_at"`
	LastSignInAt     moment        `json:"last_sign_in_at"`
	BannedUntil      moment        `json:"banned_until"`
	DeletedAt        moment        `json:"deleted_at"`
	Meta             supabaseNames `json:"raw_user_meta_data"`
}

// supabaseNames is an object, or its text.
type supabaseNames struct{ names }

// UnmarshalJSON implements json.Unmarshaler.
func (s *supabaseNames) UnmarshalJSON(text []byte) error {
	var inner string
	if json.Unmarshal(text, &inner) == nil {
		text = []byte(inner)
	}
	_ = unmarshal(text, &s.names, false) // whatever else it is has no names
	return nil
}

func (s supabase) parse(cut raw) (User, error) {
	var a supabaseUser
	var err error
	if cut.json != nil {
		err = unmarshal(cut.json, &a, false)
	} else {
		err = a.fromRow(cut.row)
	}
	u := User{
		ID: foreignID(a.ID), Email: a.Email, PasswordHash: a.Password,
		EmailVerified: !a.EmailConfirmedAt.IsZero(), CreatedAt: a.CreatedAt.Time, LastLoginAt: a.LastSignInAt.Time,
		Suspended: a.BannedUntil.After(s.now()),
	}
	u.FirstName, u.LastName = a.Meta.firstLast()
	if err == nil && !a.DeletedAt.IsZero() {
		err = errors.New("the account was deleted (deleted_at is set)")
	}
	return u, err
}

func (a *supabaseUser) fromRow(r row) error {
	field := func(name string) string {
		if value := r.get(name); value != "NULL" && value != "null" {
			return value
		}
		return ""
	}
	a.ID, a.Email, a.Password = field("id"), field("email"), field("encrypted_password")
	var errs []error
	for name, to := range map[string]*moment{
		"email_confirmed_at": &a.EmailConfirmedAt, "created_at": &a.CreatedAt, "last_sign_in_at": &a.LastSignInAt,
		"banned_until": &a.BannedUntil, "deleted_at": &a.DeletedAt,
	} {
		var err error
		to.Time, err = parseMoment(field(name))
		errs = append(errs, err)
	}
	_ = a.Meta.UnmarshalJSON([]byte(field("raw_user_meta_data"))) // never fails
	return firstError(errs...)
}
