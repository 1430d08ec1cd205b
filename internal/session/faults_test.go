package session

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
)

// A change of the secret logs nobody out, and a retry across it gets the answer that was lost.
func TestChangeOfKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	older := b.store
	both := b.withKeys(t, testKey(2), testKey(1))
	newer := b.withKeys(t, testKey(2))

	_, first := create(t, older)
	second := mustRefresh(t, older, first, "r-1", Advanced).RefreshToken
	b.clock.Advance(testGrace + time.Millisecond)
	if again := mustRefresh(t, both, first, "r-1", RepeatedSameRequest).RefreshToken; again != second {
		t.Fatal("the retry has another token")
	}
	third := mustRefresh(t, both, second, "r-2", Advanced).RefreshToken
	if again := mustRefresh(t, both, second, "r-2", RepeatedSameRequest).RefreshToken; again != third {
		t.Fatal("the retry has another token")
	}
	// A replica that still has the old key as its current one gives the same answer too, if it knows the new
	// one.
	if again := mustRefresh(t, b.withKeys(t, testKey(1), testKey(2)), second, "r-2", RepeatedSameRequest).RefreshToken; again != third {
		t.Fatal("a replica with the keys the other way round gives another token")
	}
	wantRefused(t, older, third, "", ErrForged)
	wantRefused(t, newer, second, "", ErrForged)
	presented, err := both.Open(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newer.Rotate(t.Context(), &presented.Claim, "", Mark{}); !errors.Is(err, ErrForged) {
		t.Fatalf("a key that is gone rotates: %v", err)
	}
	mustRefresh(t, newer, third, "", Advanced)
}

// When the first answer was made with a key that is gone, repeating it would hand out a token that nobody
// accepts.
func TestRepeatUnderLostKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	withTwo, withTwoOnly := b.withKeys(t, testKey(2), testKey(1)), b.withKeys(t, testKey(1))
	_, first := create(t, withTwoOnly)
	mustRefresh(t, withTwo, first, "r-1", Advanced)
	again := mustRefresh(t, withTwoOnly, first, "r-1", RepeatedSameRequest).RefreshToken
	mustRefresh(t, withTwoOnly, again, "", Advanced)
}

// Redis is restored from an older copy. The honest client goes on; the token that the rollback un-spent
// splits the lines, and the next spent token ends the session.
func TestRollback(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created, first := create(t, b.store)
	second := mustRefresh(t, b.store, first, "", Advanced).RefreshToken
	before := b.dump(t)[redisKey(created.ID)]
	third := mustRefresh(t, b.store, second, "", Advanced).RefreshToken
	b.clock.Advance(time.Minute)
	fourth := mustRefresh(t, b.store, third, "r", Advanced).RefreshToken
	rollBack := func() {
		t.Helper()
		if err := b.client.Del(t.Context(), redisKey(created.ID)).Err(); err != nil {
			t.Fatal(err)
		}
		if err := b.client.HSet(t.Context(), redisKey(created.ID), before).Err(); err != nil {
			t.Fatal(err)
		}
	}
	rollBack()
	b.clock.Advance(time.Second)
	fifth := mustRefresh(t, b.store, fourth, "", CaughtUp)
	if fifth.Session.Generation != 5 || !fifth.IssueTime.Equal(b.clock.Now()) {
		t.Fatalf("caught up to %+v", fifth)
	}
	// When the third generation was spent is not known any more: no mercy.
	wantRefused(t, b.store, third, "", ErrReused)
	if again := mustRefresh(t, b.store, fourth, "", RepeatedInGrace).RefreshToken; again != fifth.RefreshToken {
		t.Fatal("the repeat has another token")
	}

	rollBack()
	stolen := mustRefresh(t, b.store, second, "", Advanced).RefreshToken
	if stolen != third {
		t.Fatal("the thief got a token that the owner never had")
	}
	b.clock.Advance(testGrace + time.Second)
	mustRefresh(t, b.store, fifth.RefreshToken, "", CaughtUp)
	wantRefused(t, b.store, stolen, "", ErrReused)
}

