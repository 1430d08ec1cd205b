package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
)

const (
	testIdle  = time.Hour
	testMax   = 3 * time.Hour
	testGrace = 10 * time.Second
)

type bench struct {
	clock  *clock
	client *redis.Client
	store  *Store
}

func setup(t *testing.T) bench {
	t.Helper()
	b := bench{clock: newClock(), client: newRedis(t)}
	b.store = b.withKeys(t, testKey(1))
	return b
}

// forms are the two forms of tokens.
func forms() map[string]func() bool {
	return map[string]func() bool{"short": func() bool { return false }, "long": func() bool { return true }}
}

// withForm returns another store over the same Redis, which makes tokens of one form.
func (b bench) withForm(t testing.TB, long func() bool) *Store {
	t.Helper()
	return b.configured(t, Config{IdleTTL: testIdle, MaxTTL: testMax, Grace: testGrace, Long: long})
}

// withKeys returns another store over the same Redis.
func (b bench) withKeys(t testing.TB, keys ...[]byte) *Store {
	t.Helper()
	return b.configured(t, Config{MACKeys: keys, IdleTTL: testIdle, MaxTTL: testMax, Grace: testGrace})
}

func (b bench) configured(t testing.TB, cfg Config) *Store {
	t.Helper()
	cfg.Redis, cfg.Now = b.client, b.clock.Now
	if cfg.MACKeys == nil {
		cfg.MACKeys = [][]byte{testKey(1)}
	}
	store, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func create(t testing.TB, store *Store) (Session, string) {
	t.Helper()
	return createFor(t, store, uuid.New())
}

func createFor(t testing.TB, store *Store, userID uuid.UUID) (Session, string) {
	t.Helper()
	created, err := store.Create(t.Context(), Start{
		UserID: userID, Position: 1<<40 + 7, DeviceName: "Ada's téléphone", Address: "2001:db8::1",
		AMR: []string{"pwd", "otp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return created.Session, created.RefreshToken
}

func refresh(ctx context.Context, store *Store, text, requestID string) (Rotation, error) {
	claim, err := store.Claim(ctx, text)
	if err != nil {
		return Rotation{}, err
	}
	return store.Rotate(ctx, claim, requestID, Mark{})
}

func mustRefresh(t testing.TB, store *Store, text, requestID string, want Outcome) Rotation {
	t.Helper()
	rotation, err := refresh(t.Context(), store, text, requestID)
	if err != nil {
		t.Fatal(err)
	}
	if rotation.Outcome != want {
		t.Fatalf("outcome = %v, want %v", rotation.Outcome, want)
	}
	return rotation
}

func wantRefused(t testing.TB, store *Store, text, requestID string, want error) {
	t.Helper()
	if rotation, err := refresh(t.Context(), store, text, requestID); !errors.Is(err, want) {
		t.Fatalf("refresh = %v, %v, want %v", rotation.Outcome, err, want)
	}
}

// dump reads everything that the store holds.
func (b bench) dump(t testing.TB) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	keys, err := b.client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if strings.HasPrefix(key, "latchkey:sessions:") {
			all[key] = map[string]string{}
			for _, entry := range b.client.ZRangeWithScores(t.Context(), key, 0, -1).Val() {
				all[key][member(entry)] = decimal(int64(entry.Score))
			}
			continue
		}
		if all[key], err = b.client.HGetAll(t.Context(), key).Result(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := b.clock.Now().UTC()
	created, first := create(t, b.store)
	want := Session{
		ID: created.ID, UserID: created.UserID, Generation: 1, Position: 1<<40 + 7,
		CreateTime: start, AuthTime: start, RotateTime: start, IdleEnd: start.Add(testIdle), End: start.Add(testMax),
		DeviceName: "Ada's téléphone", Address: "2001:db8::1", AMR: []string{"pwd", "otp"},
	}
	if !reflect.DeepEqual(created, want) {
		t.Fatalf("created %+v, want %+v", created, want)
	}
	b.clock.Advance(time.Minute)
	presented, err := b.store.Open(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(presented.Session, want) || presented.Generation != 1 {
		t.Fatalf("opened %+v, want %+v", presented.Session, want)
	}
	rotation, err := b.store.Rotate(t.Context(), &presented.Claim, "", Mark{})
	if err != nil {
		t.Fatal(err)
	}
	want.Generation, want.RotateTime, want.IdleEnd = 2, start.Add(time.Minute), start.Add(time.Minute+testIdle)
	if !reflect.DeepEqual(rotation.Session, want) || rotation.Outcome != Advanced || !rotation.IssueTime.Equal(want.RotateTime) {
		t.Fatalf("rotated %+v, want %+v", rotation, want)
	}
	presented, err = b.store.Open(t.Context(), rotation.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(presented.Session, want) || presented.Generation != 2 {
		t.Fatalf("opened %+v, want %+v", presented.Session, want)
	}
	for range 2 {
		if err := b.store.Delete(t.Context(), created.UserID, created.ID); err != nil {
			t.Fatal(err)
		}
	}
	wantUnknown := func(err error) {
		t.Helper()
		var unknown *UnknownError
		if !errors.As(err, &unknown) || unknown.SessionID != created.ID || !errors.Is(err, ErrUnknown) {
			t.Fatalf("%v, want an UnknownError", err)
		}
	}
	_, err = b.store.Open(t.Context(), rotation.RefreshToken)
	wantUnknown(err)
	_, err = b.store.Rotate(t.Context(), &presented.Claim, "", Mark{})
	wantUnknown(err)
	if all := b.dump(t); len(all) != 0 {
		t.Fatalf("left in Redis: %v", all)
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, first := create(t, b.store)
	b.clock.Advance(time.Second)
	advance := b.clock.Now()
	second := mustRefresh(t, b.store, first, "r-1", Advanced)

	repeat := func(requestID string, want Outcome, issued time.Time) {
		t.Helper()
		again := mustRefresh(t, b.store, first, requestID, want)
		if again.RefreshToken != second.RefreshToken {
			t.Fatal("the repeat has another token")
		}
		if !reflect.DeepEqual(again.Session, second.Session) {
			t.Fatalf("the repeat changed the session: %+v, was %+v", again.Session, second.Session)
		}
		if !again.IssueTime.Equal(issued) {
			t.Fatalf("issued at %v, want %v", again.IssueTime, issued)
		}
	}
	b.clock.Advance(testGrace)
	repeat("r-1", RepeatedSameRequest, advance)
	repeat("", RepeatedInGrace, advance)
	repeat("r-2", RepeatedInGrace, advance)
	b.clock.Advance(time.Millisecond)
	before := b.dump(t)
	wantRefused(t, b.store, first, "", ErrReused)
	wantRefused(t, b.store, first, "r-2", ErrReused)
	if !reflect.DeepEqual(before, b.dump(t)) {
		t.Fatal("a refusal changed the session")
	}
	repeat("r-1", RepeatedSameRequest, b.clock.Now())
	b.clock.Advance(30 * time.Minute)
	repeat("r-1", RepeatedSameRequest, b.clock.Now())

	// The successor is used: the request id is no excuse any more.
	mustRefresh(t, b.store, second.RefreshToken, "", Advanced)
	wantRefused(t, b.store, first, "r-1", ErrReused)
}

func TestLateDuplicate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, first := create(t, b.store)
	b.clock.Advance(time.Minute)
	second := mustRefresh(t, b.store, first, "", Advanced)
	b.clock.Advance(testGrace)
	third := mustRefresh(t, b.store, second.RefreshToken, "", Advanced)
	before := b.dump(t)
	wantRefused(t, b.store, first, "", ErrLate)
	b.clock.Advance(time.Millisecond)
	wantRefused(t, b.store, first, "", ErrReused)
	if !reflect.DeepEqual(before, b.dump(t)) {
		t.Fatal("a refusal changed the session")
	}
	mustRefresh(t, b.store, third.RefreshToken, "", Advanced)
	wantRefused(t, b.store, second.RefreshToken, "", ErrLate)
	wantRefused(t, b.store, first, "", ErrReused)
}

func TestEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, text := create(t, b.store)
	b.clock.Advance(testIdle - time.Millisecond)
	text = mustRefresh(t, b.store, text, "", Advanced).RefreshToken
	b.clock.Advance(testIdle)
	wantRefused(t, b.store, text, "", ErrEnded)
	presented, err := b.store.Open(t.Context(), text)
	if err != nil {
		t.Fatalf("an ended session does not open: %v", err)
	}
	if !presented.Session.Ended(b.clock.Now()) || presented.Session.Ended(b.clock.Now().Add(-time.Millisecond)) {
		t.Errorf("Ended is off: idle end %v, now %v", presented.Session.IdleEnd, b.clock.Now())
	}

	created, text := create(t, b.store)
	for !b.clock.Now().Add(testIdle / 2).After(created.End.Add(-time.Millisecond)) {
		b.clock.Advance(testIdle / 2)
		rotation := mustRefresh(t, b.store, text, "", Advanced)
		if !rotation.Session.End.Equal(created.End) || rotation.Session.IdleEnd.After(created.End) {
			t.Fatalf("the end moved: %+v", rotation.Session)
		}
		text = rotation.RefreshToken
	}
	b.clock.Advance(created.End.Sub(b.clock.Now()) - time.Millisecond)
	text = mustRefresh(t, b.store, text, "", Advanced).RefreshToken
	b.clock.Advance(time.Millisecond)
	wantRefused(t, b.store, text, "", ErrEnded)
}

// Redis forgets sessions by itself, a little after their end.
func TestExpiry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	near := func(id uuid.UUID, want time.Duration) {
		t.Helper()
		ttl, err := b.client.PTTL(t.Context(), redisKey(id)).Result()
		if err != nil {
			t.Fatal(err)
		}
		if ttl > want || ttl < want-30*time.Second {
			t.Fatalf("expires in %v, want %v", ttl, want)
		}
	}
	created, text := create(t, b.store)
	near(created.ID, testIdle+expiryMargin)
	for range 5 {
		b.clock.Advance(testIdle / 2)
		text = mustRefresh(t, b.store, text, "", Advanced).RefreshToken
	}
	near(created.ID, testMax-5*testIdle/2+expiryMargin)
	b.client.PExpire(t.Context(), redisKey(created.ID), time.Millisecond)
	for b.client.Exists(t.Context(), redisKey(created.ID)).Val() == 1 {
		if t.Context().Err() != nil {
			t.Fatal("Redis keeps it")
		}
	}
	wantRefused(t, b.store, text, "", ErrUnknown)
}

// Knowing a session's id, or holding a token of another one, is not enough.
func TestForged(t *testing.T) {
	t.Parallel()
	for form, long := range forms() {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.store = b.withForm(t, long)
			_, text := create(t, b.store)
			_, other := create(t, b.store)
			before := b.dump(t)
			for name, forged := range forgeries(t, text, other) {
				_, openErr := b.store.Open(t.Context(), forged.Encode())
				_, claimErr := b.store.Claim(t.Context(), forged.Encode())
				for _, err := range []error{openErr, claimErr} {
					if !errors.Is(err, ErrForged) || !errors.Is(err, ErrInvalid) {
						t.Errorf("%s: %v, want ErrForged", name, err)
					}
				}
			}
			stranger := b.configured(t, Config{MACKeys: [][]byte{testKey(2)}, IdleTTL: testIdle, MaxTTL: testMax, Long: long})
			stranger.keys[0].ID = b.store.keys[0].ID // so that not even the id of the key gives it away
			if _, err := stranger.Open(t.Context(), text); !errors.Is(err, ErrForged) {
				t.Errorf("another secret: %v, want ErrForged", err)
			}
			if !reflect.DeepEqual(before, b.dump(t)) {
				t.Error("a forged token changed something")
			}
			mustRefresh(t, b.store, text, "", Advanced)
		})
	}
}

// forgeries are tokens made from one token and one of another session.
func forgeries(t *testing.T, text, other string) map[string]refreshtoken.Token {
	t.Helper()
	tok, otherTok := parse(t, text), parse(t, other)
	all := map[string]refreshtoken.Token{}
	forge := func(name string, change func(*refreshtoken.Token)) {
		forged := tok
		if tok.Carried != nil {
			carried := *tok.Carried
			forged.Carried = &carried
		}
		change(&forged)
		all[name] = forged
	}
	for i := range tok.MAC {
		forge("a MAC with another bit in byte "+decimal(int64(i)), func(f *refreshtoken.Token) { f.MAC[i] ^= 1 })
	}
	forge("the next generation", func(f *refreshtoken.Token) { f.Generation++ })
	forge("the last generation", func(f *refreshtoken.Token) { f.Generation = refreshtoken.LastGeneration })
	forge("another session", func(f *refreshtoken.Token) { f.SessionID = otherTok.SessionID })
	forge("an unknown key", func(f *refreshtoken.Token) { f.KeyID[0] ^= 1 })
	forge("no MAC", func(f *refreshtoken.Token) { f.MAC = [sha256.Size]byte{} })
	if tok.Carried != nil {
		forge("no such session", func(f *refreshtoken.Token) { f.SessionID = uuid.New() })
		forge("another user", func(f *refreshtoken.Token) { f.Carried.UserID = otherTok.Carried.UserID })
		forge("a later end", func(f *refreshtoken.Token) { f.Carried.End++ })
		forge("a later position", func(f *refreshtoken.Token) { f.Carried.Position++ })
		forge("another proof", func(f *refreshtoken.Token) { f.Carried.Proof[19] ^= 1 })
		forge("the proof of another session", func(f *refreshtoken.Token) { f.Carried.Proof = otherTok.Carried.Proof })
		forge("everything of another session but the MAC", func(f *refreshtoken.Token) { f.SessionID, f.Carried = otherTok.SessionID, otherTok.Carried })
	}
	return all
}

func parse(t *testing.T, text string) refreshtoken.Token {
	t.Helper()
	tok, err := refreshtoken.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// A short token of a session that does not exist cannot be judged.
func TestShortTokenOfNoSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, text := create(t, b.withForm(t, forms()["short"]))
	forged := parse(t, text)
	forged.SessionID = uuid.New()
	var unknown *UnknownError
	if _, err := b.store.Claim(t.Context(), forged.Encode()); !errors.As(err, &unknown) || unknown.SessionID != forged.SessionID {
		t.Errorf("%v, want UnknownError", err)
	}
}

// Every character of a token counts.
func TestFlippedCharacters(t *testing.T) {
	t.Parallel()
	for form, long := range forms() {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			_, text := create(t, b.withForm(t, long))
			for i := range len(text) {
				for _, c := range []byte{text[i] ^ 1, 'A', '_', 0, '\n', 0xff} {
					if c == text[i] {
						continue
					}
					damaged := text[:i] + string([]byte{c}) + text[i+1:]
					_, err := b.store.Claim(t.Context(), damaged)
					if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnknown) {
						t.Fatalf("character %d as %q: %v", i, c, err)
					}
					if strings.Contains(err.Error(), damaged[8:]) {
						t.Fatalf("the error repeats the token: %v", err)
					}
				}
			}
		})
	}
}

