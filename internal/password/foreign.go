package password

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/argon2"
)

// ErrMalformedHash is returned for a stored hash that is not in one of the forms listed at Canonical, or
// whose parameters are out of bounds.
var ErrMalformedHash = errors.New("malformed or unsupported password hash")

// ErrUnsupportedHash is returned for a hash of a kind or version that is not verified here. It wraps ErrMalformedHash.
var ErrUnsupportedHash = fmt.Errorf("%w: unknown kind or version", ErrMalformedHash)

// maxForeignLength is above the longest form that is stored: a PBKDF2 with 256 bytes of salt and 64 of key (450). It is
// also above the texts that are mapped to that form: passport-local-mongoose derives 512 bytes of key (1,063).
const maxForeignLength = 1280

// digest is a hash that was read and whose parameters are within their bounds.
type digest interface {
	// encode returns the text that is stored. read returns the same digest for it.
	encode() string
	// setting returns the beginning of that text up to the salt: kind and parameters.
	setting() string
	// work returns the cost of matches for this password.
	work(password string) work
	// accepts reports whether the program that made the hash accepts such a password. If not, matches is not called and
	// nothing is computed.
	accepts(password string) bool
	// matches computes the hash of the password and compares in constant time.
	matches(password string) bool
	// whole reports whether a password that matches must be the one that was hashed. If not, other passwords match too,
	// for instance passwords that differ only after the part that the hash reads. To store a new hash of such a
	// password would shut out the owner, whose password may be another.
	whole(password string) bool
	// weakerThan reports whether a hash that matches should be replaced by one with these parameters.
	weakerThan(want Params) bool
}

// pooled is a digest that takes its memory from the Hasher's pool and that can stop: Argon2, also of a text that is made
// of the password first.
type pooled interface {
	digest
	// compare is matches. If ctx ends before the hash is computed it returns ctx.Err(): nothing was compared.
	compare(ctx context.Context, pool *argon2.Pool, password string) (bool, error)
}

// compare is d.matches, which stops with ctx.Err() if d can stop and ctx ends before anything is compared.
func compare(ctx context.Context, pool *argon2.Pool, d digest, password string) (bool, error) {
	if p, ok := d.(pooled); ok {
		return p.compare(ctx, pool, password)
	}
	return d.matches(password), nil
}

// Canonical checks a hash that another program made and returns the text to store for it. Verify reads that text:
//
//	stored text                                  kind, and the spellings that are mapped to it
//	$argon2id$v=19$m=,t=,p=$SALT$KEY             and argon2i, argon2d; parameters in any order, padding, Django's argon2$argon2id$…
//	$2a$COST$SALTKEY                             bcrypt, and $2b$ and $2y$; stray bits after salt and key, Django's bcrypt$$2b$…
//	bcrypt_sha256$$2b$COST$SALTKEY               Django: bcrypt of the hexadecimal SHA-256
//	$scrypt$ln=,r=,p=$SALT$KEY                   scrypt with N = 2^ln; any order, padding, N for ln (Kratos), Django's scrypt$N$SALT$r$p$KEY
//	$firescrypt$ln=,r=,p=1$SALT$HASH$SEP$SIGNER  Firebase, as Kratos writes it; base64 without padding
//	$pbkdf2$ITERATIONS$SALT$KEY                  PBKDF2 with SHA-1; $pbkdf2-sha1$, and what the next line says
//	$pbkdf2-sha256$ITERATIONS$SALT$KEY           and $pbkdf2-sha512$; i=,l= (Kratos), "+" for ".", padding, Django's pbkdf2_sha256$…
//	$5$[rounds=N$]SALT$KEY                       SHA-crypt, and $6$; rounds=5000 for none, $sha256-crypt$ and $sha512-crypt$ (Kratos)
//	$1$SALT$KEY                                  MD5-crypt, and $apr1$; $md5-crypt$ (Kratos)
//	$P$LSALTKEY                                  phpass; $H$ (phpBB)
//	$S$LSALTKEY                                  Drupal 7 to 10.0: phpass with SHA-512
//	$y$PARAMS$SALT$KEY                           yescrypt, as libxcrypt makes it
//	$scrypt-kdf$ln=,r=,p=$SALT$MAC               the files of scrypt(1), which scrypt-kdf makes
//	$bcrypt-sha256$v=2,t=2b,r=COST$SALT$KEY      passlib: bcrypt of the HMAC-SHA-256
//	{SSHA}BASE64                                 salted SHA-1, and {SSHA256}, {SSHA384}, {SSHA512}, {SMD5}; letters of any case, no padding
//	{SHA256-HEX} and any of these                of the hexadecimal SHA-256 of the password; the others are those of Prehashes
//	{PEPPER-SUFFIX:ID} and any of these          with the pepper of this ID behind the password; the others are those of PepperWays
//
// A {CRYPT} before forms that begin with $ is left out. The bounds of each line are beside the code that reads it: one
// hash takes at most 2.5 s of a core (maxForeignTime) and 256 MiB; Argon2id with MaxCost takes 0.6 to 0.9 s.
//
// A PBKDF2 key longer than the digest is cut to the length of the digest. Argon2 1.0 (v=16, or no v) is not supported:
// no library in Go computes it.
//
// Errors wrap ErrMalformedHash, and also ErrUnsupportedHash if that is the reason. They name the wrong part, and
// contain nothing of the salt or key.
func Canonical(encoded string) (string, error) {
	d, err := read(encoded)
	if err != nil {
		return "", err
	}
	return d.encode(), nil
}

