package session

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// checkLimit logs in from many sides at once: what is left is exactly the limit, and every other session was
// handed to exactly one login, to be ended.
func checkLimit(t *testing.T, client *redis.Client) {
	t.Helper()
	b := bench{clock: newClock(), client: client}
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.SampledFrom([]int{1, 2, 5, 50}).Draw(rt, "limit")
		before := rapid.IntRange(0, 8).Draw(rt, "before")
		logins := rapid.IntRange(1, 24).Draw(rt, "logins")
		store := b.configured(t, Config{IdleTTL: testIdle, MaxTTL: testMax, Grace: testGrace, Limit: limit})
		user := uuid.New()
		var all, evicted []uuid.UUID
		var mu sync.Mutex
		logIn := func() {
			created, err := store.Create(rt.Context(), Start{UserID: user})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				rt.Errorf("create: %v", err)
			}
			if slices.Contains(created.Evicted, created.Session.ID) {
				rt.Errorf("a login evicts itself")
			}
			all, evicted = append(all, created.Session.ID), append(evicted, created.Evicted...)
		}
		for range before {
			logIn()
			b.clock.Advance(time.Second)
		}
		var done sync.WaitGroup
		for range logins {
			done.Go(logIn)
		}
		done.Wait()
		for _, id := range evicted {
			if err := store.Delete(rt.Context(), user, id); err != nil {
				rt.Fatal(err)
			}
		}
		left, err := client.ZRange(rt.Context(), indexKey(user), 0, -1).Result()
		if err != nil || len(left) != min(limit, len(all)) {
			rt.Fatalf("%d of %d are left (%v), want %d", len(left), len(all), err, limit)
		}
		accounted := slices.Clone(evicted)
		for _, text := range left {
			accounted = append(accounted, uuid.MustParse(text))
		}
		slices.SortFunc(accounted, compareIDs)
		slices.SortFunc(all, compareIDs)
		if !slices.Equal(accounted, all) {
			rt.Fatalf("%d sessions, %d evicted (some twice, or some of others)", len(all), len(evicted))
		}
		// With the clock still, those of one moment are equally old: all from before go first.
		listed, err := store.List(rt.Context(), user)
		if err != nil || len(listed) != len(left) {
			rt.Fatalf("%d listed (%v)", len(listed), err)
		}
	})
}

func TestLimitAtOnce(t *testing.T) {
	t.Parallel()
	checkLimit(t, newRedis(t))
}

func TestLimitAtOnceOnMiniredis(t *testing.T) {
	t.Parallel()
	checkLimit(t, newMiniredis(t))
}

// limited returns a store with a limit, a user, and a login that returns the session and what it pushed out.
func limited(t *testing.T, b bench, limit int) (store *Store, user uuid.UUID, logIn func() (Session, []uuid.UUID)) {
	t.Helper()
	store, user = b.configured(t, Config{IdleTTL: testIdle, MaxTTL: testMax, Grace: testGrace, Limit: limit}), uuid.New()
	return store, user, func() (Session, []uuid.UUID) {
		t.Helper()
		b.clock.Advance(time.Second)
		created, err := store.Create(t.Context(), Start{UserID: user})
		if err != nil {
			t.Fatal(err)
		}
		return created.Session, created.Evicted
	}
}

func TestOldestLoginGoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, _, logIn := limited(t, b, 2)
	first, _ := logIn()
	second, out := logIn()
	if len(out) != 0 {
		t.Fatalf("evicted below the limit: %v", out)
	}
	if _, out = logIn(); !slices.Equal(out, []uuid.UUID{first.ID}) {
		t.Fatalf("evicted %v, want the first", out)
	}
	if _, out = logIn(); !slices.Equal(out, []uuid.UUID{second.ID}) {
		t.Fatalf("evicted %v, want the second", out)
	}
	// On a replica whose clock is behind, the new login is the oldest. It does not end itself.
	b.clock.Advance(-time.Minute)
	if newest, out := logIn(); len(out) != 1 || out[0] == newest.ID {
		t.Fatalf("evicted %v by %v", out, newest.ID)
	}
}

// A session that was taken out and not ended is seen until it is, and another login gets it.
func TestEvictionThatWasLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, user, logIn := limited(t, b, 1)
	first, _ := logIn()
	second, out := logIn()
	if !slices.Equal(out, []uuid.UUID{first.ID}) {
		t.Fatalf("evicted %v", out)
	}
	if listed, err := store.List(t.Context(), user); err != nil || len(listed) != 2 {
		t.Fatalf("listed %v, %v: the first lives", listed, err)
	}
	third, out := logIn()
	if !slices.Equal(out, []uuid.UUID{second.ID}) {
		t.Fatalf("evicted %v: the first has its login", out)
	}
	if err := store.Delete(t.Context(), user, second.ID); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(takeOverTime)
	_, out = logIn()
	slices.SortFunc(out, compareIDs)
	want := []uuid.UUID{first.ID, third.ID}
	slices.SortFunc(want, compareIDs)
	if !slices.Equal(out, want) {
		t.Fatalf("evicted %v, want the first again, and the third", out)
	}
}

