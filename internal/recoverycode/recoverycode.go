// Package recoverycode makes the codes with which people who have lost their second factor log in, reads them as people
// type them, and hashes them.
package recoverycode

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
)

const (
	// Count is how many codes an account gets.
	Count = 10
	// Length is how many letters and digits a code has, each of five bits.
	Length = 10
	// MaxTyped is the longest text that Parse reads, in bytes.
	MaxTyped = 64
	// alphabet is that of Crockford's base32: no I, L, O and U, which people take for others.
	alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	keyBytes = 32
)

// ErrForm means that a text is no code.
var ErrForm = errors.New("not a recovery code")

// Code is a code without its hyphen.
type Code string

// New returns Count random codes, all of them different.
func New() []Code {
	codes := make([]Code, 0, Count)
	seen := make(map[Code]bool, Count)
	for len(codes) < Count {
		var random [Length]byte
		_, _ = rand.Read(random[:]) // never fails (crypto/rand, since Go 1.24)
		for i := range random {
			random[i] = alphabet[random[i]%byte(len(alphabet))] // 256 is a multiple of 32, so each is as likely
		}
		if code := Code(random[:]); !seen[code] {
			seen[code] = true
			codes = append(codes, code)
		}
	}
	return codes
}

// Text returns the code as it is shown: two groups of five with a hyphen, in small letters.
func (c Code) Text() string {
	text := strings.ToLower(string(c))
	return text[:Length/2] + "-" + text[Length/2:]
}

// Parse reads a code as people type it: in any letter case, with or without hyphens and blanks, with o for 0, and i or l
// for 1. It returns ErrForm for other texts.
func Parse(typed string) (Code, error) {
	if len(typed) > MaxTyped {
		return "", ErrForm
	}
	code := make([]byte, 0, Length)
	for _, r := range typed {
		if 'a' <= r && r <= 'z' { // not ToUpper, which makes letters of others, such as the long s
			r -= 'a' - 'A'
		}
		switch r {
		case ' ', '\t', '\u00a0', '-', '\u2010', '\u2011', '\u2013':
			continue
		case 'O':
			r = '0'
		case 'I', 'L':
			r = '1'
		}
		if !strings.ContainsRune(alphabet, r) || len(code) == Length {
			return "", ErrForm
		}
		code = append(code, byte(r))
	}
	if len(code) != Length {
		return "", ErrForm
	}
	return Code(code), nil
}

// NewKey returns a random key for the hashes of one account's codes. Store it sealed: a code has 50 bits, so all codes can
// be tried against a hash whose key is known.
func NewKey() []byte {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand, since Go 1.24)
	return key
}

// Hash returns the hash to store for a code, under the key of its account.
func Hash(key []byte, code Code) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(code))
	return mac.Sum(nil)
}
