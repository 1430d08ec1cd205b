package password

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"slices"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/argon2"
)

// ErrNoPepper is returned for a stored hash that was made with a pepper which the Hasher does not have. It is an
// ErrMalformedHash too: nobody can log in with that hash here.
var ErrNoPepper = fmt.Errorf("%w: the hash was made with a pepper that is not set here", ErrMalformedHash)

// ErrPepperWay is returned for a hash that can have a pepper in several ways. It is an ErrMalformedHash too.
var ErrPepperWay = fmt.Errorf("%w: such a hash can have a pepper in several ways, and its text does not say which", ErrMalformedHash)

// MaxPepper is the most bytes of a pepper. Devise makes 128.
const MaxPepper = 1024

// Pepper is a secret of another program, the same for all of its passwords, which it added to each password before it
// hashed it. It is not in the stored text, which only names it by its ID. Printing a Pepper shows the ID.
type Pepper struct {
	secret string
	id     string
}

const (
	// The ID of a pepper is in the database, and must not help to guess a short pepper: its 32 bits of Argon2id rule
	// out few guesses for their cost, and the ID does not show whether a guess is right.
	pepperIDMemoryKiB, pepperIDTime = 19456, 2
	pepperIDSize                    = 4
	pepperIDSalt                    = "latchkey pepper id"
)

// NewPepper returns the pepper with this secret, which has 1 to MaxPepper bytes. It takes as long as a hash.
func NewPepper(secret []byte) (Pepper, error) {
	if len(secret) < 1 || len(secret) > MaxPepper {
		return Pepper{}, fmt.Errorf("a pepper has 1 to %d bytes, not %d", MaxPepper, len(secret))
	}
	id := argon2.IDKey(secret, []byte(pepperIDSalt), pepperIDTime, pepperIDMemoryKiB, 1, pepperIDSize)
	return Pepper{string(secret), strings.ToUpper(hex.EncodeToString(id))}, nil
}

// ID names the pepper in stored texts: eight hexadecimal digits, which depend on the secret only.
func (p Pepper) ID() string { return p.id }

// String returns the ID.
func (p Pepper) String() string { return "pepper " + p.id }

// GoString is String: %#v would print the unexported fields.
func (p Pepper) GoString() string { return p.String() }

// pepperWay is how a program adds a pepper. The stored text names it before the hash: {PEPPER-SUFFIX:1A2B3C4D}$2a$…
type pepperWay struct {
	// scheme in the stored text, such as "SUFFIX".
	scheme string
	// does, for people, in "bcrypt with pepper 1A2B3C4D …".
	does string
	// with returns the digest that password matches if d matches what the program made of password and pepper. The
	// error wraps ErrMalformedHash: there is no such hash, or it would let too many passwords match.
	with func(d digest, pepper string) (digest, error)
}

func pepperWays() []pepperWay {
	ways := []pepperWay{
		{"SUFFIX", "behind the password", withSuffix},
		{"PREFIX", "before the password", withPrefix},
	}
	for _, h := range []struct {
		name string
		new  func() hash.Hash
	}{{"SHA256", sha256.New}, {"SHA384", sha512.New384}, {"SHA512", sha512.New}} {
		for _, text := range []struct {
			name   string
			encode func([]byte) string
		}{{"HEX", hex.EncodeToString}, {"BASE64", base64.StdEncoding.EncodeToString}} {
			does := "as the key of an HMAC-" + strings.Replace(h.name, "SHA", "SHA-", 1) + " of the password"
			ways = append(ways, pepperWay{"HMAC-" + h.name + "-" + text.name, does, withHMAC(h.new, text.encode)})
		}
	}
	return append(ways, pepperWay{"ARGON2-SECRET", "as the secret of Argon2", withSecret}, pepperWay{"PBKDF2-SECRET", "behind the salt", withSalt})
}

// PepperWays are the names that Peppered takes, such as "suffix".
func PepperWays() []string {
	var names []string
	for _, w := range pepperWays() {
		names = append(names, w.name())
	}
	return names
}

func (w pepperWay) name() string { return strings.ToLower(w.scheme) }

