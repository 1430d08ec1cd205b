package userfile

import (
	"encoding/json"
	"strings"
)

// kratosIdentity is an identity in the form of `GET /admin/identities?include_credential=password`, or of an import.
type kratosIdentity struct {
	ID         string          `json:"id"`
	State      string          `json:"state"`
	CreatedAt  moment          `json:"created_at"`
	Traits     kratosTraits    `json:"traits"`
	Verifiable []kratosAddress `json:"verifiable_addresses"`
	Recovery   []kratosAddress `json:"recovery_addresses"`

	Credentials struct {
		Password struct {
			Identifiers []string `json:"identifiers"`
			Config      struct {
				HashedPassword string `json:"hashed_password"`
				Password       string `json:"password"`
			} `json:"config"`
		} `json:"password"`
	} `json:"credentials"`
}

// kratosAddress is a text, or an object with one: each operator writes a schema.
type kratosAddress struct {
	Value    string `json:"value"`
	Verified bool   `json:"verified"`
	Via      string `json:"via"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (k *kratosAddress) UnmarshalJSON(text []byte) error {
	var object struct {
		Value    loose `json:"value"`
		Email    loose `json:"email"`
		Address  loose `json:"address"`
		Via      loose `json:"via"`
		Verified any   `json:"verified"`
	}
	if json.Unmarshal(text, &k.Value) == nil {
		return nil
	}
	if err := json.Unmarshal(text, &object); err != nil {
		return nil //nolint:nilerr // a trait of another kind is no address
	}
	k.Value, k.Via, k.Verified = string(object.Value+object.Email+object.Address), string(object.Via), object.Verified == true
	return nil
}

// kratosTraits are traits with these names in the identity's schema.
type kratosTraits struct {
	Email    kratosAddresses `json:"email"`
	Emails   kratosAddresses `json:"emails"`
	Mail     kratosAddresses `json:"mail"`
	Username loose           `json:"username"`
	names
}

// kratosAddresses is one address, or an array of some.
type kratosAddresses []kratosAddress

// UnmarshalJSON implements json.Unmarshaler.
func (k *kratosAddresses) UnmarshalJSON(text []byte) error {
	var list []kratosAddress
	if json.Unmarshal(text, &list) != nil {
		list = make([]kratosAddress, 1)
		_ = list[0].UnmarshalJSON(text) // never fails
	}
	*k = list
	return nil
}

func parseKratos(cut raw) (User, error) {
	var a kratosIdentity
	if err := unmarshal(cut.json, &a, false); err != nil {
		return User{}, err
	}
	config := a.Credentials.Password.Config
	u := User{
		ID: foreignID(a.ID), Email: a.email(), PasswordHash: config.HashedPassword,
		Suspended: a.State == "inactive", CreatedAt: a.CreatedAt.Time,
	}
	u.FirstName, u.LastName = a.Traits.firstLast()
	for _, address := range a.Verifiable {
		u.EmailVerified = u.EmailVerified || address.Verified && strings.EqualFold(address.Value, u.Email)
	}
	err := firstError(errNoAddress(u, string(a.Traits.Username)), a.CreatedAt.in("created_at"))
	if err == nil && config.HashedPassword == "" && config.Password != "" {
		err = errPlain
	}
	return u, err
}

// email returns the first address among the usual traits, verified ones first. Without one it returns an address from
// the places where Kratos keeps the addresses that the schema marks: to be verified, for logging in, or for recovery.
func (a *kratosIdentity) email() string {
	traits := append(append(a.Traits.Email, a.Traits.Emails...), a.Traits.Mail...)
	for _, trait := range traits {
		for _, known := range a.Verifiable {
			if known.Verified && trait.Value != "" && strings.EqualFold(trait.Value, known.Value) {
				return trait.Value
			}
		}
	}
	candidates := traits
	for _, verified := range []bool{true, false} {
		for _, address := range a.Verifiable {
			if address.Verified == verified {
				candidates = append(candidates, address)
			}
		}
	}
	for _, identifier := range append(a.Credentials.Password.Identifiers, string(a.Traits.Username)) {
		candidates = append(candidates, kratosAddress{Value: identifier})
	}
	for _, address := range append(candidates, a.Recovery...) {
		if strings.Contains(address.Value, "@") {
			return address.Value
		}
	}
	if len(traits) > 0 {
		return traits[0].Value // the check of addresses refuses it and shows its value
	}
	return ""
}