// TestReissue: a creation whose answer was lost has the identical one again, until the first token is spent.
func TestReissue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, proved := uuid.New(), b.clock.Now().Add(-48*time.Hour)
	created, err := b.store.Create(t.Context(), Start{UserID: uuid.New(), Position: 7, ID: id, AuthTime: proved, AMR: []string{"pwd"}})
	if err != nil {
		t.Fatal(err)
	}
	if created.Session.ID != id || !created.Session.AuthTime.Equal(proved) || !created.Session.CreateTime.Equal(b.clock.Now()) {
		t.Fatalf("created %+v", created.Session)
	}
	started, sum := b.clock.Now(), sha256.Sum256([]byte(created.RefreshToken))
	// Another current key makes no other token of what was issued.
	rotated := b.withKeys(t, testKey(2), testKey(1))
	for _, store := range []*Store{b.store, rotated} {
		again, err := store.Reissue(t.Context(), id, sum)
		if err != nil || again.RefreshToken != created.RefreshToken || !reflect.DeepEqual(again.Session, created.Session) || !again.IssueTime.Equal(started) {
			t.Fatalf("%+v, %v", again, err)
		}
	}
	if !b.store.InGrace(started) {
		t.Error("not in the grace at once")
	}
	b.clock.Advance(testGrace)
	if !b.store.InGrace(started) {
		t.Error("the grace is inclusive")
	}
	b.clock.Advance(time.Millisecond)
	again, err := b.store.Reissue(t.Context(), id, sum)
	if err != nil || again.RefreshToken != created.RefreshToken || !again.IssueTime.Equal(b.clock.Now()) || b.store.InGrace(started) {
		t.Fatalf("later: %+v, %v", again, err)
	}
	// A writer to Redis gets no token for what it wrote.
	for _, field := range []string{fieldUser, fieldLedger, fieldEnd, fieldSalt} {
		was := b.client.HGet(t.Context(), redisKey(id), field).Val()
		other := map[string]string{fieldUser: uuid.NewString(), fieldSalt: strings.Repeat("00", refreshtoken.SaltSize)}[field]
		if other == "" {
			other = was + "0"
		}
		b.client.HSet(t.Context(), redisKey(id), field, other)
		if _, err := b.store.Reissue(t.Context(), id, sum); !errors.Is(err, ErrForged) {
			t.Errorf("another %s: %v", field, err)
		}
		b.client.HSet(t.Context(), redisKey(id), field, was)
	}
	presented, err := b.store.Open(t.Context(), again.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.Rotate(t.Context(), &presented.Claim, "", Mark{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.Reissue(t.Context(), id, sum); !errors.Is(err, ErrReused) {
		t.Errorf("after the first token was spent: %v", err)
	}
	b.clock.Advance(testIdle)
	if _, err := b.store.Reissue(t.Context(), id, sum); !errors.Is(err, ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := b.store.Reissue(t.Context(), uuid.New(), sum); !errors.Is(err, ErrUnknown) {
		t.Errorf("no session: %v", err)
	}
	_ = b.client.Close()
	if _, err := b.store.Reissue(t.Context(), id, sum); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no Redis: %v", err)
	}
}

// TestAuthTimeIsNeverLater: a clock that was ahead elsewhere does not make a login fresher than it can be.
func TestAuthTimeIsNeverLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for at, want := range map[time.Time]time.Time{
		b.clock.Now().Add(time.Hour): b.clock.Now(), time.Unix(-5, 0): time.UnixMilli(0), {}: b.clock.Now(),
	} {
		created, err := b.store.Create(t.Context(), Start{UserID: uuid.New(), AuthTime: at})
		if err != nil || !created.Session.AuthTime.Equal(want) {
			t.Errorf("%v: %v, %v, want %v", at, created.Session.AuthTime, err, want)
		}
	}
}