// Peppered returns the text to store for a hash, given as Canonical returns it, that its program made with a pepper.
// The way is one of PepperWays. If it is empty, bcrypt has the pepper behind the password, as Devise adds it, and Argon2
// has it as its secret; for other kinds the way must be said. Errors wrap ErrMalformedHash and hold nothing of the pepper.
func Peppered(p Pepper, way, stored string) (string, error) {
	d, err := readStored(stored)
	if err != nil {
		return "", err
	}
	if _, ok := d.(peppered); ok {
		return "", malformed("the hash names its pepper already")
	}
	if way == "" {
		if way = defaultWay(d); way == "" {
			return "", ErrPepperWay
		}
	}
	ways := pepperWays()
	i := slices.IndexFunc(ways, func(w pepperWay) bool { return w.name() == way })
	if i < 0 {
		return "", malformed("there is no such way to add a pepper")
	}
	with := peppered{inner: d, way: ways[i], id: p.id}
	if _, err := with.by(p); err != nil {
		return "", err
	}
	return with.encode(), nil
}

func defaultWay(d digest) string {
	if readsStart(d) {
		return "suffix"
	}
	if _, ok := d.(argon2Hash); ok {
		return "argon2-secret"
	}
	return ""
}

// PepperOf returns the ID of the pepper that a stored text names, or "" for a hash without one.
func PepperOf(stored string) string {
	_, id, _, _ := cutPepper(stored)
	return id
}

// PepperPrefixes is a LIKE pattern of PostgreSQL for stored texts that name the pepper with this ID.
func PepperPrefixes(id string) string { return "{PEPPER-%:" + id + "}%" }

var pepperPattern = `\{PEPPER-(?:` + strings.Join(pepperSchemes(), "|") + `):[0-9A-F]{8}\}` //nolint:gochecknoglobals // constant

var pepperPrefix = regexp.MustCompile("^" + pepperPattern)

func pepperSchemes() []string {
	var all []string
	for _, w := range pepperWays() {
		all = append(all, w.scheme)
	}
	return all
}

// cutPepper splits a text behind the name of its pepper. Without one, rest is the whole text.
func cutPepper(encoded string) (way pepperWay, id, rest string, ok bool) {
	if !strings.HasPrefix(encoded, "{PEPPER-") {
		return pepperWay{}, "", encoded, false
	}
	head := pepperPrefix.FindString(encoded)
	if head == "" {
		return pepperWay{}, "", encoded, false
	}
	name, id, _ := strings.Cut(strings.Trim(strings.TrimPrefix(head, "{PEPPER-"), "}"), ":")
	ways := pepperWays()
	i := slices.IndexFunc(ways, func(w pepperWay) bool { return w.scheme == name }) // the pattern has no other name
	return ways[i], id, encoded[len(head):], true
}

// peppered is a hash that was made with a pepper. It matches no password: by returns the digest that does.
type peppered struct {
	inner digest
	way   pepperWay
	id    string
}

// readPeppered returns the digest of a hash with the pepper of this ID, if a hash of that kind can have it in that way.
func readPeppered(w pepperWay, id string, d digest) (digest, error) {
	if _, err := w.with(d, ""); err != nil {
		return nil, err
	}
	return peppered{d, w, id}, nil
}

// by returns the digest that compares with the pepper.
func (p peppered) by(pepper Pepper) (digest, error) {
	with, err := p.way.with(p.inner, pepper.secret)
	return seasoned{with, p}, err
}

// head names the way and the pepper in the stored text.
func (p peppered) head() string { return "{PEPPER-" + p.way.scheme + ":" + p.id + "}" }

func (p peppered) setting() string { return p.head() + p.inner.setting() }
func (p peppered) encode() string  { return p.head() + p.inner.encode() }

func (p peppered) work(password string) work    { return p.inner.work(password) }
func (p peppered) accepts(password string) bool { return p.inner.accepts(password) }
func (p peppered) matches(string) bool          { return false }
func (p peppered) whole(string) bool            { return false }
func (p peppered) weakerThan(Params) bool       { return true }

// seasoned is a peppered hash with its pepper: it is stored as the former is.
type seasoned struct {
	digest

	as peppered
}

func (s seasoned) setting() string        { return s.as.setting() }
func (s seasoned) encode() string         { return s.as.encode() }
func (s seasoned) weakerThan(Params) bool { return true }

func (s seasoned) compare(ctx context.Context, pool *argon2.Pool, password string) (bool, error) {
	return compare(ctx, pool, s.digest, password)
}

// pepperSet has the peppers of a Hasher by ID.
type pepperSet map[string]Pepper

