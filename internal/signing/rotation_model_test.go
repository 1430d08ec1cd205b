package signing

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// Limits of the model's world: what the service promises to keep.
const (
	modelMaxTTL = 24 * time.Hour
	modelNews   = 30 * time.Second // a replica reads the keys this often
	modelCache  = 5 * time.Minute  // a verifier keeps a JWKS this long
	modelPeriod = 72 * time.Hour
)

// rotationModel is two replicas, and a verifier that keeps what it has fetched and asks nobody meanwhile,
// under any order of events.
type rotationModel struct {
	t        *testing.T // for what cannot fail here
	store    *memoryStore
	clock    *josetest.Clock
	replicas [2]*modelReplica
	verifier struct {
		fetched time.Time
		known   []string
	}
	tokens  map[string]modelToken // the one that lives longest, by key
	seen    map[string]StoredKey  // every key, as it was last
	forced  map[string]bool       // keys that signed before they were published long enough
	revoked map[string]bool
}

type modelReplica struct {
	keyring *Keyring
	rotator *Rotator
	read    time.Time
}

type modelToken struct {
	text    string
	expires time.Time
}

func newRotationModel(t *testing.T) *rotationModel {
	t.Helper()
	m := &rotationModel{
		t: t, store: &memoryStore{}, clock: josetest.NewClock(),
		tokens: map[string]modelToken{}, seen: map[string]StoredKey{}, forced: map[string]bool{}, revoked: map[string]bool{},
	}
	for i := range m.replicas {
		m.replicas[i] = &modelReplica{}
		m.restart(m.replicas[i], accesstoken.EdDSA)
	}
	m.fetch(m.replicas[0])
	return m
}

func (m *rotationModel) restart(r *modelReplica, algorithm accesstoken.Algorithm) {
	config := testConfig(m.store, m.clock, algorithm)
	config.MaxTTL = modelMaxTTL
	r.keyring, r.read = mustOpen(m.t, config), m.clock.Now()
	r.rotator = newTestRotator(m.t, m.store, m.clock, func(c *RotatorConfig) {
		c.Algorithm, c.Period, c.MaxTTL = algorithm, modelPeriod, modelMaxTTL
	})
}

func (m *rotationModel) reload(r *modelReplica) {
	mustReload(m.t, r.keyring)
	r.read = m.clock.Now()
}

func (m *rotationModel) fetch(from *modelReplica) {
	var set struct {
		Keys []struct {
			KeyID string `json:"kid"`
		} `json:"keys"`
	}
	_ = json.Unmarshal(from.keyring.JWKS(), &set) // made by json.Marshal
	m.verifier.fetched, m.verifier.known = m.clock.Now(), nil
	for _, key := range set.Keys {
		m.verifier.known = append(m.verifier.known, key.KeyID)
	}
}

// advance lets time pass, and those whose knowledge has become too old renew it.
func (m *rotationModel) advance(d time.Duration, from int) {
	m.clock.Add(d)
	for _, r := range m.replicas {
		if m.clock.Now().Sub(r.read) > modelNews {
			m.reload(r)
		}
	}
	if m.clock.Now().Sub(m.verifier.fetched) > modelCache {
		m.fetch(m.replicas[from])
	}
}

// unannounced lets a second pass, for that is how long a replica that has just looked for an unknown key may
// not know one that signs at once.
func (m *rotationModel) unannounced() { m.clock.Add(reloadInterval) }