// Another session in the place of the one whose MAC was checked is not advanced, whichever part of it
// differs.
func TestReplacedBetweenOpenAndRotate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, field := range []string{fieldUser, fieldEnd, fieldLedger, fieldSalt} {
		created, text := create(t, b.store)
		presented, err := b.store.Open(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		fields := b.dump(t)[redisKey(created.ID)]
		last := fields[field][len(fields[field])-1]
		changed := fields[field][:len(fields[field])-1] + string('0'+(last-'0'+1)%10)
		if err := b.client.HSet(t.Context(), redisKey(created.ID), field, changed).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.store.Rotate(t.Context(), &presented.Claim, "", Mark{}); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s replaced: %v, want ErrUnknown", field, err)
		}
		if got := b.dump(t)[redisKey(created.ID)][fieldGen]; got != "1" {
			t.Errorf("%s replaced: advanced to %s", field, got)
		}
		if _, err := b.store.Open(t.Context(), text); !errors.Is(err, ErrForged) && !errors.Is(err, ErrUnknown) {
			t.Errorf("%s replaced: opens with %v", field, err)
		}
	}
	if _, err := b.store.Rotate(t.Context(), &Claim{}, "", Mark{}); err == nil {
		t.Error("an empty Claim rotates")
	}
}

// A hash that lost a field, or holds nonsense, is a lost session and never a live one.
func TestDamagedSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, field := range []string{
		fieldUser, fieldEnd, fieldLedger, fieldSalt, fieldGen, fieldRotated, fieldIdleEnd, fieldCreated, fieldAuth, fieldAMR,
	} {
		for _, damage := range []string{"", "x", "1e15", "9007199254740993.5", "-"} {
			created, text := create(t, b.store)
			presented, err := b.store.Open(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			if damage == "" {
				err = b.client.HDel(t.Context(), redisKey(created.ID), field).Err()
			} else {
				err = b.client.HSet(t.Context(), redisKey(created.ID), field, damage).Err()
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.store.Open(t.Context(), text); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s = %q: Open: %v, want ErrUnknown", field, damage, err)
			}
			if damage == "1e15" {
				continue // a number to the script
			}
			if damage == "9007199254740993.5" && (field == fieldRotated || field == fieldIdleEnd || field == fieldGen) {
				continue
			}
			if _, err := b.store.Rotate(t.Context(), &presented.Claim, "", Mark{}); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s = %q: Rotate: %v, want ErrUnknown", field, damage, err)
			}
		}
	}
}

