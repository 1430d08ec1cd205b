package password

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	foreignbcrypt "github.com/go-crypt/x/bcrypt"
	"golang.org/x/crypto/bcrypt"
)

// Nothing is computed for a password that is far longer than the programs with these kinds accept: their time grows
// with it.
func TestForeignLongPassword(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	const stored = "$5$rounds=1000$saltsalt$IIx7nXd5PxUCh4HtdQDUGYkEPTEKtG0QWeNZ0.1CjH3"
	for _, password := range []string{
		strings.Repeat("x", 128),
		strings.Repeat("\U0001F600", 128),               // 512 bytes
		strings.Repeat("\u03b1\u0313\u0300\u0345", 128), // 1024 bytes, and 384 in NFC, the only form that is tried
	} {
		before := h.Stats().Hashed
		if result, err := h.Verify(t.Context(), Claim{}, stored, password); err != nil || result.Match {
			t.Errorf("%+v, %v", result, err)
		}
		if got := h.Stats().Hashed - before; got != 1 {
			t.Errorf("%d bytes: %d hashes, want 1", len(password), got)
		}
	}
	d, err := readStored(stored)
	if err != nil {
		t.Fatal(err)
	}
	if d.accepts(strings.Repeat("x", 513)) || !d.accepts(strings.Repeat("x", 512)) {
		t.Error("the bound is not 512 bytes")
	}
}

// For every kind, a hash of the bytes as typed verifies, and so does a hash of their NFC form.
func TestForeignAsTyped(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 2, Queue: 100})
	const nfc, nfd = "Gr\u00fc\u00dfe", "Gru\u0308\u00dfe"
	for _, k := range kinds() {
		for _, prefix := range k.prefixes {
			d, err := read(respell(prefix + exampleParams(prefix) + k.filler))
			if err != nil {
				continue // bcrypt's prefix, and prefixes that are mapped to others
			}
			for made, typed := range map[string][]string{nfc: {nfc, nfd}, nfd: {nfd}} {
				stored := rekeyed(t, d, made)
				for _, password := range typed {
					if result, err := h.Verify(t.Context(), Claim{}, stored, password); err != nil || !result.Match {
						t.Errorf("%s, made of %+q, typed %+q: %+v, %v", d.setting(), made, password, result, err)
					}
				}
			}
		}
	}
}

// TestForeignOfCompatibilityForm: better-auth and Lucia hash the NFKC form. An owner who types full-width letters or a
// ligature can log in, and the hash is not rewritten: a new hash of those letters would not match the plain ones.
func TestForeignOfCompatibilityForm(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	const wide, plain = "\uff43orrect \ufb01sh \u2460", "correct fish 1"
	for _, setting := range []string{"$scrypt$ln=4,r=16,p=1$", "$argon2id$v=19$m=64,t=1,p=1$"} {
		d, err := readSetting(setting)
		if err != nil {
			t.Fatal(err)
		}
		stored := rekeyed(t, d, plain)
		for typed, want := range map[string]Result{
			plain:        {Match: true, Weaker: d.weakerThan(tiny())},
			wide:         {Match: true},
			wide + "x":   {},
			"\ufb01sh 1": {},
		} {
			if got, err := h.Verify(t.Context(), Claim{}, stored, typed); err != nil || got != want {
				t.Errorf("%s, %+q: %+v, %v, want %+v", setting, typed, got, err, want)
			}
		}
		if got, err := h.Verify(t.Context(), Claim{}, rekeyed(t, d, wide), plain); err != nil || got.Match {
			t.Errorf("%s: plain letters for full-width ones: %+v, %v", setting, got, err)
		}
	}
	if _, differs := compatibility(strings.Repeat("\ufdfa", 128)); differs {
		t.Error("a form of 2,304 code points is tried")
	}
}

// exampleParams returns cheap parameters for a prefix.
func exampleParams(prefix string) string {
	switch prefix {
	case "$argon2id$", "$argon2i$", "$argon2d$":
		return "v=19$m=64,t=1,p=1$"
	case "$2":
		return "b$04$"
	case djangoBcrypt:
		return "$2b$04$"
	case "$scrypt$", "$firescrypt$", scryptKDF:
		return "ln=4,r=8,p=1$"
	case "$pbkdf2$", "$pbkdf2-sha256$", "$pbkdf2-sha512$":
		return "10$"
	case "$P$", "$S$":
		return "5"
	case "$y$":
		return "j7.$"
	case passlibBcrypt:
		return "2b,r=4$"
	}
	return ""
}

// rekeyed returns the stored text of a hash like d of a password. The vectors test whether each kind hashes as its
// program does.
func rekeyed(t *testing.T, d digest, password string) string {
	t.Helper()
	switch h := d.(type) {
	case argon2Hash:
		h.key = derived(t, h, password, len(h.key))
		return h.encode()
	case bcryptHash:
		return rekeyedBcrypt(t, h, password)
	case scryptHash:
		h.want, _ = h.key(password, h.salt, len(h.want))
		return h.encode()
	case firebaseHash:
		h.want = h.encrypt(password)
		return h.encode()
	case pbkdf2Hash:
		h.want = h.key(password)
		return h.encode()
	case shaCrypt:
		h.want = string(h.key(password))
		return h.encode()
	case md5Crypt:
		h.want = string(h.key([]byte(password)))
		return h.encode()
	case phpass:
		h.want = string(h.key(password))
		return h.encode()
	case saltedSHA:
		h.want = h.sum(password)
		return h.encode()
	case drupal:
		h.want = string(h.key(password))
		return h.encode()
	case yescryptHash:
		h.want = h.key(password)
		return h.encode()
	case scryptKDFHash:
		h.want = h.mac(password)
		return h.encode()
	case passlibHash:
		return rekeyedPasslib(t, h, password)
	case prepared:
		return h.by.scheme + rekeyed(t, h.inner, h.by.apply(password))
	}
	t.Fatalf("no way to make a %T", d)
	return ""
}

// rekeyedBcrypt uses another salt, since x/crypto chooses it.
func rekeyedBcrypt(t *testing.T, h bcryptHash, password string) string {
	t.Helper()
	typed := []byte(password)
	if h.prehash {
		sum := sha256.Sum256(typed)
		typed = []byte(hex.EncodeToString(sum[:]))
	}
	typed = typed[:min(len(typed), 72)] // as other programs do by themselves
	made, err := bcrypt.GenerateFromPassword(typed, int(h.cost))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(h.setting(), h.head) + string(made)
}

// rekeyedPasslib computes bcrypt with a given salt with go-crypt, since x/crypto cannot.
func rekeyedPasslib(t *testing.T, h passlibHash, password string) string {
	t.Helper()
	salt, err := base64.NewEncoding(bcryptAlphabet).WithPadding(base64.NoPadding).DecodeString(h.inner.tail[:bcryptSaltLength])
	if err != nil {
		t.Fatal(err)
	}
	made, err := foreignbcrypt.GenerateFromPasswordSalt([]byte(h.prepare(password)), salt, int(h.inner.cost))
	if err != nil {
		t.Fatal(err)
	}
	return h.setting() + h.inner.tail[:bcryptSaltLength] + "$" + string(made[len(made)-bcryptKeyLength:])
}