// Logins that ran out by themselves leave room, before one that lives is pushed out.
func TestLostSessionsLeaveRoom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, user, logIn := limited(t, b, 3)
	kept, text := createFor(t, store, user)
	logIn()
	logIn()
	b.clock.Advance(testIdle - 10*time.Second)
	mustRefresh(t, store, text, "", Advanced)
	b.clock.Advance(2 * expiryMargin) // the other two are over, and Redis would have dropped them
	if _, out := logIn(); len(out) != 0 {
		t.Fatalf("evicted %v: only one lives", out)
	}
	listed, err := store.List(t.Context(), user)
	if err != nil || len(listed) != 2 || listed[1].ID != kept.ID {
		t.Fatalf("listed %v, %v", listed, err)
	}
}

// The index is written first: an entry whose session is on its way is not taken for one that is gone.
func TestEntryBeforeItsSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, user, logIn := limited(t, b, 2)
	coming := uuid.New()
	if _, err := store.enter(t.Context(), user, coming, b.clock.Now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	list := func() int {
		t.Helper()
		if listed, err := store.List(t.Context(), user); err != nil || len(listed) != 0 {
			t.Fatalf("listed %v, %v", listed, err)
		}
		return int(b.client.ZCard(t.Context(), indexKey(user)).Val())
	}
	for _, step := range []time.Duration{45 * time.Second, danglingTime - 45*time.Second - time.Millisecond} { // 15 s for a call, 30 for the clocks
		b.clock.Advance(step)
		if n := list(); n != 1 {
			t.Fatalf("%d entries: dropped before its session could come", n)
		}
	}
	b.clock.Advance(time.Millisecond)
	if n := list(); n != 0 {
		t.Fatalf("%d entries: nothing comes any more", n)
	}
	logIn()
	if ttl := b.client.PTTL(t.Context(), indexKey(user)).Val(); ttl > testMax+expiryMargin || ttl < testMax {
		t.Errorf("the index expires in %v", ttl)
	}
	b.client.Del(t.Context(), indexKey(user))
	if _, err := store.enter(t.Context(), user, coming, b.clock.Now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	b.client.HSet(t.Context(), redisKey(coming), "user", user.String()) // harmed
	b.clock.Advance(testMax)
	created, _ := logIn()
	if members := b.client.ZRange(t.Context(), indexKey(user), 0, -1).Val(); !slices.Equal(members, []string{created.ID.String()}) {
		t.Errorf("the index has %v after the longest life", members)
	}
}

// When the index cannot be written there is no session: its owner would not see it.
func TestNoSessionOutsideTheIndex(t *testing.T) {
	t.Parallel()
	b := setup(t)
	user := uuid.New()
	b.client.Set(t.Context(), indexKey(user), "no index", 0)
	if _, err := b.store.Create(t.Context(), Start{UserID: user}); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("Create: %v", err)
	}
	if keys := b.client.Keys(t.Context(), "latchkey:session:*").Val(); len(keys) != 0 {
		t.Fatalf("left %v", keys)
	}
}

// Nobody reads or deletes another user's session, whatever their own index says.
func TestForeignSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, user, logIn := limited(t, b, 5)
	logIn()
	foreign, text := create(t, store)
	b.client.ZAdd(t.Context(), indexKey(user), redis.Z{Score: float64(b.clock.Now().UnixMilli()), Member: foreign.ID.String()})
	b.client.ZAdd(t.Context(), indexKey(user), redis.Z{Score: float64(b.clock.Now().UnixMilli()), Member: "no id"})
	if listed, err := store.List(t.Context(), user); err != nil || len(listed) != 1 {
		t.Fatalf("listed %v, %v", listed, err)
	}
	var unknown *UnknownError
	if _, err := store.Get(t.Context(), user, foreign.ID); !errors.As(err, &unknown) || unknown.SessionID != foreign.ID {
		t.Fatalf("Get: %v", err)
	}
	if err := store.ClearIndex(t.Context(), user, uuid.Nil, 1<<50); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), user, foreign.ID); err != nil {
		t.Fatal(err)
	}
	mustRefresh(t, store, text, "", Advanced)
	if listed, err := store.List(t.Context(), user); err != nil || len(listed) != 0 {
		t.Fatalf("listed %v, %v", listed, err)
	}
}

// What a login that came after the revocation started is spared, and so is the exception.
func TestClearIndex(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, user, _ := limited(t, b, 0)
	var sessions []Session
	for position := range int64(5) {
		created, err := store.Create(t.Context(), Start{UserID: user, Position: position})
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, created.Session)
		b.clock.Advance(time.Second)
	}
	if err := store.ClearIndex(t.Context(), user, sessions[1].ID, 3); err != nil {
		t.Fatal(err)
	}
	listed, err := store.List(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	var got []uuid.UUID
	for _, sess := range listed {
		got = append(got, sess.ID)
	}
	if want := []uuid.UUID{sessions[4].ID, sessions[3].ID, sessions[1].ID}; !slices.Equal(got, want) {
		t.Fatalf("left %v, want %v", got, want)
	}
	if n := b.client.ZCard(t.Context(), indexKey(user)).Val(); n != 3 {
		t.Errorf("%d entries", n)
	}
	if _, err := store.Get(t.Context(), user, sessions[0].ID); err != nil {
		t.Errorf("the session itself: %v, and nobody would learn that it was ended", err)
	}
	if err := store.ClearIndex(t.Context(), uuid.New(), uuid.Nil, 3); err != nil {
		t.Errorf("a user without sessions: %v", err)
	}
}
