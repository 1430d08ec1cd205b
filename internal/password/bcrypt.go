package password

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxBcryptCost takes 0.8 s; 12 is the common default (0.2 s).
	maxBcryptCost = 14
	minBcryptCost = 4
	// bcryptTime is in nanoseconds for each of the 2^cost rounds: 50 ms for cost 10, 404 ms for cost 13.
	bcryptTime = 49_300

	// maxBcryptPassword is how many bytes bcrypt reads. It reads the password and a NUL, repeated up to this length.
	maxBcryptPassword = 72

	bcryptSaltLength, bcryptKeyLength = 22, 31 // characters
	bcryptAlphabet                    = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

	// djangoBcrypt is the prefix that Django puts before a bcrypt hash of the SHA-256.
	djangoBcrypt = "bcrypt_sha256$"
	// passlibBcrypt is the beginning of passlib's bcrypt of an HMAC-SHA-256.
	passlibBcrypt = "$bcrypt-sha256$v=2,t=" //nolint:gosec // G101: the beginning of a form
)

func bcryptKinds() []kind {
	return []kind{
		{
			[]string{"$2", djangoBcrypt},
			readBcrypt, `(?:bcrypt_sha256\$)?\$2[aby]\$\d\d\$`,
			dots(bcryptSaltLength + bcryptKeyLength),
			[]naming{
				{`^\$(2[abxy])\$(\d\d)\$`, "bcrypt $1 cost $2"},
				{`^(bcrypt|bcrypt_sha256)\$\$(2[abxy])\$(\d\d)\$`, "Django $1 $2 cost $3"},
			},
		},
		{
			[]string{passlibBcrypt},
			readPasslibBcrypt, `\$bcrypt-sha256\$v=2,t=2[aby],r=\d{1,2}\$`,
			dots(bcryptSaltLength) + "$" + dots(bcryptKeyLength),
			[]naming{{`^\$bcrypt-sha256\$v=(\d),t=(2[aby]),r=(\d{1,2})\$`, "passlib bcrypt_sha256 $2 cost $3"}},
		},
	}
}

// bcryptHash compares as all implementations do: only the first 72 bytes count, so that a longer password matches with
// any end. A NUL is a byte like others, as for programs in Go; C ends the password there.
type bcryptHash struct {
	prehash bool   // the password is the hexadecimal SHA-256 of the text that was typed
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

// respellBcrypt clears the bits of the last character that hold no part of the bytes. Old versions of other programs
// left random bits there in the salt.
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

// whole is false for 72 bytes too: the owner's password may be longer. With a NUL, "a\x00a" has the same hash as "a".
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

// passlibHash is passlib's bcrypt_sha256, version 2: bcrypt of the base64 of an HMAC-SHA-256 of the password, whose key
// is the text of the salt. Version 1 is bcrypt of the base64 of a SHA-256: a preparation covers it.
type passlibHash struct{ inner bcryptHash }

func readPasslibBcrypt(encoded string) (digest, error) {
	parts := strings.Split(strings.TrimPrefix(encoded, passlibBcrypt), "$")
	ident, cost, ok := strings.Cut(parts[0], ",r=")
	if len(parts) != 3 || !ok {
		return nil, malformed("parameters, salt and key are not three parts")
	}
	if _, err := number("bcrypt cost", cost, minBcryptCost, maxBcryptCost); err != nil {
		return nil, err
	}
	if len(cost) == 1 {
		cost = "0" + cost
	}
	if len(parts[1]) != bcryptSaltLength {
		return nil, malformed("salt of bcrypt does not have %d characters", bcryptSaltLength)
	}
	d, err := readBcrypt("$" + ident + "$" + cost + "$" + parts[1] + parts[2])
	if err != nil {
		return nil, err
	}
	inner, ok := d.(bcryptHash)
	if !ok {
		return nil, ErrUnsupportedHash
	}
	return passlibHash{inner}, nil
}

func (p passlibHash) setting() string {
	return passlibBcrypt + strings.Trim(p.inner.head[:3], "$") + ",r=" + strconv.FormatUint(p.inner.cost, 10) + "$"
}

func (p passlibHash) encode() string {
	return p.setting() + p.inner.tail[:bcryptSaltLength] + "$" + p.inner.tail[bcryptSaltLength:]
}

func (p passlibHash) work(string) work { return p.inner.work("") }

func (p passlibHash) accepts(string) bool { return true }

func (p passlibHash) whole(string) bool { return true }

func (p passlibHash) matches(password string) bool { return p.inner.matches(p.prepare(password)) }

func (p passlibHash) prepare(password string) string {
	mac := hmac.New(sha256.New, []byte(p.inner.tail[:bcryptSaltLength]))
	mac.Write([]byte(password))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (p passlibHash) weakerThan(Params) bool { return true }
