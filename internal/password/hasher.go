// Package password keeps and checks passwords: Argon2id hashes as PHC strings, computed in a bounded number of slots
// behind a queue that knows each caller's deadline, and the rules for new passwords. It also checks, but never makes,
// the hashes of other programs that Canonical lists.
//
// Memory is bounded by Config.Slots times the memory of one hash, whatever the number of callers. The password rules
// and the hashing are separate: Policy is for new passwords, and Hasher refuses only passwords longer than MaxLength.
package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	xargon2 "golang.org/x/crypto/argon2"

	"github.com/latchkey-auth/latchkey/internal/argon2"
)

const (
	minDecoyKeyLength = 32

	// calibrationMemoryKiB is small, so that New takes a few milliseconds.
	calibrationMemoryKiB = 4096
	calibrationRuns      = 3
	// nominalRate is in nanoseconds per KiB and pass of x/crypto: 22 ms for 19,456 KiB and two passes. The work of
	// other programs' hashes is counted in it. It is also used if the clock does not move during calibration.
	nominalRate = 570
)

// Config sets up a Hasher.
type Config struct {
	// Params are those of new hashes. Required.
	Params Params
	// Slots is how many hashes are computed at once, at least 1. As many as there are cores (divided by
	// Params.Threads) keeps them busy; more only adds memory.
	Slots int
	// Queue is how many callers may wait for a slot, at least 0.
	Queue int
	// DecoyKey, at least 32 bytes, is the key for the choice of a decoy for accounts that do not exist. Replicas must
	// share it: with different keys they would take different times for the same address.
	DecoyKey []byte
	// Peppers are those of other programs, for stored hashes that name them. New hashes have none.
	Peppers []Pepper
	// Now is the clock of deadlines and measurements. Nil means time.Now.
	Now func() time.Time
}

// Hasher computes and verifies password hashes. It is safe for concurrent use.
type Hasher struct {
	params    Params
	decoyKey  []byte
	peppers   pepperSet
	now       func() time.Time
	admission *admission
	pool      *argon2.Pool // the memory of Argon2, for each slot
	decoys    atomic.Pointer[decoyTable]
}

// Result is the outcome of Verify.
type Result struct {
	// Match says that the password is the one that was hashed.
	Match bool
	// Weaker means that the hash should be replaced by Hash of this password. That is so if it is not Argon2id; if its
	// cost is lower than that of Config.Params and nothing about it is stronger; or if the cost is equal, the salt or
	// key is shorter, and nothing is stronger. It is set only together with Match, and never if other passwords match
	// too: bcrypt reads 72 bytes, and a caller who has not typed the end of the owner's longer password must not
	// replace the hash by one of the shorter password.
	Weaker bool
}

// Stats are figures for metrics. Totals count from New onwards.
type Stats struct {
	Slots           int           // Config.Slots
	Queue           int           // Config.Queue
	InUse           int           // slots taken now
	Waiting         int           // callers in the queue now
	Hashed          uint64        // hashes computed
	Foreign         uint64        // of these, other kinds than Argon2
	TurnedAway      uint64        // calls refused with OverloadedError
	KnownTurnedAway uint64        // of these, for a Claim that was Known
	Abandoned       uint64        // calls whose context ended while they waited, or before anything was compared
	HashingTime     time.Duration // sum over Hashed
	WaitingTime     time.Duration // sum over all that waited
}

