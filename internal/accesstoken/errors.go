package accesstoken

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrInvalid reports a token that is not an access token of the issuer for this audience. The text around
	// it says what kind of check failed, for logs; it quotes nothing of the token.
	ErrInvalid = errors.New("access token: invalid")
	// ErrExpired reports a genuine token that is past its time and wrong in no other way.
	ErrExpired = errors.New("access token: expired")
	// ErrAlgorithm reports an algorithm that is not on the allow list.
	ErrAlgorithm = errors.New("access token: unsupported signature algorithm")
	// ErrKey reports a public key that no token is checked with, or a set of keys that cannot be read.
	ErrKey = errors.New("access token: unusable key")
	// ErrClaims reports claims that no token may carry, because it would be refused.
	ErrClaims = errors.New("access token: unusable claims")
)

// Invalid returns ErrInvalid with a reason that names a check, never a value.
func Invalid(reason string) error {
	return fmt.Errorf("%w: %s", ErrInvalid, reason)
}

func invalid(reason string) error { return Invalid(reason) }

// mismatchShown bounds what is logged of a claim, in bytes.
const mismatchShown = 200

// MismatchError refuses a genuine token of another issuer or for another audience. It is an ErrInvalid.
type MismatchError struct {
	// Claim is "iss" or "aud".
	Claim string
	// Got is what the token says, cut to 200 bytes, for the log. Want is what Rules ask for.
	Got, Want string
}

// Error implements error. Like every ErrInvalid it quotes nothing of the token.
func (m *MismatchError) Error() string {
	name := "issuer"
	if m.Claim == "aud" {
		name = "audience"
	}
	return ErrInvalid.Error() + ": another " + name
}

// Unwrap makes it an ErrInvalid.
func (m *MismatchError) Unwrap() error { return ErrInvalid }

// shown is what may be logged of a claim.
func shown(values []string) string {
	text := strings.Join(values, " ")
	if len(text) > mismatchShown {
		text = strings.ToValidUTF8(text[:mismatchShown], "") + "…"
	}
	return text
}
