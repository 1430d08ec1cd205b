package password

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/argon2"
)

const (
	testPepper = "1f0e5e2c7a4b4f4e9f4a1c5d1b0a9e8d" // as much of it as Devise makes would leave bcrypt nothing to read
	peppered42 = "Correct-Horse 42 x"
)

func newPepper(t *testing.T, secret string) Pepper {
	t.Helper()
	p, err := NewPepper([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pepperedTexts are the texts that programs hash, written here once more. Ways that change another part of the hash are
// not among them.
func pepperedTexts() map[string]func(pepper, password string) string {
	mac := func(digest func() hash.Hash) func(pepper, password string) []byte {
		return func(pepper, password string) []byte {
			h := hmac.New(digest, []byte(pepper))
			_, _ = h.Write([]byte(password))
			return h.Sum(nil)
		}
	}
	texts := map[string]func(pepper, password string) string{
		"suffix": func(pepper, password string) string { return password + pepper },
		"prefix": func(pepper, password string) string { return pepper + password },
	}
	for name, digest := range map[string]func() hash.Hash{"sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New} {
		texts["hmac-"+name+"-hex"] = func(pepper, password string) string { return hex.EncodeToString(mac(digest)(pepper, password)) }
		texts["hmac-"+name+"-base64"] = func(pepper, password string) string {
			return base64.StdEncoding.EncodeToString(mac(digest)(pepper, password))
		}
	}
	return texts
}

// pepperedHash makes a hash in one of the ways, of the kind of d.
func pepperedHash(t *testing.T, way string, d digest, pepper string) (text string, ok bool) {
	t.Helper()
	if text, ok := pepperedTexts()[way]; ok {
		return rekeyed(t, d, text(pepper, peppered42)), true
	}
	if h, isArgon2 := d.(argon2Hash); isArgon2 && way == "argon2-secret" {
		in := argon2.Input{Password: []byte(peppered42), Salt: h.salt, Secret: []byte(pepper)}
		params := argon2.Params{Variant: argon2.ID, Passes: h.Params.Time, MemoryKiB: h.Params.MemoryKiB, Lanes: h.Params.Threads}
		h.key = make([]byte, len(h.key))
		if err := argon2.NewPool(1, params).Derive(t.Context(), h.key, params, &in); err != nil {
			t.Fatal(err)
		}
		return h.encode(), true
	}
	if p, isPBKDF2 := d.(pbkdf2Hash); isPBKDF2 && way == "pbkdf2-secret" {
		secret := p
		secret.salt = []byte(string(p.salt) + pepper)
		p.want = secret.key(peppered42)
		return p.encode(), true
	}
	return "", false
}

// TestPeppers follows a hash of each kind with a pepper in each way through all that must know it.
func TestPeppers(t *testing.T) {
	t.Parallel()
	mine, other := newPepper(t, testPepper), newPepper(t, "another pepper")
	with := newHasher(t, Config{Slots: 2, Queue: 10000, Peppers: []Pepper{other, mine}})
	without := newHasher(t, Config{Slots: 2, Queue: 10000, Peppers: []Pepper{other}})
	pattern := regexp.MustCompile(SettingPattern())
	for _, way := range PepperWays() {
		taken := 0
		for _, k := range kinds() {
			if k.setting == "" {
				continue
			}
			d := exampleOf(t, k.prefixes[0], k.filler)
			text, ok := pepperedHash(t, way, d, testPepper)
			if !ok {
				if stored, err := Peppered(mine, way, d.encode()); !errors.Is(err, ErrMalformedHash) {
					t.Errorf("%s %s: %s, %v", way, d.setting(), stored, err)
				}
				continue
			}
			taken++
			checkPeppered(t, way, text, mine, with, without, pattern)
		}
		if taken == 0 {
			t.Errorf("%s: no kind", way)
		}
	}
}

func checkPeppered(t *testing.T, way, text string, mine Pepper, with, without *Hasher, pattern *regexp.Regexp) {
	t.Helper()
	stored, err := Peppered(mine, way, text)
	if err != nil {
		t.Errorf("%s %s: %v", way, text, err)
		return
	}
	name := Kind(stored)
	if again, err := Canonical(strings.ToLower(stored[:8]) + stored[8:]); err != nil || again != stored || PepperOf(stored) != mine.ID() {
		t.Errorf("%s becomes %s, with pepper %q: %v", stored, again, PepperOf(stored), err)
	}
	if !strings.Contains(name, Kind(text)+" with pepper "+mine.ID()) || strings.Contains(name+stored, testPepper) {
		t.Errorf("%s: name %q", stored, name)
	}
	d, err := readStored(stored)
	if err != nil {
		t.Fatal(err)
	}
	if got := pattern.FindString(stored); got != d.setting() {
		t.Errorf("%s: the sample of stored hashes finds %q, not %q", stored, got, d.setting())
	}
	for typed, want := range map[string]bool{peppered42: true, peppered42 + "x": false, peppered42[1:]: false, "": false} {
		got, err := with.Verify(t.Context(), Claim{}, stored, typed)
		if err != nil || got.Match != want || got.Weaker != want {
			t.Errorf("%s, %q: %+v, %v", stored, typed, got, err)
		}
	}
	if got, err := without.Verify(t.Context(), Claim{}, stored, peppered42); !errors.Is(err, ErrNoPepper) || !errors.Is(err, ErrMalformedHash) || got.Match {
		t.Errorf("%s, without the pepper: %+v, %v", stored, got, err)
	} else if !strings.Contains(err.Error(), mine.ID()) || strings.Contains(err.Error(), testPepper) {
		t.Errorf("%s: %v", stored, err)
	}
	if err := with.VerifyClosed(t.Context(), Claim{}, stored, peppered42); err != nil {
		t.Errorf("%s, closed: %v", stored, err)
	}
	if err := without.VerifyClosed(t.Context(), Claim{}, stored, peppered42); !errors.Is(err, ErrNoPepper) {
		t.Errorf("%s, closed without the pepper: %v", stored, err)
	}
	decoys := []Decoy{{Setting: d.setting(), Weight: 1}}
	if of := newDecoyTable(decoys, tiny(), with.peppers).digests[0]; of.setting() != d.setting() || of.matches(peppered42) {
		t.Errorf("%s: no decoy of its kind: %s", stored, of.setting())
	}
	if of := newDecoyTable(decoys, tiny(), without.peppers).digests[0]; of.setting() != setting(tiny()) {
		t.Errorf("%s: a decoy that costs what no login costs: %s", stored, of.setting())
	}
	for _, twice := range []string{"{PEPPER-SUFFIX:" + mine.ID() + "}" + stored, "{SHA256-HEX}" + stored} {
		if _, err := Canonical(twice); err == nil {
			t.Errorf("%s is taken", twice)
		}
	}
	if again, err := Peppered(mine, way, stored); err == nil {
		t.Errorf("%s becomes %s", stored, again)
	}
}

// TestPeppersOfOthers: hashes that other programs made with a pepper, in the way that is taken without a name.
func TestPeppersOfOthers(t *testing.T) {
	t.Parallel()
	p := newPepper(t, "d2f0a1c4b6e8973510fedcba98765432")
	h := newHasher(t, Config{Slots: 2, Queue: 10, Peppers: []Pepper{p}})
	for source, text := range map[string]string{
		"made with npm argon2 0.45.1, argon2id": "$argon2id$v=19$m=1024,p=2,t=2$gJG76tSyHOrwNDQP624c8g$7QOQ4d54wRL+T0hYMd3Jm5XooFcf+/QrRo/DbXLBwnw",
		"made with npm argon2 0.45.1, argon2i":  "$argon2i$v=19$m=1024,p=2,t=2$vwjmyNqg1CsBwNVsNHD3Og$vQifYtmhvePwrck5puTFh9oy6INz4XiAVhWaqBfc7VM",
		"made with npm argon2 0.45.1, argon2d":  "$argon2d$v=19$m=1024,p=2,t=2$85FiBvcBZn2EReEXsu5hoA$k39+Uxd6YkT/nAImxni94Jt/rOm0B6F6SZTUkBZPLXY",
		"made with Debian's ruby-devise 4.8.1":  "$2a$05$KLydCA0y6wQgEPPOdR1/S.phe.gQqDuh/Z1erzpb51rZZcKj0olb6",
	} {
		read, err := Canonical(text)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := Peppered(p, "", read)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		for typed, want := range map[string]bool{peppered42: true, peppered42[1:]: false} {
			if got, err := h.Verify(t.Context(), Claim{}, stored, typed); err != nil || got.Match != want || got.Weaker != want {
				t.Errorf("%s, %q: %+v, %v", source, typed, got, err)
			}
		}
	}
}

// TestPepperCostsAsMuch: a login to an unknown account takes as long as one to an account with a pepper, also where the
// length of the text counts.
func TestPepperCostsAsMuch(t *testing.T) {
	t.Parallel()
	mine := newPepper(t, strings.Repeat("p", 300))
	d := exampleOf(t, "$6$", dots(16)+"$"+dots(86))
	text, _ := pepperedHash(t, "suffix", d, mine.secret)
	stored, err := Peppered(mine, "suffix", text)
	if err != nil {
		t.Fatal(err)
	}
	h := newHasher(t, Config{Slots: 1, Queue: 10, Peppers: []Pepper{mine}})
	known, err := h.stored(stored)
	if err != nil {
		t.Fatal(err)
	}
	decoy := newDecoyTable([]Decoy{{Setting: known.setting(), Weight: 1}}, tiny(), h.peppers).digests[0]
	if known.work("short") != decoy.work("short") || known.work("short").units <= d.work("short").units {
		t.Errorf("known %v, decoy %v, without the pepper %v", known.work("short"), decoy.work("short"), d.work("short"))
	}
	if known.accepts(strings.Repeat("x", 300)) {
		t.Error("the text is longer than its program takes, and is computed")
	}
}

// TestPeppersAndBcrypt: bcrypt reads 72 bytes, the pepper's among them.
func TestPeppersAndBcrypt(t *testing.T) {
	t.Parallel()
	long := newPepper(t, strings.Repeat("0123456789abcdef", 8)) // as Devise makes it
	bcrypt := exampleOf(t, "$2", dots(53))
	for length, whole := range map[int]bool{8: true, 56: true, 57: false, 72: false, 100: false} {
		password := strings.Repeat("x", length)
		stored, err := Peppered(long, "", rekeyed(t, bcrypt, password+long.secret))
		if err != nil {
			t.Fatal(err)
		}
		got, err := newHasher(t, Config{Slots: 1, Queue: 10, Peppers: []Pepper{long}}).Verify(t.Context(), Claim{}, stored, password)
		if err != nil || !got.Match || got.Weaker != whole {
			t.Errorf("%d bytes: %+v, %v", length, got, err)
		}
	}
	// Before the password it would leave nothing of that to be compared.
	for length, taken := range map[int]bool{1: true, 40: true, 41: false, 72: false, 128: false} {
		p := newPepper(t, strings.Repeat("p", length))
		if stored, err := Peppered(p, "prefix", bcrypt.encode()); (err == nil) != taken {
			t.Errorf("a pepper of %d bytes before the password: %s, %v", length, stored, err)
		}
		// Nor by a text that was not imported.
		h := newHasher(t, Config{Slots: 1, Queue: 10, Peppers: []Pepper{p}})
		_, err := h.Verify(t.Context(), Claim{}, "{PEPPER-PREFIX:"+p.ID()+"}"+bcrypt.encode(), peppered42)
		if (err == nil) != taken || err != nil && !errors.Is(err, ErrMalformedHash) {
			t.Errorf("a pepper of %d bytes before the password, stored: %v", length, err)
		}
	}
	if stored, err := Peppered(newPepper(t, strings.Repeat("p", 128)), "prefix", "bcrypt_sha256$"+bcrypt.encode()); err != nil {
		t.Errorf("bcrypt of a digest: %s, %v", stored, err)
	}
}

// TestPeppersAreNamed: the ID is in databases, so it never changes; nothing shows the secret.
func TestPeppersAreNamed(t *testing.T) {
	t.Parallel()
	p := newPepper(t, "pepper")
	if p.ID() != "78B63894" {
		t.Errorf("the pepper has the ID %s", p.ID())
	}
	if text := fmt.Sprintf("%v %+v %#v %s", p, p, p, p); strings.Contains(strings.ReplaceAll(text, "pepper "+p.ID(), ""), "pepper") {
		t.Errorf("it prints %s", text)
	}
	for _, secret := range []string{"", strings.Repeat("x", MaxPepper+1)} {
		if _, err := NewPepper([]byte(secret)); err == nil {
			t.Errorf("a pepper of %d bytes is taken", len(secret))
		}
	}
	cfg := Config{Params: tiny(), Slots: 1, DecoyKey: make([]byte, 32)}
	for _, list := range [][]Pepper{{p, p}, {{}}} {
		cfg.Peppers = list
		if _, err := New(cfg); err == nil {
			t.Errorf("%v is taken", list)
		}
	}
}

// TestPepperWaysAreNeverGuessed: a wrong guess is an account that can never log in.
func TestPepperWaysAreNeverGuessed(t *testing.T) {
	t.Parallel()
	p := newPepper(t, testPepper)
	for _, k := range kinds() {
		if k.setting == "" {
			continue
		}
		d := exampleOf(t, k.prefixes[0], k.filler)
		_, err := Peppered(p, "", d.encode())
		_, isBcrypt := d.(bcryptHash)
		_, isArgon2 := d.(argon2Hash)
		if (isBcrypt || isArgon2) != (err == nil) || err != nil && !errors.Is(err, ErrPepperWay) {
			t.Errorf("%s: %v", d.setting(), err)
		}
	}
	for text, way := range map[string]string{"$2b$04$" + dots(53): "behind", "$2b$04$x": "suffix", "!": "suffix"} {
		if stored, err := Peppered(p, way, text); !errors.Is(err, ErrMalformedHash) {
			t.Errorf("%s %s: %s, %v", way, text, stored, err)
		}
	}
	for _, text := range []string{
		"{PEPPER-SUFFIX:1234567}", "{PEPPER-SUFFIX:123456789}", "{PEPPER-SUFFIX:1234567G}", "{PEPPER-SUFFIX:}", "{PEPPER-SUFFIX}", "{PEPPER-NONE:12345678}",
		"{PEPPER-:12345678}", "{PEPPER-PBKDF2-SECRET:12345678}",
	} {
		if stored, err := Canonical(text + "$2b$04$" + dots(53)); err == nil {
			t.Errorf("%s is taken as %s", text, stored)
		}
	}
}
