package userfile

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// clerkTable is the export of Clerk's dashboard and, with addresses as objects, the result of `GET /v1/users`.
func clerkTable() table {
	return table{
		id: []string{"id"}, email: []string{"primary_email_address"}, username: []string{"username", "primary_phone_number"}, hash: []string{"password_digest"},
		first: []string{"first_name"}, last: []string{"last_name"}, created: []string{"created_at"}, login: []string{"last_sign_in_at"},
		suspended: []string{"banned"}, more: clerkMore,
	}
}

// clerkAddress is an element of email_addresses.
type clerkAddress struct {
	ID           string `json:"id"`
	Address      string `json:"email_address"`
	Verification struct {
		Status string `json:"status"`
	} `json:"verification"`
}

func parseClerk(o Options) parser { return clerkTable().parser(o) }

// clerkMore finds the address: the primary one, or else the first one. It prefers verified addresses.
func clerkMore(c cells, u *User, _ time.Time) error {
	verified := clerkList(c.get("verified_email_addresses"))
	addresses := slices.Concat(verified, clerkList(c.get("unverified_email_addresses")))
	var listed []clerkAddress
	if json.Unmarshal([]byte(c.get("email_addresses")), &listed) != nil {
		addresses = append(addresses, clerkList(c.get("email_addresses"))...)
	}
	for _, address := range listed {
		addresses = append(addresses, address.Address)
		if address.Verification.Status == "verified" {
			verified = append(verified, address.Address)
		}
		if address.ID != "" && address.ID == c.get("primary_email_address_id") {
			u.Email = address.Address
		}
	}
	if u.Email == "" && len(addresses) > 0 {
		u.Email = addresses[0]
	}
	u.EmailVerified = slices.Contains(verified, u.Email)
	switch hasher := c.get("password_hasher"); {
	case hasher == "bcrypt_peppered":
		return errors.New("password_hasher bcrypt_peppered cannot be imported: Clerk keeps the pepper")
	case u.PasswordHash != "" && (hasher == "md5" || hasher == "sha256" || hasher == "ldap_ssha"):
		return errAlgorithm("password_hasher", hasher, "bcrypt, argon2, pbkdf2, phpass and scrypt")
	}
	return nil
}

// clerkList splits several addresses in one field.
func clerkList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '|' || r == ',' || r == ';' || r == ' ' })
}
