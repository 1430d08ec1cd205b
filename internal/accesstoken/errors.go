package accesstoken

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrInvalid means that the text is not an access token of the issuer for this audience. The error that
	// wraps it says, for logs, which check failed. It quotes nothing of the token.
	ErrInvalid = errors.New("access token: invalid")
	// ErrExpired means that the token is genuine and has expired. Nothing else is wrong with it.
	ErrExpired = errors.New("access token: expired")
	// ErrAlgorithm means that the algorithm is not on the allow list.
	ErrAlgorithm = errors.New("access token: unsupported signature algorithm")
	// ErrKey means that a public key cannot check tokens, or that a set of keys cannot be read.
	ErrKey = errors.New("access token: unusable key")
	// ErrClaims means that no token may have these claims, because every verifier would refuse it.
	ErrClaims = errors.New("access token: unusable claims")
)

// Invalid returns ErrInvalid with a reason that names a check, never a value.
func Invalid(reason string) error {
	return fmt.Errorf("%w: %s", ErrInvalid, reason)
}

func invalid(reason string) error { return Invalid(reason) }

// mismatchShown bounds what is logged of a claim, in bytes.
const mismatchShown = 200

// MismatchError means that a genuine token has another issuer or audience. It is an ErrInvalid.
type MismatchError struct {
	// Claim is "iss" or "aud".
	Claim string
	// Got is the value in the token, cut to 200 bytes, for the log. Want is the value of Rules.
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

// shown returns the part of a claim that may be logged.
func shown(values []string) string {
	text := strings.Join(values, " ")
	if len(text) > mismatchShown {
		text = strings.ToValidUTF8(text[:mismatchShown], "") + "…"
	}
	return text
}
