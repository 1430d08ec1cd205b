package session

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// machine drives the store and the model side by side.
type machine struct {
	rules

	clock    *clock
	client   *redis.Client
	store    *Store
	keys     []byte // seeds of the accepted keys, the current one first
	long     bool   // the form of new tokens
	sessions []*modelSession
	users    []uuid.UUID
	indexes  map[uuid.UUID]modelIndex
	copies   []redisCopy
	opened   []openedToken
	// reached counts the verdicts, to show that the test gets everywhere.
	reached map[string]int
}

type redisCopy struct {
	of     *modelSession
	alive  bool
	fields map[string]string
	state  modelState
}

type openedToken struct {
	of        *modelSession
	name      tokenName
	presented *Presented
	claim     *Claim
}

// pick draws an element by its place from the end: recent ones more often than old ones.
func pick[T any](t *rapid.T, what string, from []T) T {
	return from[len(from)-1-rapid.IntRange(0, len(from)-1).Draw(t, what)]
}

func (m *machine) newStore(t *rapid.T) {
	cfg := Config{Redis: m.client, IdleTTL: m.idle, MaxTTL: m.max, Grace: m.grace, Limit: m.limit, Now: m.clock.Now, Long: func() bool { return m.long }}
	for _, seed := range m.keys {
		cfg.MACKeys = append(cfg.MACKeys, testKey(seed))
	}
	var err error
	if m.store, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	m.opened = nil
}

func (m *machine) create(t *rapid.T) {
	user := rapid.SampledFrom(m.users).Draw(t, "user")
	created, err := m.store.Create(t.Context(), Start{UserID: user, Position: int64(len(m.sessions))})
	if err != nil {
		t.Fatal(err)
	}
	sess, now := created.Session, m.clock.Now()
	want := m.login(m.indexes[user], sess.ID, m.gone(now), now, m.reached)
	if got := slices.SortedFunc(slices.Values(created.Evicted), compareIDs); !slices.Equal(got, want) {
		t.Fatalf("evicted %v, want %v of %v", got, want, m.indexes[user])
	}
	m.reached["evicted"] += len(want)
	s := &modelSession{
		id: sess.ID, user: user, ledger: int64(len(m.sessions)), end: now.Add(m.max), alive: true, issued: map[tokenName]string{},
		state: modelState{
			latest: 1, rotated: now, idleEnd: now.Add(min(m.idle, m.max)),
			lives: min(m.idle, m.max) + expiryMargin, spent: map[uint64]spending{},
		},
	}
	m.sessions = append(m.sessions, s)
	m.remember(t, s, tokenName{1, m.maker()}, created.RefreshToken)
	m.checkSession(t, s, sess)
}

// remember checks that a token has one text for good, and that no two tokens share one.
func (m *machine) remember(t *rapid.T, s *modelSession, name tokenName, text string) {
	if known, found := s.issued[name]; found {
		if known != text {
			t.Fatalf("generation %d under key %d has two tokens", name.generation, name.key)
		}
		return
	}
	for other, known := range s.issued {
		if known == text {
			t.Fatalf("%v and %v share a token", other, name)
		}
	}
	s.issued[name] = text
	s.order = append(s.order, name)
}

func (m *machine) checkSession(t *rapid.T, s *modelSession, got Session) {
	if got.ID != s.id || got.Generation != s.state.latest || !got.IdleEnd.Equal(s.state.idleEnd) ||
		!got.End.Equal(s.end) || !got.RotateTime.Equal(s.state.rotated) {
		t.Fatalf("session %+v, want %+v, end %v", got, s.state, s.end)
	}
}

// open presents one of the latest tokens, as a rule, or an older one.
func (m *machine) open(t *rapid.T) *openedToken {
	s := pick(t, "session", m.sessions)
	back := rapid.SampledFrom([]int{0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 5, 8}).Draw(t, "back")
	name := s.order[max(0, len(s.order)-1-back)]
	presented, err := m.store.Open(t.Context(), s.issued[name])
	var want error
	switch {
	case !slices.Contains(m.keys, name.key):
		want = ErrForged
	case !s.alive:
		want = ErrUnknown
	}
	if !errors.Is(err, want) {
		t.Fatalf("Open: %v, want %v", err, want)
	}
	if want != nil {
		m.reached["open: "+want.Error()]++
		return nil
	}
	m.checkSession(t, s, presented.Session)
	if presented.Generation != name.generation {
		t.Fatalf("opened generation %d, want %d", presented.Generation, name.generation)
	}
	// What a long token says without a store is what the session says.
	claim, err := m.store.Claim(t.Context(), s.issued[name])
	if err != nil {
		t.Fatal(err)
	}
	same := presented.Claim
	if claim.salt, same.salt = nil, nil; *claim != same {
		t.Fatalf("claimed %+v, opened %+v", claim, same)
	}
	if !name.long {
		claim = &presented.Claim
	}
	return &openedToken{of: s, name: name, presented: presented, claim: claim}
}