func newPepperSet(peppers []Pepper) (pepperSet, error) {
	set := make(pepperSet, len(peppers))
	for _, p := range peppers {
		if p.id == "" {
			return nil, errors.New("a pepper is empty")
		}
		if _, twice := set[p.id]; twice {
			return nil, fmt.Errorf("two peppers have the ID %s, or one is there twice", p.id)
		}
		set[p.id] = p
	}
	return set, nil
}

// season returns the digest with the pepper that it names. Errors wrap ErrNoPepper, or ErrMalformedHash for a pepper
// that is not to be used so.
func (s pepperSet) season(d digest) (digest, error) {
	p, ok := d.(peppered)
	if !ok {
		return d, nil
	}
	pepper, ok := s[p.id]
	if !ok {
		return nil, fmt.Errorf("%w, pepper %s", ErrNoPepper, p.id)
	}
	return p.by(pepper)
}

// added is a digest of a text that was made of the password, such as one of password and pepper.
type added struct {
	inner digest
	apply func(password string) string
	// exact reports whether no other password makes the same of itself in the part that inner reads. Nil: it is as
	// inner.whole says of the text.
	exact func(password string) bool
}

func (a added) encode() string               { return a.inner.encode() }
func (a added) setting() string              { return a.inner.setting() }
func (a added) work(password string) work    { return a.inner.work(a.apply(password)) }
func (a added) accepts(password string) bool { return a.inner.accepts(a.apply(password)) }
func (a added) matches(password string) bool { return a.inner.matches(a.apply(password)) }
func (a added) weakerThan(want Params) bool  { return a.inner.weakerThan(want) }

func (a added) compare(ctx context.Context, pool *argon2.Pool, password string) (bool, error) {
	return compare(ctx, pool, a.inner, a.apply(password))
}

func (a added) whole(password string) bool {
	if a.exact != nil {
		return a.exact(password)
	}
	return a.inner.whole(a.apply(password))
}

const (
	// leastPepperRead is how much of a pepper behind the password bcrypt must have read, where it has not read all of
	// it, to tell the password from one that ends with the beginning of the pepper.
	leastPepperRead = 16
	// leastPasswordRead is how much of a password behind the pepper bcrypt must be able to read.
	leastPasswordRead = 32
)

func withSuffix(d digest, pepper string) (digest, error) {
	a := added{inner: d, apply: func(password string) string { return password + pepper }}
	if readsStart(d) {
		a.exact = func(password string) bool {
			all := len(password)+len(pepper) < maxBcryptPassword
			return !strings.Contains(password, "\x00") && (all || len(password) <= maxBcryptPassword-leastPepperRead)
		}
	}
	return a, nil
}

// withPrefix refuses a pepper that leaves bcrypt nothing to read of the password: any password would match.
func withPrefix(d digest, pepper string) (digest, error) {
	if readsStart(d) && len(pepper) > maxBcryptPassword-leastPasswordRead {
		return nil, malformed("bcrypt reads 72 bytes: with a pepper of %d bytes before it, passwords that begin alike would match; "+
			"at most %d bytes can be taken", len(pepper), maxBcryptPassword-leastPasswordRead)
	}
	return added{inner: d, apply: func(password string) string { return pepper + password }}, nil
}

// readsStart reports whether a hash is of the first 72 bytes of its text.
func readsStart(d digest) bool {
	b, ok := d.(bcryptHash)
	return ok && !b.prehash
}

// withHMAC: 72 bytes, which bcrypt reads, are 288 bits of the MAC or more, so that no two passwords share them.
func withHMAC(newHash func() hash.Hash, text func([]byte) string) func(digest, string) (digest, error) {
	return func(d digest, pepper string) (digest, error) {
		mac := digested(func() hash.Hash { return hmac.New(newHash, []byte(pepper)) }, text)
		return added{inner: d, apply: mac, exact: func(string) bool { return true }}, nil
	}
}

// withSecret gives Argon2 its K (RFC 9106, section 3.1).
func withSecret(d digest, pepper string) (digest, error) {
	h, ok := d.(argon2Hash)
	if !ok {
		return nil, malformed("only Argon2 has a pepper as its secret")
	}
	h.secret = []byte(pepper)
	return h, nil
}

// withSalt is the secret of Spring Security's Pbkdf2PasswordEncoder.
func withSalt(d digest, pepper string) (digest, error) {
	p, ok := d.(pbkdf2Hash)
	if !ok {
		return nil, malformed("only PBKDF2 has a pepper behind the salt")
	}
	p.salt = join(p.salt, []byte(pepper))
	return p, nil
}
