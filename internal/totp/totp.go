// Package totp makes and checks the codes of authenticator apps (RFC 6238): HMAC-SHA-1, six digits, a new code each 30
// seconds. All apps have these values; some ignore others in the URI and then show wrong codes.
package totp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // G505: RFC 6238. A collision of SHA-1 is no help against an HMAC
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const (
	// SeedBytes is the length of a seed: that of the hash, as RFC 4226, section 4, recommends.
	SeedBytes = sha1.Size
	// Digits is the length of a code.
	Digits = 6
	// Period is how long a code is shown.
	Period = 30 * time.Second
	// window is how many steps before and after the present one are accepted: clocks of phones differ, and typing takes
	// time (RFC 6238, section 5.2).
	window = 1
	// maxTyped is the longest text that Check reads: a code with blanks anywhere.
	maxTyped = 4 * Digits
	// modulus cuts a code to its digits.
	modulus = 1_000_000
)

// NewSeed returns a random seed.
func NewSeed() []byte {
	seed := make([]byte, SeedBytes)
	_, _ = rand.Read(seed) // never fails (crypto/rand, since Go 1.24)
	return seed
}

// Step returns the number of the step at a time, and 0 for a time before 1970.
func Step(now time.Time) int64 { return max(now.Unix(), 0) / int64(Period/time.Second) }

// Code returns the code of a step.
func Code(seed []byte, step int64) string {
	mac := hmac.New(sha1.New, seed)
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step)) //nolint:gosec // G115: any bits will do
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	// RFC 4226, section 5.3: the last four bits choose 31 of the other bits.
	at := sum[len(sum)-1] & 0xf
	number := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%0*d", Digits, number%modulus)
}

// Check returns the step whose code was typed, of the present one and of one before and after it. ok is false if it is
// none of these. Blanks and hyphens in the code do not matter: apps show "123 456". Of steps with the same code it
// returns the latest, so that the code cannot be used again. A seed of another length has no codes: an empty one would
// have codes that everybody can calculate.
//
// The time does not depend on the code. Check does not know which steps were used: the caller stores the step, and
// accepts only later ones.
func Check(seed []byte, typed string, now time.Time) (step int64, ok bool) {
	if len(seed) != SeedBytes || len(typed) > maxTyped {
		return 0, false
	}
	code := []byte(strings.NewReplacer(" ", "", "-", "", "\u00a0", "", "\t", "").Replace(typed))
	present, found := Step(now), 0
	for candidate := present - window; candidate <= present+window; candidate++ {
		equal := subtle.ConstantTimeCompare([]byte(Code(seed, candidate)), code)
		step = int64(subtle.ConstantTimeSelect(equal, int(candidate), int(step)))
		found |= equal
	}
	return step, found == 1
}

// Secret returns the seed as people type it into an app: base32 without padding (RFC 4648).
func Secret(seed []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
}

// URI returns the otpauth URI that a QR code holds, for an account of an issuer. Each part is percent-encoded, a blank as
// %20: some apps show a "+" as it is, and cut an issuer at a bare "&". A colon would separate issuer and account, so it
// is left out of both.
func URI(issuer, account string, seed []byte) string {
	issuer, account = escape(issuer), escape(account)
	return "otpauth://totp/" + issuer + ":" + account + "?secret=" + Secret(seed) + "&issuer=" + issuer +
		"&algorithm=SHA1&digits=6&period=30"
}

func escape(text string) string {
	// QueryEscape leaves letters, digits and "-_.~" only, but writes a blank as "+".
	return strings.ReplaceAll(url.QueryEscape(strings.ReplaceAll(text, ":", "")), "+", "%20")
}