// New checks the settings and measures this machine with a few small hashes.
func New(cfg Config) (*Hasher, error) {
	if err := cfg.Params.Validate(); err != nil {
		return nil, fmt.Errorf("password hashing: %w", err)
	}
	if cfg.Slots < 1 {
		return nil, fmt.Errorf("password hashing: slots must be at least 1, not %d", cfg.Slots)
	}
	if cfg.Queue < 0 {
		return nil, fmt.Errorf("password hashing: queue must be at least 0, not %d", cfg.Queue)
	}
	if len(cfg.DecoyKey) < minDecoyKeyLength {
		return nil, errors.New("password hashing: decoy key must have at least 32 bytes")
	}
	peppers, err := newPepperSet(cfg.Peppers)
	if err != nil {
		return nil, fmt.Errorf("password hashing: %w", err)
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	h := &Hasher{
		params:   cfg.Params,
		peppers:  peppers,
		decoyKey: append([]byte(nil), cfg.DecoyKey...),
		now:      now,
		pool:     argon2.NewPool(cfg.Slots, cfg.Params.argon2("")),
	}
	own, others := calibrate(cfg.Params, h.pool, now)
	h.pool.Close() // a replica that hashes nothing keeps no memory for it
	h.admission = newAdmission(cfg.Slots, cfg.Queue, now, others)
	h.admission.paces[engineArgon2].rate = own
	h.SetDecoys(nil)
	return h, nil
}

// Hash returns the PHC string of the password with Config.Params and a fresh salt. It fails with ErrTooLong
// before anything is computed, with *OverloadedError, or with ctx.Err() if ctx ends while it waits.
func (h *Hasher) Hash(ctx context.Context, by Claim, password string) (string, error) {
	nfc, err := normalise(password)
	if err != nil {
		return "", err
	}
	hash := argon2Hash{Params: h.params, salt: randomBytes(newSaltLength)}
	t, err := h.admission.acquire(ctx, by, hash.work(nfc))
	if err != nil {
		return "", err
	}
	defer h.admission.release(t)
	err = h.timed(hash.work(nfc), func() error {
		hash.key, err = hash.derive(ctx, h.pool, nfc, newKeyLength)
		return err
	})
	if err != nil {
		return "", err
	}
	return hash.encode(), nil
}

// Verify compares the password with a stored hash of any of the forms listed at Canonical. It compares the NFC form
// first. If the bytes as typed differ from that form and the NFC form does not match, it tries the bytes, since other
// programs hash the bytes as typed. If the NFKC form differs, it tries that too, since some programs (better-auth,
// Lucia) hash it. A password longer than MaxLength does not match and costs nothing.
//
// All kinds but Argon2id are Weaker, whatever their cost, if the match proves which password was hashed. Verify ignores
// those parts of a password that the program of the hash ignored: the owner may be used to leaving them out.
//
// An error means that the password was compared with nothing: ErrMalformedHash (of which ErrNoPepper is one),
// *OverloadedError, or ctx.Err() if ctx ends before a slot is free or, for Argon2, while its first hash is computed,
// which then stops within a millisecond. After the first comparison Verify ignores ctx and reports a match or a
// mismatch. Otherwise a client with short deadlines could make guesses that nobody counts. A caller that must not
// reveal a malformed hash calls VerifyUnknown after it.
func (h *Hasher) Verify(ctx context.Context, by Claim, encoded, password string) (Result, error) {
	stored, err := h.stored(encoded)
	if err != nil {
		return Result{}, err
	}
	return h.match(ctx, by, stored, password)
}

// VerifyUnknown costs as much as Verify does for an existing account and a wrong password, and returns the same errors.
// It computes the same number of hashes in the same queue, and none for a password that is too long. It returns an
// error only if nothing was computed. Account is the normalised address. The cost for an account does not change while
// the proportions given to SetDecoys do not change.
func (h *Hasher) VerifyUnknown(ctx context.Context, by Claim, account, password string) error {
	_, err := h.match(ctx, by, h.decoys.Load().draw(h.decoyKey, account), password)
	return err
}

// VerifyClosed costs as much as Verify does for this stored hash and a wrong password, and returns the same errors,
// also ErrMalformedHash. It compares the password with another hash of the same kind and parameters, which no password
// matches. So nobody can tell from the time whether an account still accepts guesses.
func (h *Hasher) VerifyClosed(ctx context.Context, by Claim, encoded, password string) error {
	stored, err := h.stored(encoded)
	if err != nil {
		return err
	}
	decoy, err := readSetting(stored.setting())
	if err == nil {
		decoy, err = h.peppers.season(decoy)
	}
	if err != nil {
		return err
	}
	_, err = h.match(ctx, by, decoy, password)
	return err
}

// SetDecoys sets how frequent each kind, with its parameters, is among the stored hashes. So unknown accounts cost as
// much as known ones, also while hashes of several programs are stored. Entries with a weight below one or a setting
// that no stored hash can have are left out. If no entry is left, Config.Params are used.
func (h *Hasher) SetDecoys(decoys []Decoy) {
	h.decoys.Store(newDecoyTable(decoys, h.params, h.peppers))
}

// HasPepper reports whether Config.Peppers has the one with this ID.
func (h *Hasher) HasPepper(id string) bool {
	_, ok := h.peppers[id]
	return ok
}

// stored reads a stored hash, with the pepper that it names.
func (h *Hasher) stored(encoded string) (digest, error) {
	d, err := readStored(encoded)
	if err != nil {
		return nil, err
	}
	return h.peppers.season(d)
}

// Stats returns the figures of this moment.
func (h *Hasher) Stats() Stats {
	return h.admission.stats()
}

// match compares for known and unknown accounts alike. If a password is not in NFC or NFKC, all of its hashes are
// computed in one slot, so that a caller never holds a slot while it waits for another. If ctx ends, it stops only
// before the first comparison: a caller who learns that the first did not match has made a guess, and it must count.
func (h *Hasher) match(ctx context.Context, by Claim, stored digest, password string) (Result, error) {
	nfc, err := normalise(password)
	if err != nil {
		return Result{}, nil // no program makes a hash of such a password
	}
	candidates := []string{nfc}
	if password != nfc {
		candidates = append(candidates, password)
	}
	compatible, differs := compatibility(nfc)
	if differs {
		candidates = append(candidates, compatible)
	}
	candidates = slices.DeleteFunc(candidates, func(c string) bool { return !stored.accepts(c) })
	if len(candidates) == 0 {
		return Result{}, nil // nor of these candidates
	}
	all := stored.work(candidates[0])
	for _, candidate := range candidates[1:] {
		all.units += stored.work(candidate).units
	}
	t, err := h.admission.acquire(ctx, by, all)
	if err != nil {
		return Result{}, err
	}
	defer h.admission.release(t)
	compared := context.WithoutCancel(ctx)
	for i, candidate := range candidates {
		within := compared
		if i == 0 {
			within = ctx
		}
		match := false
		err := h.timed(stored.work(candidate), func() (err error) {
			match, err = compare(within, h.pool, stored, candidate)
			return err
		})
		if err != nil {
			return Result{}, err
		}
		if match {
			// The owner may also type the plain letters of compatible. A new hash of this password would not match
			// those.
			typed := !differs || candidate != compatible
			return Result{Match: true, Weaker: typed && stored.weakerThan(h.params) && stored.whole(candidate)}, nil
		}
	}
	return Result{}, nil
}

// timed computes one hash in the goroutine of a caller that holds a slot. A hash that stopped before its end returns an
// error, and says nothing about the pace of the machine.
func (h *Hasher) timed(w work, hash func() error) error {
	started := h.now()
	if err := hash(); err != nil {
		h.admission.stopped()
		return err
	}
	h.admission.measured(w, h.now().Sub(started))
	return nil
}

// calibrate returns nanoseconds per KiB and pass: own for Argon2 as internal/argon2 computes it, and others for the
// hashes of other programs, whose work is counted in the pace of x/crypto.
func calibrate(params Params, pool *argon2.Pool, now func() time.Time) (own, others float64) {
	p := Params{MemoryKiB: min(params.MemoryKiB, calibrationMemoryKiB), Time: 1, Threads: 1}
	salt, key := make([]byte, newSaltLength), make([]byte, newKeyLength)
	others = measurePace(p, now, func() {
		xargon2.IDKey(nil, salt, p.Time, p.MemoryKiB, p.Threads, newKeyLength)
	})
	own = measurePace(p, now, func() {
		_ = pool.Derive(context.Background(), key, p.argon2(""), &argon2.Input{Salt: salt}) // the context does not end
	})
	return own, others
}

// measurePace returns nanoseconds per KiB and pass of the best of a few runs: an interrupted run says nothing about the
// machine.
func measurePace(p Params, now func() time.Time, hash func()) float64 {
	var best time.Duration
	for range calibrationRuns {
		started := now()
		hash()
		if took := now().Sub(started); took > 0 && (best == 0 || took < best) {
			best = took
		}
	}
	if best == 0 {
		return nominalRate
	}
	return float64(best) / float64(p.cost())
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // on failure it crashes the program and returns no error
	return b
}