// CheckStored returns why Verify cannot use a stored hash, and nil if it can. Its errors are those of Canonical.
func CheckStored(encoded string) error {
	_, err := readStored(encoded)
	return err
}

// readStored reads only texts that Canonical returns.
func readStored(encoded string) (digest, error) {
	d, err := read(encoded)
	if err != nil {
		return nil, err
	}
	if d.encode() != encoded {
		return nil, malformed("not in the form that is stored")
	}
	return d, nil
}

// readSetting completes a setting, as digest.setting returns it, to a digest that no password matches and that costs
// the same as other digests with this setting.
func readSetting(setting string) (digest, error) {
	_, _, unpeppered, _ := cutPepper(setting)
	_, bare, _ := cutPreparation(unpeppered)
	for _, k := range allKinds() {
		if hasAnyPrefix(bare, k.prefixes) {
			d, err := readStored(setting + k.filler)
			if err == nil && d.setting() != setting {
				err = malformed("more than a setting")
			}
			return d, err
		}
	}
	return nil, ErrUnsupportedHash
}

func read(encoded string) (digest, error) {
	if len(encoded) > maxForeignLength {
		return nil, malformed("longer than %d bytes", maxForeignLength)
	}
	for i := range len(encoded) {
		if encoded[i] <= ' ' || encoded[i] > '~' {
			return nil, malformed("byte %d is not printable ASCII", i)
		}
	}
	encoded = respell(encoded)
	if way, id, rest, ok := cutPepper(encoded); ok {
		d, err := readPrepared(respell(rest))
		if err != nil {
			return nil, err
		}
		return readPeppered(way, id, d)
	}
	return readPrepared(encoded)
}

// readPrepared reads a hash without a pepper.
func readPrepared(encoded string) (digest, error) {
	if p, rest, ok := cutPreparation(encoded); ok {
		d, err := readKind(respell(rest))
		if err != nil {
			return nil, err
		}
		return p.of(d)
	}
	return readKind(encoded)
}

func readKind(encoded string) (digest, error) {
	for _, k := range allKinds() {
		if hasAnyPrefix(encoded, k.prefixes) {
			return k.read(encoded)
		}
	}
	return nil, ErrUnsupportedHash
}

func hasAnyPrefix(text string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(text, prefix) })
}

// number reads a decimal number without sign, leading zeros or anything else.
func number(what, digits string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || len(digits) > 1 && digits[0] == '0' {
		return 0, malformed("%s is not a decimal number in bounds", what)
	}
	if n < least || n > most {
		return 0, malformed("%s must be %d to %d, not %d", what, least, most, n)
	}
	return n, nil
}

// fields reads "a=1,b=2" with each of the names once, in any order.
func fields(text string, names ...string) (map[string]string, error) {
	values := make(map[string]string, len(names))
	for field := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(field, "=")
		if _, twice := values[name]; twice || !slices.Contains(names, name) {
			return nil, malformed("parameters are not %s", strings.Join(names, ", "))
		}
		values[name] = value
	}
	if len(values) != len(names) {
		return nil, malformed("parameters are not %s", strings.Join(names, ", "))
	}
	return values, nil
}

// decodeEither reads base64 of the standard alphabet with or without padding.
func decodeEither(what, text string, shortest, longest int) ([]byte, error) {
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(text, "=") {
		encoding = base64.StdEncoding
	}
	data, err := encoding.Strict().DecodeString(text)
	if err != nil {
		// The decoder's error gives a position in the text, so it is not passed on.
		return nil, malformed("%s is not base64", what)
	}
	return data, checkLength(what, data, shortest, longest)
}

func checkLength(what string, data []byte, shortest, longest int) error {
	if len(data) < shortest || len(data) > longest {
		return malformed("%s has %d bytes, not %d to %d", what, len(data), shortest, longest)
	}
	return nil
}

// malformed wraps ErrMalformedHash with a reason.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformedHash, fmt.Errorf(format, args...))
}