func (m *machine) rotate(t *rapid.T, o openedToken) {
	request := rapid.SampledFrom([]string{"", "", "r-1", "r-2"}).Draw(t, "request")
	want := m.refresh(o.of, o.name, request, m.clock.Now(), m.maker(), m.keys)
	behind := o.of.alive && o.of.state.latest < o.of.mark.Generation
	// Live judges by what was read when the token was opened: nothing has changed since, nor come back changed.
	live, fresh := m.store.Live(o.presented, o.of.mark), o.of.alive && o.presented.rec.generation == o.of.state.latest &&
		o.presented.rec.rotated == o.of.state.rotated.UnixMilli()
	got, err := m.store.Rotate(t.Context(), o.claim, request, o.of.mark)
	if !errors.Is(err, want.err) || got.Outcome != want.outcome {
		t.Fatalf("generation %d of %d: %v, %v, want %v, %v",
			o.presented.Generation, o.of.state.latest, got.Outcome, err, want.outcome, want.err)
	}
	o.of.state = want.after
	if behind {
		m.reached["behind its mark"]++
	}
	if want.err != nil {
		m.reached[want.err.Error()]++
		if behind && errors.Is(err, ErrReused) {
			m.reached["spent by its mark"]++
		}
		if fresh && live == nil {
			t.Fatalf("generation %d is live, and refused: %v", o.presented.Generation, err)
		}
		return
	}
	// What speaks for the whole account is no more than what refreshes.
	if fresh && live != nil && want.outcome != RepeatedSameRequest {
		t.Fatalf("generation %d refreshes, and is not live: %v", o.presented.Generation, live)
	}
	if oneIn(t, 3) && want.after.latest > o.of.mark.Generation { // written rarely
		o.of.mark = Mark{Generation: want.after.latest, Time: want.after.rotated}
	}
	m.reached[want.outcome.String()]++
	if !got.IssueTime.Equal(want.issued) {
		t.Fatalf("issued at %v, want %v", got.IssueTime, want.issued)
	}
	m.checkSession(t, o.of, got.Session)
	m.remember(t, o.of, tokenName{want.after.latest, want.by}, got.RefreshToken)
}

func (m *machine) advance(t *rapid.T) {
	ms := time.Millisecond
	steps := []time.Duration{
		ms, 50 * ms, m.grace - ms, m.grace, m.grace + ms, m.grace / 2,
		-ms, -2 * time.Second, // another replica, whose clock is behind
	}
	if oneIn(t, 4) {
		steps = []time.Duration{m.idle / 3, m.max / 3, m.idle - ms, m.idle, m.idle + danglingTime, m.max - ms, m.max, takeOverTime, takeOverTime}
	}
	m.clock.Advance(rapid.SampledFrom(steps).Draw(t, "step").Truncate(ms))
}

func (m *machine) snapshot(t *rapid.T) {
	s := pick(t, "session", m.sessions)
	fields, err := m.client.HGetAll(t.Context(), redisKey(s.id)).Result()
	if err != nil {
		t.Fatal(err)
	}
	m.copies = append(m.copies, redisCopy{of: s, alive: s.alive, fields: fields, state: s.state.clone()})
}

func (m *machine) restore(t *rapid.T) {
	c := pick(t, "copy", m.copies)
	c.of.alive, c.of.state = c.alive, c.state.clone()
	if err := m.client.Del(t.Context(), redisKey(c.of.id)).Err(); err != nil {
		t.Fatal(err)
	}
	if !c.alive {
		return
	}
	if err := m.client.HSet(t.Context(), redisKey(c.of.id), c.fields).Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.client.PExpire(t.Context(), redisKey(c.of.id), c.state.lives).Err(); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) drop(t *rapid.T, s *modelSession) {
	stranger := rapid.SampledFrom(m.users).Draw(t, "who deletes")
	if err := m.store.Delete(t.Context(), stranger, s.id); err != nil {
		t.Fatal(err)
	}
	delete(m.indexes[stranger], s.id)
	s.alive = s.alive && stranger != s.user
}

// check compares what Redis holds with the model, and its expiry with the ends.
func (m *machine) check(t *rapid.T) {
	for _, s := range m.sessions {
		fields, err := m.client.HGetAll(t.Context(), redisKey(s.id)).Result()
		if err != nil {
			t.Fatal(err)
		}
		if !s.alive {
			if len(fields) != 0 {
				t.Fatalf("%v lives", s.id)
			}
			continue
		}
		if fields[fieldGen] != strconv.FormatUint(s.state.latest, 10) || fields[fieldIdleEnd] != decimal(s.state.idleEnd.UnixMilli()) ||
			fields[fieldEnd] != decimal(s.end.UnixMilli()) {
			t.Fatalf("Redis holds %v, want %+v, end %v", fields, s.state, s.end)
		}
		ttl, err := m.client.PTTL(t.Context(), redisKey(s.id)).Result()
		if err != nil {
			t.Fatal(err)
		}
		if ttl > s.state.lives || ttl < s.state.lives-30*time.Second {
			t.Fatalf("expires in %v, want %v", ttl, s.state.lives)
		}
	}
	m.checkIndexes(t)
}

