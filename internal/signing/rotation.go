package signing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// RotatorConfig has the settings of a Rotator. All fields are required, except Algorithm and Period.
type RotatorConfig struct {
	// Store holds the keys.
	Store KeyStore
	// SealKeys are those of Config. New keys are sealed under the first.
	SealKeys [][]byte
	// Algorithm is that of Config. If the active key has another algorithm, Tend makes a key of this algorithm
	// its successor, unless a key of this algorithm was active at any time since NewRotator. So each start of a
	// replica changes the algorithm once at most: if replicas have different settings, the last one to start
	// decides, and they do not switch back and forth. Empty: a successor has the algorithm of the key before it.
	Algorithm accesstoken.Algorithm
	// Period is the age of the active key at which Tend rotates. 0: never.
	Period time.Duration
	// MaxTTL is that of Config. No token is valid for longer, so a key that signed its last token more than
	// MaxTTL and an hour ago is not needed any more.
	MaxTTL time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Rotator changes the states of the signing keys in a store. It is safe for concurrent use, also by several
// replicas.
type Rotator struct {
	keys     keyChanger
	schedule schedule
}

// Outcome is the result of a change.
type Outcome struct {
	// KeyID is the key of the call, DueTime the time when it may begin to sign.
	KeyID   string
	DueTime time.Time
	// Changes lists the keys with a new state. Empty: nothing had to change.
	Changes []KeyChange
	// Position is that of the ledger: replicas that have followed it so far know of the change.
	Position int64
}

// NewRotator checks config. It does not touch the store.
func NewRotator(config RotatorConfig) (*Rotator, error) {
	if config.Store == nil || config.Now == nil {
		return nil, errors.New("signing: RotatorConfig.Store and RotatorConfig.Now are needed")
	}
	if config.MaxTTL < time.Second || config.Period < 0 {
		return nil, errors.New("signing: RotatorConfig.MaxTTL needs 1s or more, RotatorConfig.Period 0 or more")
	}
	if err := checkAlgorithm(config.Algorithm); err != nil {
		return nil, err
	}
	sealer, err := newSealer(config.SealKeys)
	if err != nil {
		return nil, err
	}
	return &Rotator{
		keys: keyChanger{store: config.Store, sealer: sealer, now: config.Now},
		schedule: schedule{
			algorithm: config.Algorithm, start: config.Now(), period: config.Period, keep: config.MaxTTL + retireMargin,
		},
	}, nil
}

// Tend makes the changes that are due, and returns them. Each replica calls it often: if nothing is due, it
// only reads the keys.
func (r *Rotator) Tend(ctx context.Context) ([]KeyChange, error) {
	rows, err := r.keys.store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	rehearsal := newKeyTable(rows, r.keys.now(), r.keys.opens)
	if err := rehearsal.tend(r.schedule); err == nil && len(rehearsal.update().Keys) == 0 {
		return nil, nil
	}
	outcome, err := r.keys.apply(ctx, func(t *keyTable) error { return t.tend(r.schedule) })
	return outcome.Changes, err
}

// Rotate makes the next key, unless one is pending already. Tend makes it active at DueTime; Promote does so
// earlier.
func (r *Rotator) Rotate(ctx context.Context) (Outcome, error) {
	var next StoredKey
	outcome, err := r.keys.apply(ctx, func(t *keyTable) error {
		key, err := t.rotate(r.schedule.algorithm)
		if err == nil {
			next = *key
		}
		return err
	})
	outcome.KeyID, outcome.DueTime = next.ID, next.CreateTime.Add(PublishAhead)
	return outcome, err
}

// Promote makes the pending key with this id active at once, even if verifiers do not know it yet. It returns
// ErrUnknownKey, or ErrKeyGone if the key was active before and no longer is.
func (r *Rotator) Promote(ctx context.Context, id string) (Outcome, error) {
	outcome, err := r.keys.apply(ctx, func(t *keyTable) error { return t.promote(id) })
	outcome.KeyID = id
	return outcome, err
}

// Revoke ends the key with this id, and all tokens that it signed. If it was active, the pending key or a new
// one becomes active in the same transaction. If the key is gone already, nothing changes. It returns
// ErrUnknownKey.
func (r *Rotator) Revoke(ctx context.Context, id string) (Outcome, error) {
	outcome, err := r.keys.apply(ctx, func(t *keyTable) error { return t.revoke(id, r.schedule.algorithm) })
	outcome.KeyID = id
	return outcome, err
}

// keyChanger changes the keys of a store.
type keyChanger struct {
	store  KeyStore
	sealer *sealer
	now    func() time.Time
}

// changeAttempts: the first attempt has no new key, the second has one, and a third is needed if the
// algorithm changed in between.
const changeAttempts = 3

// apply makes the change of step in the store. step runs once for each attempt, each time on a new table.
// apply returns errors of step unchanged, and ErrUnavailable for errors of the store.
func (c keyChanger) apply(ctx context.Context, step func(*keyTable) error) (Outcome, error) {
	var spare *StoredKey
	for range changeAttempts {
		var table *keyTable
		var refused error
		position, err := c.store.ChangeSigningKeys(ctx, func(rows []StoredKey) (KeyUpdate, error) {
			table = newKeyTable(rows, c.now().UTC(), c.opens)
			table.spare = spare
			if refused = step(table); refused != nil {
				return KeyUpdate{}, refused
			}
			return table.update(), nil
		})
		switch {
		case errors.Is(refused, errNoSpare):
			if spare, err = c.makeSpare(table); err != nil {
				return Outcome{}, err
			}
			continue
		case refused != nil:
			return Outcome{}, refused
		case err != nil:
			return Outcome{}, fmt.Errorf("%w: changing the signing keys: %w", ErrUnavailable, err)
		}
		return Outcome{Changes: table.changes(), Position: position}, nil
	}
	return Outcome{}, fmt.Errorf("%w: the algorithm of the signing keys changes again and again", ErrUnavailable)
}

// makeSpare makes the key that table lacks. It returns ErrSealed if the active key cannot be opened here:
// then this process has the secret key of another installation, or an earlier one, and no replica could open
// a key that is sealed under it.
func (c keyChanger) makeSpare(table *keyTable) (*StoredKey, error) {
	for _, row := range table.before {
		if row.State != StateActive {
			continue
		}
		if err := c.opens(row); err != nil {
			return nil, err
		}
	}
	private, err := generate(table.wanted)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	key, err := newSigningKey("", table.wanted, private)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	sealed, err := key.seal(c.sealer)
	if err != nil {
		return nil, err
	}
	return &StoredKey{ID: key.id, Algorithm: table.wanted, State: StatePending, Sealed: sealed, Public: key.spki}, nil
}

// opens returns ErrSealed if row cannot be opened with the secrets of this process.
func (c keyChanger) opens(row StoredKey) error {
	_, _, err := openKey(c.sealer, row)
	return err
}
