package userfile

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// auth0User is a line of Auth0's user export, a line of the password export that its support makes (with MongoDB's
// field names), or an element of its bulk import format.
type auth0User struct {
	Email         string     `json:"email"`
	EmailVerified bool       `json:"email_verified"`
	UserID        string     `json:"user_id"`
	Blocked       bool       `json:"blocked"`
	CreatedAt     moment     `json:"created_at"`
	LastLogin     moment     `json:"last_login"`
	PasswordHash  string     `json:"passwordHash"`
	BulkHash      string     `json:"password_hash"`
	Custom        *auth0Hash `json:"custom_password_hash"`
	UserMetadata  namesText  `json:"user_metadata"`
	names
}

// auth0Hash is custom_password_hash.
type auth0Hash struct {
	Algorithm string `json:"algorithm"`
	Hash      struct {
		Value    string `json:"value"`
		Encoding string `json:"encoding"`
	} `json:"hash"`
	Salt struct {
		Value    string `json:"value"`
		Encoding string `json:"encoding"`
	} `json:"salt"`
	auth0Scrypt
	// Password has the parameters of scrypt, where the documentation puts them.
	Password auth0Scrypt `json:"password"`
}

type auth0Scrypt struct {
	KeyLen          int `json:"keylen"`
	Cost            int `json:"cost"`
	BlockSize       int `json:"blockSize"`
	Parallelization int `json:"parallelization"`
}

func parseAuth0(cut raw) (User, error) {
	var a auth0User
	if err := unmarshal(cut.json, &a, false); err != nil {
		return User{Email: a.Email}, err
	}
	u := User{
		// The part after the strategy, "auth0|", is a UUID if another system chose it.
		ID:    foreignID(a.UserID[strings.IndexByte(a.UserID, '|')+1:]),
		Email: a.Email, Suspended: a.Blocked, EmailVerified: a.EmailVerified,
		CreatedAt: a.CreatedAt.Time, LastLoginAt: a.LastLogin.Time,
		PasswordHash: a.PasswordHash,
	}
	if a.Name.whole == a.Email {
		a.Name.whole = "" // Auth0 shows the address for people without a name
	}
	u.FirstName, u.LastName = a.firstLast()
	if u.FirstName == "" && u.LastName == "" {
		u.FirstName, u.LastName = a.UserMetadata.firstLast()
	}
	if u.PasswordHash == "" {
		u.PasswordHash = a.BulkHash
	}
	err := firstError(errNoAddress(u, a.UserID), a.CreatedAt.in("created_at"), a.LastLogin.in("last_login"))
	if err == nil && u.PasswordHash == "" && a.Custom != nil {
		if u.PasswordHash, err = a.Custom.encode(); err != nil {
			return u, err
		}
	}
	return u, err
}

// encode returns the hash in a form that password.Canonical reads. Of the algorithms that Auth0 imports, argon2,
// bcrypt, pbkdf2 and ldap have everything in their text.
func (h *auth0Hash) encode() (string, error) {
	switch h.Algorithm {
	case "argon2", "bcrypt", "pbkdf2", "ldap":
		return h.Hash.Value, nil
	case "scrypt":
	default:
		return "", fmt.Errorf("custom_password_hash: %q cannot be imported: argon2, bcrypt, pbkdf2, scrypt and ldap can", clip(h.Algorithm))
	}
	p := h.auth0Scrypt
	if p.Cost == 0 {
		p = h.Password
	}
	key, err := decodeAs(h.Hash.Encoding, h.Hash.Value)
	if err != nil {
		return "", fmt.Errorf("custom_password_hash: hash: %w", err)
	}
	salt, err := decodeAs(h.Salt.Encoding, h.Salt.Value)
	if err != nil {
		return "", fmt.Errorf("custom_password_hash: salt: %w", err)
	}
	text, err := scryptText(p.Cost, p.BlockSize, p.Parallelization, salt, key)
	if err != nil {
		return "", fmt.Errorf("custom_password_hash: %w", err)
	}
	return text, nil
}

// scryptText returns a hash of scrypt in the form that password.Canonical reads.
func scryptText(cost, blockSize, lanes int, salt, key []byte) (string, error) {
	if cost < 2 || bits.OnesCount(uint(cost)) != 1 {
		return "", errors.New("cost is not a power of two")
	}
	return fmt.Sprintf("$scrypt$ln=%d,r=%d,p=%d$%s$%s", bits.TrailingZeros(uint(cost)), blockSize, lanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

func decodeAs(encoding, text string) ([]byte, error) {
	switch encoding {
	case "hex":
		out, err := hex.DecodeString(text)
		if err != nil {
			return nil, errors.New("is not hex")
		}
		return out, nil
	case "base64":
		return decodeBase64(text)
	case "", "utf8":
		return []byte(text), nil
	}
	return nil, fmt.Errorf("encoding %q is none of hex, base64 and utf8", clip(encoding))
}

// decodeBase64 reads both alphabets, with padding and without.
func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	out, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("is not base64") // the decoder's error shows a position in the text
	}
	return out, nil
}

// clip shortens a text that is quoted from a file.
func clip(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}
