package userfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// keycloakUser is a UserRepresentation in the export of a realm.
type keycloakUser struct {
	ID               string               `json:"id"`
	Username         string               `json:"username"`
	Email            string               `json:"email"`
	EmailVerified    bool                 `json:"emailVerified"`
	FirstName        string               `json:"firstName"`
	LastName         string               `json:"lastName"`
	Enabled          *bool                `json:"enabled"`
	CreatedTimestamp moment               `json:"createdTimestamp"`
	ServiceAccount   string               `json:"serviceAccountClientId"`
	Credentials      []keycloakCredential `json:"credentials"`
}

// keycloakCredential holds JSON in its strings; before Keycloak 8 it had the fields after them instead.
type keycloakCredential struct {
	Type           string `json:"type"`
	SecretData     string `json:"secretData"`
	CredentialData string `json:"credentialData"`
	Value          string `json:"value"`

	HashedSaltedValue string `json:"hashedSaltedValue"`
	Salt              string `json:"salt"`
	HashIterations    int    `json:"hashIterations"`
	Algorithm         string `json:"algorithm"`
}

func parseKeycloak(cut raw) (User, error) {
	var a keycloakUser
	if err := unmarshal(cut.json, &a, false); err != nil {
		return User{Email: a.Email}, err
	}
	u := User{
		ID: foreignID(a.ID), Email: a.Email, EmailVerified: a.EmailVerified, FirstName: a.FirstName, LastName: a.LastName,
		Suspended: a.Enabled != nil && !*a.Enabled, CreatedAt: a.CreatedTimestamp.Time,
	}
	if a.ServiceAccount != "" {
		return u, errors.New("it is the service account of a client, not a person's")
	}
	if err := firstError(errNoAddress(u, a.Username), a.CreatedTimestamp.in("createdTimestamp")); err != nil {
		return u, err
	}
	for _, credential := range a.Credentials {
		if credential.Type != "password" {
			continue
		}
		var err error
		if u.PasswordHash, err = credential.encode(); err != nil {
			return u, fmt.Errorf("password: %w", err)
		}
		break
	}
	return u, nil
}

func (c keycloakCredential) encode() (string, error) {
	var secret struct{ Value, Salt string }
	var data struct {
		HashIterations       int
		Algorithm            string
		AdditionalParameters map[string][]string
	}
	switch {
	case c.Value != "":
		return "", errors.New("it is in the file as plain text: only hashes are imported")
	case c.SecretData == "":
		secret.Value, secret.Salt = c.HashedSaltedValue, c.Salt
		data.HashIterations, data.Algorithm = c.HashIterations, c.Algorithm
	case json.Unmarshal([]byte(c.SecretData), &secret) != nil:
		return "", errors.New("secretData is not JSON of the known form")
	case json.Unmarshal([]byte(c.CredentialData), &data) != nil:
		return "", errors.New("credentialData is not JSON of the known form")
	}
	if data.Algorithm == "bcrypt" { // from an extension that many use
		return secret.Value, nil
	}
	key, err := decodeBase64(secret.Value)
	if err != nil {
		return "", fmt.Errorf("value: %w", err)
	}
	salt, err := decodeBase64(secret.Salt)
	if err != nil {
		return "", fmt.Errorf("salt: %w", err)
	}
	switch data.Algorithm {
	case "pbkdf2":
		return password.PBKDF2("sha1", data.HashIterations, salt, key)
	case "pbkdf2-sha256", "pbkdf2-sha512":
		return password.PBKDF2(strings.TrimPrefix(data.Algorithm, "pbkdf2-"), data.HashIterations, salt, key)
	case "argon2":
		return keycloakArgon2(data.HashIterations, data.AdditionalParameters, salt, key)
	}
	return "", fmt.Errorf("algorithm %q cannot be imported", clip(data.Algorithm))
}

func keycloakArgon2(passes int, parameters map[string][]string, salt, key []byte) (string, error) {
	parameter := func(name string) string {
		if len(parameters[name]) != 1 {
			return ""
		}
		return parameters[name][0]
	}
	memory, err := strconv.ParseUint(parameter("memory"), 10, 32)
	if err != nil {
		return "", errors.New("argon2: memory is not a number")
	}
	lanes, err := strconv.ParseUint(parameter("parallelism"), 10, 8)
	if err != nil {
		return "", errors.New("argon2: parallelism is not a number up to 255")
	}
	if passes < 0 || passes > 1<<16 {
		return "", errors.New("argon2: hashIterations is out of bounds")
	}
	version := map[string]int{"1.0": 0x10, "1.3": 0x13}[parameter("version")]
	params := password.Params{MemoryKiB: uint32(memory), Time: uint32(passes), Threads: uint8(lanes)}
	return password.Argon2(parameter("type"), version, params, salt, key)
}
