package password

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"
	"pgregory.net/rapid"

	ownargon2 "github.com/latchkey-auth/latchkey/internal/argon2"
)

// tiny keeps hashing below a tenth of a millisecond.
func tiny() Params { return Params{MemoryKiB: 64, Time: 1, Threads: 1} }

// newHasher fills in the settings that a test does not set.
func newHasher(t *testing.T, cfg Config) *Hasher {
	t.Helper()
	if cfg.Params == (Params{}) {
		cfg.Params = tiny()
	}
	if cfg.DecoyKey == nil {
		cfg.DecoyKey = bytes.Repeat([]byte{7}, 32)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestNewChecksItsSettings(t *testing.T) {
	t.Parallel()
	good := Config{Params: tiny(), Slots: 1, Queue: 0, DecoyKey: make([]byte, 32)}
	if _, err := New(good); err != nil {
		t.Fatalf("good settings without a clock: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"slots":   func(c *Config) { c.Slots = 0 },
		"queue":   func(c *Config) { c.Queue = -1 },
		"decoy":   func(c *Config) { c.DecoyKey = make([]byte, 31) },
		"memory":  func(c *Config) { c.Params.MemoryKiB = 7 },
		"time":    func(c *Config) { c.Params.Time = 0 },
		"threads": func(c *Config) { c.Params.Threads = 0 },
		"passes":  func(c *Config) { c.Params = Params{MemoryKiB: MaxMemoryKiB, Time: 5, Threads: 1} },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHashVerify(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	seen := make(map[string]bool)
	rapid.Check(t, func(rt *rapid.T) {
		password := rapid.StringN(0, MaxLength/2, -1).Draw(rt, "password")
		encoded, err := h.Hash(t.Context(), Claim{}, password)
		if errors.Is(err, ErrTooLong) { // a few code points grow to three in NFC
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		if !strings.HasPrefix(encoded, phcPrefix+"m=64,t=1,p=1$") {
			rt.Fatalf("hash has the form %s", encoded)
		}
		parsed, err := parse(encoded)
		if err != nil || len(parsed.salt) != 16 || len(parsed.key) != 32 {
			rt.Fatalf("%d bytes of salt, %d of key: %v", len(parsed.salt), len(parsed.key), err)
		}
		if seen[string(parsed.salt)] {
			rt.Fatal("a salt came twice")
		}
		seen[string(parsed.salt)] = true
		if result, err := h.Verify(t.Context(), Claim{}, encoded, password); err != nil || result != (Result{Match: true}) {
			rt.Fatalf("right password: %+v, %v", result, err)
		}
		if result, err := h.Verify(t.Context(), Claim{}, encoded, password+"!"); err != nil || result != (Result{}) {
			rt.Fatalf("wrong password: %+v, %v", result, err)
		}
	})
}

func TestWeakerOnlyWithMatch(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1, Params: Params{MemoryKiB: 128, Time: 1, Threads: 1}})
	weak, err := newHasher(t, Config{Slots: 1}).Hash(t.Context(), Claim{}, "right")
	if err != nil {
		t.Fatal(err)
	}
	if result, err := h.Verify(t.Context(), Claim{}, weak, "right"); err != nil || result != (Result{Match: true, Weaker: true}) {
		t.Errorf("right password: %+v, %v", result, err)
	}
	if result, err := h.Verify(t.Context(), Claim{}, weak, "wrong"); err != nil || result != (Result{}) {
		t.Errorf("wrong password: %+v, %v", result, err)
	}
}

func TestMalformedHash(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	if _, err := h.Verify(t.Context(), Claim{}, "$2b$10$x", "password"); !errors.Is(err, ErrMalformedHash) {
		t.Errorf("Verify: %v", err)
	}
	if got := h.Stats().Hashed; got != 0 {
		t.Errorf("%d hashes were computed", got)
	}
}

const (
	composed   = "Brücke é Å pass" // NFC
	decomposed = "Bru\u0308cke e\u0301 \u212b pass"
)

// A password is the same in whatever way a keyboard composes it.
func TestNormalisation(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	for _, stored := range []string{composed, decomposed} {
		encoded, err := h.Hash(t.Context(), Claim{}, stored)
		if err != nil {
			t.Fatal(err)
		}
		for _, typed := range []string{composed, decomposed} {
			if result, err := h.Verify(t.Context(), Claim{}, encoded, typed); err != nil || !result.Match {
				t.Errorf("hash of %+q, typed %+q: %+v, %v", stored, typed, result, err)
			}
		}
	}
}

// Each case costs the stated number of hashes. An unknown account costs as many as a known one with a wrong password.
func TestCostsInHashes(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	foreign := argon2Hash{Params: tiny(), salt: make([]byte, 16)} // of the bytes as typed
	foreign.key = argon2.IDKey([]byte(decomposed), foreign.salt, 1, 64, 1, 32)
	own, err := h.Hash(t.Context(), Claim{}, composed)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, encoded, typed string
		match                bool
		hashes               uint64
	}{
		{"right", own, composed, true, 1},
		{"right, composed otherwise", own, decomposed, true, 1},
		{"right, as typed", foreign.encode(), decomposed, true, 2},
		{"typed in NFC, hashed otherwise", foreign.encode(), composed, false, 1},
		{"wrong", own, "wrong", false, 1},
		{"wrong and not in NFC", own, "wrong e\u0301", false, 2},
		{"empty", own, "", false, 1},
		{"too long", own, strings.Repeat("x", MaxLength+1), false, 0},
		{"too long to normalise", own, strings.Repeat("e\u0301", 1<<18), false, 0},
	} {
		before := h.Stats().Hashed
		result, err := h.Verify(t.Context(), Claim{}, test.encoded, test.typed)
		if err != nil || result.Match != test.match {
			t.Errorf("%s: %+v, %v", test.name, result, err)
		}
		if got := h.Stats().Hashed - before; got != test.hashes {
			t.Errorf("%s: %d hashes, want %d", test.name, got, test.hashes)
		}
		if test.match {
			continue
		}
		before = h.Stats().Hashed
		if err := h.VerifyUnknown(t.Context(), Claim{}, "nobody@example.com", test.typed); err != nil {
			t.Errorf("%s, unknown: %v", test.name, err)
		}
		if got := h.Stats().Hashed - before; got != test.hashes {
			t.Errorf("%s, unknown: %d hashes, want %d", test.name, got, test.hashes)
		}
	}
}

func TestHashRefusesTooLong(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	for _, password := range []string{strings.Repeat("é", MaxLength+1), strings.Repeat("x", 1<<20)} {
		if _, err := h.Hash(t.Context(), Claim{}, password); !errors.Is(err, ErrTooLong) {
			t.Errorf("%d bytes: %v", len(password), err)
		}
	}
	if got := h.Stats().Hashed; got != 0 {
		t.Errorf("%d hashes were computed", got)
	}
}

// calls are the three ways to hash; each must treat deadlines and slots alike.
func calls(t *testing.T, h *Hasher) map[string]func(context.Context) error {
	t.Helper()
	stored := argon2Hash{Params: tiny(), salt: make([]byte, 16), key: make([]byte, 32)}.encode()
	return map[string]func(context.Context) error{
		"Hash":          func(ctx context.Context) error { _, err := h.Hash(ctx, Claim{}, "password"); return err },
		"Verify":        func(ctx context.Context) error { _, err := h.Verify(ctx, Claim{}, stored, "password"); return err },
		"VerifyUnknown": func(ctx context.Context) error { return h.VerifyUnknown(ctx, Claim{}, "a@example.com", "password") },
	}
}

func TestTurnedAwayWithoutHashing(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1, Queue: 1})
	h.admission.paces[engineArgon2].rate = 1e9 / 64 // one second for a tiny hash
	h.admission.paces[engineArgon2].probed = time.Now().Add(time.Hour)
	for name, call := range calls(t, h) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := call(ctx)
		cancel()
		overloaded, ok := errors.AsType[*OverloadedError](err)
		if !ok || !errors.Is(err, ErrOverloaded) || overloaded.RetryAfter < time.Second || overloaded.RetryAfter > 3*time.Second {
			t.Errorf("%s with a deadline that cannot be met: %v", name, err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	if got := h.Stats(); got.Hashed != 0 || got.TurnedAway != 3 || got.InUse != 0 {
		t.Errorf("stats: %+v", got)
	}
}

func TestFullQueue(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1, Queue: 0})
	held, err := h.admission.acquire(t.Context(), Claim{}, work{units: 64})
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range calls(t, h) {
		if err := call(t.Context()); !errors.Is(err, ErrOverloaded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.admission.release(held)
	for name, call := range calls(t, h) {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s afterwards: %v", name, err)
		}
	}
	if got := h.Stats(); got.Hashed != 3 || got.TurnedAway != 3 || got.InUse != 0 || got.HashingTime <= 0 {
		t.Errorf("stats: %+v", got)
	}
}

// An unknown account claims the work of the parameters that were drawn for it, as a known one claims that of its hash:
// twice for a password that is not in NFC.
func TestUnknownClaimsTheDrawnCost(t *testing.T) {
	t.Parallel()
	drawn := Params{MemoryKiB: 256, Time: 3, Threads: 2}
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(t, Config{Slots: 1, Queue: 1})
		h.SetDecoys([]Decoy{{Setting: setting(drawn), Weight: 1}})
		stored := argon2Hash{Params: drawn, salt: make([]byte, 16), key: make([]byte, 32)}.encode()
		for typed, want := range map[string]uint64{"password": 768, "passworde\u0301": 1536} {
			for name, call := range map[string]func() error{
				"known":   func() error { _, err := h.Verify(t.Context(), Claim{}, stored, typed); return err },
				"unknown": func() error { return h.VerifyUnknown(t.Context(), Claim{}, "a@example.com", typed) },
			} {
				held, err := h.admission.acquire(t.Context(), Claim{}, work{units: 1})
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error)
				go func() { done <- call() }()
				synctest.Wait()
				if got := h.admission.waiting.units[engineArgon2]; got != want {
					t.Errorf("%s, %q: claims %d, want %d", name, typed, got, want)
				}
				h.admission.release(held)
				if err := <-done; err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	})
}

// derived is the key that a hash of these parameters has for a password.
func derived(t *testing.T, h argon2Hash, password string, length int) []byte {
	t.Helper()
	key, err := h.derive(t.Context(), ownargon2.NewPool(0, ownargon2.Params{}), password, length)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A guess that was compared gets an answer, whenever its time ends after that: between the two hashes of a password that
// is not in NFC, or after both. If its time ends before, nothing is compared, and the call says so.
func TestComparedIsAnswered(t *testing.T) {
	t.Parallel()
	const typed = "passworde\u0301"
	onMeasure := func() {}
	h := newHasher(t, Config{Slots: 1, Now: func() time.Time { onMeasure(); return time.Now() }})
	wrong := argon2Hash{Params: tiny(), salt: make([]byte, 16), key: make([]byte, 32)}
	asTyped := wrong
	asTyped.key = derived(t, asTyped, typed, 32)
	verify := func(stored argon2Hash, want bool) func(context.Context) error {
		return func(ctx context.Context) error {
			result, err := h.Verify(ctx, Claim{}, stored.encode(), typed)
			if err == nil && result.Match != want {
				t.Errorf("match: %v, want %v", result.Match, want)
			}
			return err
		}
	}
	for name, call := range map[string]func(context.Context) error{
		"wrong":   verify(wrong, false),
		"right":   verify(asTyped, true),
		"unknown": func(ctx context.Context) error { return h.VerifyUnknown(ctx, Claim{}, "a@example.com", typed) },
	} {
		for ends := 2; ends <= 6; ends++ { // the first reading is at the start of the call
			ctx, cancel := context.WithCancel(t.Context())
			before, readings := h.Stats().Hashed, 0
			onMeasure = func() {
				if readings++; readings == ends {
					cancel()
				}
			}
			stopped := h.Stats().Abandoned
			err := call(ctx)
			cancel()
			s := h.Stats()
			if ends == 2 { // when the first hash begins
				if !errors.Is(err, context.Canceled) || s.Hashed != before || s.Abandoned != stopped+1 || s.InUse != 0 {
					t.Errorf("%s, over before the first hash: %v, stats %+v", name, err, s)
				}
				continue
			}
			if err != nil || s.Hashed-before != 2 || s.Abandoned != stopped || s.InUse != 0 {
				t.Errorf("%s, over at reading %d: %v, stats %+v", name, ends, err, s)
			}
		}
	}
}

// overSoon is a context that is over as soon as somebody waits for its end: here, the hash.
type overSoon struct {
	once sync.Once
	done chan struct{}
}

func (o *overSoon) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }
func (o *overSoon) Value(any) any                           { return nil }

func (o *overSoon) Done() <-chan struct{} {
	o.once.Do(func() { close(o.done) })
	return o.done
}

func (o *overSoon) Err() error {
	select {
	case <-o.done:
		return context.Canceled
	default:
		return nil
	}
}

// TestStopsWhileHashing: Hash and Verify of Argon2, also behind a digest of the password, stop in the middle of a hash.
// The slot is free at once, and the pace of the machine is as before.
func TestStopsWhileHashing(t *testing.T) {
	t.Parallel()
	if ownargon2.Kernel() == "x/crypto" {
		return // it does not stop
	}
	long := Params{MemoryKiB: 8192, Time: 1, Threads: 1}
	h := newHasher(t, Config{Slots: 1, Params: long})
	stored := argon2Hash{Params: long, salt: make([]byte, 16), key: make([]byte, 32)}.encode()
	rate := h.admission.paces[engineArgon2].rate
	verify := func(encoded string) func(context.Context) error {
		return func(ctx context.Context) error {
			result, err := h.Verify(ctx, Claim{}, encoded, "password")
			if result != (Result{}) {
				t.Errorf("the result is %+v", result)
			}
			return err
		}
	}
	for name, call := range map[string]func(context.Context) error{
		"Hash":     func(ctx context.Context) error { _, err := h.Hash(ctx, Claim{}, "password"); return err },
		"Verify":   verify(stored),
		"prepared": verify("{SHA256-HEX}" + stored),
	} {
		err := call(&overSoon{done: make(chan struct{})})
		if s := h.Stats(); !errors.Is(err, context.Canceled) || s.Hashed != 0 || s.InUse != 0 {
			t.Errorf("%s: %v, stats %+v", name, err, s)
		}
		if got := h.admission.paces[engineArgon2].rate; got != rate {
			t.Errorf("%s: the pace has become %v, and was %v", name, got, rate)
		}
	}
}

// The first estimate of Argon2 is the pace of our own code, and that of all others the pace of x/crypto, in which their
// work is counted: they do not become faster with it.
func TestFirstPaces(t *testing.T) {
	t.Parallel()
	var readings int
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := newHasher(t, Config{Slots: 1, Now: func() time.Time {
		if readings++; readings%2 == 0 && readings <= 2*2*calibrationRuns { // the end of a run
			at = at.Add(time.Millisecond)
			if readings <= 2*calibrationRuns {
				at = at.Add(2 * time.Millisecond)
			}
		}
		return at
	}})
	cost := float64(tiny().MemoryKiB)
	for e, p := range h.admission.paces {
		want := 3e6 / cost
		if engine(e) == engineArgon2 {
			want = 1e6 / cost
		}
		if p.rate != want {
			t.Errorf("engine %d: %v ns for each unit, not %v", e, p.rate, want)
		}
	}
}

// TestMemoryOfSlots is not parallel: it counts what the whole process allocates. A hash takes its memory from its slot:
// ten take less of Go's heap than one of them has memory.
func TestMemoryOfSlots(t *testing.T) { //nolint:paralleltest // see above
	if ownargon2.Kernel() == "x/crypto" {
		return // it allocates
	}
	h := newHasher(t, Config{Slots: 1, Params: Params{MemoryKiB: 19456, Time: 1, Threads: 1}})
	encoded, err := h.Hash(t.Context(), Claim{}, "password")
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		if result, err := h.Verify(t.Context(), Claim{}, encoded, "password"); err != nil || !result.Match {
			t.Fatalf("%+v, %v", result, err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("ten hashes have allocated %d KiB", got>>10)
	}
}

// TestSecret: a pepper of RFC 9106 is part of the hash, and not of the text.
func TestSecret(t *testing.T) {
	t.Parallel()
	h := argon2Hash{Params: tiny(), salt: make([]byte, 16), secret: []byte("pepper")}
	h.key = derived(t, h, "password", 32)
	without := h
	without.secret = nil
	if !h.matches("password") || h.matches("Password") || without.matches("password") {
		t.Error("the secret is not part of the hash")
	}
	want := make([]byte, 32)
	in := ownargon2.Input{Password: []byte("password"), Salt: h.salt, Secret: []byte("pepper")}
	if err := ownargon2.NewPool(0, ownargon2.Params{}).Derive(t.Context(), want, tiny().argon2(""), &in); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(h.key, want) || strings.Contains(h.encode(), "pepper") || h.encode() != without.encode() {
		t.Errorf("another key than RFC 9106's, or a text with the secret: %s", h.encode())
	}
}

// With a clock that does not move nothing can be measured, so the first guess stays.
func TestFixedClock(t *testing.T) {
	t.Parallel()
	fixed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := newHasher(t, Config{Slots: 1, Now: func() time.Time { return fixed }})
	if _, err := h.Hash(t.Context(), Claim{}, "password"); err != nil {
		t.Fatal(err)
	}
	if h.admission.paces[engineArgon2].rate != nominalRate || h.Stats().Hashed != 1 {
		t.Errorf("rate %v, stats %+v", h.admission.paces[engineArgon2].rate, h.Stats())
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 2, Queue: 3})
	encoded, err := h.Hash(t.Context(), Claim{}, "password")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 32 {
		group.Go(func() {
			for range 20 {
				h.SetDecoys([]Decoy{{setting(tiny()), int64(i)}, {setting(Params{MemoryKiB: 128, Time: 1, Threads: 2}), 5}})
				err := h.VerifyUnknown(t.Context(), Claim{}, "a@example.com", "password")
				if err != nil && !errors.Is(err, ErrOverloaded) {
					t.Errorf("VerifyUnknown: %v", err)
				}
				result, err := h.Verify(t.Context(), Claim{}, encoded, "password")
				if err == nil && !result.Match || err != nil && !errors.Is(err, ErrOverloaded) {
					t.Errorf("Verify: %+v, %v", result, err)
				}
				if s := h.Stats(); s.InUse > 2 || s.Waiting > 3 {
					t.Errorf("stats: %+v", s)
				}
			}
		})
	}
	group.Wait()
	if s := h.Stats(); s.InUse != 0 || s.Waiting != 0 || s.Hashed+s.TurnedAway != 1+32*20*2 {
		t.Errorf("stats afterwards: %+v", s)
	}
}
