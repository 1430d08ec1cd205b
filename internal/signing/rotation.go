package signing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// RotatorConfig says how keys are rotated. Every field is needed but Algorithm and
// Period.
type RotatorConfig struct {
	// Store holds the keys.
	Store KeyStore
	// SealKeys are those of Config: new keys are sealed under the first.
	SealKeys [][]byte
	// Algorithm is that of Config. Where the active key is of another one, Tend has a key of
	// this one follow it, unless one was active at some moment since NewRotator: each start asks once. So
	// replicas that are set to different algorithms do not take turns: the last one to start
	// decides. Empty: keys follow in kind.
	Algorithm accesstoken.Algorithm
	// Period is the age of the active key at which Tend rotates. 0: it never does.
	Period time.Duration
	// MaxTTL is that of Config: no token is accepted for longer, so a key that has
	// not signed for this long, and an hour more, verifies nothing.
	MaxTTL time.Duration
	// Now tells the time.
	Now func() time.Time
}

// Rotator moves the signing keys of a store through their states. It is safe for
// concurrent use, by any number of replicas.
type Rotator struct {
	keys     keyChanger
	schedule schedule
}

// Outcome is what a call has changed.
type Outcome struct {
	// KeyID is the key that the call was about, DueTime when it may begin to sign.
	KeyID   string
	DueTime time.Time
	// Changes lists the keys with a new state; none: it was so already.
	Changes []KeyChange
	// Position is the store's: replicas that have come to it know of the change.
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

// Tend does what is due and returns what it changed. It is called often, on every
// replica: while nothing is due it reads the keys and does no more.
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

// Rotate makes the key that signs next, unless one is pending already. It becomes
// active at the DueTime, by Tend, or by Promote before that.
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

// Promote makes the pending key called id sign at once, whether verifiers know it
// or not. It fails with ErrUnknownKey, and with ErrKeyGone when the key has signed
// before and does not any more.
func (r *Rotator) Promote(ctx context.Context, id string) (Outcome, error) {
	outcome, err := r.keys.apply(ctx, func(t *keyTable) error { return t.promote(id) })
	outcome.KeyID = id
	return outcome, err
}

// Revoke ends the key called id with all that it signed. When it was the active one,
// the pending one or a new one is active in the same moment. Nothing changes when
// the key is gone already. It fails with ErrUnknownKey.
func (r *Rotator) Revoke(ctx context.Context, id string) (Outcome, error) {
	outcome, err := r.keys.apply(ctx, func(t *keyTable) error { return t.revoke(id, r.schedule.algorithm) })
	outcome.KeyID = id
	return outcome, err
}

// keyChanger carries out changes of the key table.
type keyChanger struct {
	store  KeyStore
	sealer *sealer
	now    func() time.Time
}

// changeAttempts is one without a new key, one with it, and one more for an
// algorithm that changed in between.
const changeAttempts = 3

// apply makes step's change in the store. step runs once for each attempt, on a
// table of its own. Its errors are returned as they are; the store's are
// ErrUnavailable.
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
	return Outcome{}, fmt.Errorf("%w: the algorithm of the signing keys changes all the time", ErrUnavailable)
}

// makeSpare makes the key that table lacks. It fails with ErrSealed when the active
// key does not open here: with the secret of another installation, or a former one,
// the new key would be one that no replica can open.
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

// opens fails with ErrSealed when row cannot be used with the secrets that are known
// here.
func (c keyChanger) opens(row StoredKey) error {
	_, _, err := openKey(c.sealer, row)
	return err
}
