// Package hashforms reads password hashes in the forms of other programs and writes them in the form that is stored,
// which package password verifies. Many programs compute the same function but spell the hash in their own way. Some
// keep the salt in another column, and some have the parameters only in their source code.
//
// It only rewrites text. It knows no password, and every hash that it returns has passed password.Canonical.
package hashforms

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// Source is a password hash as a file holds it.
type Source struct {
	// Text is the hash: the whole text of it, or only its key if Salt has the salt.
	Text string
	// Scheme names the form if Text does not show it, one of Schemes. Empty: Options.Scheme, or the text shows it.
	Scheme string
	// Salt is the salt as it is in the file, or empty.
	Salt string
	// Params are the parameters that Scheme needs besides the salt, such as "iterations=25000,digest=sha256". Missing
	// ones have the scheme's own values.
	Params string
}

// Options are for all hashes of an import.
type Options struct {
	// Scheme is used for a Source that has none and whose text does not show its form.
	Scheme string
	// Prehash is the digest that the program hashed in place of the password, one of password.Prehashes. Empty: none.
	Prehash string
	// Pepper is the secret that the program added to each password. Nil: none.
	Pepper *password.Pepper
	// PepperAs is the way in which it added the pepper, one of password.PepperWays. Empty: the way of the hash's kind,
	// if there is only one.
	PepperAs string

	// depth counts the forms around a text.
	depth int
}

// maxDepth is how many forms may enclose a text, such as LDIF's base64 of {CRYPT}.
const maxDepth = 3

// inside reads a text that was inside another form.
func (o Options) inside(s Source) (string, error) {
	if o.depth == maxDepth {
		return "", refused("it is a form within a form more than %d times", maxDepth)
	}
	return Options{Scheme: o.Scheme, depth: o.depth + 1}.read(s)
}

// Check returns an error if an option has an unknown value.
func (o Options) Check() error {
	if o.Scheme != "" && !slices.Contains(Schemes(), o.Scheme) {
		return fmt.Errorf("there is no scheme %q: %s", clip(o.Scheme), strings.Join(Schemes(), ", "))
	}
	if o.Prehash != "" && !slices.Contains(password.Prehashes(), o.Prehash) {
		return fmt.Errorf("there is no prehash %q: %s", clip(o.Prehash), strings.Join(password.Prehashes(), ", "))
	}
	switch {
	case o.PepperAs != "" && !slices.Contains(password.PepperWays(), o.PepperAs):
		return fmt.Errorf("there is no way %q to add a pepper: %s", clip(o.PepperAs), strings.Join(password.PepperWays(), ", "))
	case o.PepperAs != "" && o.Pepper == nil:
		return errors.New("a way to add a pepper needs the pepper: --pepper-file")
	case o.Pepper != nil && o.Prehash != "":
		return errors.New(pepperAndPrehash)
	}
	return nil
}

// maxText is above the longest text that is read: JSON with 512 bytes of key in hex and a salt.
const maxText = 4096

// pepperAndPrehash is the error if both are given, by options or by a record.
const pepperAndPrehash = "a pepper and a prehash cannot be named together: nothing says which of them comes first"

// resets is the advice for a hash that cannot be imported.
const resets = "leave out the hash to import the account, and its owner sets a password with a reset mail"

// Stored returns the text to store, or password.None for a text with which a program says that there is no password.
// Its errors wrap password.ErrMalformedHash; they say what the text looks like and hold no part of a salt or a key.
func (o Options) Stored(s Source) (string, error) {
	stored, err := o.read(s)
	switch {
	case err != nil || stored == password.None:
		return stored, err
	case o.Prehash != "" && o.Pepper != nil:
		return "", refused(pepperAndPrehash)
	case o.Prehash != "":
		return password.Prehashed(o.Prehash, stored)
	case o.Pepper != nil:
		stored, err = password.Peppered(*o.Pepper, o.PepperAs, stored)
		if errors.Is(err, password.ErrPepperWay) {
			err = fmt.Errorf("%w: name how the program added the pepper, --pepper-as %s", err, strings.Join(password.PepperWays(), ", "))
		}
	}
	return stored, err
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

// readText reads a text that is not in the form that is stored. canonical is the error of Canonical for it.
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

// Unsaid reports whether the text of a stored hash does not show what its program hashed: bcrypt and Argon2 hashes do
// not show a pepper, or a digest that was hashed in place of the password. Only a login shows that.
func Unsaid(stored string) bool {
	return strings.HasPrefix(stored, "$2") || strings.HasPrefix(stored, "$argon2")
}

// refused returns an error that wraps password.ErrMalformedHash.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", password.ErrMalformedHash, fmt.Errorf(format, args...))
}

// within adds the name of the form in which an error was found.
func within(name string, err error) error {
	return fmt.Errorf("this looks like %s, and cannot be imported: %w; %s", name, err, resets)
}

// clip shortens a quoted text.
func clip(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}
