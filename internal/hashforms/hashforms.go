// Package hashforms reads password hashes as other programs keep them and writes them in the form that is
// stored, which package password verifies. Many programs compute the same function and spell it in their own
// way; some keep the salt in another column, and some leave the parameters to their source code.
//
// It only rewrites text: it knows no password, and every hash that it returns has passed password.Canonical.
package hashforms

import (
	"fmt"
	"slices"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// Source is a password hash as a file holds it.
type Source struct {
	// Text is the hash: the whole text of it, or its key alone where Salt has the salt.
	Text string
	// Scheme names the form that Text does not say, one of Schemes. Empty: Options.Scheme, or the text says it.
	Scheme string
	// Salt as it is in the file, or empty.
	Salt string
	// Params are what Scheme reads beside the salt, such as "iterations=25000,digest=sha256". Those that are
	// missing have the scheme's own values.
	Params string
}

// Options are for all hashes of an import.
type Options struct {
	// Scheme is that of a Source without one, if its text does not say the form.
	Scheme string
	// Prehash is what the program hashed in place of the password, one of password.Prehashes. Empty: nothing.
	Prehash string

	// depth counts the forms around a text.
	depth int
}

// maxDepth is how many forms may be around a text, such as LDIF's base64 of {CRYPT}.
const maxDepth = 3

// inside reads a text that another form held.
func (o Options) inside(s Source) (string, error) {
	if o.depth == maxDepth {
		return "", refused("it is a form within a form more than %d times", maxDepth)
	}
	return Options{Scheme: o.Scheme, depth: o.depth + 1}.read(s)
}

// Check returns an error if an option has no such value.
func (o Options) Check() error {
	if o.Scheme != "" && !slices.Contains(Schemes(), o.Scheme) {
		return fmt.Errorf("there is no scheme %q: %s", clip(o.Scheme), strings.Join(Schemes(), ", "))
	}
	if o.Prehash != "" && !slices.Contains(password.Prehashes(), o.Prehash) {
		return fmt.Errorf("there is no prehash %q: %s", clip(o.Prehash), strings.Join(password.Prehashes(), ", "))
	}
	return nil
}

// maxText is above the longest text that is read: JSON with 512 bytes of key in hex and a salt.
const maxText = 4096

// resets is the way out for a hash that cannot be taken over.
const resets = "without its hash the account is imported, and its owner sets a password by the mail of a reset"

// Stored returns the text to store, or password.None for a text by which a program says that there is no
// password. Its errors wrap password.ErrMalformedHash; they say what the text looks like and hold no part of
// a salt or a key.
func (o Options) Stored(s Source) (string, error) {
	stored, err := o.read(s)
	if err != nil || o.Prehash == "" || stored == password.None {
		return stored, err
	}
	return password.Prehashed(o.Prehash, stored)
}

func (o Options) read(s Source) (string, error) {
	if s.Scheme == "" && s.Salt == "" && s.Params == "" {
		// Most hashes are in a form that is stored: they are tried first.
		stored, err := password.Canonical(s.Text)
		if err == nil {
			return stored, nil
		}
		return o.readText(s.Text, err)
	}
	if s.Scheme == "" {
		s.Scheme = o.Scheme
	}
	if s.Scheme == "" && strings.HasPrefix(s.Text, payloadVersion) {
		s.Scheme = "payload"
	}
	return readScheme(s)
}

// readText reads a text that is not in the form that is stored; canonical says why.
func (o Options) readText(text string, canonical error) (string, error) {
	if len(text) > maxText {
		return "", refused("a text of more than %d bytes is no password hash", maxText)
	}
	for _, f := range forms() {
		if !f.matches(text) || f.read == nil && o.Scheme != "" {
			continue
		}
		if f.read == nil {
			return "", refused("%s", f.refusal())
		}
		stored, err := f.read(o, text)
		if err != nil {
			return "", within(f.name, err)
		}
		return stored, nil
	}
	if o.Scheme != "" {
		return readScheme(Source{Text: text, Scheme: o.Scheme})
	}
	if name := password.Kind(text); name != password.Unrecognised {
		return "", fmt.Errorf("%w (it looks like %s); %s", canonical, name, resets)
	}
	return "", fmt.Errorf("%w; if its form is not in its text, name it: --scheme, one of %s", canonical, strings.Join(Schemes(), ", "))
}

// Unsaid reports whether the text of a stored hash leaves open what its program hashed: bcrypt and Argon2 say
// nothing of a pepper, or of a digest that was hashed in place of the password. Only a login shows it.
func Unsaid(stored string) bool {
	return strings.HasPrefix(stored, "$2") || strings.HasPrefix(stored, "$argon2")
}

// refused returns an error that wraps password.ErrMalformedHash.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", password.ErrMalformedHash, fmt.Errorf(format, args...))
}

// within says in which form an error was found.
func within(name string, err error) error {
	return fmt.Errorf("this looks like %s, and cannot be taken over: %w; %s", name, err, resets)
}

// clip keeps what is quoted short.
func clip(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}
