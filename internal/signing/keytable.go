package signing

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

const (
	// PublishAhead is how long a key is in the JWKS before it signs. Verifiers may
	// keep a JWKS for 5 minutes, and a replica without news reads the keys every 30 s;
	// the rest is for clocks that differ and caches that are late.
	PublishAhead = 10 * time.Minute
	// retireMargin is how long a key verifies beyond the longest life of its last
	// token. Replicas that have not heard of their new key sign with the former one
	// for up to 30 s, and clocks differ.
	retireMargin = time.Hour
)

var (
	// ErrUnknownKey reports a key id that the store has never had.
	ErrUnknownKey = errors.New("there is no signing key with this id")
	// ErrKeyGone reports a key that cannot become active any more.
	ErrKeyGone = errors.New("the signing key is gone")

	// errNoSpare asks for a new key of the table's wanted algorithm: one of RSA takes
	// too long to be made while other replicas wait.
	errNoSpare = errors.New("a new signing key is needed")
)

// KeyUpdate is what a change of the signing keys comes to.
type KeyUpdate struct {
	// Keys are those that are new or differ in state or times, each once. A key that
	// is gone loses its sealed bytes. No key that the store has is made anew.
	Keys []StoredKey
	// Revoked are the ids of keys among them whose tokens end now, before their time.
	Revoked []string
}

// KeyChange is one key that got another state.
type KeyChange struct {
	// ID is the kid.
	ID string
	// Algorithm is the key's.
	Algorithm accesstoken.Algorithm
	// From is the state before, empty for a key that was made. To is the state now.
	From, To State
}

// keyTable is the set of keys between reading and storing, in the store's turn. Its
// methods are the rules by which keys move on; each may be called on any set and
// does what is due and no more, so that of two replicas that want the same the
// second does nothing.
type keyTable struct {
	now     time.Time
	before  map[string]StoredKey
	keys    []*StoredKey
	revoked []string
	spare   *StoredKey            // a new key, used at most once; nil: there is none
	wanted  accesstoken.Algorithm // of the spare key that was not there
	opens   func(StoredKey) error // whether a key can be used here
}

func newKeyTable(rows []StoredKey, now time.Time, opens func(StoredKey) error) *keyTable {
	t := &keyTable{now: now, before: make(map[string]StoredKey, len(rows)), opens: opens}
	for _, row := range rows {
		t.before[row.ID] = row
		t.keys = append(t.keys, &row)
	}
	return t
}

// update is what has to be stored.
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

// changes is update for people.
func (t *keyTable) changes() []KeyChange {
	var changes []KeyChange
	for _, key := range t.keys {
		if was := t.before[key.ID].State; key.State != was {
			changes = append(changes, KeyChange{ID: key.ID, Algorithm: key.Algorithm, From: was, To: key.State})
		}
	}
	return changes
}

// in returns the key in a state that one key at most is in, or nil.
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

// move gives a key another state.
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

// take puts the spare key into the table as a pending one. It fails with errNoSpare.
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

// activate makes key the one that signs, unless it does not open: it may have been
// made under a secret that the replicas do not have, and would stop them all.
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

// next returns a pending key of algorithm, a new one if need be. A pending key of another
// algorithm has never signed, and is given up.
func (t *keyTable) next(algorithm accesstoken.Algorithm) (*StoredKey, error) {
	if pending := t.in(StatePending); pending != nil {
		if pending.Algorithm == algorithm {
			return pending, nil
		}
		t.move(pending, StateGone)
	}
	return t.take(algorithm)
}

// orUsual is wanted, or, where nothing is set, the algorithm of the newest key that there ever was, or the
// default of a new store: nobody gets a kind of key that was not asked for.
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

// start is what the start of a replica asks for: that a key signs, and that the next one is of the algorithm that is
// set, if one is. Only a store without an active key gets one at once.
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
		t.move(pending, StateGone) // the setting was taken back before it took effect
	}
	return nil
}

// ensureActive makes a key sign, at once, when none does.
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

// rotate makes the key that signs next, of the algorithm of the one that signs now,
// or of otherwise when none does. One that is there already is it, also when it is of
// another algorithm: that is the change that was asked for.
func (t *keyTable) rotate(otherwise accesstoken.Algorithm) (*StoredKey, error) {
	if pending := t.in(StatePending); pending != nil {
		return pending, nil
	}
	if active := t.in(StateActive); active != nil {
		return t.take(active.Algorithm)
	}
	return t.take(t.orUsual(otherwise))
}

// promote makes the pending key called id sign.
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

// revoke ends the key called id and what it signed. When it was the one that signs,
// the next one takes its place.
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

// schedule is what tend goes by.
type schedule struct {
	algorithm accesstoken.Algorithm // as set; "": as the keys are
	start     time.Time             // of the replica: if no key of the algorithm has been active since, it asks for one
	period    time.Duration         // 0: keys are not rotated by age
	keep      time.Duration         // how long a key verifies after it has signed last
}

// tend does what is due: keys that nothing depends on go, the pending key begins to
// sign, the next one is made.
func (t *keyTable) tend(s schedule) error {
	for _, key := range t.keys {
		if key.State != StateVerifyOnly {
			continue
		}
		switch {
		case key.RetireTime.IsZero():
			// A version that kept no times retired it: count from here.
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

// signedSince says whether a key of algorithm was active at some moment from start on.
func (t *keyTable) signedSince(start time.Time, algorithm accesstoken.Algorithm) bool {
	return slices.ContainsFunc(t.keys, func(key *StoredKey) bool {
		return key.Algorithm == algorithm && !key.ActivateTime.IsZero() && (key.RetireTime.IsZero() || !key.RetireTime.Before(start))
	})
}
