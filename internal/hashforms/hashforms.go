// Package hashforms reads password hashes as other programs keep them and writes them in the form that is
// stored, which package password verifies. Many programs compute the same function and spell it in their own
// way; some keep the salt in another column, and some leave the parameters to their source code.
//
// It only rewrites text: it knows no password, and every hash that it returns has passed password.Canonical.
package hashforms

import (
	"errors"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// Source is a password hash as a file holds it.
type Source struct {
	// Text is the hash: the whole text of it, or its key alone where Salt has the salt.
	Text string
	// Scheme names the form that Text does not say, such as "better-auth". Empty: Options.Scheme, or the text
	// says it.
	Scheme string
	// Salt as it is in the file, or empty.
	Salt string
	// Params are what Scheme reads beside the salt, such as "iterations=25000,digest=sha256". Those that are
	// missing have the scheme's own values.
	Params string
}

// Options are for all hashes of an import.
type Options struct {
	// Scheme is that of a Source without one.
	Scheme string
}

// Stored returns the text to store, or password.None for a text by which a program says that there is no
// password. Its errors wrap password.ErrMalformedHash; they say what the text looks like and hold no part of
// a salt or a key.
func (o Options) Stored(s Source) (string, error) {
	if s.Scheme != "" || s.Salt != "" {
		return "", errors.New("a hash in several columns is not known")
	}
	return password.Canonical(s.Text)
}