func TestLastGeneration(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created, text := create(t, b.store)
	presented, err := b.store.Open(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	at := func(generation uint64) string {
		text, err := b.store.keys.Named(b.store.maker()).Issue(presented.rec.Binding, generation)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	// Near 2^53, where doubles would begin to skip.
	for generation := uint64(refreshtoken.LastGeneration - 4); generation < refreshtoken.LastGeneration; generation++ {
		want := Advanced
		if generation == refreshtoken.LastGeneration-4 {
			want = CaughtUp
		}
		rotation := mustRefresh(t, b.store, at(generation), "", want)
		if rotation.RefreshToken != at(generation+1) || rotation.Session.Generation != generation+1 {
			t.Fatalf("after %d: %d", generation, rotation.Session.Generation)
		}
		mustRefresh(t, b.store, at(generation), "", RepeatedInGrace)
	}
	wantRefused(t, b.store, at(refreshtoken.LastGeneration), "", ErrEnded)
	wantRefused(t, b.store, at(refreshtoken.LastGeneration-2), "", ErrLate)
	wantRefused(t, b.store, at(refreshtoken.LastGeneration-3), "", ErrReused)
	if got := b.dump(t)[redisKey(created.ID)][fieldGen]; got != "9007199254740991" {
		t.Fatalf("stored generation %s", got)
	}
}

func TestClockOutOfRange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, text := create(t, b.store)
	presented, err := b.store.Open(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Time{{}, time.UnixMilli(-1), time.UnixMilli(maxMillis + 1), time.UnixMilli(math.MaxInt64)} {
		b.clock.now = now
		if _, err := b.store.Create(t.Context(), Start{UserID: presented.Session.UserID}); !errors.Is(err, errClock) {
			t.Errorf("Create at %v: %v", now, err)
		}
		if _, err := b.store.Rotate(t.Context(), &presented.Claim, "", Mark{}); !errors.Is(err, errClock) {
			t.Errorf("Rotate at %v: %v", now, err)
		}
		if _, err := b.store.List(t.Context(), presented.Session.UserID); !errors.Is(err, errClock) {
			t.Errorf("List at %v: %v", now, err)
		}
		if err := b.store.ClearIndex(t.Context(), presented.Session.UserID, uuid.Nil, 1); !errors.Is(err, errClock) {
			t.Errorf("ClearIndex at %v: %v", now, err)
		}
		if _, err := b.store.Get(t.Context(), presented.Session.UserID, presented.Session.ID); !errors.Is(err, errClock) {
			t.Errorf("Get at %v: %v", now, err)
		}
	}
	if _, err := b.store.Create(t.Context(), Start{}); err == nil {
		t.Error("a session of no user")
	}
	// The far end of the range works, with the longest lives there are.
	b.clock.now = time.UnixMilli(maxMillis)
	forever := b.configured(t, Config{IdleTTL: maxLife, MaxTTL: maxLife, Grace: math.MaxInt64})
	_, text = create(t, forever)
	rotation := mustRefresh(t, forever, text, "", Advanced)
	if !rotation.Session.IdleEnd.Equal(rotation.Session.End) {
		t.Errorf("idle end %v, end %v", rotation.Session.IdleEnd, rotation.Session.End)
	}
}

// The driver repeats a script whose answer was lost with the connection. The caller must not notice.
func TestScriptRunsTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.configured(t, Config{IdleTTL: testIdle, MaxTTL: testMax})
	_, text := create(t, store)
	b.client.AddHook(twice{})
	for range 3 {
		rotation, err := refresh(t.Context(), store, text, "")
		if err != nil {
			t.Fatal(err)
		}
		text = rotation.RefreshToken
		b.clock.Advance(time.Second)
	}
}

// twice runs every script twice and returns the second answer.
type twice struct{}

func (twice) DialHook(next redis.DialHook) redis.DialHook { return next }

func (twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			_ = next(ctx, cmd)
		}
		return next(ctx, cmd)
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created, text := create(t, b.store)
	presented, err := b.store.Open(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	every := func(ctx context.Context, also error) {
		t.Helper()
		check := func(call string, err error) {
			t.Helper()
			if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %v, want ErrUnavailable", call, err)
			}
			if also != nil && !errors.Is(err, also) {
				t.Errorf("%s: %v hides %v", call, err, also)
			}
		}
		_, err := b.store.Create(ctx, Start{UserID: created.UserID})
		check("Create", err)
		_, err = b.store.Open(ctx, text)
		check("Open", err)
		_, err = b.store.Rotate(ctx, &presented.Claim, "r", Mark{})
		check("Rotate", err)
		check("Delete", b.store.Delete(ctx, created.UserID, created.ID))
		check("ClearIndex", b.store.ClearIndex(ctx, created.UserID, uuid.Nil, 1))
		_, err = b.store.List(ctx, created.UserID)
		check("List", err)
		_, err = b.store.Get(ctx, created.UserID, created.ID)
		check("Get", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	every(cancelled, context.Canceled)

	if err := b.client.Set(t.Context(), redisKey(created.ID), "no hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.Open(t.Context(), text); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Open of another type: %v", err)
	}
	if _, err := b.store.Rotate(t.Context(), &presented.Claim, "", Mark{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Rotate of another type: %v", err)
	}
	if _, err := b.store.List(t.Context(), created.UserID); !errors.Is(err, ErrUnavailable) {
		t.Errorf("List of another type: %v", err)
	}
	_ = b.client.Close()
	every(t.Context(), nil)
}

// Nobody can log in with anything that is in Redis.
func TestRedisHoldsNoSecret(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stores := []*Store{b.store, b.withForm(t, forms()["short"])}
	var secrets []string
	add := func(raw []byte) {
		secrets = append(secrets, string(raw), hex.EncodeToString(raw),
			base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw))
	}
	for i := range 6 {
		store := stores[i%2]
		_, text := create(t, store)
		for j := range 6 {
			request := fmt.Sprintf("request-%d-%d-0c6f7a3b", i, j)
			tok, err := refreshtoken.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			secrets = append(secrets, text, strings.TrimPrefix(text, refreshtoken.Prefix), request)
			add(tok.MAC[:])
			if tok.Carried != nil {
				add(tok.Carried.Proof[:])
			}
			add([]byte(request))
			successor := mustRefresh(t, store, text, request, Advanced).RefreshToken
			mustRefresh(t, store, text, request, RepeatedSameRequest)
			mustRefresh(t, store, text, "", RepeatedInGrace)
			text = successor
		}
		tok, err := refreshtoken.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, text)
		add(tok.MAC[:])
	}
	add(testKey(1))

	var all strings.Builder
	for key, fields := range b.dump(t) {
		fmt.Fprintln(&all, key)
		for name, value := range fields {
			fmt.Fprintln(&all, name, value)
		}
	}
	if !strings.Contains(all.String(), "latchkey:session:{") || !strings.Contains(all.String(), "Ada's téléphone") {
		t.Fatalf("the dump shows nothing: %s", all.String())
	}
	for _, secret := range secrets {
		if strings.Contains(all.String(), secret) {
			t.Errorf("Redis holds %q", secret)
		}
	}
}
