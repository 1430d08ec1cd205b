package password

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestEveryKindIsKnownEverywhere: a form in the table of kinds has vectors of another program, can be stored and read,
// makes decoys of its cost, is found by the sample of stored hashes, and has a name in reports. TestStoredKinds shows
// the same on a database.
func TestEveryKindIsKnownEverywhere(t *testing.T) {
	t.Parallel()
	vectors := foreignVectors()
	// The vectors of our own form are elsewhere, and Django's SHA-1 is among those of passlib.
	vectors = append(vectors, foreignVector{encoded: setting(tiny()) + goodSalt + "$" + goodKey})
	pattern := regexp.MustCompile(SettingPattern())
	for _, k := range kinds() {
		if len(k.prefixes) == 0 || k.read == nil || len(k.names) == 0 {
			t.Errorf("%v: a part of its row is missing", k.prefixes)
		}
		if (k.setting == "") != (k.filler == "") {
			t.Errorf("%v: it has a setting or a filler, and not both", k.prefixes)
		}
		for _, prefix := range k.prefixes {
			of := slices.DeleteFunc(slices.Clone(vectors), func(v foreignVector) bool { return !strings.HasPrefix(respell(v.encoded), prefix) })
			if len(of) == 0 && prefix != "pbkdf2_sha512$" { // Django has no hasher of its own for it
				t.Errorf("%s: no vector", prefix)
			}
			for _, v := range of {
				checkKind(t, k, pattern, v.encoded, cmp.Or(v.stored, v.encoded))
			}
		}
	}
	for _, p := range preparations() {
		for _, k := range kinds() {
			if k.setting == "" || k.prefixes[0] == passlibBcrypt {
				continue
			}
			checkPrepared(t, p, exampleOf(t, k.prefixes[0], k.filler), pattern)
		}
	}
	for _, spelling := range spellings() {
		if !slices.ContainsFunc(vectors, func(v foreignVector) bool { return strings.HasPrefix(v.encoded, spelling[0]) }) {
			t.Errorf("%s: no vector", spelling[0])
		}
	}
}

// exampleOf returns the cheapest hash with a prefix.
func exampleOf(t *testing.T, prefix, filler string) digest {
	t.Helper()
	d, err := read(prefix + exampleParams(prefix) + filler)
	if err != nil {
		t.Fatalf("%s: %v", prefix, err)
	}
	return d
}

// checkPrepared passes a hash of a prepared password through all code that must know its kind.
func checkPrepared(t *testing.T, p preparation, d digest, pattern *regexp.Regexp) {
	t.Helper()
	stored, err := Canonical(p.scheme + d.encode())
	if err != nil {
		t.Errorf("%s%s: %v", p.scheme, d.setting(), err)
		return
	}
	of, err := readStored(stored)
	if err != nil {
		t.Errorf("%s: %v", stored, err)
		return
	}
	if got := pattern.FindString(stored); got != of.setting() {
		t.Errorf("%s: the sample of stored hashes finds %q, not %q", stored, got, of.setting())
	}
	if decoys := newDecoyTable([]Decoy{{Setting: of.setting(), Weight: 1}}, tiny(), nil); decoys.digests[0].setting() != of.setting() {
		t.Errorf("%s: no decoy of its kind: %s", stored, decoys.digests[0].setting())
	}
	if name := Kind(stored); name == Unrecognised {
		t.Errorf("%s: no name", stored)
	}
	if _, err := Canonical(p.scheme + stored); err == nil {
		t.Errorf("%s: a preparation of a preparation is taken", p.scheme)
	}
	for made, typed := range map[string]string{"Correct-Horse 42 x": "Correct-Horse 42 x", "pa\u00dfwort": "pa\u00dfwort"} {
		again, err := readStored(rekeyed(t, of, made))
		if err != nil || !again.matches(typed) || again.matches(typed+"x") || !again.whole(typed) {
			t.Errorf("%s: made of %q: %v", again.encode(), made, err)
		}
	}
}