// step does one thing, mostly refreshing.
func (m *machine) step(t *rapid.T) {
	switch rapid.SampledFrom([]string{
		"refresh", "refresh", "refresh", "refresh", "refresh", "refresh", "advance the clock", "advance the clock",
		"open", "rotate what was opened", "rotate what was opened", "copy", "copy or restore", "create", "create", "create", "list", "rare",
	}).Draw(t, "action") {
	case "refresh":
		if o := m.open(t); o != nil {
			m.rotate(t, *o)
		}
	case "advance the clock":
		m.advance(t)
	case "open":
		if o := m.open(t); o != nil {
			m.opened = append(m.opened, *o)
		}
	case "rotate what was opened":
		if len(m.opened) > 0 {
			m.rotate(t, pick(t, "opened token", m.opened))
		}
	case "copy":
		m.snapshot(t)
	case "copy or restore":
		if len(m.copies) == 0 {
			m.snapshot(t)
		}
		m.restore(t)
		m.step(t) // before the clock moves on, as a rule
	case "create":
		m.create(t)
	case "list":
		m.list(t)
	case "rare":
		m.rare(t)
	}
}

func (m *machine) rare(t *rapid.T) {
	switch rapid.SampledFrom([]string{
		"delete", "clear", "delete what was opened", "change the key", "change the key back", "change the form",
	}).Draw(t, "rare action") {
	case "delete":
		m.drop(t, pick(t, "session", m.sessions))
	case "clear":
		m.clear(t)
	case "delete what was opened":
		if o := m.open(t); o != nil {
			m.drop(t, o.of)
			m.rotate(t, *o)
		}
	case "change the key":
		m.keys = []byte{m.keys[0] + 1, m.keys[0]}
		m.newStore(t)
	case "change the form":
		m.long = !m.long
		m.reached["change of form"]++
	case "change the key back":
		m.keys = m.keys[len(m.keys)-1:]
		m.newStore(t)
	}
}

func (m *machine) maker() maker { return maker{m.keys[0], m.long} }

func oneIn(t *rapid.T, n int) bool { return rapid.IntRange(1, n).Draw(t, "one in") == n }

func checkModel(t *testing.T, client *redis.Client, steps int) {
	t.Helper()
	reached := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{clock: newClock(), client: client, keys: []byte{1}, reached: reached, indexes: map[uuid.UUID]modelIndex{}}
		for range 2 {
			m.users = append(m.users, uuid.New())
			m.indexes[m.users[len(m.users)-1]] = modelIndex{}
		}
		m.rules = rapid.SampledFrom([]rules{
			{idle: time.Hour, max: 3 * time.Hour, grace: 10 * time.Second, limit: 3},
			{idle: time.Hour, max: 3 * time.Hour, grace: 0},
			{idle: time.Minute, max: 5 * time.Minute, grace: 10 * time.Second, limit: 1},
			{idle: time.Hour, max: time.Minute, grace: 2 * time.Minute, limit: 2},
		}).Draw(t, "rules")
		m.long = rapid.Bool().Draw(t, "long")
		m.newStore(t)
		m.create(t)
		for range steps {
			m.step(t)
			m.check(t)
		}
	})
	decided := 0
	for _, n := range reached {
		decided += n
	}
	if t.Failed() || decided < 1000 {
		return // failed, or cut short by -short or -rapid.checks
	}
	verdicts := []string{
		Advanced.String(), RepeatedSameRequest.String(), RepeatedInGrace.String(), CaughtUp.String(),
		ErrReused.Error(), ErrLate.Error(), ErrEnded.Error(), ErrUnknown.Error(),
		"open: " + ErrUnknown.Error(), "open: " + ErrForged.Error(), "evicted", "listed", "behind its mark", "spent by its mark", "change of form",
	}
	if steps >= 100 { // short lives seldom get there
		verdicts = append(verdicts, "taken over", "cleaned")
	}
	for _, verdict := range verdicts {
		if reached[verdict] == 0 {
			t.Errorf("never reached: %s", verdict)
		}
	}
	t.Logf("reached: %v", reached)
}

func TestModel(t *testing.T) {
	t.Parallel()
	checkModel(t, newRedis(t), 100)
}

func TestModelOnMiniredis(t *testing.T) {
	t.Parallel()
	checkModel(t, newMiniredis(t), 40)
}
