package password

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// withParams returns hashes of each kind without their parameters, in the order of the table at Canonical.
func withParams(t *testing.T) map[string]func(string) string {
	t.Helper()
	forms := map[string]func(string) string{}
	for name, form := range map[string][2]string{
		"argon2i":     {"$argon2i$v=19$", "$" + goodSalt + "$" + goodKey},
		"argon2d":     {"$argon2d$v=19$", "$" + goodSalt + "$" + goodKey},
		"argon2":      {"$argon2id$", "$m=64,t=1,p=1$" + goodSalt + "$" + goodKey},
		"bcrypt":      {"$2", "$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"},
		"django":      {"bcrypt_sha256$$2b$", "$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"},
		"scrypt":      {"$scrypt$", "$" + goodSalt + "$" + goodKey},
		"firescrypt":  {"$firescrypt$", "$42xEC+ixf3L2lw==$" + firebaseSigner + "$Bw==$" + firebaseSigner},
		"pbkdf2":      {"$pbkdf2$", "$" + goodSalt + "$dzCdfBAsm1gRaMC2q1v.SfJrl5w"},
		"pbkdf2-512":  {"$pbkdf2-sha512$", "$" + goodSalt + "$" + goodKey},
		"django-256":  {"pbkdf2_sha256$", "$seasalt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c="},
		"django-salt": {"pbkdf2_sha256$1000$", "$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c="},
		"sha256crypt": {"$5$", "saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
		"sha256salt":  {"$5$", "$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
		"sha512key":   {"$6$saltstring$", ""},
		"md5crypt":    {"$1$", "$ctlgjDdWJLMT.qwHsWhXR1"},
		"md5key":      {"$apr1$r31.....$", ""},
		"phpass":      {"$P$", "IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0"},
		"phpasskey":   {"$P$9IQRaTwmf", ""},
		"ssha":        {"{SSHA}", ""},
		"ssha512":     {"{SSHA512}", ""},
		"any":         {"", ""},
	} {
		forms[name] = func(params string) string { return form[0] + params + form[1] }
	}
	return forms
}

func base64Of(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

// Parameters out of bounds are refused at once, both in an import and in the database, and nothing is computed.
func TestForeignBounds(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	forms := withParams(t)
	for _, test := range []struct {
		form, params string
		ok           bool
	}{
		{"argon2i", "m=262144,t=4,p=1", true},
		{"argon2i", "m=262144,t=5,p=1", false},
		{"argon2d", "m=64,t=1,p=64", false},
		{"argon2d", "m=2048,t=1,p=255", true},
		{"argon2d", "m=4096,t=1,p=256", false},
		{"argon2d", "m=262145,t=1,p=1", false},
		{"argon2d", "m=64,t=1,p=1,t=1", false},
		{"argon2d", "m=64,t=1,p=1,data=AAAA", false},
		{"argon2d", "m=64,t=1", false},
		{"argon2d", "m=4294967304,t=1,p=1", false},
		{"argon2", "v=19", true},
		{"argon2", "v=16", false},
		{"argon2", "v=", false},
		{"argon2", "v=019", false},
		{"bcrypt", "b$04", true},
		{"bcrypt", "b$14", true},
		{"bcrypt", "b$15", false},
		{"bcrypt", "b$31", false},
		{"bcrypt", "b$99", false},
		{"bcrypt", "b$03", false},
		{"bcrypt", "b$4", false},
		{"bcrypt", "b$4 ", false},
		{"bcrypt", "b$+4", false},
		{"bcrypt", "b$-4", false},
		{"bcrypt", "b$05$", false},
		{"bcrypt", "x$05", false},
		{"bcrypt", "$05", false},
		{"bcrypt", "z$05", false},
		{"django", "12", true},
		{"django", "15", false},
		{"scrypt", "ln=18,r=8,p=1", true}, // 256 MiB
		{"scrypt", "ln=19,r=8,p=1", false},
		{"scrypt", "ln=17,r=8,p=2", true},
		{"scrypt", "ln=17,r=8,p=3", false},
		{"scrypt", "ln=20,r=2,p=1", true},
		{"scrypt", "ln=20,r=3,p=1", false},
		{"scrypt", "ln=1,r=64,p=64", true},
		{"scrypt", "ln=1,r=65,p=1", false},
		{"scrypt", "ln=1,r=1,p=65", false},
		{"scrypt", "ln=1,r=1073741823,p=1", false},
		{"scrypt", "ln=63,r=1,p=1", false},
		{"scrypt", "ln=64,r=1,p=1", true}, // N, as Kratos writes it
		{"scrypt", "ln=65,r=1,p=1", false},
		{"scrypt", "ln=1048576,r=2,p=1", true},
		{"scrypt", "ln=2097152,r=1,p=1", false},
		{"scrypt", "ln=18446744073709551617,r=1,p=1", false}, // 1 when cut to 64 bits
		{"scrypt", "ln=0,r=8,p=1", false},
		{"scrypt", "ln=10,r=0,p=1", false},
		{"scrypt", "ln=10,r=8,p=0", false},
		{"scrypt", "ln=10,r=8", false},
		{"scrypt", "ln=010,r=8,p=1", false},
		{"scrypt", "N=1024,r=8,p=1", false},
		{"firescrypt", "ln=14,r=8,p=1", true},
		{"firescrypt", "ln=14,r=8,p=2", false},
		{"firescrypt", "ln=19,r=8,p=1", false},
		{"pbkdf2", "15000000", true},
		{"pbkdf2", "15000001", false},
		{"pbkdf2", "i=1300000,l=20", true},
		{"pbkdf2", "i=1300000,l=21", false},
		{"pbkdf2", "l=20", false},
		{"pbkdf2", "1e5", false},
		{"pbkdf2", "0", false},
		{"pbkdf2", "", false},
		{"pbkdf2", "-1", false},
		{"pbkdf2", "01000", false},
		{"pbkdf2", "1_000", false},
		{"pbkdf2", "18446744073709551617", false},
		{"pbkdf2-512", "2000000", true},
		{"pbkdf2-512", "2000001", false},
		{"django-256", "1500000", true},
		{"django-256", "4294968296", false}, // 1,000 when cut to 32 bits
		{"django-salt", strings.Repeat("s", 256), true},
		{"django-salt", strings.Repeat("s", 257), false},
		{"django-salt", "", false},
		{"sha256crypt", "", true},
		{"sha256crypt", "rounds=1000000$", true},
		{"sha256crypt", "rounds=1000001$", false},
		{"sha256crypt", "rounds=999999999$", false},
		{"sha256crypt", "rounds=999$", false},
		{"sha256crypt", "rounds=01000$", false},
		{"sha256crypt", "rounds=$", false},
		{"sha256crypt", "rounds=1000$rounds=1000$", false},
		{"sha256salt", strings.Repeat("s", 16), true},
		{"sha256salt", strings.Repeat("s", 17), false},
		{"sha256salt", "", false},
		{"sha256salt", "salt-string", false},
		{"sha512key", strings.Repeat(".", 86), true},
		{"sha512key", strings.Repeat(".", 85) + "1", true},
		{"sha512key", strings.Repeat(".", 85) + "2", false}, // bits that no byte has
		{"sha512key", strings.Repeat(".", 87), false},
		{"sha512key", strings.Repeat(".", 85) + "!", false},
		{"md5crypt", "dXc3I7Rw", true},
		{"md5crypt", "dXc3I7Rw1", false},
		{"md5crypt", "", false},
		{"md5key", "HqJZimcKQFAMYayBlzkrA/", true},
		{"md5key", "HqJZimcKQFAMYayBlzkrAz", false},
		{"md5key", "HqJZimcKQFAMYayBlzkrA/$", false},
		{"phpass", "5", true},
		{"phpass", "I", true}, // 2^20
		{"phpass", "J", false},
		{"phpass", "4", false},
		{"phpass", "z", false},
		{"phpass", ".", false},
		{"phpass", "!", false},
		{"phpasskey", "eRo7ud9Fh4E2PdI0S3r.L0", true},
		{"phpasskey", "eRo7ud9Fh4E2PdI0S3r.Lz", false},
		{"phpasskey", "eRo7ud9Fh4E2PdI0S3r.L00", false},
		{"ssha", base64Of(21), true},
		{"ssha", base64Of(20), false}, // no salt
		{"ssha", base64Of(84), true},
		{"ssha", base64Of(85), false},
		{"ssha", base64Of(24)[:31] + "B", true},
		{"ssha", base64Of(22)[:29] + "B==", false}, // bits that no byte has
		{"ssha", base64Of(22)[:28] + "\nAA==", false},
		{"ssha", "", false},
		{"ssha512", base64Of(24), false},
		{"any", "", false},
		{"any", "hashcat", false},
		{"any", "!", false},
		{"any", "$", false},
		{"any", "{", false},
		{"any", "}", false},
		{"any", "{SSHA", false},
		{"any", "{SSHA384}" + base64Of(49), true},
		{"any", "{SSHA384}" + base64Of(48), false},
		{"any", "{SMD5}" + base64Of(17), true},
		{"any", "{SMD5}" + base64Of(16), false},
		{"any", "{SHA}" + base64Of(20), false},
		{"any", "$2", false},
		{"any", "$2b$", false},
		{"any", "bcrypt_sha256$", false},
		{"any", "$P$", false},
		{"any", "$5$", false},
		{"any", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", true},
		{"any", "$y$jCT$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", true}, // 128 MiB
		{"any", "$y$jFT$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", false},
		{"any", "$y$j9T1$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", false},
		{"any", "$y$.9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", false},
		{"any", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQz", false}, // bits that no byte has
		{"any", "$y$j9T$$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", false},
		{"any", "$y$j9T$" + strings.Repeat(".", 88) + "$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", false},
		{"any", "$7$C6..../....SodiumChloride$kBGj9fHznVYFQMEn/qDCfrDevf9YDtcDdKvEqHJLV8D", false},
		{"any", "$argon2id$v=19$m=64,t=1,p=1$" + goodSalt + "$" + goodKey + "\x00", false},
		{"any", "$argon2id$v=19$m=64,t=1,p=1$" + goodSalt + "$" + goodKey + "\n", false},
		{"any", "$argon2id$v=19$m=64,t=1,p=1$" + goodSalt + "$" + goodKey + strings.Repeat("A", 1<<20), false},
	} {
		encoded := forms[test.form](test.params)
		stored, err := Canonical(encoded)
		if (err == nil) != test.ok || err != nil && (!errors.Is(err, ErrMalformedHash) || stored != "") {
			t.Errorf("%.80q: %v, want ok=%v", encoded, err, test.ok)
		}
		if !test.ok {
			if result, err := h.Verify(t.Context(), Claim{}, encoded, "password"); !errors.Is(err, ErrMalformedHash) || result != (Result{}) {
				t.Errorf("%.80q: verified: %+v, %v", encoded, result, err)
			}
		}
	}
	if s := h.Stats(); s.Hashed != 0 {
		t.Errorf("%d hashes were computed", s.Hashed)
	}
}

func TestForeignUnsupported(t *testing.T) {
	t.Parallel()
	for _, encoded := range []string{
		"$gy$j9T$salt$hash", "md5$salt$hash", "plain", "",
		"$2x$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e",
		"$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ",
		"$argon2i$v=16$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ",
	} {
		if _, err := Canonical(encoded); !errors.Is(err, ErrUnsupportedHash) || !errors.Is(err, ErrMalformedHash) {
			t.Errorf("%s: %v", encoded, err)
		}
	}
	if _, err := PBKDF2("md5", 1000, make([]byte, 16), make([]byte, 16)); !errors.Is(err, ErrUnsupportedHash) {
		t.Errorf("PBKDF2 of MD5: %v", err)
	}
	if _, err := Argon2("i", 16, tiny(), make([]byte, 16), make([]byte, 16)); !errors.Is(err, ErrUnsupportedHash) {
		t.Errorf("Argon2 1.0: %v", err)
	}
}

func TestForeignPartsOutOfBounds(t *testing.T) {
	t.Parallel()
	some := make([]byte, 64)
	good := FirebaseScrypt{SignerKey: some, Rounds: 8, MemCost: 14}
	for name, encode := range map[string]func() (string, error){
		"no iterations":       func() (string, error) { return PBKDF2("sha1", 0, some, some) },
		"negative iterations": func() (string, error) { return PBKDF2("sha1", -1, some, some) },
		"iterations":          func() (string, error) { return PBKDF2("sha256", 6_000_001, some, some) },
		"no salt":             func() (string, error) { return PBKDF2("sha256", 1, nil, some) },
		"long salt":           func() (string, error) { return PBKDF2("sha256", 1, make([]byte, 257), some) },
		"short key":           func() (string, error) { return PBKDF2("sha256", 1, some, some[:15]) },
		"long key":            func() (string, error) { return PBKDF2("sha256", 1, some, make([]byte, 1<<20)) },
		"variant":             func() (string, error) { return Argon2("$", 19, tiny(), some, some) },
		"passes":              func() (string, error) { return Argon2("i", 19, Params{262144, 5, 1}, some, some) },
		"signer key":          func() (string, error) { return FirebaseScrypt{Rounds: 8, MemCost: 14}.Encode(some, some) },
		"hash":                func() (string, error) { return good.Encode(some, some[:63]) },
		"firebase salt":       func() (string, error) { return good.Encode(nil, some) },
		"mem_cost 0":          func() (string, error) { return FirebaseScrypt{SignerKey: some, Rounds: 8}.Encode(some, some) },
		// Must not be taken for N.
		"mem_cost 64": func() (string, error) {
			return FirebaseScrypt{SignerKey: some, Rounds: 1, MemCost: 64}.Encode(some, some)
		},
		"rounds": func() (string, error) {
			return FirebaseScrypt{SignerKey: some, Rounds: -8, MemCost: 14}.Encode(some, some)
		},
	} {
		if stored, err := encode(); !errors.Is(err, ErrMalformedHash) || stored != "" {
			t.Errorf("%s: %q, %v", name, stored, err)
		}
	}
	if _, err := good.Encode(some, some); err != nil {
		t.Errorf("good: %v", err)
	}
}

// Whichever part of a hash is spoiled, the error contains nothing of its salt or key.
func TestForeignErrorsShowNothing(t *testing.T) {
	t.Parallel()
	for _, v := range foreignVectors() {
		for at := range len(v.encoded) {
			for _, char := range []string{"", "!", "$", "99999999"} {
				_, err := Canonical(v.encoded[:at] + char + v.encoded[at+1:])
				if err == nil {
					continue
				}
				for part := range strings.FieldsFuncSeq(v.encoded, func(r rune) bool { return r == '$' || r == '}' || r == ',' }) {
					name := strings.Contains(part[:min(4, len(part))], "=") || strings.HasPrefix(part, "argon2") || strings.Contains(part, "crypt") || strings.HasPrefix(part, "pbkdf2")
					if !name && len(part) > 7 && strings.Contains(err.Error(), part[2:8]) {
						t.Errorf("%q at %d: %v", char, at, err)
					}
				}
			}
		}
	}
}

// FuzzCanonical: no text makes it panic, and its result is the only spelling, within bounds, of a hash that Verify
// reads.
func FuzzCanonical(f *testing.F) {
	for _, v := range foreignVectors() {
		f.Add(v.encoded)
	}
	for _, setting := range cheapSettings() {
		f.Add(setting)
	}
	typical := strings.Repeat("x", typicalLength)
	f.Fuzz(func(t *testing.T, encoded string) {
		stored, err := Canonical(encoded)
		if err != nil {
			if !errors.Is(err, ErrMalformedHash) || stored != "" {
				t.Fatalf("%q: %q, %v", encoded, stored, err)
			}
			return
		}
		if again, err := Canonical(stored); err != nil || again != stored {
			t.Fatalf("%q becomes %q and that %q, %v", encoded, stored, again, err)
		}
		d, err := readStored(stored)
		if err != nil {
			t.Fatalf("%q is not read: %v", stored, err)
		}
		if len(stored) > maxForeignLength || !strings.HasPrefix(stored, d.setting()) {
			t.Fatalf("%q has the setting %q", stored, d.setting())
		}
		if units := d.work(typical).units; units == 0 || units > maxForeignTime/nominalRate {
			t.Fatalf("%q costs %d units", stored, units)
		}
		decoy, err := readSetting(d.setting())
		if err != nil || decoy.work(typical) != d.work(typical) {
			t.Fatalf("%q has no decoy: %v", stored, err)
		}
		if s, ok := d.(scryptHash); ok && s.r<<s.logN*128 > MaxMemoryKiB*1024 {
			t.Fatalf("%q takes too much memory", stored)
		}
	})
}