func (m *rotationModel) actions() map[string]func(*rapid.T) {
	replica := func(t *rapid.T) *modelReplica { return m.replicas[rapid.IntRange(0, 1).Draw(t, "replica")] }
	return map[string]func(*rapid.T){
		"advance": func(t *rapid.T) {
			d := rapid.SampledFrom([]time.Duration{
				time.Second, modelNews, modelCache - time.Second, modelCache, PublishAhead - time.Second, PublishAhead,
				time.Hour, modelMaxTTL, modelMaxTTL + retireMargin, modelPeriod,
			}).Draw(t, "time")
			m.advance(d, rapid.IntRange(0, 1).Draw(t, "fetch from"))
		},
		"reload": func(t *rapid.T) { m.reload(replica(t)) },
		"sign": func(t *rapid.T) {
			life := rapid.SampledFrom([]time.Duration{time.Second, 15 * time.Minute, modelMaxTTL}).Draw(t, "life")
			m.sign(t, replica(t), life)
		},
		"tend": func(t *rapid.T) { m.tend(t, replica(t)) },
		"rotate": func(t *rapid.T) {
			if _, err := replica(t).rotator.Rotate(m.t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"rotate now": func(t *rapid.T) {
			r := replica(t)
			made, err := r.rotator.Rotate(m.t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// The command waits until every replica knows the key.
			m.reload(m.replicas[0])
			m.reload(m.replicas[1])
			if _, err := r.rotator.Promote(m.t.Context(), made.KeyID); err != nil {
				t.Fatal(err)
			}
		},
		"revoke": func(t *rapid.T) {
			ids := m.ids()
			id := rapid.SampledFrom(ids).Draw(t, "key")
			if m.seen[id].State != StateGone {
				m.revoked[id] = true
			}
			if _, err := replica(t).rotator.Revoke(m.t.Context(), id); err != nil {
				t.Fatal(err)
			}
			// It is final when every replica has heard of it.
			m.unannounced()
			m.reload(m.replicas[0])
			m.reload(m.replicas[1])
		},
		"restart": func(t *rapid.T) {
			m.restart(replica(t), rapid.SampledFrom([]accesstoken.Algorithm{accesstoken.EdDSA, accesstoken.EdDSA, accesstoken.ES256, ""}).Draw(t, "algorithm"))
		},
		"": m.check,
	}
}

// ids lists all keys in the order of their making, so that a run can be repeated.
func (m *rotationModel) ids() []string {
	rows := m.store.all()
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}

func (m *rotationModel) sign(t *rapid.T, r *modelReplica, life time.Duration) {
	t.Helper()
	claims := testClaims()
	claims.IssuedAt = m.clock.Now().Truncate(time.Second)
	claims.AuthTime, claims.ExpireTime = claims.IssuedAt, claims.IssuedAt.Add(life)
	token := modelToken{mustSign(m.t, r.keyring, claims), claims.ExpireTime}
	id := r.keyring.keys.Load().active.id
	if !m.forced[id] && !slices.Contains(m.verifier.known, id) {
		t.Fatalf("signed with %s, which a verifier that has asked %s ago does not know", id, m.clock.Now().Sub(m.verifier.fetched))
	}
	if token.expires.After(m.tokens[id].expires) {
		m.tokens[id] = token
	}
}

// tend also checks that it has left nothing to do.
func (m *rotationModel) tend(t *rapid.T, r *modelReplica) {
	t.Helper()
	mustTend(m.t, r.rotator)
	position := m.store.position
	if changes := mustTend(m.t, r.rotator); changes != nil || m.store.position != position {
		t.Fatalf("the second Tend changed %+v", changes)
	}
	now, pending := m.clock.Now(), false
	var active StoredKey
	for _, row := range m.store.all() {
		switch row.State {
		case StatePending:
			pending = true
			if now.Sub(row.CreateTime) >= PublishAhead {
				t.Fatal("a key that is due was not promoted")
			}
		case StateVerifyOnly:
			if now.Sub(row.RetireTime) >= modelMaxTTL+retireMargin {
				t.Fatal("a key that nothing depends on was kept")
			}
		case StateActive:
			active = row
		case StateGone:
		}
	}
	if !pending && now.Sub(active.ActivateTime) >= modelPeriod {
		t.Fatal("no rotation was begun")
	}
}

// check holds after every event.
func (m *rotationModel) check(t *rapid.T) {
	t.Helper()
	states := m.store.states()
	if states[StateActive] != 1 || states[StatePending] > 1 {
		t.Fatalf("states %v", states)
	}
	m.checkRows(t)
	for id, token := range m.tokens {
		if !m.clock.Now().Before(token.expires) {
			delete(m.tokens, id)
			continue
		}
		for i, r := range m.replicas {
			verified, err := r.keyring.VerifyAny(m.t.Context(), token.text)
			kid := verified.KeyID
			if good := err == nil && kid == id && r.keyring.Has(id); good == m.revoked[id] {
				t.Fatalf("replica %d: token of %s (revoked: %v, %s): %v", i, id, m.revoked[id], m.seen[id].State, err)
			}
		}
	}
}

func (m *rotationModel) checkRows(t *rapid.T) {
	t.Helper()
	rank := map[State]int{StatePending: 1, StateActive: 2, StateVerifyOnly: 3, StateGone: 4}
	rows := m.store.all()
	for _, row := range rows {
		was := m.seen[row.ID]
		if rank[row.State] < rank[was.State] {
			t.Fatalf("%s went from %s back to %s", row.ID, was.State, row.State)
		}
		if (row.State == StateGone) != (len(row.Sealed) == 0) {
			t.Fatalf("%s is %s and has %d sealed bytes", row.ID, row.State, len(row.Sealed))
		}
		if row.State == StateActive && was.State != StateActive && row.ActivateTime.Sub(row.CreateTime) < PublishAhead {
			m.forced[row.ID] = true
		}
		if row.State == StateGone && was.State == StateVerifyOnly && !m.revoked[row.ID] && m.clock.Now().Sub(was.RetireTime) < modelMaxTTL {
			t.Fatalf("%s went too early", row.ID)
		}
		delete(m.seen, row.ID)
	}
	if len(m.seen) != 0 {
		t.Fatalf("rows are missing: %v", m.seen)
	}
	for _, row := range rows {
		m.seen[row.ID] = row
	}
}

// Whatever happens in whatever order: one key signs, verifiers knew it before unless somebody was in a hurry,
// every token is good until it expires or its key is revoked, and no state is left behind.
func TestRotationModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := newRotationModel(t)
		m.check(rt)
		rt.Repeat(m.actions())
	})
}
