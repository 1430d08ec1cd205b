package signing

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

const (
	// PublishAhead is how long a key is in the JWKS before it signs. Verifiers may cache a JWKS for 5 minutes,
	// and a replica that gets no notices reads the keys every 30 s. The rest is for clocks that differ and for
	// slow caches.
	PublishAhead = 10 * time.Minute
	// retireMargin is how much longer than the life of its last token a key verifies. A replica that gets no
	// notices signs with the old key for up to 30 s, and clocks differ.
	retireMargin = time.Hour
)

var (
	// ErrUnknownKey means that the store never had a key with this id.
	ErrUnknownKey = errors.New("there is no signing key with this id")
	// ErrKeyGone means that the key cannot become active any more.
	ErrKeyGone = errors.New("the signing key is gone")

	// errNoSpare means that a new key of keyTable.wanted is needed. The caller makes it outside the transaction:
	// an RSA key takes too long to make while other replicas wait for the lock.
	errNoSpare = errors.New("a new signing key is needed")
)

// KeyUpdate is the result of a change of the signing keys.
type KeyUpdate struct {
	// Keys are new, or have another state or other times. Each is listed once. A key that is gone has no sealed
	// bytes.
	Keys []StoredKey
	// Revoked are the ids of those keys whose tokens are revoked, although they have not expired.
	Revoked []string
}

// KeyChange is one key that got another state.
type KeyChange struct {
	// ID is the "kid".
	ID string
	// Algorithm is that of the key.
	Algorithm accesstoken.Algorithm
	// From is the state before, empty for a new key. To is the state now.
	From, To State
}

// keyTable is the set of keys between a read and a write of the store, in one transaction. Its methods are
// the rules for changes of state. Each can be called on any set and makes only the changes that are due: if
// two replicas want the same change, the second changes nothing.
type keyTable struct {
	now     time.Time
	before  map[string]StoredKey
	keys    []*StoredKey
	revoked []string
	spare   *StoredKey            // a new key, used once at most; nil if there is none
	wanted  accesstoken.Algorithm // the algorithm of the spare key that was missing
	opens   func(StoredKey) error // returns an error if a key cannot be opened here
}

func newKeyTable(rows []StoredKey, now time.Time, opens func(StoredKey) error) *keyTable {
	t := &keyTable{now: now, before: make(map[string]StoredKey, len(rows)), opens: opens}
	for _, row := range rows {
		t.before[row.ID] = row
		t.keys = append(t.keys, &row)
	}
	return t
}

// update returns the changes for the store.
func (t *keyTable) update() KeyUpdate {
	update := KeyUpdate{Revoked: t.revoked}
	for _, key := range t.keys {
		was, known := t.before[key.ID]
		if !known || key.State != was.State || !key.ActivateTime.Equal(was.ActivateTime) || !key.RetireTime.Equal(was.RetireTime) {
			update.Keys = append(update.Keys, *key)
		}
	}
	return update
}

// changes returns the changes of states, for the log and the operator.
func (t *keyTable) changes() []KeyChange {
	var changes []KeyChange
	for _, key := range t.keys {
		if was := t.before[key.ID].State; key.State != was {
			changes = append(changes, KeyChange{ID: key.ID, Algorithm: key.Algorithm, From: was, To: key.State})
		}
	}
	return changes
}

// in returns the key with this state, or nil. At most one key may have the state.
func (t *keyTable) in(state State) *StoredKey {
	for _, key := range t.keys {
		if key.State == state {
			return key
		}
	}
	return nil
}

func (t *keyTable) byID(id string) *StoredKey {
	for _, key := range t.keys {
		if key.ID == id {
			return key
		}
	}
	return nil
}

// move changes the state of a key.
func (t *keyTable) move(key *StoredKey, to State) {
	key.State = to
	switch to {
	case StatePending:
	case StateActive:
		key.ActivateTime = t.now
	case StateVerifyOnly:
		key.RetireTime = t.now
	case StateGone:
		key.Sealed = nil
		if key.RetireTime.IsZero() {
			key.RetireTime = t.now
		}
	}
}

// take adds the spare key to the table, as a pending one. It returns errNoSpare if there is none.
func (t *keyTable) take(algorithm accesstoken.Algorithm) (*StoredKey, error) {
	if t.spare == nil || t.spare.Algorithm != algorithm {
		t.wanted = algorithm
		return nil, errNoSpare
	}
	key := t.spare
	t.spare = nil
	key.CreateTime = t.now
	t.move(key, StatePending)
	t.keys = append(t.keys, key)
	return key, nil
}

// activate makes key the active one, unless it cannot be opened: if it was sealed under a secret that the
// replicas do not have, no replica could sign.
func (t *keyTable) activate(key *StoredKey) error {
	if err := t.opens(*key); err != nil {
		return err
	}
	if active := t.in(StateActive); active != nil {
		t.move(active, StateVerifyOnly)
	}
	t.move(key, StateActive)
	return nil
}

// next returns the pending key of this algorithm, or makes one. A pending key of another algorithm has never
// signed: it goes.
func (t *keyTable) next(algorithm accesstoken.Algorithm) (*StoredKey, error) {
	if pending := t.in(StatePending); pending != nil {
		if pending.Algorithm == algorithm {
			return pending, nil
		}
		t.move(pending, StateGone)
	}
	return t.take(algorithm)
}

