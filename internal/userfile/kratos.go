package userfile

import (
	"errors"
	"strings"
)

// kratosIdentity is an identity as `GET /admin/identities?include_credential=password` returns it, or as it
// is imported.
type kratosIdentity struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	CreatedAt moment `json:"created_at"`
	Traits    struct {
		Email string `json:"email"`
		names
	} `json:"traits"`
	Verifiable []struct {
		Value    string `json:"value"`
		Verified bool   `json:"verified"`
	} `json:"verifiable_addresses"`
	Credentials struct {
		Password struct {
			Config struct {
				HashedPassword string `json:"hashed_password"`
				Password       string `json:"password"`
			} `json:"config"`
		} `json:"password"`
	} `json:"credentials"`
}

func parseKratos(cut raw) (User, error) {
	var a kratosIdentity
	if err := unmarshal(cut.json, &a, false); err != nil {
		return User{Email: a.Traits.Email}, err
	}
	config := a.Credentials.Password.Config
	u := User{
		ID: foreignID(a.ID), Email: a.Traits.Email, PasswordHash: config.HashedPassword,
		Suspended: a.State == "inactive", CreatedAt: a.CreatedAt.Time,
	}
	u.FirstName, u.LastName = a.Traits.firstLast()
	for _, address := range a.Verifiable {
		u.EmailVerified = u.EmailVerified || address.Verified && strings.EqualFold(address.Value, u.Email)
	}
	if config.HashedPassword == "" && config.Password != "" {
		return u, errors.New("the password is in the file as plain text: only hashes are taken over")
	}
	return u, nil
}