// checkKind passes one hash through all code that must know its kind.
func checkKind(t *testing.T, k kind, pattern *regexp.Regexp, encoded, stored string) {
	t.Helper()
	d, err := readStored(stored)
	if err != nil {
		t.Errorf("%s: %v", stored, err)
		return
	}
	setting := d.setting()
	if got := pattern.FindString(stored); got != setting {
		t.Errorf("%s: the sample of stored hashes finds %q, not %q", stored, got, setting)
	}
	if k.setting != "" {
		if got := regexp.MustCompile("^(?:" + k.setting + ")").FindString(stored); got != setting {
			t.Errorf("%s: the pattern of its kind finds %q, not %q", stored, got, setting)
		}
	}
	if decoys := newDecoyTable([]Decoy{{Setting: setting, Weight: 1}}, tiny(), nil); decoys.digests[0].setting() != setting {
		t.Errorf("%s: no decoy of its kind: %s", stored, decoys.digests[0].setting())
	}
	if k.setting != "" && !slices.ContainsFunc(k.names, func(n naming) bool { return regexp.MustCompile(n.pattern).MatchString(stored) }) {
		t.Errorf("%s: no name of its kind: %s", stored, Kind(stored))
	}
	for _, text := range []string{encoded, stored} {
		if name := Kind(text); name == Unrecognised || strings.Contains(name, text[max(strings.LastIndexAny(text, "$}"), 0)+1:]) ||
			strings.Contains(name, "seasalt") {
			t.Errorf("%s: no name, or a salt or a key in it: %s", text, name)
		}
	}
}

// TestSettingPatternTakesAllParameters: the pattern matches all parameters that a stored hash can have.
func TestSettingPatternTakesAllParameters(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(SettingPattern())
	for _, setting := range append(cheapSettings(),
		"$2b$14$", "$scrypt$ln=20,r=2,p=1$", "$scrypt$ln=1,r=64,p=64$", "$firescrypt$ln=18,r=8,p=1$", "$pbkdf2$3000000$",
		"$pbkdf2-sha256$3000000$", "$pbkdf2-sha512$2000000$", "$5$rounds=1000000$", "$6$rounds=1000000$", "$P$I",
	) {
		d, err := readSetting(setting)
		if err != nil {
			t.Errorf("%s: %v", setting, err)
		} else if got := pattern.FindString(d.encode()); got != setting {
			t.Errorf("%s: found %q", setting, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := drawHash(t)
		if got := pattern.FindString(h.encode()); got != h.setting() {
			t.Fatalf("%s: found %q", h.encode(), got)
		}
	})
}

// TestKindNamesWhatNobodyReads: forms that Verify cannot read have a name, and texts of no form have none.
func TestKindNamesWhatNobodyReads(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"$argon2id$m=1$":                     "argon2id of another form",
		"$argon2id$v=19$m=65536,t=3,p=2$a$b": "argon2id v=19 m=65536,t=3,p=2",
		"$2x$10$abc":                         "bcrypt 2x cost 10",
		"$scrypt$16384$8$1$abc":              "scrypt of another form",
		"$7$C6..../....SodiumChloride$":      "scrypt of another form",
		"$pbkdf2-blake$1$a$b":                "pbkdf2-blake of another form",
		"$pbkdf2-sha384$1000$a$b":            "pbkdf2-sha384 1000",
		"$y$j9T$salt$key":                    "yescrypt j9T",
		"$y$zzz$salt$key":                    "crypt $y$",
		"{SHA256-HEX}$2b$10$abc":             "bcrypt 2b cost 10 of the hexadecimal SHA-256 of the password",
		"{CRYPT}$6$salt$key":                 "LDAP {CRYPT}",
		"{SHA}key":                           "LDAP {SHA}",
		"":                                   "empty",
		"geheim":                             Unrecognised,
		"{geheim}":                           Unrecognised,
		"$geheim$":                           Unrecognised,
		"5f4dcc3b5aa765d61d8327deb882cf99":   Unrecognised,
	} {
		if got := Kind(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