// orUsual returns wanted if it is set. Otherwise it returns the algorithm of the newest key ever, or the
// default if the store never had a key: the kind of key changes only if an operator asks for it.
func (t *keyTable) orUsual(wanted accesstoken.Algorithm) accesstoken.Algorithm {
	if wanted != "" {
		return wanted
	}
	wanted = DefaultAlgorithm
	var newest time.Time
	for _, key := range t.keys {
		if signingMethod(key.Algorithm) != nil && !key.CreateTime.Before(newest) {
			wanted, newest = key.Algorithm, key.CreateTime
		}
	}
	return wanted
}

// start makes the changes for the start of a replica: there must be an active key, and if an algorithm is
// set, the next key must have it. Only a store without an active key gets one at once.
func (t *keyTable) start(wanted accesstoken.Algorithm) error {
	active, pending := t.in(StateActive), t.in(StatePending)
	switch {
	case active == nil:
		return t.ensureActive(wanted)
	case wanted == "":
		return nil
	case active.Algorithm != wanted:
		_, err := t.next(wanted)
		return err
	case pending != nil && pending.Algorithm != wanted:
		t.move(pending, StateGone) // the setting was changed back before it took effect
	}
	return nil
}

// ensureActive makes a key active, at once, if none is.
func (t *keyTable) ensureActive(wanted accesstoken.Algorithm) error {
	if t.in(StateActive) != nil {
		return nil
	}
	key, err := t.next(t.orUsual(wanted))
	if err != nil {
		return err
	}
	return t.activate(key)
}

// rotate returns the pending key. If there is none, it makes one with the algorithm of the active key, or
// with otherwise if no key is active. A pending key of another algorithm stays: it is the change that an
// operator asked for.
func (t *keyTable) rotate(otherwise accesstoken.Algorithm) (*StoredKey, error) {
	if pending := t.in(StatePending); pending != nil {
		return pending, nil
	}
	if active := t.in(StateActive); active != nil {
		return t.take(active.Algorithm)
	}
	return t.take(t.orUsual(otherwise))
}

// promote makes the pending key with this id active.
func (t *keyTable) promote(id string) error {
	key := t.byID(id)
	switch {
	case key == nil:
		return fmt.Errorf("%w: %q", ErrUnknownKey, id)
	case key.State == StatePending:
		return t.activate(key)
	case key.State != StateActive:
		return fmt.Errorf("%w: %q", ErrKeyGone, id)
	}
	return nil
}

// revoke ends the key with this id and the tokens that it signed. If it was active, the next key becomes
// active.
func (t *keyTable) revoke(id string, otherwise accesstoken.Algorithm) error {
	key := t.byID(id)
	if key == nil {
		return fmt.Errorf("%w: %q", ErrUnknownKey, id)
	}
	if key.State == StateGone {
		return nil
	}
	if key.State == StateActive {
		successor, err := t.rotate(otherwise)
		if err != nil {
			return err
		}
		if err := t.activate(successor); err != nil {
			return err
		}
	}
	t.move(key, StateGone)
	t.revoked = append(t.revoked, id)
	return nil
}

// schedule has the settings of tend.
type schedule struct {
	algorithm accesstoken.Algorithm // of RotatorConfig; empty: that of the keys
	start     time.Time             // of this replica: it asks for a key of the algorithm if none was active since
	period    time.Duration         // 0: keys are not rotated by age
	keep      time.Duration         // how long a key verifies after its last signature
}

// tend makes the changes that are due: it removes keys that are not needed any more, makes the pending key
// active, and makes the next one.
func (t *keyTable) tend(s schedule) error {
	for _, key := range t.keys {
		if key.State != StateVerifyOnly {
			continue
		}
		switch {
		case key.RetireTime.IsZero():
			// An earlier version, which stored no times, retired it: count from now.
			key.RetireTime = t.now
		case t.now.Sub(key.RetireTime) >= s.keep:
			t.move(key, StateGone)
		}
	}
	active := t.in(StateActive)
	if active == nil {
		return t.ensureActive(s.algorithm)
	}
	if pending := t.in(StatePending); pending != nil {
		if t.now.Sub(pending.CreateTime) < PublishAhead {
			return nil
		}
		if err := t.activate(pending); err != nil {
			return err
		}
		active = pending
	}
	switch {
	case s.algorithm != "" && s.algorithm != active.Algorithm && !t.signedSince(s.start, s.algorithm):
		_, err := t.take(s.algorithm)
		return err
	case s.period > 0 && t.now.Sub(active.activeSince()) >= s.period:
		_, err := t.take(active.Algorithm)
		return err
	}
	return nil
}

// signedSince returns whether a key of this algorithm was active at any time since start.
func (t *keyTable) signedSince(start time.Time, algorithm accesstoken.Algorithm) bool {
	return slices.ContainsFunc(t.keys, func(key *StoredKey) bool {
		return key.Algorithm == algorithm && !key.ActivateTime.IsZero() && (key.RetireTime.IsZero() || !key.RetireTime.Before(start))
	})
}
