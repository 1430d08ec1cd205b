package userfile

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// appwriteUser is a user as `GET /v1/users` returns it for an API key.
type appwriteUser struct {
	ID                string       `json:"$id"`
	Created           moment       `json:"$createdAt"`
	Accessed          moment       `json:"accessedAt"`
	Name              string       `json:"name"`
	Email             string       `json:"email"`
	EmailVerification bool         `json:"emailVerification"`
	Status            *bool        `json:"status"`
	Password          string       `json:"password"`
	Hash              string       `json:"hash"`
	Options           appwriteHash `json:"hashOptions"`
}

// appwriteHash are parameters of scrypt and of Firebase's scrypt.
type appwriteHash struct {
	Salt          string `json:"salt"`
	CostCPU       int    `json:"costCpu"`
	CostMemory    int    `json:"costMemory"`
	CostParallel  int    `json:"costParallel"`
	SaltSeparator string `json:"saltSeparator"`
	SignerKey     string `json:"signerKey"`
}

func parseAppwrite(cut raw) (User, error) {
	var a appwriteUser
	if err := unmarshal(cut.json, &a, false); err != nil {
		return User{Email: a.Email}, err
	}
	u := User{
		ID: foreignID(a.ID), Email: a.Email, EmailVerified: a.EmailVerification, Suspended: a.Status != nil && !*a.Status,
		CreatedAt: a.Created.Time, LastLoginAt: a.Accessed.Time,
	}
	u.FirstName, u.LastName = splitName(a.Name)
	err := firstError(errNoAddress(u, a.ID), a.Created.in("$createdAt"), a.Accessed.in("accessedAt"))
	if err == nil && a.Password != "" {
		u.PasswordHash, err = a.encode()
	}
	return u, err
}

func (a *appwriteUser) encode() (string, error) {
	switch a.Hash {
	case "", "argon2", "bcrypt", "phpass":
		return a.Password, nil
	case "scrypt":
		key, err := hex.DecodeString(a.Password)
		if err != nil {
			return "", errors.New("password is not hex, as it is with scrypt")
		}
		text, err := scryptText(a.Options.CostCPU, a.Options.CostMemory, a.Options.CostParallel, []byte(a.Options.Salt), key)
		if err != nil {
			return "", fmt.Errorf("hashOptions: %w", err)
		}
		return text, nil
	case "scryptMod":
		return a.firebase()
	}
	return "", errAlgorithm("hash", a.Hash, "argon2, bcrypt, phpass, scrypt and scryptMod")
}

// firebase is for users that Appwrite imported from Firebase. Appwrite does not store their rounds and memory.
func (a *appwriteUser) firebase() (string, error) {
	hash := password.FirebaseScrypt{Rounds: 8, MemCost: 14}
	var salt, key []byte
	var errs [4]error
	hash.SignerKey, errs[0] = decodeBase64(a.Options.SignerKey)
	hash.SaltSeparator, errs[1] = decodeBase64(a.Options.SaltSeparator)
	salt, errs[2] = decodeBase64(a.Options.Salt)
	key, errs[3] = decodeBase64(a.Password)
	if err := firstError(errs[:]...); err != nil {
		return "", fmt.Errorf("a part of the password hash or of hashOptions %w", err)
	}
	return hash.Encode(salt, key)
}
