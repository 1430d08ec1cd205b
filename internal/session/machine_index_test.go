package session

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// clear takes the sessions of a user that are older than one of all of them out of the index.
func (m *machine) clear(t *rapid.T) {
	except, before := pick(t, "spared", m.sessions), pick(t, "the first that stays", m.sessions).ledger
	if err := m.store.ClearIndex(t.Context(), except.user, except.id, before); err != nil {
		t.Fatal(err)
	}
	index, now := m.indexes[except.user], m.clock.Now()
	gone := m.gone(now)
	index.clean(gone, now)
	for _, s := range m.sessions {
		if s != except && s.ledger < before && !gone[s.id] && s.user == except.user {
			delete(index, s.id)
		}
	}
}

// gone says of each session whether Redis has lost it, or will have within a moment.
func (m *machine) gone(now time.Time) map[uuid.UUID]bool {
	gone := map[uuid.UUID]bool{}
	for _, s := range m.sessions {
		gone[s.id] = !s.alive || !now.Before(s.state.idleEnd.Add(expiryMargin))
	}
	return gone
}

// list compares what a user sees with the model.
func (m *machine) list(t *rapid.T) {
	user, now := rapid.SampledFrom(m.users).Draw(t, "user"), m.clock.Now()
	got, err := m.store.List(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(got, func(a, b Session) int { return b.Compare(a) }) {
		t.Fatalf("not newest first: %+v", got)
	}
	shown := map[uuid.UUID]Session{}
	for _, sess := range got {
		shown[sess.ID] = sess
	}
	for _, s := range m.sessions {
		_, indexed := m.indexes[user][s.id]
		lives := s.user == user && s.alive && now.Before(s.state.idleEnd) && now.Before(s.end)
		if sess, found := shown[s.id]; found != (indexed && lives) {
			t.Fatalf("%v is shown: %v, indexed: %v, lives: %v", s.id, found, indexed, lives)
		} else if found {
			m.checkSession(t, s, sess)
		}
		sess, err := m.store.Get(t.Context(), user, s.id)
		if lives == errors.Is(err, ErrUnknown) {
			t.Fatalf("Get: %v, lives: %v", err, lives)
		}
		if lives {
			m.checkSession(t, s, sess)
		}
	}
	m.reached["listed"] += len(got)
	m.indexes[user].clean(m.gone(now), now)
}

func (m *machine) checkIndexes(t *rapid.T) {
	for user, want := range m.indexes {
		entries, err := m.client.ZRangeWithScores(t.Context(), indexKey(user), 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		got := modelIndex{}
		for _, entry := range entries {
			got[uuid.MustParse(member(entry))] = int64(entry.Score)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("the index is %v, want %v", got, want)
		}
	}
}
