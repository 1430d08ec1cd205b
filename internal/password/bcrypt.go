package password

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxBcryptCost takes 0.8 s; 12 is the common default (0.2 s).
	maxBcryptCost = 14
	minBcryptCost = 4
	// bcryptTime is in nanoseconds for each of the 2^cost rounds: 50 ms for cost 10, 404 ms for cost 13.
	bcryptTime = 49_300

	// maxBcryptPassword is what is read of a password and the NUL behind it, which are repeated up to this
	// length.
	maxBcryptPassword = 72

	bcryptSaltLength, bcryptKeyLength = 22, 31 // characters
	bcryptAlphabet                    = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

	// djangoBcrypt is what Django puts before a bcrypt hash of the SHA-256.
	djangoBcrypt = "bcrypt_sha256$"
)

// bcryptHash compares as all implementations do: the first 72 bytes count, so that a longer password matches
// with any end. A NUL is a byte like others, as for programs in Go; C ends the password there.
type bcryptHash struct {
	prehash bool   // the password is the hexadecimal SHA-256 of what was typed
	head    string // "$2b$12$"
	cost    uint64
	tail    string // salt and key
}

func readBcrypt(encoded string) (digest, error) {
	text, prehash := strings.CutPrefix(encoded, djangoBcrypt)
	if !hasAnyPrefix(text, []string{"$2a$", "$2b$", "$2y$"}) {
		return nil, fmt.Errorf("%w: bcrypt is $2a$, $2b$ or $2y$", ErrUnsupportedHash)
	}
	const head = len("$2b$12$")
	if len(text) != head+bcryptSaltLength+bcryptKeyLength || text[head-1] != '$' {
		return nil, malformed("bcrypt hash is not of the form $2b$COST$ with 53 characters")
	}
	cost, err := number("bcrypt cost", strings.TrimPrefix(text[4:6], "0"), minBcryptCost, maxBcryptCost)
	if err != nil {
		return nil, err
	}
	salt, err := respellBcrypt("salt", text[head:head+bcryptSaltLength])
	if err != nil {
		return nil, err
	}
	key, err := respellBcrypt("key", text[head+bcryptSaltLength:])
	if err != nil {
		return nil, err
	}
	return bcryptHash{prehash: prehash, head: text[:head], cost: cost, tail: salt + key}, nil
}

// respellBcrypt clears the bits that the last character has and the bytes have not. Old versions of other
// programs left them at random in the salt.
func respellBcrypt(what, text string) (string, error) {
	encoding := base64.NewEncoding(bcryptAlphabet).WithPadding(base64.NoPadding)
	data, err := encoding.DecodeString(text)
	if err != nil {
		return "", malformed("%s is not in the alphabet of bcrypt", what)
	}
	return encoding.EncodeToString(data), nil
}

func (b bcryptHash) setting() string {
	if b.prehash {
		return djangoBcrypt + b.head
	}
	return b.head
}

func (b bcryptHash) encode() string { return b.setting() + b.tail }

func (b bcryptHash) work(string) work {
	return foreignWork(engineBcrypt, bcryptTime<<b.cost)
}

func (b bcryptHash) accepts(string) bool { return true }

// whole is false for 72 bytes too: the owner's password may go on behind them. With a NUL, "a\x00a" is hashed
// as "a" is.
func (b bcryptHash) whole(password string) bool {
	return b.prehash || len(password) < maxBcryptPassword && !strings.Contains(password, "\x00")
}

func (b bcryptHash) matches(password string) bool {
	typed := []byte(password)
	if b.prehash {
		sum := sha256.Sum256(typed)
		typed = []byte(hex.EncodeToString(sum[:]))
	}
	return bcrypt.CompareHashAndPassword([]byte(b.head+b.tail), typed) == nil
}

func (b bcryptHash) weakerThan(Params) bool { return true }
