package password

import (
	"cmp"
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// VerifyUnknown claims as much work as Verify does for a wrong password, and computes as many hashes, whichever kind is
// drawn.
func TestUnknownCostsWhatItsKindCosts(t *testing.T) {
	t.Parallel()
	for _, setting := range cheapSettings() {
		for _, typed := range []string{"password", "passworde\u0301", strings.Repeat("x", 129), strings.Repeat("\u03b1\u0313\u0300\u0345", 128), "\ufb01sh e\u0301"} {
			synctest.Test(t, func(t *testing.T) {
				h := newHasher(t, Config{Slots: 1, Queue: 1})
				h.SetDecoys([]Decoy{{Setting: setting, Weight: 1}})
				d, err := readSetting(setting)
				if err != nil {
					t.Fatal(err)
				}
				known := claims(t, h, func() error { _, err := h.Verify(t.Context(), Claim{}, d.encode(), typed); return err })
				unknown := claims(t, h, func() error { return h.VerifyUnknown(t.Context(), Claim{}, "a@example.com", typed) })
				if known != unknown {
					t.Errorf("%s, %q: known %+v, unknown %+v", setting, typed, known, unknown)
				}
			})
		}
	}
}

// VerifyClosed claims as much work as Verify does for a wrong password, and computes as many hashes, for any kind and
// parameters of the stored hash. The right password costs the same as a wrong one.
func TestClosedCostsWhatIsStored(t *testing.T) {
	t.Parallel()
	settings := append(cheapSettings(), "$2b$08$", "$argon2id$v=19$m=128,t=2,p=1$", "$pbkdf2-sha256$20000$")
	for _, setting := range settings {
		for _, typed := range []string{"password", "passworde\u0301", strings.Repeat("x", 129), strings.Repeat("\u03b1\u0313\u0300\u0345", 128), "\ufb01sh e\u0301"} {
			synctest.Test(t, func(t *testing.T) {
				h := newHasher(t, Config{Slots: 1, Queue: 1})
				d, err := readSetting(setting)
				if err != nil {
					t.Fatal(err)
				}
				open := claims(t, h, func() error { _, err := h.Verify(t.Context(), Claim{}, d.encode(), typed); return err })
				closed := claims(t, h, func() error { return h.VerifyClosed(t.Context(), Claim{}, d.encode(), typed) })
				if open != closed {
					t.Errorf("%s, %q: open %+v, closed %+v", setting, typed, open, closed)
				}
			})
		}
	}
	h := newHasher(t, Config{Slots: 1})
	for _, unusable := range []string{None, "", "$2b$31$" + strings.Repeat(".", 53)} {
		if err := h.VerifyClosed(t.Context(), Claim{}, unusable, "password"); !errors.Is(err, ErrMalformedHash) {
			t.Errorf("%q: %v", unusable, err)
		}
	}
}

// TestClosedTakesEveryStoredKind: each hash that Verify reads has a setting that makes another hash of the same cost,
// which is not the stored one.
func TestClosedTakesEveryStoredKind(t *testing.T) {
	t.Parallel()
	check := func(t interface{ Fatalf(string, ...any) }, encoded string) {
		stored, err := readStored(encoded)
		if err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
		decoy, err := readSetting(stored.setting())
		if err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
		if decoy.encode() == encoded || decoy.work("password") != stored.work("password") {
			t.Fatalf("%s: %s, work %+v and %+v", encoded, decoy.encode(), stored.work("password"), decoy.work("password"))
		}
	}
	for _, v := range foreignVectors() {
		check(t, cmp.Or(v.stored, v.encoded))
	}
	rapid.Check(t, func(t *rapid.T) { check(t, drawHash(t).encode()) })
}

// claim is how much work one call claims from the queue and how many hashes it computes.
type claim struct {
	work   work
	hashes uint64
}

func claims(t *testing.T, h *Hasher, call func() error) claim {
	t.Helper()
	held, err := h.admission.acquire(t.Context(), Claim{}, work{units: 1})
	if err != nil {
		t.Fatal(err)
	}
	before := h.Stats().Hashed
	done := make(chan error)
	go func() { done <- call() }()
	synctest.Wait()
	var got claim
	if a := h.admission; a.waiting.size() > 0 {
		got.work = a.waiting.foretell().next(func(*ticket) bool { return false }, a.estimate).work
	}
	h.admission.release(held)
	if err := <-done; err != nil {
		t.Error(err)
	}
	got.hashes = h.Stats().Hashed - before
	return got
}

func cheapSettings() []string {
	return []string{
		"$argon2id$v=19$m=64,t=1,p=1$", "$argon2i$v=19$m=64,t=1,p=1$", "$argon2d$v=19$m=64,t=1,p=1$", "$2a$04$", "$2b$05$",
		"$2y$04$", "bcrypt_sha256$$2b$04$", "$scrypt$ln=4,r=8,p=1$", "$firescrypt$ln=4,r=8,p=1$", "$pbkdf2$100$",
		"$pbkdf2-sha256$100$", "$pbkdf2-sha512$100$", "$5$", "$5$rounds=1000$", "$6$", "$1$", "$apr1$", "$P$5", "{SSHA}",
		"{SSHA256}", "{SSHA384}", "{SSHA512}", "{SMD5}", "$S$5", "$y$j7.$", "$scrypt-kdf$ln=4,r=8,p=1$",
		"$bcrypt-sha256$v=2,t=2b,r=4$", "{SHA256-HEX}$argon2id$v=19$m=64,t=1,p=1$", "{WP-SHA384}$2y$04$", "{MD5-HEX}$S$5",
	}
}

// A table with hashes of several kinds returns decoys of each kind in proportion.
func TestDecoysOfForeignKinds(t *testing.T) {
	t.Parallel()
	var decoys []Decoy
	for _, setting := range cheapSettings() {
		decoys = append(decoys, Decoy{setting, 1})
	}
	for _, bad := range []string{
		"", "$", "$2b$15$", "$2b$10", "$2b$10$CCCCCCCCCCCCCCCCCCCCC.", "$scrypt$", "$scrypt$ln=30,r=8,p=1$", "$H$5", "pbkdf2_sha256$100$",
		"scrypt$", "$5$rounds=5000$", "$pbkdf2$i=100,l=20$", "{ssha}", "{SHA256-HEX}$2b$04$", "{WP-SHA384}", "$y$", "$argon2id$v=19$t=1,m=64,p=1$",
	} {
		decoys = append(decoys, Decoy{bad, 1 << 40})
	}
	table := newDecoyTable(decoys, tiny(), nil)
	if len(table.digests) != len(cheapSettings()) {
		t.Errorf("%d settings, want %d", len(table.digests), len(cheapSettings()))
	}
	half := newDecoyTable([]Decoy{{"$2b$10$", 700}, {"$argon2id$v=19$m=19456,t=2,p=1$", 300}}, tiny(), nil)
	counts := map[string]float64{}
	const accounts = 20_000
	for i := range accounts {
		counts[half.draw(testKey(), account(i)).setting()]++
	}
	for setting, want := range map[string]float64{"$2b$10$": 0.7, "$argon2id$v=19$m=19456,t=2,p=1$": 0.3} {
		if got := counts[setting] / accounts; math.Abs(got-want) > 5*math.Sqrt(want*(1-want)/accounts) {
			t.Errorf("%s: drawn for %.3f of the accounts, want %.3f", setting, got, want)
		}
	}
}

// The time of one kind says nothing about another: only its own estimate changes.
func TestPacesAreApart(t *testing.T) {
	t.Parallel()
	a := newAdmission(1, 1, time.Now, perUnit)
	for range 50 {
		a.measured(work{engineBcrypt, 10}, 50*time.Millisecond)
	}
	if got := a.paces[engineBcrypt].rate / perUnit; got < 4.9 || got > 5.1 {
		t.Errorf("bcrypt: %v of the first guess, want 5", got)
	}
	for e := range a.paces {
		if engine(e) != engineBcrypt && a.paces[e].rate != perUnit {
			t.Errorf("engine %d has become %v", e, a.paces[e].rate)
		}
	}
	if got := a.stats(); got.Hashed != 50 || got.HashingTime != 50*50*time.Millisecond {
		t.Errorf("stats: %+v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := a.acquire(ctx, Claim{}, work{engineBcrypt, 10}); !errors.Is(err, ErrOverloaded) {
		t.Errorf("bcrypt that takes 50 ms in 30 ms: %v", err)
	}
	if _, err := a.acquire(ctx, Claim{}, work{engineArgon2, 10}); err != nil {
		t.Errorf("Argon2 that takes 10 ms in 30 ms: %v", err)
	}
}

// An estimate that is too high corrects itself even while the machine is measured by hashes of other kinds: each kind
// has its own probe once a second.
func TestProbesAreApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 1, time.Now, perUnit)
		a.paces[engineBcrypt].rate = 1000 * perUnit
		time.Sleep(probeEvery)
		a.measured(work{units: 10}, 10*time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := a.acquire(ctx, Claim{}, work{engineBcrypt, 10}); err != nil {
			t.Errorf("bcrypt is not tried: %v", err)
		}
	})
}
