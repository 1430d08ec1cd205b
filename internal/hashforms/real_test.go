package hashforms

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// realHash is a hash that a package wrote, and the result that the test expects.
type realHash struct {
	From, Form, Hash, Password, Today, Want string
}

func realHashes(t testing.TB) []realHash {
	t.Helper()
	file, err := os.Open("testdata/real.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	var list []realHash
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var h realHash
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
	return list
}

// named has the schemes of hashes whose text does not show their form, by the beginning of From.
func named() map[string]string {
	return map[string]string{
		"npm better-auth": "better-auth", "npm lucia 3.2.2 Scrypt": "lucia", "npm oslo 1.2.1 Scrypt": "oslo",
		"Node tutorial": "node-scrypt", "npm pbkdf2-password": "pbkdf2-password",
		"npm passport-local-mongoose": "passport-local-mongoose",
	}
}

// hasher has cheap parameters of its own.
func hasher(t testing.TB) *password.Hasher {
	t.Helper()
	h, err := password.New(password.Config{
		Params: password.Params{MemoryKiB: 64, Time: 1, Threads: 1}, Slots: 2, Queue: 1000, DecoyKey: make([]byte, 32),
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestRealHashes: each hash that can be imported is accepted without a scheme, or with the scheme that the refusal
// names, and logs in.
func TestRealHashes(t *testing.T) {
	t.Parallel()
	h := hasher(t)
	for _, r := range realHashes(t) {
		t.Run(r.From, func(t *testing.T) {
			t.Parallel()
			var o Options
			for from, scheme := range named() {
				if strings.HasPrefix(r.From, from) {
					o.Scheme = scheme
					if _, err := (Options{}).Stored(Source{Text: r.Hash}); err == nil || !strings.Contains(err.Error(), "--scheme "+scheme) {
						if scheme != "lucia" && scheme != "oslo" { // better-auth's, which is named
							t.Errorf("the refusal does not name the scheme %s: %v", scheme, err)
						}
					}
				}
			}
			stored, err := o.Stored(Source{Text: r.Hash})
			switch {
			case err != nil && r.Want == "in" && !strings.HasPrefix(r.Hash, "$gy$"):
				t.Fatal(err)
			case err != nil:
				t.Log(err)
				return
			case r.Want == "no password" && stored != password.None:
				t.Fatalf("stored as %s", stored)
			case stored == password.None:
				return
			}
			got, err := h.Verify(t.Context(), password.Claim{}, stored, r.Password)
			if strings.HasPrefix(r.Want, "option: ") && got.Match {
				t.Error("it matches without the option")
			}
			if strings.HasPrefix(r.Want, "option: ") || strings.HasSuffix(r.From, "NFKC-sensitive password") {
				return // the text does not show the option, and for the last one the password is another
			}
			if err != nil || !got.Match {
				t.Errorf("want %s: %+v, %v", r.Want, got, err)
			}
			if got, err := h.Verify(t.Context(), password.Claim{}, stored, r.Password[1:]); err != nil || got.Match {
				t.Errorf("a wrong password: %+v, %v", got, err)
			}
		})
	}
}

// TestPrehash: Meteor's hashes match if the import has the prehash as an option.
func TestPrehash(t *testing.T) {
	t.Parallel()
	h, n := hasher(t), 0
	for _, r := range realHashes(t) {
		if r.Want != "option: prehash" {
			continue
		}
		n++
		stored, err := Options{Prehash: "sha256-hex"}.Stored(Source{Text: r.Hash})
		if err != nil {
			t.Errorf("%s: %v", r.From, err)
			continue
		}
		if got, err := h.Verify(t.Context(), password.Claim{}, stored, r.Password); err != nil || !got.Match || !got.Weaker {
			t.Errorf("%s: %+v, %v", r.From, got, err)
		}
		if again, err := (Options{}).Stored(Source{Text: stored}); err != nil || again != stored {
			t.Errorf("%s: what is stored becomes %s: %v", r.From, again, err)
		}
	}
	if n != 2 {
		t.Errorf("%d hashes", n)
	}
	if stored, err := (Options{Prehash: "sha256-hex"}).Stored(Source{Text: "!"}); err != nil || stored != password.None {
		t.Errorf("no password: %q, %v", stored, err)
	}
	for _, twice := range []string{"bcrypt_sha256$$2b$04$" + strings.Repeat(".", 53), "{WP-SHA384}$2b$04$" + strings.Repeat(".", 53)} {
		if stored, err := (Options{Prehash: "sha256-hex"}).Stored(Source{Text: twice}); err == nil {
			t.Errorf("%s becomes %s", twice, stored)
		}
	}
}

// TestRefusalsSayWhatItIs: every refusal of a real hash names its form and gives advice.
func TestRefusalsSayWhatItIs(t *testing.T) {
	t.Parallel()
	for _, r := range realHashes(t) {
		_, err := Options{}.Stored(Source{Text: r.Hash})
		if err == nil {
			continue
		}
		text := err.Error()
		if !errors.Is(err, password.ErrMalformedHash) || !strings.Contains(text, "looks like") && !strings.Contains(text, "--scheme") {
			t.Errorf("%s: %v", r.From, err)
		}
		for _, part := range strings.FieldsFunc(r.Hash, func(c rune) bool { return strings.ContainsRune("$:{}|,\" ", c) }) {
			if len(part) > 12 && strings.Contains(text, part[4:12]) && !strings.Contains(r.Hash[:min(len(r.Hash), 30)], part[4:12]) {
				t.Errorf("%s: a part of the hash is in the refusal: %v", r.From, err)
			}
		}
	}
}
